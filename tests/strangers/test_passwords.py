"""Passwords and tokens in addresses are shown nowhere: every place in which an address comes out, every form of one."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from lottery_ticket import cli
from lottery_ticket.address import public, without_credentials
from lottery_ticket.cli.companions import Companions
from lottery_ticket.cli.display import resume_command, ui_command
from lottery_ticket.cli.reproduce_display import command_line
from lottery_ticket.cli.sweep_display import continue_command
from lottery_ticket.data.sources import fetch
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.runs.run import _resuming
from lottery_ticket.store import connection, reach, reading
from lottery_ticket.store.beside import Client
from lottery_ticket.store.courier import Courier
from lottery_ticket.store.delivery import Gone
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.store.places import allowed
from lottery_ticket.store.tracking import Tracker
from lottery_ticket.study.opened import open_study
from lottery_ticket.study.parse import load_study
from lottery_ticket.study.storage import open_storage
from lottery_ticket.tickets.ticket import Origin

AT = "127.0.0.1:1"  # where nobody answers, at once
FORMS = [
    f"http://me:SECRET@{AT}",
    f"http://me:se/SECRET@{AT}",
    f"http://me:s@SECRET@{AT}",
    f"http://me:SECRET%40x@{AT}",
    f"http://SECRET@{AT}",
    f"HTTPS://SECRET:@{AT}",
    f"http://{AT}/?token=SECRET",
    f"http://{AT}/?x=1&password=SECRET&SECRET",
    f"http://{AT}/?access%5Ftok%65n=SECRET#x",
    f"http%3A%2F%2Fme%3ASECRET%40{AT}",
    f"postgresql://me:SECRET@{AT}/db",
    f"postgresql://{AT}/db?user=me&sslpassword=SECRET",
]


def caught(call, *arguments, **more):
    with pytest.raises(LotteryTicketError) as told:
        call(*arguments, **more)
    return str(told.value)


def as_arguments(monkeypatch, tell, address):
    monkeypatch.setattr(sys, "argv", ["lt", "run", "--tracking-uri", address, f"--storage={address}"])
    return tell()


def set_aside(address):
    """What `lt` writes into a file of its outbox, of what the store at this address said."""
    Outbox("x", "r").set_aside("a metric", one_line(OSError(f"'{address}' refused it")))
    return "".join(path.read_text() for path in Path("mlruns").rglob("*.json"))


def warned(address):
    """What is said of a store that takes nothing."""
    said = []

    def refuse(folder):
        raise OSError(f"no answer from {address}")

    with Outbox("x", "w").putting(0):
        pass
    courier = Courier(address, lambda: Outbox("x", "w"), refuse, said.append)
    courier.leave(10)
    return str(said)


PLACES = {
    "address": public,
    "what a ticket keeps": without_credentials,
    "an error of another": lambda address: one_line(OSError(f"request to '{address}' failed, see ({address})")),
    "wrong input": lambda address: str(InputError("--tracking-uri", address, "is nothing")),
    "a store that is not there": lambda address: caught(connection.connect, address),
    "a storage that is not there": lambda address: caught(open_storage, address),
    "a run that is not there": lambda address: str(reach.no_run("RUN", "x", address)),
    "a deleted run": lambda address: f"{Gone('x', 'y', address, True)}{reading.restoring(['x'], address)}",
    "artifacts elsewhere": lambda address: caught(allowed, address, "sqlite:///a.db"),
    "artifacts of an address": lambda address: caught(allowed, "s3://x", address),
    "how to go on": lambda address: f"{resume_command('r', address, {})} {ui_command('e', address)}",
    "a ticket's origin": lambda address: str(Origin(tracking_uri=address, run_id="r").as_tags()),
    "a mirror": lambda address: caught(fetch, "cifar10", address),
    "a file of the outbox": set_aside,
    "a store that takes nothing": warned,
}


@pytest.mark.parametrize("place", PLACES)
def test_no_place_shows_a_password(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_DATA_DIR", str(tmp_path))
    for address in FORMS:
        said = PLACES[place](address)
        assert said
        assert "SECRET" not in said, address


def test_no_command_shows_a_password(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for address in FORMS:
        commands = [
            ["tickets", "--tracking-uri", address],
            ["pull", "0" * 32, "--tracking-uri", address],
            ["run", "--tracking-uri", address],
            ["ui", "--optuna", "--tracking-uri", address],
            ["ui", "--storage", address],
            ["sweep", "show", "--storage", address],
            ["data", "fetch", "mnist", address],
            ["runs", address],
            [f"--traking-uri={address}"],
        ]
        for words in commands:
            monkeypatch.setattr(sys, "argv", ["lt", *words])
            assert cli._run() in (1, 2), words
            said = capsys.readouterr()
            assert said.err.count("\n") == 1, said
            assert "SECRET" not in said.out + said.err, words
        for tell in (command_line, continue_command):
            assert "SECRET" not in as_arguments(monkeypatch, tell, address)


def test_no_result_shows_a_password(found):
    for address in FORMS[:9]:  # of servers
        told = replace(found, client=Client(address)).to_json()
        assert "SECRET" not in json.dumps(told)
        assert "SECRET" not in _resuming(Tracker(found.client, found.stored, None, None), address)


def test_a_study_of_another_store_shows_no_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study, storage = load_study("lr", trials=1), open_storage(f"sqlite:///{tmp_path}/optuna.db")
    made = optuna.create_study(study_name="mine", storage=storage)
    made.set_user_attr("definition", study.definition())
    made.set_user_attr("study", study.model_dump_json())
    made.set_user_attr("mlflow_run_id", "0" * 32)
    for address in FORMS[:7]:
        said = caught(open_study, study, study.definition(), "mine", storage, Client(address), "x", False)
        assert "does not have the runs of study mine" in said
        assert "SECRET" not in said


def test_no_list_of_processes_shows_a_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lt", "presets", "show", FORMS[0], "--jobs", "2"])
    with Companions(2) as companions:
        companions.start()
        while not (command := Path(f"/proc/{companions._processes[0][0].pid}/cmdline").read_bytes()):
            pass  # it is about to be another program
        assert b"lottery_ticket" in command
        assert b"SECRET" not in command
        with pytest.raises(
            LotteryTicketError, match="a process of --jobs failed: lt: No such option: --worker"
        ) as told:
            companions.wait()
    assert "SECRET" not in str(told.value)
