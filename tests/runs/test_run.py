"""A run that is interrupted or killed and resumed ends with the same bits as one that never was."""

import json
import re
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lottery_ticket.config import load_preset
from lottery_ticket.runs.plan import run_name
from lottery_ticket.store.connection import connect
from lottery_ticket.tickets.files import load_mask, load_weights, save_weights
from tests.conftest import environment
from tests.help import launcher
from tests.help.outcomes import artifacts, outcome


def start(folder, *arguments):
    """`lt` as a process of its own that can be signalled."""
    return launcher.Started([*map(str, arguments)], folder, environment())


def only_run(folder):
    """The outcome of the one run in the folder's store."""
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    (parent,) = client.search_runs(["1"], "tags.`lt.kind` = 'run'")
    return outcome(client, parent.info.run_id)


def flags(npz):
    return (
        f"run --dataset {npz} --validation-size 200 --rounds 6 --iterations 80 --evaluate-every 40 "
        "--arms winning,reinit,random-mask,reinit-own,lr-rewinding --rewind-iteration 20"
    ).split()


@pytest.fixture(scope="module")
def undisturbed(small_npz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder, *flags(small_npz))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return only_run(folder)


def wait_for_round(process, r):
    """Read standard error until round r is reported; the run's id."""
    run_id = ""
    for line in process.stderr:
        if "MLflow run" in line:
            run_id = line.split()[-1]
        if line.startswith(f"round {r:>2}"):
            return run_id
    raise AssertionError("the run ended early")


def resume_to_the_end(folder, run_id):
    process = start(folder, "run", "--resume", run_id)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "going on after" in err


