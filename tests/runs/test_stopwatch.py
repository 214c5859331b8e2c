"""Every second of a run counts once."""

import math
import time
from contextlib import suppress

import pytest

from lottery_ticket.runs.stopwatch import PARTS, Stopwatch


def test_parts_within_parts_take_their_own_and_all_is_counted(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    clock = Stopwatch(begun=97.0)
    passes(1)
    with clock.part("training"):
        passes(5)
        with clock.part("tracking"):
            passes(2)
        with suppress(KeyError), clock.part("data"):
            passes(4)
            raise KeyError
        passes(3)
    passes(1)
    assert clock.seconds == dict.fromkeys(PARTS, 0) | {"start": 5, "training": 8, "tracking": 2, "data": 4}
    assert math.fsum(clock.seconds.values()) == now[0] - 97


@pytest.mark.slow
def test_evaluation_is_its_share_of_the_rounds(monkeypatch, found):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Stopwatch()
    with clock.part("training"):
        now[0] += 12
    clock.evaluated([])
    assert clock.seconds["training"] == 12
    records = [
        found.rounds[0].model_copy(update={"seconds": 4.0, "evaluation_seconds": 1.0}),
        found.rounds[0].model_copy(update={"seconds": 2.0, "evaluation_seconds": None}),
    ]
    clock.evaluated(records)
    assert (clock.seconds["training"], clock.seconds["evaluation"]) == (10, 2)
    with clock.part("training"):  # of a further look
        now[0] += 6
    clock.evaluated(records)
    assert (clock.seconds["training"], clock.seconds["evaluation"]) == (15, 3)
