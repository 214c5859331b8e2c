"""Six commands at once on one SQLite store."""

import pytest
from mlflow import MlflowClient

from lottery_ticket.store.reading import read_run
from tests.conftest import environment
from tests.help import launcher
from tests.help.kill import STUDY


@pytest.mark.slow
def test_four_runs_and_two_sweeps_on_one_store(small_npz, tmp_path):
    flags = f"run --dataset {small_npz} --validation-size 200 --rounds 4 --iterations 20 --arms winning,reinit".split()
    commands = [[*flags, "--seeds", f"{seed},"] for seed in range(4)]
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(STUDY.format(dataset=small_npz).replace("trials = 4", "trials = 2"))
        commands.append(["sweep", f"{name}.toml"])
    processes = [launcher.Started(command, tmp_path, environment()) for command in commands]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "locked" not in out + err
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = client.search_runs(["1"], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    kinds = [run.data.tags["lt.kind"] for run in runs]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "run": 4,
        "trajectory": 4 * 2 + 4 * 2,
        "study": 2,
        "trial": 4,
    }
    for run in runs:
        if run.data.tags["lt.kind"] in ("run", "trial"):
            stored = read_run(client, run.info.run_id)
            assert len(stored.records) == 2 * len(stored.settings.seeds) * stored.settings.rounds
