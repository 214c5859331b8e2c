"""Runs on one data set in one store, each standardised in its own way."""

import pytest

import lottery_ticket
from lottery_ticket import Ticket
from lottery_ticket.data.prepared import describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.runs.listener import Listener


@pytest.mark.slow
def test_each_run_knows_how_its_own_images_were_standardised(small_npz, tmp_path, monkeypatch):
    """MLflow keeps one input for all of them, with what the first says."""
    monkeypatch.chdir(tmp_path)
    images = load_images(str(small_npz))
    ways = [(0, "unit"), (0, "data"), (600, "data"), (0, "0.1/0.3")]
    for held, normalise in ways:
        settings = lottery_ticket.load_preset(
            dataset=str(small_npz), validation_size=held, normalise=normalise, rounds=2, iterations=3, arms="winning"
        )
        result = lottery_ticket.run(settings, listener=Listener())
        ticket = Ticket.load(f"runs:/{result.run_id}:1")  # which compares the logged accuracy with one measured now
        assert ticket.data == describe(images, held, normalise)
    trained = lottery_ticket.train_ticket(ticket, normalise="unit", dense=False, arms="winning")
    assert trained.stored.data.mean == pytest.approx((0.0,))
    assert trained.stored.data.std == pytest.approx((255.0,))
