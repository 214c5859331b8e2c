"""Tickets in the Model Registry: loaded and served by MLflow itself, and through a real tracking server."""

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from lottery_ticket import Ticket
from lottery_ticket.data.prepared import describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.models.network import make_network
from lottery_ticket.store.connection import connect
from lottery_ticket.store.tracking import Tracker
from tests.conftest import environment, free_port, wait_for


@pytest.fixture
def run_id(lt, quick_flags):
    """A run in the store of the test's folder."""
    done = lt("run", *quick_flags, "--json")
    assert done.code == 0, done.err
    return done.json["run_id"]


@pytest.mark.slow
def test_registered_pulled_loaded_and_served(lt, run_id, small_npz, tmp_path, monkeypatch):
    done = lt("register", f"{run_id}:2", "--name", "small")
    assert done.code == 0, done.err
    assert done.out.startswith("models:/small@smallest is version 1: fc1 on small, 64 % of the weights left")
    done = lt("register", f"{run_id}:1", "--name", "small", "--alias", "larger", "--json")
    assert done.json == {"name": "small", "version": "2", "alias": "larger", "uri": "models:/small@larger"}

    assert lt("register", f"{run_id}:2", "--name", "other").code == 0
    assert len([*tmp_path.glob("mlruns/artifacts/**/models/round-02-*")]) == 2, "no version changes another"

    assert lt("pull", "models:/small@smallest").out.startswith("tickets/small-smallest: ")
    assert lt("pull", "models:/small@smallest", "a").code == 0
    assert lt("pull", "models:/small/2", "b", "--trained").code == 0
    assert Ticket.load(tmp_path / "a").origin.round == 2
    trained = Ticket.load(tmp_path / "b")
    assert (trained.origin.round, trained.origin.run_id, trained.trained is not None) == (1, run_id, True)
    unknown = lt("pull", "models:/small@best", "c")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert re.search(r"allowed: other \(smallest\), small \((larger, smallest|smallest, larger)\)", unknown.err)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/small@smallest")
    with np.load(small_npz) as data:
        classes = model.predict(data["x_test"]).argmax(1).tolist()
    tags = MlflowClient().get_model_version("small", "1").tags
    example = model.metadata.load_input_example(mlflow.artifacts.download_artifacts("models:/small@smallest"))
    inputs = str(model.metadata.signature.inputs)
    images = load_images(str(small_npz))
    kept = Ticket.load(f"runs:/{run_id}:2", tracking_uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    accuracy = (np.array(classes) == images.y_test).mean()
    assert accuracy == pytest.approx(kept.metrics.test_accuracy, abs=0.006)
    assert float(tags["lt.density"]) == pytest.approx(0.64, abs=1e-3)
    assert tags["lt.verdict"] in ("wins", "matches, undecided", "matches, does not win", "does not win", "undecided")
    assert (example.shape, "uint8" in inputs) == ((2, 28, 28), True)

    model_folder = Path(mlflow.artifacts.download_artifacts("models:/small@smallest"))
    assert "lottery" not in (model_folder / "requirements.txt").read_text()
    assert "lottery" not in (model_folder / "conda.yaml").read_text()
    bare = subprocess.run(
        [sys.executable, "-c", WITHOUT_LT, model_folder, small_npz], cwd=tmp_path, env=environment(PYTHONPATH=""),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert bare.returncode == 0, bare.stderr
    told = json.loads(bare.stdout)
    assert told["classes"] == classes
    assert Path(told["code"]).is_relative_to(model_folder)
    assert not (model_folder / "code/shipped/lottery_ticket/shipped/mnist").exists()

    port = free_port()
    serve = ["models", "serve", "-m", "models:/small@smallest", "--env-manager", "local", "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *serve],
        cwd=tmp_path,
        env=environment(
            MLFLOW_TRACKING_URI="sqlite:///mlruns/mlflow.db",
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": images.x_test[:50].tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as response:
            answer = np.array(json.load(response)["predictions"])
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert answer.shape == (50, 10)
    assert np.allclose(answer.sum(1), 1, atol=1e-4)
    assert answer.argmax(1).tolist() == classes[:50]


WITHOUT_LT = """
import json, sys
from pathlib import Path
sys.meta_path = [each for each in sys.meta_path if "editable" not in repr(each).lower()]
sys.path = [each for each in sys.path if each and not Path(each, "lottery_ticket").is_dir()]
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
classes = model.predict(numpy.load(sys.argv[2])["x_test"]).argmax(1).tolist()
print(json.dumps({"classes": classes, "code": sys.modules["lottery_ticket"].__file__}))
"""
"""What serves a model on a machine where this package is not installed."""


def test_the_data_set_of_a_run_is_found_by_mlflow(tmp_path, monkeypatch, small_npz, settings):
    """`mlflow.data.get_source(…).load()` gives the path of what the run was trained on, from any folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(small_npz, "my own.npz")
    client = connect("sqlite:///mlflow.db")
    for name in ("mnist", str(small_npz), "my own.npz"):
        images = load_images(name)
        chosen = settings.model_copy(update={"dataset": name})
        info = describe(images, 200)
        network = make_network(chosen, info.input_shape, info.classes)
        tracker = Tracker.create(client, "e", chosen, "", "run", images, info, network)
        tracker.stop("FINISHED")
        (logged,) = client.get_run(tracker.run_id).inputs.dataset_inputs
        monkeypatch.chdir("/")
        path = Path(mlflow.data.get_source(logged.dataset).load())
        monkeypatch.chdir(tmp_path)
        if name == "mnist":
            assert (path / "t10k-images-idx3-ubyte.gz").is_file()
        else:
            assert load_images(str(path)).digest == images.digest


class Dying(http.server.BaseHTTPRequestHandler):
    """Forwards every request to the tracking server, and dies at the first for an artifact named in `server.at`."""

    def do_GET(self):
        if self.server.at and self.server.at in self.path:
            self.server.dead = True
        if self.server.dead:
            self.connection.close()
            return
        length = int(self.headers.get("Content-Length", 0))
        wanted = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        asked = urllib.request.Request(
            self.server.target + self.path, self.rfile.read(length) if length else None, wanted, method=self.command
        )
        try:
            with urllib.request.urlopen(asked) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def dying(server):
    """A way to the real server that can be cut: (its address, the object to cut it by)."""
    way = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    way.target, way.at, way.dead = server, "", False
    threading.Thread(target=way.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{way.server_port}", way
    way.shutdown()
    way.server_close()


@pytest.mark.slow
def test_all_of_it_works_against_a_tracking_server_and_none_of_it_is_half_done(lt, quick_flags, dying, tmp_path):
    uri, way = dying

    def remote(*arguments):
        return lt(*arguments, MLFLOW_TRACKING_URI=uri)

    run_id = remote("run", *quick_flags, "--json").json["run_id"]
    shutil.rmtree(tmp_path / "mlruns")  # the figures
    listed = remote("tickets", "--json").json
    assert {row["run_id"] for row in listed} == {run_id}
    assert remote("pull", f"{run_id}:2", "a", "--trained").code == 0
    assert remote("register", f"{run_id}:2", "--name", "far").code == 0
    assert remote("pull", "models:/far@smallest", "b", "--trained").code == 0
    a, b = Ticket.load(tmp_path / "a"), Ticket.load(tmp_path / "b")
    assert all((a.trained[name] == value).all() for name, value in b.trained.items())

    for at in ("settings.json", "mask.safetensors", "init.safetensors", "weights.safetensors"):
        way.at, way.dead = at, False
        done = remote("pull", f"{run_id}:2", "c", "--trained")
        assert (done.code, done.out) == (1, ""), done.err
        assert done.err.startswith("lt: ")
        assert done.err.count("\n") == 1
        assert way.dead
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "server"}
