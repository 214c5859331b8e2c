"""Studies in a real PostgreSQL: opened by plain URLs, shared by processes, refused in one line."""

import multiprocessing
import re
import socket
import subprocess
import sys
import time
from urllib.parse import unquote, urlsplit

import optuna
import psycopg
import pytest

from lottery_ticket.errors import InputError
from lottery_ticket.study.storage import open_storage
from tests.conftest import free_port


def ask_and_tell(url: str, together, trials: int) -> None:
    together.wait(200)
    study = optuna.create_study(study_name="shared", storage=open_storage(url), load_if_exists=True)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("rate", 0, 1))


def refusal(url: str) -> str:
    with pytest.raises(InputError) as refused:
        open_storage(url)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.slow
def test_a_second_process_sees_the_study(postgres):
    study = optuna.create_study(study_name="seen", storage=open_storage(postgres))
    study.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=2)
    program = f"""
import optuna
from lottery_ticket.study.storage import open_storage
study = optuna.load_study(study_name="seen", storage=open_storage({postgres!r}, create=False))
study.tell(study.ask(), 2.5)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert study.trials[2].value == 2.5


@pytest.mark.slow
def test_processes_that_make_one_storage_at_once_lose_no_trial(postgres):
    context = multiprocessing.get_context("forkserver")
    together = context.Barrier(4)
    processes = [context.Process(target=ask_and_tell, args=(postgres, together, 5)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    trials = optuna.load_study(study_name="shared", storage=open_storage(postgres, create=False)).trials
    assert sorted(trial.number for trial in trials) == list(range(20))
    assert all(trial.state.name == "COMPLETE" for trial in trials)


def test_a_database_without_studies_is_refused_unless_it_is_to_be_made(postgres):
    with pytest.raises(InputError, match="is no Optuna storage"):
        open_storage(postgres, create=False)
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE alembic_version (version_num text)")
    with pytest.raises(InputError, match="database of another program"):
        open_storage(postgres)


def test_a_wrong_password_is_named_but_not_shown(postgres):
    password = urlsplit(postgres).password
    message = refusal(postgres.replace(password, "wr0ng"))
    assert re.match(r"--storage: 'postgresql://lt:\*\*\*@127.0.0.1:\d+/of_\w+' cannot be used \(", message)
    assert "password authentication failed" in message
    assert "allowed: " in message
    assert "wr0ng" not in message


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_server_that_is_not_there_is_refused_at_once(postgres, host):
    url = re.sub(r"@.*/", f"@{host}:{free_port()}/", postgres)
    started = time.monotonic()
    message = refusal(url)
    assert time.monotonic() - started < 15
    assert f"***@{host}" in message
    assert urlsplit(postgres).password not in message
    assert unquote(urlsplit(postgres).password) not in message


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_waited_for_10_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        message = refusal(f"postgresql://lt:s3cret@127.0.0.1:{silent.getsockname()[1]}/studies")
        assert 9 < time.monotonic() - started < 15
    assert "no answer within 10 s" in message
    assert "s3cret" not in message
