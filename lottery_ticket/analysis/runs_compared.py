"""Arms of several runs side by side: settings that differ, accuracies at equal density and at equal cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lottery_ticket.analysis.statistics import over_seeds, welch
from lottery_ticket.config import NOT_TRAINING, Settings
from lottery_ticket.record import Counting, Record

COUNTED: dict[Counting, str] = {"computed": "as computed", "sparse": "over survivors alone"}
"""What multiply-adds are compared, in words."""

_ASIDE = frozenset(("arms", "evaluate_every", *NOT_TRAINING))
"""Settings that tell nothing of how an arm was trained: see `config.NOT_TRAINING`."""


@dataclass(frozen=True)
class Side:
    """An arm of a run.

    Attributes:
        name: what it is called in tables and figures.
        settings: of the run.
        records: its finished rounds, of all seeds.
        digest: of the data set; empty where that is not known.
        sparse: (seed, round) → multiply-adds of all training that led to the network, over survivors alone, those of
            finding the mask among them; without those that are not known.
    """

    name: str
    settings: Settings
    records: Sequence[Record] = field(repr=False)
    digest: str = ""
    sparse: Mapping[tuple[int, int], int] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Point:
    """A round of a side; what diverged does not count.

    Attributes:
        round: its index.
        density: mean over seeds, 0–1.
        accuracies: seed → test accuracy at the end, 0–1.
        spent: mean multiply-adds of all training that led to the network, that of finding the mask among them; None
            where that is not known.
        diverged: seeds that did.
    """

    round: int
    density: float
    accuracies: dict[int, float]
    spent: float | None
    diverged: tuple[int, ...] = ()

    @property
    def accuracy(self) -> float:
        """The mean over seeds."""
        return sum(self.accuracies.values()) / len(self.accuracies)


@dataclass(frozen=True)
class Gap:
    """The difference of accuracies between two rounds, the other's minus the first's.

    Attributes:
        rounds: of the first side and of the other.
        at: what is (nearly) equal, of the first and of the other: densities, 0–1, or multiply-adds.
        accuracies: means, of the first and of the other.
        difference: of the means, 0–1.
        interval: of the difference; None where nothing is known of the spread: one seed, or seeds all alike.
        by: `paired`, over the seeds that both have, where these are two at least, or all; else `welch`.
        seeds: how many of the first's, and of the other's, were compared.
        left_out: the seeds that one of the two lacks, where pairs were compared: they count in neither mean.
    """

    rounds: tuple[int, int]
    at: tuple[float, float]
    accuracies: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None
    by: Literal["paired", "welch"]
    seeds: tuple[int, int]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Compared:
    """One side against the first.

    Attributes:
        name: of the side.
        by_density, by_spent: the rounds that could be compared, in the first side's order; empty where none could.
        unmatched: rounds of the first side with no round of this one within the tolerance in density.
    """

    name: str
    by_density: tuple[Gap, ...]
    by_spent: tuple[Gap, ...]
    unmatched: tuple[int, ...]


@dataclass(frozen=True)
class RunsCompared:
    """Several sides, all but the first against it.

    Attributes:
        names: of the sides.
        settings: those that differ: name → value of each side.
        data: whether all were trained and tested on the same images; None where that is not known.
        points: side → its rounds.
        others: the comparisons.
        seconds: side → seconds of training, mean over seeds, all rounds.
        diverged: side → seeds that diverged in a round.
        tolerance, level, cost: see `compare_sides`.
    """

    names: tuple[str, ...]
    settings: dict[str, tuple[object, ...]]
    data: bool | None
    points: dict[str, tuple[Point, ...]]
    others: tuple[Compared, ...]
    seconds: dict[str, float]
    diverged: dict[str, tuple[int, ...]]
    tolerance: float
    level: float
    cost: Counting


def compare_sides(
    sides: Sequence[Side], tolerance: float = 0.1, level: float = 0.95, cost: Counting = "computed"
) -> RunsCompared:
    """Compare sides with the first of them.

    A round is compared with the other side's nearest in density (on a log scale), where one has at most `tolerance`,
    as a part, more than the other; and with its nearest in multiply-adds likewise. Differences are paired over seeds
    of which both rounds have two or more, else Welch's (1947, Biometrika 34). Intervals are each round's own, not
    corrected for their number.

    Args:
        sides: two or more, of different names.
        tolerance: of density and multiply-adds, over 0.
        level: of the intervals, 0–1.
        cost: whether multiply-adds are those of the training as it was done (`computed`; arms whose masks change on
            the way are trained dense) or those over survivors alone (`sparse`), at which Evci et al. 2020 (arXiv
            1911.11134) compare.
    """
    points = {side.name: points_of(side, cost) for side in sides}
    first, *others = sides
    digests = {side.digest for side in sides}
    return RunsCompared(
        names=tuple(points),
        settings=_settings([side.settings for side in sides]),
        data=None if "" in digests else len(digests) == 1,
        points=points,
        others=tuple(_against(points[first.name], points[o.name], o.name, tolerance, level) for o in others),
        seconds={side.name: _seconds(side.records) for side in sides},
        diverged={side.name: tuple(sorted({r.seed for r in side.records if r.diverged})) for side in sides},
        tolerance=tolerance,
        level=level,
        cost=cost,
    )


def points_of(side: Side, cost: Counting = "computed") -> tuple[Point, ...]:
    """The rounds of a side, in order; those in which all seeds diverged are left out."""
    points = []
    for index in sorted({record.round for record in side.records}):
        here = [record for record in side.records if record.round == index]
        counted = [record for record in here if not record.diverged]
        spent = [each for record in counted if (each := _spent(side, record, cost)) is not None]
        if counted:
            points.append(
                Point(
                    round=index,
                    density=sum(record.density for record in counted) / len(counted),
                    accuracies={record.seed: record.test_accuracy for record in counted},
                    spent=sum(spent) / len(spent) if len(spent) == len(counted) else None,
                    diverged=tuple(record.seed for record in here if record.diverged),
                )
            )
    return tuple(points)


def _spent(side: Side, record: Record, cost: Counting) -> int | None:
    if cost == "sparse":
        return side.sparse.get((record.seed, record.round))
    return record.cost.spent(record.sparse) if record.cost else None


def _settings(each: Sequence[Settings]) -> dict[str, tuple[object, ...]]:
    """Those that differ."""
    told = {name: tuple(getattr(settings, name) for settings in each) for name in Settings.model_fields}
    return {name: values for name, values in told.items() if name not in _ASIDE and len(set(map(str, values))) > 1}


def _against(ours: Sequence[Point], theirs: Sequence[Point], name: str, tolerance: float, level: float) -> Compared:
    by_density = _matched(ours, theirs, lambda point: point.density, tolerance, level)
    by_spent = _matched(ours, theirs, lambda point: point.spent, tolerance, level)
    found = {gap.rounds[0] for gap in by_density}
    return Compared(name, by_density, by_spent, tuple(point.round for point in ours if point.round not in found))


def _matched(
    ours: Sequence[Point],
    theirs: Sequence[Point],
    across: Callable[[Point], float | None],
    tolerance: float,
    level: float,
) -> tuple[Gap, ...]:
    """Each of our points with the nearest of theirs, where that is near enough."""
    gaps = []
    there = [(at, point) for point in theirs if (at := across(point))]
    for mine in ours:
        here = across(mine)
        if not here or not there:
            continue
        at, other = min(there, key=lambda each: abs(math.log(each[0] / here)))
        if abs(math.log(at / here)) <= math.log1p(tolerance) + 1e-12:
            gaps.append(_gap(mine, other, (here, at), level))
    return tuple(gaps)


def _gap(mine: Point, other: Point, at: tuple[float, float], level: float) -> Gap:
    either = sorted(mine.accuracies.keys() | other.accuracies.keys())
    shared = [seed for seed in either if seed in mine.accuracies and seed in other.accuracies]
    paired = len(shared) > 1 or shared == either
    ours, theirs = (
        [point.accuracies[seed] for seed in (shared if paired else point.accuracies)] for point in (mine, other)
    )
    spread = (
        over_seeds([their - our for our, their in zip(ours, theirs, strict=True)]) if paired else welch(theirs, ours)
    )
    means = sum(ours) / len(ours), sum(theirs) / len(theirs)
    return Gap(
        rounds=(mine.round, other.round),
        at=at,
        accuracies=means,
        difference=means[1] - means[0],
        interval=spread.interval(level) if spread else None,
        by="paired" if paired else "welch",
        seeds=(len(ours), len(theirs)),
        left_out=tuple(seed for seed in either if seed not in shared) if paired else (),
    )


def _seconds(records: Sequence[Record]) -> float:
    seeds: Mapping[int, list[float]] = {record.seed: [] for record in records}
    for record in records:
        seeds[record.seed].append(record.seconds)
    return sum(map(sum, seeds.values())) / len(seeds) if seeds else 0.0
