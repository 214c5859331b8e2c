"""Kill `lt run` or `lt sweep` at random moments, go on each time: nothing may be lost, nothing may be there twice.

    python -m tests.help.kill run|sweep [--times 50] [--seed 0]

`run` ends with masks, weights and metrics bit for bit as an undisturbed run has them. Of `sweep` no finished trial is
lost or changed and none is counted twice.
"""

import argparse
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from optuna.trial import TrialState

from lottery_ticket.study import storage as study_storage
from tests.conftest import MEMORY, environment, write_small
from tests.help import launcher
from tests.help.outcomes import outcome

RUN = (
    "run --validation-size 200 --rounds 5 --prune-rate 0.5 --iterations 50 --evaluate-every 25 "
    "--arms winning,reinit,random-mask,reinit-own --rewind-iteration 20"
)
STUDY = """
preset = "quick"
sampler = "grid"
trials = 4
batch = 2
densities = [64.0, 51.2]

[settings]
dataset = "{dataset}"
validation_size = 200
iterations = 20
evaluate_every = 10
rounds = 4
seeds = 1

[space]
lr = {{ low = 1e-3, high = 1e-1, log = true, points = 4 }}
"""


def kill_runs(times: int, seed: int, folder: Path, say: Callable[[str], None]) -> int:
    """As many kills as asked for, of as many runs as that takes; the number of runs."""
    npz, chance, left, runs = write_small(folder / "small.npz"), random.Random(seed), times, 0
    flags = [*RUN.split(), "--dataset", str(npz)]
    undisturbed, took = finish(folder / "undisturbed", flags)
    expected = outcome(client_of(folder / "undisturbed"), undisturbed)
    while left:
        here = folder / f"run{runs}"
        here.mkdir()
        run_id, kills = "", 0
        while left:
            process = launcher.Started(["run", "--resume", run_id] if run_id else flags, here, environment())
            if not process.ends_within(chance.uniform(0, took)):
                process.send_signal(signal.SIGKILL)
                left, kills = left - 1, kills + 1
            _, err = process.communicate(60)
            run_id = told_id(err) or run_id
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err
        run_id, _ = finish(here, ["run", "--resume", run_id] if run_id else flags)
        assert not (other := differences(outcome(client_of(here), run_id), expected)), other
        waiting = [path for path in (here / "mlruns" / "outbox").rglob("*") if path.is_file() and run_id in path.parts]
        assert not waiting, waiting
        say(f"run {runs}: killed {kills} times, ends as the undisturbed one")
        runs += 1
        shutil.rmtree(here)
    return runs


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of the trajectories' metrics and artifacts is not as expected."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return [
        f"{name}: {key}: {mine.get(key)}, not {theirs.get(key)}"
        for name in expected
        for mine, theirs in zip(found[name], expected[name], strict=True)
        for key in mine.keys() | theirs.keys()
        if mine.get(key) != theirs.get(key)
    ]


def kill_sweep(times: int, seed: int, folder: Path, say: Callable[[str], None]) -> int:
    """As many kills as asked for, of as many studies as that takes; the number of studies."""
    npz, chance, left, studies = write_small(folder / "small.npz"), random.Random(seed), times, 0
    (folder / "study.toml").write_text(STUDY.format(dataset=npz))
    flags = ["sweep", str(folder / "study.toml")]
    _, took = finish(folder / "undisturbed", flags)
    expected = {trial.params["lr"]: trial.values for trial in complete(folder / "undisturbed")}
    while left:
        here = folder / f"sweep{studies}"
        here.mkdir()
        kills, seen = 0, {}
        while left:
            process = launcher.Started(flags, here, environment(), before=short_grace)
            if not process.ends_within(chance.uniform(0, took)):
                process.send_signal(signal.SIGKILL)
                left, kills = left - 1, kills + 1
            _, err = process.communicate(60)
            found = {trial.number: (trial.values, trial.datetime_complete) for trial in complete(here)}
            assert seen.items() <= found.items(), "a finished trial was lost or changed"
            seen = found
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err
        finish(here, flags)
        trials = complete(here)
        assert len(trials) == len(expected), "a trial was counted twice, or lost"
        assert {trial.params["lr"]: trial.values for trial in trials} == expected
        for trial in trials:
            outcome(client_of(here), trial.user_attrs["mlflow_run_id"])
        say(f"study {studies}: killed {kills} times, ends as the undisturbed one")
        studies += 1
        shutil.rmtree(here)
    return studies


def finish(folder: Path, arguments: list[str]) -> tuple[str, float]:
    """The id of the run, where there is one, and the seconds it took."""
    folder.mkdir(exist_ok=True)
    launcher.run(["--version"], folder, environment(), 60)  # what all processes are forked from takes a while to start
    begun = time.monotonic()
    process = launcher.Started(arguments, folder, environment(), before=short_grace)
    _, err = process.communicate(300)
    assert process.returncode == 0, err
    return told_id(err), time.monotonic() - begun


def short_grace() -> None:
    """Trials of dead processes are taken up after two seconds."""
    study_storage.GRACE, study_storage.HEARTBEAT = 2, 1


def told_id(err: str) -> str:
    """The id of the run that standard error names."""
    return next((line.split()[-1] for line in err.splitlines() if "MLflow run" in line), "")


def client_of(folder: Path) -> MlflowClient:
    """Of the store in the folder."""
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def complete(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The finished trials of the study in the folder."""
    file = folder / "mlruns" / "optuna.db"
    if not file.exists():
        return []
    storage = study_storage.open_storage(f"sqlite:///{file}")
    names = [summary.study_name for summary in storage.get_all_studies()]
    trials = [trial for name in names for trial in optuna.load_study(study_name=name, storage=storage).trials]
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["run", "sweep"])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as work:
        kill = {"run": kill_runs, "sweep": kill_sweep}[chosen.what]
        made = kill(chosen.times, chosen.seed, Path(work), print)
    print(f"{chosen.times} kills, {made} time(s) to the end: nothing lost, nothing twice")
