"""Pages of strangers that the user has open while `lt ui` runs: they are neither answered nor obeyed."""

import http.client
import json
import re
import signal
import sqlite3
import time
from contextlib import closing
from urllib.parse import urlsplit

import optuna
import pytest

from lottery_ticket.cli.guard import Guard
from lottery_ticket.store import connection
from lottery_ticket.study.storage import open_storage
from tests.conftest import environment
from tests.help import launcher
from tests.strangers.conftest import bound

HOST, PORT = "127.0.0.1", 5000
EVIL = [
    ({"Host": "evil.example"}, "not served under that name"),
    ({"Host": "10.evil.example:{port}"}, "not served under that name"),
    ({"Host": "127.0.0.1:1"}, "not served under that name"),
    ({"Host": "192.168.0.1:{port}"}, "not served under that name"),
    ({"Origin": "http://evil.example"}, "Pages from elsewhere"),
    ({"Origin": "http://localhost:1"}, "Pages from elsewhere"),
    ({"Origin": "http://127.0.0.1.evil.example:{port}"}, "Pages from elsewhere"),
    ({"Origin": "null"}, "Pages from elsewhere"),
    ({"Origin": "file://127.0.0.1:{port}"}, "Pages from elsewhere"),
]


def ask(address: str, method: str, path: str, headers: dict[str, str] | None = None, body: object = None):
    """The status and the answer."""
    told = {key: value.replace("{port}", str(urlsplit(address).port)) for key, value in (headers or {}).items()}
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as asking:
        sent = None if body is None else json.dumps(body)
        asking.request(method, path, sent, {"Content-Type": "application/json"} | told)
        answer = asking.getresponse()
        return answer.status, answer.read().decode(errors="replace"), answer.headers


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Starts `lt ui` on a store with an experiment and on a storage with a study: the process and its address."""
    monkeypatch.chdir(tmp_path)
    connection.ensure_experiment(connection.connect(), "lottery-ticket")
    optuna.create_study(study_name="mine", storage=open_storage())
    started = []

    def start(*arguments):
        process = launcher.Started(["ui", *arguments], tmp_path, environment(), bound)
        started.append(process)
        assert process.stderr.readline() == "Ctrl-C ends it.\n"
        return process, re.search(r"http://[^/]+", process.out.read_text())[0]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def refused(address, requests):
    for headers, why in EVIL:
        for method, path, body in requests:
            status, said, _ = ask(address, method, path, headers, body)
            assert (status, why in said) == (403, True), (method, path, headers, status, said[:200])


def ends_at_once(process):
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.ends_within(10)
    assert process.returncode == 130
    assert time.monotonic() - begun < 5


def test_mlflow_s_ui_answers_its_own_page_alone(served, tmp_path):
    process, address = served()
    make = ("POST", "/ajax-api/2.0/mlflow/experiments/create", {"name": "evil"})
    refused(address, [make, ("GET", "/", None), ("GET", "/health", None), ("POST", "/v1/traces", {})])
    own = {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}
    assert ask(address, *make[:2], own, {"name": "mine"})[0] == 200
    status, page, headers = ask(address, "GET", "/")
    assert (status, headers["X-Frame-Options"]) == (200, "SAMEORIGIN")
    assert "<html" in page
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as store:
        names = {name for (name,) in store.execute("SELECT name FROM experiments")}
    assert names == {"Default", "lottery-ticket", "mine"}
    ends_at_once(process)


def test_optuna_s_dashboard_answers_its_own_page_alone(served):
    process, address = served("--optuna")
    make, delete = (
        ("POST", "/api/studies", {"study_name": "evil", "directions": ["minimize"]}),
        ("DELETE", "/api/studies/1", None),
    )
    refused(address, [make, delete, ("GET", "/api/studies", None), ("OPTIONS", "/api/studies", None)])
    own = {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}
    assert ask(address, *make[:2], own, make[2] | {"study_name": "two"})[0] == 201
    status, _, headers = ask(address, "GET", "/dashboard")
    assert (status, headers["X-Frame-Options"]) == (200, "SAMEORIGIN")
    names = {each.study_name for each in optuna.get_all_study_summaries(open_storage())}
    assert names == {"mine", "two"}
    ends_at_once(process)


@pytest.mark.parametrize(
    ("host", "reached", "asked", "answered"),
    [
        ("127.0.0.1", "127.0.0.1", "LOCALHOST:5000", True),
        ("127.0.0.1", "127.0.0.1", "me:5000", False),
        ("127.0.0.2", "127.0.0.2", "127.0.0.1:5000", False),
        ("0.0.0.0", "192.0.2.7", "192.0.2.7:5000", True),
        ("0.0.0.0", "192.0.2.7", "me:5000", True),
        ("0.0.0.0", "192.0.2.7", "localhost:5000", False),
        ("0.0.0.0", "192.0.2.7", "192.0.2.8:5000", False),
        ("0.0.0.0", "192.0.2.7", "lab.example", True),
        ("0.0.0.0", "192.0.2.7", "a.lab.example", False),
        ("0.0.0.0", "192.0.2.7", "a.b.example:80", True),
    ],
)
def test_what_is_served_is_answered(monkeypatch, host, reached, asked, answered):
    monkeypatch.setattr("socket.gethostname", lambda: "Me")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "Lab.example, *.b.example:*")
    if host == "127.0.0.1":
        monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS")
    guard = Guard.of(host, 5000)
    assert (guard.refusal([asked], [], reached) == "") == answered
    assert (guard.refusal([asked], [f"https://{asked}"], reached) == "") == answered
    assert guard.refusal([asked] * 2, [], reached)
    assert guard.refusal([], [], reached)


def test_without_a_port_is_port_80():
    assert not Guard("127.0.0.1", 80).refusal(["localhost"], [], "127.0.0.1")
    assert Guard("127.0.0.1", 5000).refusal(["localhost"], [], "127.0.0.1")
