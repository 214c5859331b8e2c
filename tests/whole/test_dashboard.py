"""`lt ui --optuna` in a real browser, and the SQLite storage it shows: shared by processes, refused untouched."""

import multiprocessing
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing

import optuna
import pytest

from lottery_ticket.address import public
from lottery_ticket.errors import InputError, one_line
from lottery_ticket.store import connection
from lottery_ticket.study.storage import open_storage
from tests.cli.test_ui import CHROMIUM, FLAGS
from tests.conftest import environment

HIDDEN = [
    ("sqlite:///a/b.db", "sqlite:///a/b.db"),
    ("postgresql://me@host/db", "postgresql://me@host/db"),
    ("postgresql://me:secret@host:5/db", "postgresql://me:***@host:5/db"),
    ("postgresql://me:se/cr:e@t@host/db?sslmode=require", "postgresql://me:***@host/db?sslmode=require"),
    ("mysql+pymysql://host/db?user=me&password=secret&x=1", "mysql+pymysql://host/db?user=me&password=***&x=1"),
]
REFUSED = [
    ("sqlite://", "names no file"),
    ("sqlite:///:memory:", "names no file"),
    ("oracel://host/db", "is of a kind that is unknown"),
    ("optuna.db", "is no URL"),
    ("postgresql://me:secret@host:port/db", "is no URL"),
    ("sqlite:////dev/null/optuna.db", "cannot be used"),
    ("mssql+pymssql://me:secret@host/db", "needs the package pymssql"),
]


def enqueue_and_tell(url: str, together, rates: list[float]) -> None:
    together.wait(200)
    study = optuna.create_study(study_name="shared", storage=open_storage(url), load_if_exists=True)
    for rate in rates:
        study.enqueue_trial({"rate": rate})
    together.wait(200)
    for _ in rates:
        trial = study.ask()
        study.tell(trial, trial.suggest_float("rate", 0, 1))


