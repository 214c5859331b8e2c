"""A store whose entries a stranger edited: what cannot be is one line, whatever command reads it."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import lottery_ticket
from lottery_ticket import Ticket
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.runs.retrain import train_ticket
from lottery_ticket.store import connection
from lottery_ticket.store.find import find
from lottery_ticket.store.listing import list_tickets
from lottery_ticket.store.seal import seal
from lottery_ticket.tickets.folder import CARD, card_digest


@pytest.fixture
def strange(found, tmp_path):
    """A copy of a store: its address, the folder of its run's artifacts, and what edits its database."""
    folder = tmp_path / "store"
    shutil.copytree(Path(found.client.tracking_uri.removeprefix("sqlite:///")).parent, folder)
    connection.connect(f"sqlite:///{folder}/mlflow.db", create=False)

    def edit(statement, *values):
        with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
            store.execute(statement, values)

    kept = folder / "artifacts" / "lottery-ticket" / found.run_id / "artifacts"
    return f"sqlite:///{folder}/mlflow.db", kept, edit


def tagged(key, value):
    return lambda edit: edit("UPDATE tags SET value = ? WHERE key = ?", value, key)


def without(key):
    return lambda edit: edit("DELETE FROM tags WHERE key = ?", key)


def rounds(**more):
    told = {"run": "0" * 32, "rounds": [[1, 0.8, 0.9]]} | more
    return lambda edit: edit(
        "UPDATE tags SET value = ?, key = ? WHERE key = 'lt.rounds/winning-seed0/0'",
        json.dumps(told), more.get("key", "lt.rounds/winning-seed0/0"),
    )  # fmt: skip


EDITS = {
    "another arm": rounds(key="lt.rounds/evil-seed0/0"),
    "a long seed": rounds(key=f"lt.rounds/winning-seed{'9' * 400}/0"),
    "no seed": rounds(key="lt.rounds/winning-seedx/0"),
    "a round that is none": rounds(rounds=[[10**400, 0.8, 0.9]]),
    "an accuracy that is none": rounds(rounds=[[1, 0.8, 1e300]]),
    "not a number": rounds(rounds=[[1, 0.8, float("nan")]]),
    "no rounds": rounds(rounds=7),
    "no JSON": tagged("lt.rounds/winning-seed0/0", "[" * 7000),
    "no verdict": tagged("lt.verdict/0", '{"1": "zz"}'),
    "an arm of a trajectory": tagged("lt.arm", "evil"),
    "no arm of a trajectory": without("lt.arm"),
    "a seed of a trajectory": tagged("lt.seed", "9" * 400),
    "letters for a seed": tagged("lt.seed", "x"),
    "no parent": without("mlflow.parentRunId"),
    "no version": without("lt.version"),
    "another kind": tagged("lt.kind", "evil"),
    "params": lambda edit: edit("UPDATE params SET value = ?", "9" * 5000),
}


@pytest.mark.parametrize(
    "name", [name if i % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(EDITS)]
)
def test_edited_entries_are_read_or_one_line(strange, found, name, tmp_path):
    uri, _, edit = strange
    EDITS[name](edit)
    reads = [
        lambda: list_tickets(uri),
        lambda: find(f"{found.run_id}:1", tracking_uri=uri, trained=True),
        lambda: find(found.stored.children["reinit", 0], tracking_uri=uri),
        lambda: lottery_ticket.load_run(found.run_id, tracking_uri=uri, figures=tmp_path / "figures"),
    ]
    for read in reads:
        said = ""
        try:
            read()
        except LotteryTicketError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 2000


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("settings.json", '{"seeds": [' + "1," * 10**6 + "1]}"),
        ("settings.json", '{"lr": 1e999}'),
        ("settings.json", "[" * 10**5),
        ("settings.json", '{"rounds": ' + "9" * 5000 + "}"),
        ("settings.json", ""),
        ("data.json", '{"classes": ' + "9" * 400 + "}"),
        ("data.json", "null"),
        ("network.json", '{"tensors": {"a": [' + "9" * 30 + "]}}"),
    ],
)
def test_edited_documents_are_one_line(strange, found, file, text):
    uri, kept, _ = strange
    (kept / file).write_text(seal(text))
    for read in (lottery_ticket.load_run, lottery_ticket.resume):
        with pytest.raises(LotteryTicketError) as told:
            read(found.run_id, tracking_uri=uri)
        assert "\n" not in str(told.value)


def edited(folder, part, **told):
    card = json.loads((folder / CARD).read_text())
    card[part] |= told
    (folder / CARD).write_text(json.dumps(card | {"sha256": card_digest(card)}))
    return folder


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("metrics", {"test_accuracy": 1e300}),
        ("metrics", {"dense_accuracy": -1}),
        ("dataset", {"classes": 10**400}),
        ("dataset", {"mean": [1e300]}),
        ("dataset", {"std": [1e300]}),
        ("origin", {"seed": 10**400}),
        ("settings", {"seeds": [10**400]}),
        ("settings", {"seeds": list(range(1001))}),
        ("settings", {"verdict_level": 1e300}),
    ],
)
def test_a_card_s_numbers_have_bounds(ticket, tmp_path, part, told):
    folder = edited(ticket.save(tmp_path / "ticket"), part, **told)
    with pytest.raises(LotteryTicketError, match=rf"has a ticket\.json that is not valid \({part}\."):
        Ticket.load(folder)


def test_a_ticket_of_an_arm_that_nobody_knows_is_trained(ticket, tmp_path):
    folder = edited(ticket.save(tmp_path / "ticket"), "origin", arm="evil")
    loaded = Ticket.load(folder)
    loaded = replace(loaded, settings=loaded.settings.model_copy(update={"rewind_iteration": 0}))
    assert train_ticket(loaded, iterations=40, tracking_uri=f"sqlite:///{tmp_path}/new/mlflow.db").rounds
