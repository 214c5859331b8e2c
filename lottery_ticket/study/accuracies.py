"""What the networks of a trial got right, seed by seed, for studies that tune: see `lottery_ticket.study.tuning`."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from lottery_ticket.record import Record
from lottery_ticket.study.measures import NEAREST


class Accuracies(NamedTuple):
    """What a network got right at the end of a round, 0–1, and the percent of weights that it had left."""

    arm: str
    seed: int
    round: int
    left: float
    validation: float
    test: float


def accuracies(records: Sequence[Record], densities: Collection[float]) -> list[Accuracies]:
    """Those of a trial's dense networks, and of all arms in the rounds that may stand for one of these percents.

    What diverged is left out. A round stands for a density by the weights that the arm `winning` has left in it. Any
    may where that arm is not there, or no longer: what a learned mask leaves is not the same in all trials.
    """
    left = {each.round: each.weights_remaining_pct for each in records if each.arm == "winning"}
    near = {r for r, of in left.items() if any(abs(math.log(of / pct)) <= math.log(NEAREST) for pct in densities)}
    rounds = near | {each.round for each in records} - left.keys() - {0}
    return [
        Accuracies(each.arm, each.seed, each.round, each.weights_remaining_pct, validation, each.test_accuracy)
        for each in records
        if each.round in rounds or (each.arm, each.round) == ("winning", 0)
        if not each.diverged and (validation := each.curve[-1].validation_accuracy) is not None
    ]
