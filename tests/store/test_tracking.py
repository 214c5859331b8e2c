"""The MLflow contract, read back with MLflow's own client after a real `lt run`."""

import json
import subprocess
import sys

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from lottery_ticket import load_mask, load_weights
from lottery_ticket.config import Settings
from lottery_ticket.store.connection import connect
from lottery_ticket.store.reading import read_run
from tests.conftest import environment

METRICS = {
    "test_accuracy",
    "test_accuracy_best",
    "test_accuracy_early_stop",
    "early_stop_iteration",
    "test_loss",
    "train_loss",
    "validation_loss",
    "density",
    "sparsity",
    "weights_remaining_pct",
    "seconds",
    "density/fc1.weight",
    "density/fc2.weight",
    "density/output.weight",
}


def client_of(folder):
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def history(client, run_id, metric):
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, metric))


def children_of(client, parent):
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return {run.info.run_name: run for run in found}


def test_contract(lt, quick_flags, tmp_path):
    done = lt("run", *quick_flags, "--seeds", 2, "--lr", 0.002, "--json")
    assert done.code == 0, done.err
    told = done.json
    client = client_of(tmp_path)
    parent = client.get_run(told["run_id"])
    children = children_of(client, parent)
    assert set(children) == {"winning-seed0", "winning-seed1", "reinit-seed0", "reinit-seed1"}
    assert parent.info.status == "FINISHED"
    assert parent.info.artifact_uri.startswith((tmp_path / "mlruns/artifacts").as_uri())

    assert parent.data.tags["lt.kind"] == "run"
    for run in [parent, *children.values()]:
        assert run.data.tags["lt.preset"] == "quick"
        assert run.data.tags["lt.version"]
        assert run.data.tags["lt.torch"] == torch.__version__
        assert "cores" in run.data.tags["lt.hardware"]
        assert run.data.params == Settings(**told["settings"]).as_params()
        assert run.data.params["lr"] == "0.002"
        assert run.data.params["seeds"] == "0,1"
        (data,) = run.inputs.dataset_inputs
        assert len(data.dataset.digest) == 36
        assert data.dataset.name == "small"

    for arm in ("winning", "reinit"):
        for seed in (0, 1):
            run = children[f"{arm}-seed{seed}"]
            assert run.info.status == "FINISHED"
            tags = run.data.tags
            assert (tags["lt.kind"], tags["lt.arm"], tags["lt.seed"]) == ("trajectory", arm, str(seed))
            rounds = [r for r in told["rounds"] if (r["arm"], r["seed"]) == (arm, seed)]
            for metric in METRICS:
                steps = history(client, run.info.run_id, metric)
                assert [step for step, _ in steps] == [0, 1, 2], metric
            assert [value for _, value in history(client, run.info.run_id, "test_accuracy")] == [
                r["test_accuracy"] for r in rounds
            ]
            left = [value for _, value in history(client, run.info.run_id, "weights_remaining_pct")]
            assert left == pytest.approx([100, 80, 64], rel=1e-3)
            costs = [r["cost"] for r in rounds]
            sparse = [value for _, value in history(client, run.info.run_id, "multiply_adds/inference_sparse")]
            assert sparse == [r["survivors"]["fc1.weight"] + r["survivors"]["fc2.weight"]
                              + r["survivors"]["output.weight"] for r in rounds]  # fmt: skip
            assert run.data.metrics["multiply_adds/inference_dense"] == 266_200
            compact = [value for _, value in history(client, run.info.run_id, "multiply_adds/inference_compact")]
            assert compact == [cost["compact"] for cost in costs]
            assert compact == [266_200] * 3  # every input and unit has a survivor yet
            assert run.data.metrics["multiply_adds_sparse/fc1.weight"] == rounds[-1]["survivors"]["fc1.weight"]
            computed = history(client, run.info.run_id, "multiply_adds/computed")
            assert run.data.metrics["multiply_adds/to_find"] == sum(value for _, value in computed[:2])
            assert run.data.metrics["multiply_adds/training_dense"] == 20 * 60 * 563_400 - 20 * 563_400
            # 20 iterations of 60 images over 1,000 are one whole epoch (17) and a partial one
            assert [step for step, _ in history(client, run.info.run_id, "epoch_test_accuracy")] == [1, 2, 3, 4, 5, 6]
            by_compression = history(client, run.info.run_id, "accuracy_by_compression")
            assert [step for step, _ in by_compression] == pytest.approx([10000, 12500, 15625], abs=5)
            # what MLflow's tables show is the sparsest round's, not the dense network's
            assert run.data.metrics["accuracy_by_compression"] == rounds[-1]["test_accuracy"]

    for arm in ("winning", "reinit"):
        means = history(client, parent.info.run_id, f"test_accuracy/{arm}")
        for step, value in means:
            each = [r["test_accuracy"] for r in told["rounds"] if r["arm"] == arm and r["round"] == step]
            assert value == pytest.approx(sum(each) / 2)
        assert len(means) == 3
        assert parent.data.metrics[f"accuracy_by_compression/{arm}"] == means[-1][1]
    assert {"smallest_winning_pct", "smallest_matching_pct", "dense_accuracy"} <= set(parent.data.metrics)
    assert [s for s, _ in history(client, parent.info.run_id, "weights_remaining_pct")] == [0, 1, 2]
    assert parent.data.metrics["multiply_adds/inference_sparse"] == pytest.approx(0.64 * 266_200, rel=1e-3)

    def files(run_id, path=None):
        return {item.path for item in client.list_artifacts(run_id, path)}

    assert {"verdict.json", "settings.json", "figures"} <= files(parent.info.run_id)
    assert {"figures/accuracy.png", "figures/input_mask.png"} <= files(parent.info.run_id, "figures")
    child = children["winning-seed0"].info.run_id
    assert "init.safetensors" in files(child)
    assert files(child, "rounds/02") == {
        f"rounds/02/{name}" for name in ("mask.safetensors", "weights.safetensors", "round.json")
    }
    folder = client.download_artifacts(child, "rounds/02", str(tmp_path))
    mask = load_mask(f"{folder}/mask.safetensors")
    weights = load_weights(f"{folder}/weights.safetensors")
    assert all((weights[name][~kept] == 0).all() for name, kept in mask.items())
    assert weights["fc1.weight"].shape == (300, 784)
    assert load_file(f"{folder}/mask.safetensors")["fc1.weight"].numel() < 300 * 784 / 8
    last = next(r for r in told["rounds"] if (r["arm"], r["seed"], r["round"]) == ("winning", 0, 2))
    with open(f"{folder}/round.json") as file:
        assert json.load(file)["test_accuracy"] == last["test_accuracy"]

    experiment = client.get_experiment(parent.info.experiment_id)
    assert experiment.name == "lottery-ticket"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert any(key.startswith("mlflow.sharedViewState.") for key in experiment.tags)


