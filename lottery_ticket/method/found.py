"""What a round's mask has cost to find: whose training it is of, as it was done and over survivors alone."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lottery_ticket.config import Settings
from lottery_ticket.method.arms import arm_named
from lottery_ticket.method.schedule import pruning_of
from lottery_ticket.record import Record


class Before(NamedTuple):
    """The round that a mask comes from, and what of its cost the mask has cost, in the words of `record.Cost`."""

    arm: str
    seed: int
    round: int
    part: Literal["scored", "to_find", "found_with"]


def found_by(settings: Settings, arm: str, seed: int, r: int) -> Before | None:
    """Where the mask of an arm in round r comes from; None where nothing was spent on it."""
    mine = arm_named(arm)
    finder = mine.finder(arm, seed, settings.seeds)
    told = mine.makes_mask and settings.scope != "global"  # how many weights each tensor has, by the settings
    if r == 0:
        return None
    if finder != (arm, seed) and arm_named(finder[0]).makes_mask:
        return Before(*finder, r, "found_with")
    if told or mine.size_alone:
        return None
    pruning = pruning_of(settings)
    if pruning == "init":
        return Before(*finder, r - 1, "scored")
    once = pruning == "one-shot" and r > 1  # the dense round, which the one before has told
    return Before(*finder, r - 1, "to_find" if once else "found_with")


def spent_over_survivors(settings: Settings, records: Sequence[Record]) -> dict[tuple[str, int, int], int]:
    """The multiply-adds of all training that led to each network, over survivors alone: (arm, seed, round) → how many.

    Those of finding the mask are among them, the scoring for the next round's mask is not. Without what is not known:
    where `Cost.to_find` is not, or a round is not there that the mask comes from.

    Args:
        settings: of the run.
        records: of all its rounds, arms and seeds.
    """
    table = {(record.arm, record.seed, record.round): record for record in records}
    to_find: dict[tuple[str, int, int], int] = {}
    found_with: dict[tuple[str, int, int], int] = {}
    spent: dict[tuple[str, int, int], int] = {}

    def mask_of(before: Before) -> int | None:
        there = before[:3]
        other = table.get(there)
        if other is None or other.cost is None:
            return None
        if before.part == "scored":
            return other.cost.scored(other.sparse)
        count(other)
        return (to_find if before.part == "to_find" else found_with).get(there)

    def count(record: Record) -> None:
        key = record.arm, record.seed, record.round
        if key in spent or record.cost is None or record.cost.to_find is None:
            return
        before = found_by(settings, *key)
        found = mask_of(before) if before else 0
        if found is not None:
            to_find[key], spent[key] = found, found + record.cost.round.sparse
            found_with[key] = spent[key] + record.cost.scored(record.sparse)

    for record in sorted(records, key=lambda each: each.round):
        count(record)  # what it comes from is of the round before, or another's of this round
    return spent
