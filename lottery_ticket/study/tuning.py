"""Each arm at the values that are best for it: chosen by validation accuracy, compared on test accuracy.

All arms of a trial are trained with the same values, so each is tried with as many. Ma et al. 2021 (arXiv 2107.00166)
ask that tickets win so, and at their best learning rate against reinit at any; Blalock et al. 2020 (arXiv 2003.03033)
that all that is compared is tuned alike.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from lottery_ticket.analysis.statistics import over_seeds
from lottery_ticket.record import nearest
from lottery_ticket.study.definition import Range, Study, ordered
from lottery_ticket.study.measures import NEAREST
from lottery_ticket.study.trials import Trial

DENSE = "dense"
"""What the dense network, round 0 of the arm `winning`, is called among the arms."""

Edge = Literal["least", "largest", "only"]


@dataclass(frozen=True)
class Candidate:
    """An arm in a trial in which all seeds got to a round without diverging.

    Attributes:
        trial: which.
        left: percent of weights left, mean over the seeds.
        validation: accuracy on the validation images, 0–1, mean over the seeds.
        tests: seed → accuracy on the test images, 0–1.
    """

    trial: Trial
    left: float
    validation: float
    tests: Mapping[int, float]

    @property
    def test(self) -> float:
        """The mean over seeds."""
        return _mean(self.tests.values())


class Gap(NamedTuple):
    """A mean difference of test accuracies paired by seed; without interval where nothing is known of the spread."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Tuned:
    """An arm, or the dense network, at a density.

    Attributes:
        group: what is searched besides, and what it is here.
        pct: the density asked for, percent of weights left.
        arm: or `DENSE`.
        trials: how many were finished, for all arms the same.
        candidates: those in which all seeds got there, in order of the tuned values.
        best: of these the one with the best mean validation accuracy, of equal ones the first.
        at_edge: the tuned values of `best` beyond which none was tried: there the best is not bracketed.
        at_any: the one with the best mean *test* accuracy: the most that the arm has at any value.
        behind: the arm that all are compared with at its best less this one at its best; of itself None, as the next.
        behind_any: the same less this arm at any value, which is in the arm's favour.
    """

    group: Mapping[str, Any]
    pct: float
    arm: str
    trials: int
    candidates: tuple[Candidate, ...]
    best: Candidate | None
    at_edge: Mapping[str, Edge]
    at_any: Candidate | None
    behind: Gap | None
    behind_any: Gap | None


def compared_with(arms: Sequence[str]) -> str:
    """The arm that the others are compared with, and by whose weights left a round is told: `winning`, or the first."""
    return "winning" if "winning" in arms else arms[0]


def tune(study: Study, trials: Sequence[Trial]) -> list[Tuned]:
    """Every arm at its own best, for each combination of what is searched and not tuned, and each density.

    The arm that all are compared with comes first, then the others, then the dense network, where `winning` is there. A
    density is that of the round in which the first is nearest to it, the same in all trials; where no round is, it is
    left out.
    """
    settings = study.settings_of({})
    leading = compared_with(settings.arms)
    arms = [leading, *(arm for arm in settings.arms if arm != leading), *([DENSE] if leading == "winning" else [])]
    rows: list[Tuned] = []
    for group, there in _groups(study, trials):
        for pct in study.densities:
            r = nearest(_left(there, leading), pct, NEAREST)
            first: Candidate | None = None
            for arm in arms if r is not None else ():
                trunk = ("winning", 0) if arm == DENSE else (arm, r)
                found = _candidates(there, trunk, settings.seeds)
                best = max(found, key=lambda each: each.validation, default=None)
                at_any = max(found, key=lambda each: each.test, default=None)
                if arm == leading:
                    first = best
                gap = partial(_gap, None if arm == leading else first, level=settings.verdict_level)
                rows.append(
                    Tuned(
                        group=group,
                        pct=pct,
                        arm=arm,
                        trials=len(there),
                        candidates=found,
                        best=best,
                        at_edge=_edges(study, best, there) if best else {},
                        at_any=at_any,
                        behind=gap(best),
                        behind_any=gap(at_any),
                    )
                )
    return rows


def _groups(study: Study, trials: Sequence[Trial]) -> list[tuple[dict[str, Any], list[Trial]]]:
    """Trials by what is searched and not tuned, each group in order of the tuned values."""
    others = [name for name in study.space if name not in study.tune]
    found: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in sorted(trials, key=_sorting(study, [*others, *study.tune])):
        found.setdefault(tuple(trial.params[name] for name in others), []).append(trial)
    return [(dict(zip(others, key, strict=True)), there) for key, there in found.items()]


def _sorting(study: Study, names: Sequence[str]) -> Callable[[Trial], tuple[Any, ...]]:
    """What trials are sorted by: these settings, choices without an order as the study has them."""

    def place(name: str, value: Any) -> Any:
        searched = study.space[name]
        return value if isinstance(searched, Range) or ordered(searched) else searched.choices.index(value)

    return lambda trial: tuple(place(name, trial.params[name]) for name in names)


def _left(trials: Iterable[Trial], arm: str) -> dict[int, float]:
    """Round → percent of weights that the arm has left, mean over all trials and seeds."""
    found: dict[int, list[float]] = {}
    for trial in trials:
        for each in trial.accuracies:
            if each.arm == arm and each.round:
                found.setdefault(each.round, []).append(each.left)
    return {r: _mean(left) for r, left in found.items()}


def _candidates(trials: Iterable[Trial], trunk: tuple[str, int | None], seeds: Sequence[int]) -> tuple[Candidate, ...]:
    """An arm at a round, in the trials in which all these seeds got there."""
    found = []
    for trial in trials:
        there = {each.seed: each for each in trial.accuracies if (each.arm, each.round) == trunk}
        if there.keys() >= set(seeds):
            mine = [there[seed] for seed in seeds]
            validation, left = _mean(each.validation for each in mine), _mean(each.left for each in mine)
            found.append(Candidate(trial, left, validation, {each.seed: each.test for each in mine}))
    return tuple(found)


def _edges(study: Study, best: Candidate, trials: Sequence[Trial]) -> dict[str, Edge]:
    """Of a choice's tuned values that have an order those beyond which no trial was, whatever came of it."""
    at: dict[str, Edge] = {}
    for name in study.tune:
        if ordered(study.space[name]):
            chosen, tried = best.trial.params[name], [each.params[name] for each in trials]
            if chosen in (min(tried), max(tried)):
                at[name] = "only" if min(tried) == max(tried) else "least" if chosen == min(tried) else "largest"
    return at


def _gap(ours: Candidate | None, theirs: Candidate | None, level: float) -> Gap | None:
    if ours is None or theirs is None:
        return None
    gaps = [accuracy - theirs.tests[seed] for seed, accuracy in ours.tests.items()]
    spread = over_seeds(gaps)
    return Gap(_mean(gaps), spread.interval(level) if spread else None)


def _mean(values: Iterable[float]) -> float:
    there = list(values)
    return math.fsum(there) / len(there)