@pytest.mark.slow
def test_two_first_runs_at_once_share_the_store(quick_flags, tmp_path):
    command = [sys.executable, "-m", "lottery_ticket", "run", *quick_flags]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    runs = client_of(tmp_path).search_runs(["1"], "tags.`lt.kind` = 'run'")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_a_diverged_run_is_reported_and_kept(lt, quick_flags, tmp_path):
    done = lt("run", *quick_flags, "--optimizer", "sgd", "--lr", 1e12, "--arms", "winning,reinit-own")
    assert done.code == 0, done.err
    assert "diverged" in done.out
    assert "diverged" in done.err
    (run,) = [r for r in client_of(tmp_path).search_runs(["1"]) if r.data.tags.get("lt.arm") == "winning"]
    assert run.data.tags["lt.diverged_round"] == "0"


def test_figures_are_drawn_again_from_mlflow_alone(lt, quick_flags, tmp_path):
    told = lt("run", *quick_flags, "--json").json
    for path in told["figures"]:
        (tmp_path / path).unlink()
    done = lt("figures", told["run_id"], "again")
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        "accuracy.png", "multiply_adds.png", "early_stop.png", "learning_curves.png", "survivors.png", "input_mask.png"
    }  # fmt: skip
    assert "Smallest" in done.out or "No winning ticket" in done.out


@pytest.mark.slow
def test_a_remote_tracking_server_works_the_same_way(lt, quick_flags, server, tmp_path):
    done = lt("run", *quick_flags, "--json", MLFLOW_TRACKING_URI=server)
    assert done.code == 0, done.err
    stored = read_run(connect(server), done.json["run_id"])
    assert len(stored.records) == 6
    assert not (tmp_path / "mlruns/mlflow.db").exists()
    again = lt("figures", done.json["run_id"], "--tracking-uri", server)
    assert again.code == 0, again.err
    resumed = lt("run", "--resume", done.json["run_id"], "--tracking-uri", server, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["rounds"] == done.json["rounds"]