def refusal(url: str, create: bool) -> str:
    with pytest.raises(InputError) as refused:
        open_storage(url, create=create)
    assert str(refused.value).startswith("--storage: ")
    assert "allowed: " in str(refused.value)
    assert "secret" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def studied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(study_name="which-tickets", storage=open_storage())
    study.optimize(lambda trial: trial.suggest_float("rate", 0, 1) ** 2, n_trials=5)
    return study


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*arguments: str) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lottery_ticket", "ui", "--optuna", *arguments],
            cwd=tmp_path,
            env=environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, re.search(r"http://\S+", process.stdout.readline())[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.slow
def test_the_dashboard_shows_the_study(studied, start):
    from playwright.sync_api import sync_playwright

    process, address = start()
    assert re.fullmatch(r"http://127.0.0.1:8\d+/dashboard", address)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(address)
        page.get_by_text("which-tickets").first.click(timeout=60_000)
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", timeout=60_000)
        browser.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.stderr.read() == "Ctrl-C ends it.\n"


def test_it_listens_on_loopback_until_the_command_is_terminated(studied, start):
    process, address = start("--storage", "sqlite:///mlruns/optuna.db")
    found = urllib.request.urlopen(address.replace("/dashboard", "/api/studies"))
    assert b"which-tickets" in found.read()
    port = int(re.search(r":(\d+)/", address)[1])
    with pytest.raises(OSError):  # noqa: PT011 – an address of this machine, but not the one that is listened on
        socket.create_connection(("127.0.0.2", port), timeout=5)
    process.terminate()
    assert process.wait(timeout=30) == 143
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.slow
def test_it_listens_elsewhere_when_told_so_and_says_what_that_means(studied, start):
    process, address = start("--unprotected-host", "127.0.0.2")
    assert address.startswith("http://127.0.0.2:")
    assert urllib.request.urlopen(address, timeout=30).status == 200
    process.terminate()
    assert "whoever reaches this address can read, change and delete" in process.stderr.read()


def test_ui_refuses_what_it_cannot_show(lt, tmp_path):
    nobodys = "192.0.2.1"  # RFC 5737
    for host in ("", nobodys, "224.0.0.1", "255.255.255.255", "evil.example"):
        done = lt("ui", "--unprotected-host", host)
        assert done.code == 2
        assert f"--unprotected-host: '{host}' cannot be listened on; allowed: " in done.err
    done = lt("ui", "--optuna")
    assert done.code == 2
    assert "--storage: 'sqlite:///mlruns/optuna.db' does not exist; allowed: " in done.err
    assert not (tmp_path / "mlruns").exists()
    done = lt("ui", "--storage", "postgresql://me:secret@host/db")
    assert done.code == 2
    assert "--storage: 'postgresql://me:***@host/db' is for Optuna's dashboard" in done.err
    done = lt("ui", "--optuna", "--tracking-uri", "sqlite:///mlruns/mlflow.db")
    assert done.code == 2
    assert "--tracking-uri: " in done.err


def test_ui_names_the_extra_that_is_missing(studied, tmp_path):
    program = "import sys; sys.modules['optuna_dashboard'] = None; from lottery_ticket.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "ui", "--optuna"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"pip install 'lottery-ticket-lab[dashboard]'" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("url", "shown"), HIDDEN)
def test_passwords_are_hidden(url, shown):
    assert public(url) == shown


def test_passwords_are_hidden_in_what_others_say():
    said = one_line(OSError("request to http://me:secret@host/api failed, see https://you:hidden@host/b"))
    assert said == "OSError: request to http://***@host/api failed, see https://***@host/b"


@pytest.mark.parametrize(("url", "why"), REFUSED)
def test_an_unusable_url_is_refused(url, why):
    assert why in refusal(url, create=True)


def test_the_extra_for_postgresql_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'lottery-ticket-lab[postgresql]'" in refusal("postgresql://me:secret@host/db", create=True)


def test_no_storage_is_made_where_none_is_wanted(tmp_path):
    assert "does not exist" in refusal(f"sqlite:///{tmp_path}/none/optuna.db", create=False)
    assert not (tmp_path / "none").exists()


def test_other_files_are_refused_untouched(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("These are notes, not a database. " * 100)
    empty = tmp_path / "empty.db"
    empty.touch()
    mlflow = tmp_path / "mlflow.db"
    connection.connect(f"sqlite:///{mlflow}")
    for file, create in [(text, False), (text, True), (empty, False), (mlflow, False), (mlflow, True)]:
        before = file.read_bytes()
        refusal(f"sqlite:///{file}", create)
        assert file.read_bytes() == before


def test_the_default_storage_stays_where_it_is_as_the_process_moves(studied, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    studied.tell(studied.ask(), 1.0)
    assert len(studied.trials) == 6
    assert (tmp_path / "mlruns" / "optuna.db").exists()
    assert not (tmp_path / "elsewhere" / "mlruns").exists()


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "50% of {x} & more"
    folder.mkdir()
    optuna.create_study(study_name="named", storage=open_storage(f"sqlite:///{folder}/optuna.db".replace("%", "%25")))
    with closing(sqlite3.connect(folder / "optuna.db")) as database:
        assert database.execute("SELECT study_name FROM studies").fetchall() == [("named",)]


@pytest.mark.slow
def test_processes_that_make_one_storage_at_once_lose_no_trial_and_take_none_twice(tmp_path):
    url = f"sqlite:///{tmp_path}/new/optuna.db"
    rates = [number / 40 for number in range(40)]
    context = multiprocessing.get_context("forkserver")
    together = context.Barrier(4)
    processes = [context.Process(target=enqueue_and_tell, args=(url, together, rates[part::4])) for part in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    trials = optuna.load_study(study_name="shared", storage=open_storage(url, create=False)).trials
    assert [trial.number for trial in trials] == list(range(40))
    assert sorted(trial.value for trial in trials if trial.state.name == "COMPLETE") == rates
