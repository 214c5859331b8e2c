"""Seeds added until something is decided, with the error rate that a fixed number of them would have."""

import math
from collections.abc import Sequence
from itertools import pairwise

from scipy import special

GROWTH = 1.5
"""Each look has so many times the seeds of the one before."""

ALL_BUT_ENDLESS = 100_000
"""More seeds than anybody trains; they are not counted beyond."""


def looks(first: int, most: int) -> tuple[int, ...]:
    """How many seeds there are when it is looked whether they decide: `first`, half as many again, …, `most`."""
    planned = [first]
    while planned[-1] < most:
        planned.append(min(most, math.ceil(GROWTH * planned[-1])))
    return tuple(planned)


def level_at(seeds: int, planned: Sequence[int], level: float) -> float:
    """The confidence level of each interval at the look with so many seeds.

    What may err, 1 − level, is spent in proportion to the seeds (Kim & DeMets 1987, Biometrika 74, "Design and analysis
    of group sequential tests based on the type I error spending rate function", their α₃ with ρ = 1): a look may spend
    what its new seeds are of all. By the union bound all intervals of all looks together hold with at least `level`,
    whenever one stops and why; so does whatever is corrected for many rounds within a look.

    Args:
        seeds: of which a look is made; the first that is planned with so many.
        planned: the seeds at each look, as `looks` gives them.
        level: of all looks together.
    """
    before, now = next(look for look in pairwise((0, *planned)) if look[1] >= min(seeds, planned[-1]))
    return 1 - (1 - level) * (now - before) / planned[-1]


def more_seeds(distance: float, half: float, seeds: int, level: float) -> int | None:
    """How many more seeds would show a difference from a bound, if it and the spread over seeds stay what they are.

    Args:
        distance: from the mean of the paired differences to the bound.
        half: of the t-interval around it, of so many seeds at this level.

    Returns:
        None where that is more than anybody trains.
    """
    spread = half * math.sqrt(seeds) / special.stdtrit(seeds - 1, (1 + level) / 2)

    def shown(count: int) -> bool:
        return special.stdtrit(count - 1, (1 + level) / 2) * spread < distance * math.sqrt(count)

    if not shown(ALL_BUT_ENDLESS):
        return None
    low, high = seeds, ALL_BUT_ENDLESS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle + 1, high)
    return low - seeds
