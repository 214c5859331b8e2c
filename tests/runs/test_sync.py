"""A tracking server that goes away: training goes on, rounds wait in the outbox and are delivered exactly once."""

import http.client
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from lottery_ticket.store.reading import read_run
from tests.conftest import environment
from tests.help import launcher
from tests.help.outcomes import outcome as whole_outcome

ROUNDS = 8


class Proxy(ThreadingHTTPServer):
    """Hands requests on to a server; answers all but GET with 500 while `failing`."""

    def __init__(self, address):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target, self.failing, self.refused = urlsplit(address), False, 0
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.failing and self.command != "GET":
            self.server.refused += 1
            self.send_error(500)
            return
        there = http.client.HTTPConnection(self.server.target.hostname, self.server.target.port, timeout=60)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
        there.request(self.command, self.path, body, headers)
        got = there.getresponse()
        content = got.read()
        self.send_response(got.status)
        self.send_header("Content-Type", got.getheader("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


def flags(npz):
    return f"run --dataset {npz} --validation-size 200 --rounds {ROUNDS} --iterations 60 --arms winning,reinit".split()


def start(folder, npz, uri, **more):
    variables = environment(MLFLOW_TRACKING_URI=uri, **more)
    return launcher.Started([*flags(npz)], folder, variables)


def read_until(process, said):
    """Read standard error until a line holds that: what was read."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if said in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def outcome(uri):
    """Trajectory → round → accuracy; every metric point is there once, every run finished."""
    client = MlflowClient(uri)
    (parent,) = client.search_runs(["1"], "tags.`lt.kind` = 'run'")
    for run in client.search_runs(["1"]):
        assert run.info.status == "FINISHED", run.info.run_name
        for metric in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, metric)]
            assert len(set(steps)) == len(steps), f"{metric} logged twice"
    stored = read_run(client, parent.info.run_id)
    told = {}
    for record in stored.records:
        told.setdefault((record.arm, record.seed), []).append((record.round, record.test_accuracy))
    assert {path.path for path in client.list_artifacts(parent.info.run_id)} >= {"figures", "verdict.json"}
    return told


@pytest.fixture(scope="module")
def undisturbed(small_npz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    code, _, err = launcher.run(flags(small_npz), folder, environment(), 200)
    assert code == 0, err
    return outcome(f"sqlite:///{folder}/mlruns/mlflow.db")


@pytest.mark.slow
def test_a_server_that_fails_for_a_while_and_is_started_again(small_npz, undisturbed, tracking_server, tmp_path):
    tracking_server.start()
    proxy = Proxy(tracking_server.address)
    process = start(tmp_path, small_npz, proxy.address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    read_until(process, "round  0")
    proxy.failing = True
    read_until(process, "does not take finished rounds")
    assert list((tmp_path / "mlruns" / "outbox").glob("*/[0-9]*"))
    proxy.failing = False
    tracking_server.stop()
    told = read_until(process, f"round  {ROUNDS - 1}")
    tracking_server.start()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, told + err
    assert proxy.refused
    assert "takes finished rounds again" in told + err
    assert outcome(tracking_server.address) == undisturbed
    assert not list((tmp_path / "mlruns" / "outbox").iterdir())


@pytest.mark.slow
def test_a_run_killed_with_all_its_rounds_on_their_way_ends_as_one_that_never_was(small_npz, tracking_server, tmp_path):
    """Kept, too: what the first round started from."""
    tracking_server.start()
    calm = tmp_path / "calm"
    calm.mkdir()
    assert launcher.run([*flags(small_npz), "--rewind-iteration", "5"], calm, environment(), 200)[0] == 0
    proxy = Proxy(tracking_server.address)
    variables = environment(MLFLOW_TRACKING_URI=proxy.address)
    process = launcher.Started([*flags(small_npz), "--rewind-iteration", "5"], tmp_path, variables)
    told = read_until(process, "MLflow run")
    proxy.failing = True
    read_until(process, "round  1")
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert len(list((tmp_path / "mlruns" / "outbox").glob("*/[0-9]*"))) == 2
    proxy.failing = False
    run_id = told.split("MLflow run ")[1].split()[0]
    code, _, err = launcher.run(["run", "--resume", run_id], tmp_path, variables, 200)
    assert code == 0, err
    client = MlflowClient(f"sqlite:///{calm}/mlruns/mlflow.db")
    (undisturbed,) = client.search_runs(["1"], "tags.`lt.kind` = 'run'")
    assert whole_outcome(MlflowClient(proxy.address), run_id) == whole_outcome(client, undisturbed.info.run_id)


@pytest.mark.slow
def test_a_server_that_never_comes_back(lt, small_npz, undisturbed, tracking_server, tmp_path):
    tracking_server.start()
    uri = tracking_server.address
    process = start(tmp_path, small_npz, uri, LT_TRACKING_PATIENCE="1")
    told = read_until(process, "round  1")
    tracking_server.stop()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, told + err
    (folder,) = (tmp_path / "mlruns" / "outbox").iterdir()
    last = err.strip().splitlines()[-1]
    assert f"mlruns/outbox/{folder.name}" in last
    assert "lt sync" in last
    assert (
        folder / f"{ROUNDS - 1:02}" / "winning-seed0" / "last" / "rounds" / f"{ROUNDS - 1:02}" / "round.json"
    ).exists()

    away = lt("sync", "--tracking-uri", uri)
    assert away.code == 2
    assert "cannot be reached" in away.err
    tracking_server.start()
    done = lt("sync", "--tracking-uri", uri)
    assert done.code == 0, done.err
    assert f"{folder.name} (" in done.out
    assert "delivered, finished" in done.out
    assert outcome(uri) == undisturbed
    assert lt("sync", "--tracking-uri", uri).out.strip() == "nothing waits in mlruns/outbox"
