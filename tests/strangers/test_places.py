"""A store that says of its artifacts that they are elsewhere: nothing is read or written there, no password told."""

import json
import os
import shutil
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import lottery_ticket
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.runs.sync import sync
from lottery_ticket.store import connection
from lottery_ticket.store.find import find
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.store.places import allowed
from lottery_ticket.store.reading import read_run

OUTSIDE = "outside of the store; allowed: its own server or folder, or what LT_ARTIFACTS lists"


@contextmanager
def serving(place: str = "") -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A tracking server that says of every run that its artifacts are at this place; (path, Authorization) asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path.partition("?")[0], self.headers["Authorization"]))
            run = {"info": {"run_id": "r", "artifact_uri": place, "lifecycle_stage": "active"}, "data": {}}
            told = json.dumps({"run": run, "experiments": [], "files": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def password(monkeypatch):
    """The header that tells it."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    return f"Basic {b64encode(b'me:secret').decode()}"


@pytest.mark.parametrize("form", ["http://{}/x", "mlflow-artifacts://{}/x", "http://{0}\\@{0}/x"])
def test_another_server_is_told_nothing(form, password):
    with serving() as (evil, asked), serving(form.format(evil.removeprefix("http://"))) as (uri, asked_first):
        client = connection.connect(uri, create=False)
        for attempt in (client.list_artifacts, lambda run: client.log_text(run, "mine", "a.txt")):
            with pytest.raises(InputError, match=OUTSIDE):
                attempt("r")
        assert asked == []
        assert {header for path, header in asked_first if path != "/health"} == {password}


def test_a_server_that_is_named_is_told_no_password(password, monkeypatch):
    with serving() as (evil, asked), serving(f"mlflow-artifacts://{evil.removeprefix('http://')}/x") as (uri, _):
        monkeypatch.setenv("LT_ARTIFACTS", f"/nowhere, {evil.replace('http', 'mlflow-artifacts')}")
        connection.connect(uri, create=False).list_artifacts("r")
        assert asked
        assert {header for _, header in asked} == {None}


def test_the_tracking_server_is_told(password):
    with serving("mlflow-artifacts:/x") as (uri, asked):
        connection.connect(uri, create=False).list_artifacts("r")
    assert asked[-1] == ("/api/2.0/mlflow-artifacts/artifacts", password)


LAB = "https://me:pw@lab.example/mlflow"


@pytest.mark.parametrize(
    ("store", "place", "fine"),
    [
        (LAB, "mlflow-artifacts:/x", True),
        (LAB, "mlflow-artifacts://lab.example/x", True),
        (LAB, "https://lab.example:443/x", True),
        (LAB, "http://lab.example/x", False),
        (LAB, "https://lab.example:444/x", False),
        (LAB, "https://lab.example@evil.example/x", False),
        (LAB, "https://lab.example.evil.example/x", False),
        (LAB, "s3://bucket/x", False),
        (LAB, "s3://mine/of/me", True),
        (LAB, "s3://mine/of", True),
        (LAB, "s3://mine/offal", False),
        (LAB, "s3://mine/of/../x", False),
        (LAB, "models:/a/1", False),
        (LAB, "runs:/a/b", False),
        (LAB, "/etc", False),
        (LAB, "file:///shared/a", True),
        ("sqlite:////a/mlruns/mlflow.db", "file:///a/mlruns/artifacts/x", True),
        ("sqlite:////a/mlruns/mlflow.db", "/a/mlruns/0/r/artifacts", True),
        ("sqlite:////a/mlruns/mlflow.db", "/a/mlruns/artifacts/../../b", False),
        ("sqlite:////a/mlruns/mlflow.db", "file:///a/x", False),
        ("sqlite:////a/mlflow.db", "/a/mlruns/0/r/artifacts", True),
        ("sqlite:////a/mlflow.db", "/a/.ssh", False),
        ("sqlite:////a/mlflow.db", "mlflow-artifacts:/x", False),
        ("sqlite:////a/mlflow.db", "file://lab.example/a/mlruns/x", False),
        ("postgresql://me:pw@h/db", "{cwd}/mlruns/1/r/artifacts", True),
        ("postgresql://me:pw@h/db", "{cwd}/x", False),
    ],
)
def test_which_places_are_a_store_s_own(store, place, fine, monkeypatch):
    monkeypatch.setenv("LT_ARTIFACTS", "/shared, s3://mine/of")
    place = place.format(cwd=Path.cwd())
    if fine:
        assert allowed(place, store) == place
    else:
        with pytest.raises(InputError, match=OUTSIDE) as refused:
            allowed(place, store)
        assert "pw" not in str(refused.value)


@pytest.fixture
def strange(found, tmp_path):
    """A copy of a store, whose database can be edited: its address, its folder, and what edits it."""
    folder = tmp_path / "store"
    shutil.copytree(Path(found.client.tracking_uri.removeprefix("sqlite:///")).parent, folder)
    uri = f"sqlite:///{folder}/mlflow.db"
    connection.connect(uri, create=False)  # records where it is now

    def edit(statement: str, *values: str) -> None:
        with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
            store.execute(statement, values)

    return uri, folder, edit


def runs_in(folder):
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        return store.execute("SELECT count(*) FROM runs").fetchone()[0]


def test_what_a_strange_store_names_is_neither_read_nor_written(strange, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri, folder, edit = strange
    victim = tmp_path / "victim"
    edit("UPDATE runs SET artifact_uri = ?", victim.as_uri())
    edit("UPDATE experiments SET artifact_location = ?", victim.as_uri())
    Outbox(uri, found.run_id).close()
    settings, before = found.stored.settings, runs_in(folder)
    attempts = [
        lambda: find(f"{found.run_id}:3", tracking_uri=uri),
        lambda: read_run(connection.connect(uri), found.run_id),
        lambda: lottery_ticket.load_run(found.run_id, figures="drawn", tracking_uri=uri),
        lambda: lottery_ticket.resume(found.run_id, tracking_uri=uri),
        lambda: sync(found.run_id, tracking_uri=uri),
        lambda: lottery_ticket.run(settings, tracking_uri=uri),
    ]
    for attempt in attempts:
        with pytest.raises(InputError, match=OUTSIDE):
            attempt()
    assert not victim.exists()
    assert runs_in(folder) == before

    shutil.move(folder / "artifacts", tmp_path / "elsewhere")
    edit(
        "UPDATE runs SET artifact_uri = ? || '/lottery-ticket/' || run_uuid || '/artifacts'",
        str(tmp_path / "elsewhere"),
    )
    monkeypatch.setenv("LT_ARTIFACTS", f"s3://x,{tmp_path / 'elsewhere'}")
    assert find(f"{found.run_id}:3", tracking_uri=uri).origin.run_id == found.run_id


def test_links_lead_nowhere(strange, found, tmp_path):
    uri, folder, _ = strange
    client = connection.connect(uri)
    kept = folder / "artifacts" / "lottery-ticket" / found.run_id / "artifacts"
    victim, new = tmp_path / "victim", tmp_path / "new"
    victim.mkdir()
    (new / "rounds").mkdir(parents=True)
    (new / "rounds" / "a.txt").write_text("evil")
    (kept / "rounds").symlink_to(victim)
    with pytest.raises(LotteryTicketError, match="is a link out of the folder"):
        client.log_artifacts(found.run_id, str(new))
    (kept / "rounds").unlink()
    (kept / "rounds").mkdir()
    (kept / "rounds" / "a.txt").symlink_to(victim / "a.txt")
    with pytest.raises(LotteryTicketError, match="is a link out of the folder"):
        client.log_artifacts(found.run_id, str(new))
    assert not any(victim.iterdir())
    shutil.move(kept, victim / "artifacts")
    kept.symlink_to(victim / "artifacts")
    with pytest.raises(InputError, match=OUTSIDE):
        client.list_artifacts(found.run_id)


def test_files_without_an_end_are_not_copied(strange, found):
    uri, folder, _ = strange
    file = folder / "artifacts" / "lottery-ticket" / found.run_id / "artifacts" / "settings.json"
    os.truncate(file, 2**26 + 1)  # it takes no room on the disk
    with pytest.raises(LotteryTicketError, match="it is 67,108,865 bytes long"):
        read_run(connection.connect(uri), found.run_id)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(LotteryTicketError, match=r"settings\.json cannot be read"):
        read_run(connection.connect(uri), found.run_id)
