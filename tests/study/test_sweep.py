"""Studies for real: small experiments, real Optuna storages, real MLflow stores, real processes."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

import lottery_ticket
from lottery_ticket.config import load_preset
from lottery_ticket.study import storage as study_storage
from lottery_ticket.study.parse import load_study, parse
from lottery_ticket.study.sweep import sweep
from tests.conftest import environment
from tests.help import launcher

STUDY = """
preset = "quick"
objective = "{objective}"
sampler = "{sampler}"
trials = {trials}
batch = 2
densities = [64.0, 51.2]

[settings]
dataset = "{dataset}"
validation_size = 200
iterations = 20
evaluate_every = 10
rounds = 4
seeds = 2

[space]
lr = {{ low = 1e-3, high = 1e-1, log = true, points = 4 }}
"""


@pytest.fixture
def toml(tmp_path, small_npz):
    """A study of four small trials as a file of the user's own."""

    def write(folder=tmp_path, trials=4, objective="smallest-ticket", sampler="grid", **more):
        folder.mkdir(exist_ok=True)
        path = folder / "small.toml"
        text = STUDY.format(dataset=small_npz, trials=trials, objective=objective, sampler=sampler)
        for old, new in more.items():
            text = text.replace(f"{old} = ", f"{old} = {new} # ")
        path.write_text(text)
        return path

    return write


