"""The list of all tickets in a store."""

from pathlib import Path

import pytest

from lottery_ticket.store.listing import _read_sqlite, _read_store, list_tickets


def test_the_list_is_that_of_the_records(found, store):
    listed = {(each.arm, each.seed, each.round): each for each in list_tickets(store) if each.run_id == found.run_id}
    assert listed.keys() == {(r.arm, r.seed, r.round) for r in found.rounds if r.round > 0}
    judged = {each.round: each for each in found.verdict.rounds}
    for record in (r for r in found.rounds if r.round > 0):
        each = listed[record.arm, record.seed, record.round]
        assert each.density == pytest.approx(record.density)
        assert each.test_accuracy == pytest.approx(record.test_accuracy)
        assert each.trajectory == found.stored.children[record.arm, record.seed]
        assert (each.model, each.dataset) == ("fc1", found.stored.settings.dataset)
        assert each.winning == (judged[record.round].wins if record.arm == "winning" else None)


def test_the_list_is_the_same_through_mlflow(found, store):
    def plain(runs):
        return {run_id: (name, params, tags) for run_id, name, params, tags in runs}

    directly = plain(_read_sqlite(Path(store.removeprefix("sqlite:///"))))
    assert directly == plain(_read_store(store))
    assert found.run_id in directly


def test_a_deleted_run_is_not_listed(found, store):
    found.client.delete_run(found.run_id)
    try:
        assert found.run_id not in {each.run_id for each in list_tickets(store)}
    finally:
        found.client.restore_run(found.run_id)