@pytest.mark.slow
def test_a_run_that_a_process_trains_is_not_resumed_beside_it(small_npz, tmp_path):
    process = start(tmp_path, *flags(small_npz))
    run_id = wait_for_round(process, 0)
    process.send_signal(signal.SIGSTOP)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    second = launcher.Started(["run", "--resume", run_id], tmp_path, environment(TMPDIR=str(elsewhere)))
    _, err = second.communicate(timeout=120)
    assert second.returncode == 1
    assert f"run {run_id} is being trained by another process" in err

    outbox = tmp_path / "mlruns" / "outbox"
    (outbox / run_id / "99").mkdir(parents=True)
    (outbox / ("0" * 32)).mkdir()
    (outbox / ".DS_Store").touch()
    sync = start(tmp_path, "sync")
    _, err = sync.communicate(timeout=120)
    assert sync.returncode == 1
    assert f"--tracking-uri: 'sqlite:///{tmp_path}/mlruns/mlflow.db' does not know run {'0' * 32}, of which" in err
    assert f"run {run_id} is being trained by another process" in err
    assert err.splitlines()[-1] == "lt: 2 of 2 runs in mlruns/outbox are not delivered"
    assert (outbox / run_id / "99").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_ctrl_c_keeps_finished_rounds_and_prints_the_command(small_npz, undisturbed, tmp_path):
    process = start(tmp_path, *flags(small_npz))
    run_id = wait_for_round(process, 2)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 30
    assert process.returncode == 130
    assert f"run --resume {run_id}" in err
    assert "Traceback" not in err
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert {run.info.status for run in client.search_runs(["1"])} == {"KILLED"}
    resume_to_the_end(tmp_path, run_id)
    assert only_run(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_round_without_round_json_does_not_exist(small_npz, undisturbed, tmp_path):
    """As when the process dies between a round's artifacts and its last file, in one trajectory of four."""
    process = start(tmp_path, *flags(small_npz))
    _, err = process.communicate(timeout=300)
    run_id = next(line.split()[-1] for line in err.splitlines() if "MLflow run" in line)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (child,) = client.search_runs(["1"], "tags.`lt.arm` = 'reinit'")
    folder = client.download_artifacts(child.info.run_id, "rounds/05")
    Path(folder, "round.json").unlink()
    resume_to_the_end(tmp_path, run_id)
    assert artifacts(client, child.info.run_id) == undisturbed["reinit-seed0"][1]


def test_resuming_a_finished_run_changes_nothing(lt, quick_flags):
    first = lt("run", *quick_flags, "--experiment", "mine", "--json").json
    again = lt("run", "--resume", first["run_id"], "--json").json
    assert again["rounds"] == first["rounds"]
    assert again["verdict"] == first["verdict"]
    assert lt("run", "--resume", first["run_id"]).out.rstrip().endswith("ui --experiment mine")


def test_code_is_run_where_its_user_names_it(lt, quick_flags, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import math\nfrom torch import nn\nprint('runs')\n"
        "def tiny(input_shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))\n"
    )
    (tmp_path / "mine.toml").write_text('model = "mine:tiny"\n')
    done = lt("run", *quick_flags, "--config", "mine.toml")
    assert (done.code, done.out) == (2, "")
    assert (
        "mine.toml: model: 'mine:tiny' is code, which no file has run; allowed: networks of `lt models`, or --m"
        in done.err
    )
    done = lt("run", *quick_flags, "--config", "mine.toml", "--model", "mine:tiny", "--json")
    assert done.code == 0, done.err
    run_id = json.loads(done.out.splitlines()[-1])["run_id"]
    done = lt("run", "--resume", run_id)
    assert (done.code, done.out) == (2, "")
    assert "--model: '' is not what this run trains; allowed: mine:tiny, which runs that code" in done.err
    done = lt("run", "--resume", run_id, "--model", "mine:tiny")
    assert done.code == 0, done.err
    assert done.out.startswith("runs\n")


def test_resume_refuses_other_data(lt, small_npz, tmp_path):
    import numpy as np

    arrays = dict(np.load(small_npz))
    np.savez(tmp_path / "mine.npz", **arrays)
    flags = ["--dataset", "mine.npz", "--validation-size", "200", "--rounds", "2", "--iterations", "5", "--json"]
    run_id = lt("run", *flags).json["run_id"]
    arrays["x_train"][0, 0, 0] += 1
    np.savez(tmp_path / "mine.npz", **arrays)
    done = lt("run", "--resume", run_id)
    assert done.code == 2
    assert "digest" in done.err


@pytest.mark.slow
def test_a_network_that_is_not_the_one_that_was_measured_is_not_gone_on_with(lt, quick_flags, tmp_path):
    run_id = lt("run", *quick_flags, "--rounds", 1, "--arms", "winning", "--json").json["run_id"]
    assert lt("run", "--resume", run_id).code == 0
    (path,) = tmp_path.glob("mlruns/artifacts/**/rounds/00/weights.safetensors")
    weights = load_weights(path)
    weights["output.weight"] = weights["output.weight"].flip(0)  # classes in another order
    save_weights(weights, path, load_mask(path.with_name("mask.safetensors")))
    done = lt("run", "--resume", run_id)
    assert done.code == 1
    assert "the network read back has a test accuracy of" in done.err
    assert "it is not the network that was measured" in done.err


@pytest.mark.slow
def test_where_the_time_went_is_told_and_kept(lt, quick_flags, tmp_path):
    done = lt("run", *quick_flags, "--json").json
    assert list(done["times"]) == ["start", "data", "training", "evaluation", "tracking", "figures"]
    assert min(done["times"].values()) > 0
    assert sum(done["times"].values()) == pytest.approx(done["seconds"])
    metrics = MlflowClient(done["tracking_uri"]).get_run(done["run_id"]).data.metrics
    kept = {part: metrics[f"seconds/{part}"] for part in done["times"]}
    assert sum(kept.values()) == pytest.approx(metrics["seconds"])
    assert {part for part in kept if kept[part] != done["times"][part]} <= {"start", "tracking"}  # what came after
    again = lt("run", "--resume", done["run_id"], "--json").json  # trains nothing
    assert again["times"]["evaluation"] == 0
    assert MlflowClient(done["tracking_uri"]).get_run(done["run_id"]).data.metrics == metrics
    last = lt("run", "--resume", done["run_id"]).out.splitlines()[-2]
    assert re.fullmatch(r"\d+ s: start [\d.]+, data .*, figures [\d.]+\. Run " + done["run_id"] + r"\.", last)


def test_what_mlflow_alone_can_tell_of_a_store_ends_a_run_before_anything_is_kept(lt, quick_flags, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    client = connect(uri)
    client.delete_experiment(client.create_experiment("old"))
    done = lt("run", *quick_flags, "--experiment", "old")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("lt: --experiment: 'old' is deleted in this store")
    with closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'of another MLflow'")
    done = lt("run", *quick_flags)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("lt: --tracking-uri: 'sqlite:///mlruns/mlflow.db' cannot be used (")
    with closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert {path.name for path in (tmp_path / "mlruns").iterdir()} <= {"mlflow.db", "artifacts", "locks"}


def test_a_runs_name_tells_nothing_of_the_machine():
    settings = load_preset("quick", lr=0.1, jobs=2, stack=3, engine_threads=1, executor="processes")
    assert run_name(settings, "quick") == "quick lr=0.1"