def definition(small_npz, **changes):
    settings = {"dataset": str(small_npz), "validation_size": 200, "iterations": 20, "evaluate_every": 10}
    values = {
        "sampler": "grid",
        "trials": 2,
        "batch": 2,
        "densities": [64.0],
        "settings": settings | {"rounds": 3, "seeds": 2},
        "space": {"lr": {"low": 1e-3, "high": 1e-2, "log": True, "points": 2}},
    }
    return parse("mine.toml", values | changes, {}, {})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in, and its stores by absolute address."""
    monkeypatch.chdir(tmp_path)
    return {
        "tracking_uri": f"sqlite:///{tmp_path}/mlruns/mlflow.db",
        "storage": f"sqlite:///{tmp_path}/mlruns/optuna.db",
    }


def trials_of(folder, name="small", storage=None):
    url = storage or f"sqlite:///{folder}/mlruns/optuna.db"
    return optuna.load_study(study_name=name, storage=study_storage.open_storage(url)).get_trials(deepcopy=False)


def complete(trials):
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def start(folder, *arguments, **variables):
    return launcher.Started(["sweep", *map(str, arguments)], folder, environment(**variables))


def left_half_way(storage):
    """Whether two trials are finished and two are on their way."""
    if "small" not in optuna.get_all_study_names(storage):
        return False
    trials = optuna.load_study(study_name="small", storage=storage).get_trials(deepcopy=False)
    return len(complete(trials)) == 2 and any(trial.user_attrs.get("rounds") for trial in trials[2:])


def wait_until(happened, process):
    deadline = time.monotonic() + 200
    while not happened():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_trial_is_the_experiment_that_lt_run_does(small_npz, here):
    study = definition(small_npz)
    outcome = sweep(study, "mine", **here)
    assert [trial.params["lr"] for trial in sorted(outcome.trials, key=lambda t: t.params["lr"])] == [1e-3, 1e-2]
    for trial in outcome.trials:
        alone = lottery_ticket.run(study.settings_of(trial.params), tracking_uri=here["tracking_uri"])
        kept = MlflowClient(here["tracking_uri"]).get_run(trial.run_id)
        for measured in ("smallest_winning_pct", "smallest_matching_pct"):
            assert trial.measures[measured] == kept.data.metrics[measured]
        for record in alone.rounds:
            (child,) = MlflowClient(here["tracking_uri"]).search_runs(
                ["1"],
                f"tags.`mlflow.parentRunId` = '{trial.run_id}' "
                f"AND attributes.run_name = '{record.arm}-seed{record.seed}'",
            )
            points = MlflowClient(here["tracking_uri"]).get_metric_history(child.info.run_id, "test_accuracy")
            there = {point.step: point.value for point in points}
            assert there[record.round] == pytest.approx(record.test_accuracy, abs=0.011)  # of 400 images, rounding


def test_what_mlflow_and_optuna_hold(lt, toml, tmp_path):
    done = lt("sweep", toml(), "--json")
    assert done.code == 0, done.err
    told = done.json
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    parent = client.get_run(told["run_id"])
    assert (parent.data.tags["lt.kind"], parent.data.tags["lt.study"]) == ("study", "small")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials"] == 4
    assert parent.data.params["space.lr.high"] == "0.1"
    figures = {item.path for item in client.list_artifacts(told["run_id"], "figures")}
    assert figures == {"figures/accuracy.png", "figures/smallest.png"}

    trials = trials_of(tmp_path)
    assert len(complete(trials)) == 4
    assert trials[0].user_attrs["mlflow_run_id"]
    for trial in trials:
        run = client.get_run(trial.user_attrs["mlflow_run_id"])
        assert run.data.tags["lt.trial"] == str(trial.number)
        assert run.data.tags["mlflow.parentRunId"] == told["run_id"]
        assert float(run.data.params["lr"]) == trial.params["lr"]
        assert trial.values == [run.data.metrics["smallest_winning_pct"], run.data.metrics["cost"]]
        assert len(trial.user_attrs["rounds"]) == 4
        assert trial.user_attrs["rounds"][3]["pct"] == pytest.approx(51.2, abs=0.1)
        children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        assert sorted(child.info.run_name for child in children) == [
            f"{arm}-seed{seed}" for arm in ("reinit", "winning") for seed in (0, 1)
        ]
        assert {child.info.status for child in children} == {"FINISHED"}
    rows = list(csv.DictReader((tmp_path / told["table"]).read_text().splitlines()))
    assert [row["mlflow_run_id"] for row in rows] == [trial.user_attrs["mlflow_run_id"] for trial in trials]
    fronts = {
        trial.number
        for trial in optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/mlruns/optuna.db").best_trials
    }
    assert {int(row["trial"]) for row in rows if row["best"] == "yes"} == fronts

    pulled = lt("pull", f"{trials[0].user_attrs['mlflow_run_id']}:2", "ticket")  # tickets of trials are tickets
    assert pulled.code == 0, pulled.err
    assert any(row["run_id"] == trials[0].user_attrs["mlflow_run_id"] for row in lt("tickets", "--json").json)

    shown = lt("sweep", "show", "small", "--dest", "again")
    assert shown.code == 0, shown.err
    assert "0.0215" in shown.out
    assert (tmp_path / "again/accuracy.png").read_bytes() == (
        tmp_path / "mlruns/studies/small/accuracy.png"
    ).read_bytes()
    assert "small" in lt("sweep", "show").out


@pytest.mark.slow
def test_the_same_command_continues_and_fresh_starts_another(lt, toml, tmp_path):
    short = {"seeds": 1, "rounds": 2}
    assert lt("sweep", toml(trials=2, **short)).code == 0
    before = trials_of(tmp_path)
    more = lt("sweep", toml(**short), "--trials", 3)
    assert more.code == 0
    assert "going on after 2 trial(s)" in more.err
    after = trials_of(tmp_path)
    assert [(t.number, t.values, t.datetime_complete) for t in after[:2]] == [
        (t.number, t.values, t.datetime_complete) for t in before
    ]
    assert len(complete(after)) == 3
    other = lt("sweep", toml(**short), "--iterations", 10, "--trials", 1)
    assert other.code == 2
    assert "iterations = '20', not '10'" in other.err
    assert "--fresh" in other.err
    wider = lt("sweep", toml(**short, lr="{ low = 1e-3, high = 0.2, log = true, points = 4 }"), "--trials", 1)
    assert wider.code == 2
    assert "space.lr.high = '0.1', not '0.2'" in wider.err
    assert trials_of(tmp_path)[2:] == after[2:]
    assert lt("sweep", toml(**short), "--iterations", 10, "--trials", 1, "--fresh").code == 0
    assert len(trials_of(tmp_path, "small-2")) == 1
    assert lt("sweep", toml(**short), "--iterations", 10, "--trials", 2).code == 0  # the latest goes on
    assert len(trials_of(tmp_path, "small-2")) == 2


@pytest.mark.slow
def test_an_answer_that_cannot_change_ends_a_trial_early(small_npz, here):
    study = definition(
        small_npz,
        settings=definition(small_npz).settings | {"optimizer": "sgd", "rounds": 5},
        space={"lr": {"choices": [0.1, 1e12]}},
    )
    outcome = sweep(study, "mine", **here)
    ends = {trial.params["lr"]: trial for trial in outcome.trials}
    assert ends[0.1].ended_early == ""
    assert ends[1e12].ended_early == "training diverged in all seeds in round 0"
    assert ends[1e12].seconds_saved > 0
    assert ends[1e12].measures["smallest_winning_pct"] == 100
    assert ends[1e12].phase == "none"
    states = [trial.state for trial in outcome.opened.optuna.get_trials()]
    assert states == [TrialState.COMPLETE] * 2
    run = MlflowClient(here["tracking_uri"]).get_run(ends[1e12].run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["lt.ended_early"].startswith("training diverged")


def test_rounds_end_at_one_density_whatever_the_rate(small_npz):
    study = definition(small_npz, down_to_pct=10.0, space={"prune_rate": {"low": 0.1, "high": 0.8, "points": 3}})
    assert study.settings_of({"prune_rate": 0.1}).rounds == 23  # 0.9 ** 22 = 9.8 %
    assert study.settings_of({"prune_rate": 0.8}).rounds == 3  # 0.2 ** 2 = 4 %
    assert study.settings_of({"prune_rate": 0.9}).rounds == 2  # 10 % exactly


@pytest.mark.slow
@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_process_left_is_tried_again(small_npz, toml, tmp_path, monkeypatch, killed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study_storage, "GRACE", 2)
    stores = {
        "tracking_uri": f"sqlite:///{tmp_path}/mlruns/mlflow.db",
        "storage": f"sqlite:///{tmp_path}/mlruns/optuna.db",
    }
    storage = study_storage.open_storage(stores["storage"])
    path = toml(trials=4, iterations=60, seeds=1)
    process = start(tmp_path, path)
    wait_until(lambda: left_half_way(storage), process)
    process.send_signal(killed)
    _, err = process.communicate(timeout=60)
    before = trials_of(tmp_path)
    if killed != signal.SIGKILL:
        assert process.returncode == 128 + killed
        assert "Go on with:" in err
        assert [trial.state for trial in before] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] * 2 + [
            TrialState.WAITING
        ] * 2
        gone = before[-1].user_attrs["mlflow_run_id"]  # and somebody deletes what one of them has
        Path(MlflowClient(stores["tracking_uri"]).download_artifacts(gone, ""), "settings.json").unlink()
    else:
        gone = None
        time.sleep(3)  # past the grace period
    outcome = sweep(load_study(path), **stores)
    assert len(outcome.trials) == 4
    assert len({trial.params["lr"] for trial in outcome.trials}) == 4
    after = {trial.number: trial for trial in trials_of(tmp_path)}
    for trial in before[:2]:
        assert (after[trial.number].values, after[trial.number].datetime_complete) == (
            trial.values,
            trial.datetime_complete,
        )
    kept = {trial.params["lr"]: trial.user_attrs["mlflow_run_id"] for trial in before}
    again = {trial.run_id for trial in outcome.trials} - set(kept.values())
    assert len(again) == (1 if gone else 0)  # the runs that were there are gone on with, none is made twice
    client = MlflowClient(stores["tracking_uri"])
    assert len(client.search_runs(["1"], "tags.`lt.kind` = 'trial'")) == 4 + len(again)
    for trial in outcome.trials:
        for child in client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{trial.run_id}'"):
            points = client.get_metric_history(child.info.run_id, "test_accuracy")
            assert sorted(point.step for point in points) == [0, 1, 2, 3]
            assert child.info.status == "FINISHED"


@pytest.mark.slow
def test_processes_on_one_sqlite_study_lose_no_trial(toml, tmp_path):
    """Two commands begun at once, one of them two processes."""
    path = toml(trials=6, sampler="qmc", seeds=1, rounds=2)
    processes = [start(tmp_path, path), start(tmp_path, path, "--jobs", 2, "--batch", 1)]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "locked" not in out + err
    trials = trials_of(tmp_path)
    assert len(complete(trials)) == 6
    assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert len(client.search_runs(["1"], "tags.`lt.kind` = 'study'")) == 1
    runs = client.search_runs(["1"], "tags.`lt.kind` = 'trial'")
    assert {run.info.run_id for run in runs} == {trial.user_attrs["mlflow_run_id"] for trial in complete(trials)}
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.slow
def test_two_machines_with_one_storage_and_one_server_are_one_study(toml, tmp_path, postgres, server):
    path = toml(trials=4, sampler="qmc", objective="phase", seeds=1, rounds=3)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    command = [path, "--batch", 1, "--storage", postgres, "--tracking-uri", server]
    processes = [start(folder, *command) for folder in folders]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    trials = trials_of(tmp_path, storage=postgres)
    assert len(complete(trials)) == 4
    client = MlflowClient(server)
    (parent,) = client.search_runs(["1"], "tags.`lt.kind` = 'study'")
    runs = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_id for run in runs} == {trial.user_attrs["mlflow_run_id"] for trial in complete(trials)}
    assert parent.data.metrics["trials"] == 4
    assert not [entry for folder in folders for entry in os.listdir(folder) if entry.endswith(".db")]


def test_the_public_preset_is_what_trials_start_from(small_npz):
    settings = definition(small_npz).settings_of({"lr": 0.01})
    changed = {name for name, value in load_preset("quick") if getattr(settings, name) != value}
    assert changed == {"dataset", "validation_size", "epochs", "iterations", "evaluate_every", "rounds", "seeds", "lr"}
    assert json.loads(definition(small_npz).model_dump_json())["space"]["lr"]["points"] == 2
