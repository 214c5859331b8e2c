"""Stores in folders of any name, and stores that were moved, copied or are reached by another path."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import optuna
import pytest
import torch
from mlflow import MlflowClient

from lottery_ticket.address import artifact_root, public, sqlite_file
from lottery_ticket.errors import InputError
from lottery_ticket.store import connection, model_registry
from lottery_ticket.store.find import find
from lottery_ticket.store.reading import read_run
from lottery_ticket.study.storage import open_storage
from tests.conftest import environment
from tests.help import launcher

NAMES = [
    "My%20Project",
    "feature%2Flogin",
    "what?",
    "what?a=b&c",
    "a#b",
    "100% sure",
    'it\'s "a"; b',
    "Übung ✓",
    "-x",
    "{a}",
    "%3F",
    "a\nb",
    "sqlite:",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connection.connect()
    run_id = client.create_run(connection.ensure_experiment(client, f"mine {name}")).info.run_id
    client.log_text(run_id, "kept", "some/text.txt")
    assert public(client.tracking_uri) == f"sqlite:///{folder}/mlruns/mlflow.db"
    assert artifact_root(client.tracking_uri) == folder / "mlruns" / "artifacts"
    for uri in (client.tracking_uri, f"sqlite:///{folder}/mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"):
        again = connection.connect(uri, create=False)
        assert Path(again.download_artifacts(run_id, "some/text.txt")).read_text() == "kept"
    assert [item.path for item in MlflowClient(client.tracking_uri).list_artifacts(run_id, "some")] == ["some/text.txt"]
    optuna.create_study(study_name="mine", storage=open_storage())
    there = open_storage(f"sqlite:///{folder}/mlruns/optuna.db", create=False)
    assert optuna.load_study(study_name="mine", storage=there).trials == []

    (text,) = folder.rglob("text.txt")
    ours = {text, *text.parents, folder / "mlruns" / "mlflow.db", folder / "mlruns" / "optuna.db"}
    assert {path for path in tmp_path.rglob("*") if path not in ours} == set()


def test_an_address_means_what_is_there_else_what_its_escapes_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a%20b").mkdir()
    assert sqlite_file("sqlite:///a%20b/new/mlflow.db") == Path("a%20b/new/mlflow.db")
    assert sqlite_file("sqlite:///c%20d/new/mlflow.db") == Path("c d/new/mlflow.db")
    assert sqlite_file("sqlite:///my%20store.db") == Path("my store.db")
    assert sqlite_file("postgresql://a%20b/c") is None


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db?timeout=5", "sqlite:///new?/mlflow.db"])
def test_options_are_refused(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--tracking-uri: .* has options.*allowed: sqlite:///FILE, with %3F for a \?"):
        connection.connect(uri)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_text_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / b"\xff".decode(errors="surrogateescape")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="cannot be opened by"):
        connection.connect(None)
    assert not list(folder.iterdir())


@pytest.fixture(scope="module")
def trained(small_npz, tmp_path_factory):
    """A project of two rounds, one of its tickets registered: its folder and its run's id."""
    folder = tmp_path_factory.mktemp("trained") / "a"
    folder.mkdir()
    flags = f"run --dataset {small_npz} --validation-size 200 --rounds 2 --iterations 5 --arms winning --json"
    code, out, err = launcher.run(flags.split(), folder, environment(), 200)
    assert code == 0, err
    run_id = json.loads(out)["run_id"]
    model_registry.register(connect(folder), find(f"{run_id}:1", tracking_uri=uri_of(folder), trained=True), "mine")
    return folder, run_id


def uri_of(folder):
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def connect(folder):
    return connection.connect(uri_of(folder), create=False)


