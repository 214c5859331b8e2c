"""Seeds added to a run, a look at a time, until it is decided (`analysis.sequential` says at which level)."""

from itertools import count, islice
from typing import TYPE_CHECKING

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError

if TYPE_CHECKING:
    from lottery_ticket.analysis.verdict import Verdict
    from lottery_ticket.store.reading import Stored

FIRST_LOOK = 3
"""The fewest seeds at the first look: with fewer the verdict knows nothing of the spread between them."""

MOST_SEEDS = 27
"""The seeds at which it ends unless told otherwise: the sixth look from three on."""


def check_most(settings: Settings, most: int) -> int:
    """The seeds of the first look: those that are asked for, three at least; InputError where `most` are no more."""
    first = max(FIRST_LOOK, len(settings.seeds))
    if most <= first:
        raise InputError("--max-seeds", most, f"leaves no seed to add; allowed: more than {first}")
    return first


def until_decided(settings: Settings, most: int) -> tuple[Settings, tuple[int, ...]]:
    """The settings with the seeds of the first look, and how many there are at each; InputError if none can decide."""
    from lottery_ticket.analysis.sequential import looks
    from lottery_ticket.method.arms import across_seeds, controls_among

    first = check_most(settings, most)
    if "winning" not in settings.arms or not controls_among(settings.arms):
        arms = ",".join(settings.arms)
        raise InputError("--arms", arms, "has nothing to be decided; allowed with --max-seeds: winning and a control")
    seeds = extended(settings.seeds, first)
    if apart := across_seeds(settings.arms, seeds):
        why = "takes its masks from another seed, but seeds that are added are trained apart"
        raise InputError("--arms", apart[0], f"{why}; allowed with --max-seeds: arms of one seed")
    return settings.model_copy(update={"seeds": seeds}), looks(first, most)


def more_seeds(stored: "Stored", verdict: "Verdict | None") -> tuple[int, ...]:
    """The seeds of a run at its next look; empty where it is decided, or has no more looks."""
    now = len(stored.settings.seeds)
    after = next((seeds for seeds in stored.looks if seeds > now), None)
    if after is None or verdict is None or not verdict.open:
        return ()
    return extended(stored.settings.seeds, after)


def last_look(seeds: tuple[int, ...], planned: tuple[int, ...]) -> tuple[int, ...]:
    """Of a run's seeds those that were added last."""
    before = max((each for each in planned if each < len(seeds)), default=0)
    return seeds[before:]


def extended(seeds: tuple[int, ...], size: int) -> tuple[int, ...]:
    """So many seeds: these, then the least whole numbers that are none of them."""
    others = (seed for seed in count() if seed not in seeds)
    return (*seeds, *islice(others, size - len(seeds)))
