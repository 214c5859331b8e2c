"""What a store will never take is set aside and named, all else is delivered; what was deleted says so."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from lottery_ticket.data.prepared import describe
from lottery_ticket.store import connection
from lottery_ticket.store.find import find
from tests.conftest import environment
from tests.help import launcher
from tests.help.outcomes import outcome
from tests.runs.test_sync import Handler, Proxy, read_until


def flags(npz, rounds=2, iterations=5, arms="winning,reinit"):
    settings = f"--rounds {rounds} --iterations {iterations} --arms {arms} --validation-size 200"
    return ["run", "--dataset", str(npz), *settings.split()]


def run(folder, *arguments, **variables):
    return launcher.run([*map(str, arguments)], folder, environment(**variables), 200)


def uri_of(folder):
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def only_run(client):
    (parent,) = client.search_runs(["1"], "tags.`lt.kind` = 'run'")
    return parent.info.run_id


def child_of(client, arm):
    (child,) = client.search_runs(["1"], f"tags.`lt.arm` = '{arm}'")
    return child.info.run_id


@pytest.fixture(scope="module")
def finished(small_npz, tmp_path_factory):
    """The folder of a finished run, and its id."""
    folder = tmp_path_factory.mktemp("finished")
    code, _, err = run(folder, *flags(small_npz))
    assert code == 0, err
    return folder, only_run(MlflowClient(uri_of(folder)))


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    connection.connect(uri_of(tmp_path), create=False)  # so that `mlflow gc` there deletes nothing here
    return tmp_path, finished[1], MlflowClient(uri_of(tmp_path))


def test_a_deleted_run_says_so_and_comes_back(copied):
    folder, run_id, client = copied
    client.delete_run(run_id)
    for command in (
        ["run", "--resume", run_id],
        ["pull", f"{run_id}:1"],
        ["figures", run_id],
        ["train", f"{run_id}:1"],
    ):
        code, _, err = run(folder, *command)
        assert (code, len(err.strip().splitlines())) == (2, 1), err
        assert f"'{run_id}" in err
        assert "is deleted in MLflow" in err
        assert f"MLFLOW_TRACKING_URI={uri_of(folder)}: mlflow runs restore --run-id {run_id}" in err
    client.restore_run(run_id)
    assert run(folder, "pull", f"{run_id}:1")[0] == 0


@pytest.mark.parametrize("arm", ["winning", pytest.param("reinit", marks=pytest.mark.slow)])
def test_a_deleted_trajectory_is_named_and_nothing_is_trained_anew(copied, arm):
    folder, run_id, client = copied
    child = child_of(client, arm)
    client.delete_run(child)
    code, _, err = run(folder, "run", "--resume", run_id)
    assert code == 1
    assert f"run {run_id} lacks {arm}-seed0, deleted in MLflow: restore it in MLflow's UI" in err
    assert f"mlflow runs restore --run-id {child}" in err
    assert len(client.search_runs(["1"])) == 2
    code, _, err = run(folder, "pull", f"{run_id}:1:{arm}-seed0")
    assert code == 2
    assert f"is of {arm}-seed0, which is deleted in MLflow" in err
    code, out, err = run(folder, "figures", run_id)
    assert code == 0, err
    assert f"Missing here and in the figures: {arm}-seed0, deleted in MLflow; restore" in out
    client.restore_run(child)
    assert run(folder, "run", "--resume", run_id)[0] == 0


@pytest.mark.slow
def test_a_trajectory_that_is_deleted_for_good_is_named(copied):
    folder, run_id, client = copied
    child = child_of(client, "reinit")
    client.delete_run(child)
    gc = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri_of(folder), "--run-ids", child]
    subprocess.run(gc, check=True, capture_output=True, env=environment(MLFLOW_TRACKING_URI=uri_of(folder)))
    code, _, err = run(folder, "run", "--resume", run_id)
    assert code == 1
    assert f"run {run_id} lacks reinit-seed0" in err
    assert "where that is no longer possible, start a new run" in err


def start(folder, npz, **variables):
    return launcher.Started(flags(npz, 5, 60), folder, environment(**variables))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["winning", pytest.param("reinit", marks=pytest.mark.slow)])
def test_a_trajectory_that_is_deleted_while_it_trains(small_npz, tmp_path, arm):
    process = start(tmp_path, small_npz)
    told = read_until(process, "round  0")
    client = MlflowClient(uri_of(tmp_path))
    child = child_of(client, arm)
    client.delete_run(child)
    _, err = process.communicate(200)
    assert process.returncode == 0, told + err
    assert f"will not take rounds of {arm}-seed0 ({arm}-seed0 ({child}) was deleted in MLflow: restore it" in err
    run_id = only_run(client)
    assert list(json.loads(Path(client.download_artifacts(run_id, "refused.json")).read_text())) == [
        f"rounds of {arm}-seed0"
    ]
    client.restore_run(child)
    code, _, err = run(tmp_path, "run", "--resume", run_id)
    assert code == 0, err
    for name, (points, artifacts) in outcome(client, run_id).items():
        metric = f"test_accuracy/{arm}" if name == "parent" else "test_accuracy"
        assert [step for step, _ in points[metric]] == list(range(5)), name
        assert name == "parent" or sum(path.endswith("round.json") for path in artifacts) == 5


@pytest.mark.slow
def test_a_run_that_is_deleted_while_it_trains(small_npz, tmp_path):
    process = start(tmp_path, small_npz)
    told = read_until(process, "round  0")
    client = MlflowClient(uri_of(tmp_path))
    run_id = only_run(client)
    client.delete_run(run_id)
    _, err = process.communicate(200)
    assert process.returncode == 1, told + err
    assert f"({run_id}) was deleted in MLflow: restore it" in err.strip().splitlines()[-1]
    code, out, err = run(tmp_path, "sync")
    assert code == 1
    assert "is deleted in MLflow" in err
    code, out, err = run(tmp_path, "sync")
    assert code == 0, err
    assert f"{run_id}: waits for being restored." in out
    client.restore_run(run_id)
    code, out, err = run(tmp_path, "sync")
    assert code == 0, err
    assert "delivered, finished" in out
    assert run(tmp_path, "sync")[1].strip() == "nothing waits in mlruns/outbox"
    told = outcome(client, run_id)
    assert [step for step, _ in told["parent"][0]["weights_remaining_pct"]] == list(range(5))
    assert len(told) == 3


class Picky(Handler):
    """Will never take a metric of one layer, nor files of over so many bytes in one round."""

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.server.picky and self.path.endswith("/log-batch"):
            body = self.rfile.read(length)
            if b"density/fc2.weight" in body:
                return self.refuse(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such metric here"}')
            self.rfile = io.BytesIO(body)
        if self.server.picky and self.command == "PUT" and "rounds/01/weights" in self.path:
            self.rfile.read(length)
            return self.refuse(413, b"too large")
        if self.server.left is not None:
            self.server.left -= 1
            if self.server.left < 0:
                self.close_connection = True
                return None
        return super().answer()

    def refuse(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer


@pytest.mark.slow
def test_a_server_that_will_never_take_something_and_one_that_is_lost(small_npz, tracking_server, tmp_path):
    tracking_server.start()
    proxy = Proxy(tracking_server.address)
    proxy.RequestHandlerClass, proxy.picky, proxy.left = Picky, True, None
    variables = {"MLFLOW_TRACKING_URI": proxy.address}
    code, _, err = run(tmp_path, *flags(small_npz, 3), **variables)
    assert code == 0, err
    assert "will not take metric 'density/fc2.weight' of winning-seed0 (" in err
    assert "will not take rounds/01/weights.safetensors of reinit-seed0 (" in err
    client = MlflowClient(tracking_server.address)
    run_id = only_run(client)
    told = outcome(client, run_id)
    for arm in ("winning", "reinit"):
        points, artifacts = told[f"{arm}-seed0"]
        assert "density/fc2.weight" not in points
        assert {step for step, _ in points["density/fc1.weight"]} == {0, 1, 2}
        assert "rounds/01/weights.safetensors" not in artifacts
        assert {"rounds/00/weights.safetensors", "rounds/01/mask.safetensors", "rounds/01/round.json"} <= set(artifacts)
    refused = json.loads(Path(client.download_artifacts(run_id, "refused.json")).read_text())
    assert sum(what.startswith("metric 'density/fc2.weight'") for what in refused) == 2
    aside = tmp_path / "mlruns" / "outbox" / run_id / "refused"
    assert (aside / "01/winning-seed0/first/rounds/01/weights.safetensors").is_file()
    assert sorted(path.name for path in aside.parent.iterdir()) == ["refused"]
    code, out, _ = run(tmp_path, "sync", **variables)
    assert code == 0
    assert out.splitlines()[-1].endswith(
        f"{run_id}: what the store will never take is in mlruns/outbox/{run_id}/refused"
    )

    proxy.picky = False
    for command in ("tickets", f"pull {run_id}:2", f"figures {run_id}", f"diff {run_id}:2 {run_id}:1"):
        proxy.left = 3 if command == "tickets" else 6
        code, _, err = run(tmp_path, *command.split(), **variables, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="0")
        assert code == 1, command
        assert len(err.strip().splitlines()) == 1
        assert f"{proxy.address} does not answer" in err, command
        assert len(err) < 200, command


def test_a_working_folder_that_cannot_be_written(small_npz, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,ro", "none", str(closed)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        code, _, err = run(closed, *flags(small_npz), "--tracking-uri", f"sqlite:///{tmp_path}/store/mlflow.db")
    finally:
        subprocess.run(["umount", "--lazy", str(closed)], check=True)
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert f"working folder: '{closed}' cannot be written (Read-only file system)" in err


def carry_over(source, target):
    """The runs of a store into another, as mlflow-export-import does it: new ids, no inputs."""
    ids = {}
    for run in reversed(source.search_runs(["1"])):
        experiment = target.get_experiment_by_name("carried")
        at = experiment.experiment_id if experiment else target.create_experiment("carried")
        ids[run.info.run_id] = target.create_run(at, run_name=run.info.run_name).info.run_id
    for run in source.search_runs(["1"]):
        new = ids[run.info.run_id]
        tags = {key: ids[value] if key == "mlflow.parentRunId" else value for key, value in run.data.tags.items()}
        target.log_batch(
            new,
            params=[Param(key, value) for key, value in run.data.params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            metrics=[Metric(key, value, 0, 0) for key, value in run.data.metrics.items()],
        )
        target.log_artifacts(new, source.download_artifacts(run.info.run_id, ""))
        target.set_terminated(new)
    return ids


@pytest.mark.parametrize("of", ["now", "0.3"])
def test_runs_that_were_carried_over_to_another_store(copied, tmp_path, monkeypatch, of):
    folder, run_id, _ = copied
    monkeypatch.chdir(tmp_path)
    target = MlflowClient(f"sqlite:///{tmp_path}/other.db")
    source = MlflowClient(uri_of(folder))
    if of == "0.3":
        (folder / f"mlruns/artifacts/lottery-ticket/{run_id}/artifacts/data.json").unlink()
    ids = carry_over(source, target)
    for arm in ("winning", "reinit"):
        reference = f"{ids[run_id]}:1:{arm}-seed0"
        there = find(reference, tracking_uri=target.tracking_uri, trained=True)
        here = find(f"{run_id}:1:{arm}-seed0", tracking_uri=uri_of(folder), trained=True)
        assert there.data.digest == here.data.digest
        expected = here.data if of == "now" else describe(here.images(), 0)  # 0.3: of all training images
        assert there.data == expected
        for mine, theirs in ((there.mask, here.mask), (there.weights, here.weights), (there.trained, here.trained)):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_run_with_more_metrics_than_a_database_takes_at_once_is_resumed(small_npz, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import math\nfrom torch import nn\n\ndef deep(input_shape, classes):\n"
        "    narrow = [nn.Linear(4, 4) for _ in range(120)]\n"
        "    first, last = nn.Linear(math.prod(input_shape), 4), nn.Linear(4, classes)\n"
        "    return nn.Sequential(nn.Flatten(), first, *narrow, last)\n"
    )
    code, _, err = run(tmp_path, *flags(small_npz, 2, 1, "winning"), "--model", "mine:deep")
    assert code == 0, err
    client = MlflowClient(uri_of(tmp_path))
    before = outcome(client, only_run(client))
    code, _, err = run(tmp_path, "run", "--resume", only_run(client), "--model", "mine:deep")
    assert code == 0, err
    assert outcome(client, only_run(client)) == before