def paths(folder):
    """Every path that the database in the folder has recorded."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        found = database.execute(
            "SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs UNION SELECT source FROM "
            "model_versions UNION SELECT storage_location FROM model_versions WHERE storage_location IS NOT NULL"
        )
        return [path for (path,) in found]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_tickets(folder, run_id, expected):
    """The ticket is there, by its run and by its name, for any MLflow too, and every path lies in the folder."""
    for reference in (f"{run_id}:1", "models:/mine@smallest"):
        found = find(reference, tracking_uri=uri_of(folder), trained=True)
        assert all(torch.equal(found.mask[name], expected.mask[name]) for name in expected.mask), reference
    assert all(path.startswith(f"{folder.as_uri()}/mlruns/artifacts/") for path in paths(folder)), paths(folder)
    plain = MlflowClient(connect(folder).tracking_uri)
    assert "settings.json" in {item.path for item in plain.list_artifacts(run_id)}
    assert Path(unquote(plain.get_model_version("mine", "1").source.removeprefix("file://")), "MLmodel").is_file()


def train(folder, npz):
    flags = f"run --dataset {npz} --validation-size 200 --rounds 1 --iterations 2 --arms winning --json"
    code, out, err = launcher.run(flags.split(), folder, environment(), 200)
    assert code == 0, err
    assert not list((folder / "mlruns" / "locks").iterdir())
    return json.loads(out)["run_id"]


def test_a_project_that_was_copied_and_one_that_was_moved(trained, small_npz, tmp_path):
    folder, run_id = trained
    expected = find(f"{run_id}:1", tracking_uri=uri_of(folder))
    before = contents(folder)
    for name in ("p", "q"):  # recorded in p: where `trained` is
        shutil.copytree(folder, tmp_path / name)
    new = train(tmp_path / "p", small_npz)
    assert contents(folder) == before
    assert list((tmp_path / "p").rglob(f"artifacts/lottery-ticket/{new}"))
    check_tickets(tmp_path / "p", run_id, expected)

    (tmp_path / "p").rename(tmp_path / "b c%20d")
    check_tickets(tmp_path / "b c%20d", run_id, expected)
    assert not (tmp_path / "p").exists()

    connect(tmp_path / "q")
    check_tickets(tmp_path / "q", run_id, expected)
    (tmp_path / "link").symlink_to(tmp_path / "q")
    (tmp_path / "q").rename(tmp_path / "r")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "r")
    find(f"{run_id}:1", tracking_uri=uri_of(tmp_path / "link"))
    check_tickets(tmp_path / "r", run_id, expected)


def test_one_store_under_two_paths_in_turn(trained, tmp_path):
    """As two machines see it on a file server: each records its own, and neither is led astray by the other's."""
    folder, run_id = trained
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(folder, here)
    client = connect(here)
    here.rename(there)
    connect(there)
    there.rename(here)
    assert all(str(there) in path for path in paths(here))
    new = client.create_run(connection.ensure_experiment(client, "lottery-ticket")).info.run_id
    client.log_text(new, "kept", "text.txt")
    assert not there.exists()
    assert (here / "mlruns" / "artifacts" / "lottery-ticket" / new / "artifacts" / "text.txt").read_text() == "kept"
    assert len(read_run(client, run_id).records) == 2
    with closing(sqlite3.connect(here / "mlruns" / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_copy_that_cannot_be_written(trained, tmp_path):
    folder, run_id = trained
    shutil.copytree(folder, tmp_path / "source")
    (tmp_path / "copy").mkdir()
    mount = ["mount", "--bind", str(tmp_path / "source"), str(tmp_path / "copy")]
    try:
        subprocess.run(mount, check=True, capture_output=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path / "copy")], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    try:
        (tmp_path / "elsewhere").mkdir()
        before = contents(tmp_path / "source")
        for command in (["tickets"], ["pull", f"{run_id}:1"], ["pull", "models:/mine/1"], ["figures", run_id]):
            uri = ["--tracking-uri", uri_of(tmp_path / "copy")]
            code, _, err = launcher.run([*command, *uri], tmp_path / "elsewhere", environment(), 200)
            assert code == 0, err
        code, _, err = launcher.run(["run", "--resume", run_id, *uri], tmp_path / "elsewhere", environment(), 200)
        assert (code, len(err.strip().splitlines())) == (2, 1), err
        assert "cannot be written" in err
        assert contents(tmp_path / "source") == before
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "copy")], check=True)


@pytest.mark.slow
def test_a_database_that_was_copied_alone(trained, small_npz, tmp_path, monkeypatch):
    """What was kept before is read where it is once its user has said so; what is new is beside the database."""
    folder, run_id = trained
    before = contents(folder)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(folder / "mlruns" / "mlflow.db", tmp_path / "mlruns")
    with pytest.raises(
        InputError, match="outside of the store; allowed: its own server or folder, or what LT_ARTIFACTS"
    ):
        find(f"{run_id}:1", tracking_uri=uri_of(tmp_path))
    monkeypatch.setenv("LT_ARTIFACTS", str(folder))
    assert find(f"{run_id}:1", tracking_uri=uri_of(tmp_path)).origin.run_id == run_id
    new = train(tmp_path, small_npz)
    assert list(tmp_path.rglob(f"artifacts/lottery-ticket/{new}"))
    assert contents(folder) == before


def test_what_lies_elsewhere_by_its_owners_wish_stays_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = connection.connect()
    for location in (f"{tmp_path.as_uri()}/data/artifacts/x", "s3://bucket/artifacts/y", "/nowhere/mlruns/3"):
        client.create_experiment(location, artifact_location=location)
        (tmp_path / "data" / "artifacts" / "x").mkdir(parents=True, exist_ok=True)
    connection.connect()
    for location in (f"{tmp_path.as_uri()}/data/artifacts/x", "s3://bucket/artifacts/y", "/nowhere/mlruns/3"):
        assert client.get_experiment_by_name(location).artifact_location == location
