"""Do the records bear a claim out? Measures over seeds with their intervals, and the answers that follow."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from lottery_ticket.record import Record
from lottery_ticket.reproduction import Attribution, Claim, Part, Reproduction, Variant, is_dense, setup_of
from lottery_ticket.verdict import Answer, judge

Word = Literal["holds", "holds in part", "does not hold", "undecided"]

_NEAREST = 1.15
"""A round stands for a percentage of weights left where the ratio of the two is at most this."""


class Estimate(NamedTuple):
    """A mean over seeds with its interval, and the seeds' own values."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Experiment:
    """What was found with one setup in one variant.

    Attributes:
        records: all rounds of its runs, accuracies as the variant reads them (see `read_as`).
        part: of the iterations at report scale that were trained here, 0–1.
        seconds: of training all its runs, each process's where several train side by side.
        steady_seconds: the same by the median round of each trajectory.
        trajectories: networks that were trained, in all its runs.
        tolerance: accuracy (0–1) that a matching ticket may lose.
    """

    records: Sequence[Record]
    part: float
    seconds: float
    steady_seconds: float
    trajectories: int = 1
    tolerance: float = 0.002


Experiments = Mapping[tuple[str, str], Experiment]


@dataclass(frozen=True)
class Finding:
    """What was measured of a part of a claim; `estimate` is None where the records do not reach that far."""

    part: Part
    estimate: Estimate | None
    answer: Answer


@dataclass(frozen=True)
class Outcome:
    """A claim in one variant, and what became of it."""

    claim: Claim
    variant: str
    findings: tuple[Finding, ...]

    @property
    def word(self) -> Word:
        """Holds where all parts do, in part where only some do; undecided where none fails but one may."""
        answers = [finding.answer for finding in self.findings]
        if all(answer == "yes" for answer in answers):
            return "holds"
        if "no" in answers:
            return "holds in part" if "yes" in answers else "does not hold"
        return "undecided"


@dataclass(frozen=True)
class Share:
    """One variant in an attribution.

    Attributes:
        winning, control: accuracy in percent at the density where it is read.
        gap: winning − control there, in points.
        on: the same in the mean over rounds from there on.
        more, more_on: both less the first variant's; None for that.
    """

    variant: str
    winning: Estimate
    control: Estimate
    gap: Estimate
    on: Estimate
    more: Estimate | None
    more_on: Estimate | None


def read_as(records: Iterable[Record], variant: Variant) -> list[Record]:
    """The records with the variant's accuracy as `test_accuracy`; rounds that have none are left out."""
    read: dict[str, Callable[[Record], float | None]] = {
        "last": lambda record: record.test_accuracy,
        "best": lambda record: record.test_accuracy_best,
        "early-stop": lambda record: record.test_accuracy_early_stop,
    }
    found = [(record, read[variant.accuracy](record)) for record in records]
    return [record.model_copy(update={"test_accuracy": value}) for record, value in found if value is not None]


def decide(reproduction: Reproduction, experiments: Experiments) -> list[Outcome]:
    """Every claim in every variant it is judged in."""
    return [
        Outcome(claim, variant, tuple(_find(part, variant, reproduction, experiments) for part in claim.parts))
        for claim in reproduction.claims
        for variant in claim.variants
    ]


def attribute(attribution: Attribution, reproduction: Reproduction, experiments: Experiments) -> list[Share]:
    """The gap in each variant, where its records reach that density."""
    shares: list[Share] = []
    first: list[dict[int, float]] = []
    for name in attribution.variants:
        sides = _Sides(attribution.setup, name, reproduction, experiments)
        winning, control = sides.of("winning"), sides.of("control")
        at: dict[int, tuple[float, float]] = {}
        on: dict[int, float] = {}
        for seed in winning.keys() & control.keys():
            one, other = (_nearest(each[seed], attribution.at_pct) for each in (winning, control))
            if one and other:
                at[seed] = 100 * one.test_accuracy, 100 * other.test_accuracy
                beside = {record.round: record for record in control[seed]}
                rounds = [record for record in winning[seed] if record.round >= one.round and record.round in beside]
                on[seed] = float(np.mean([100 * (r.test_accuracy - beside[r.round].test_accuracy) for r in rounds]))
        if not at:
            continue
        gaps = {seed: mine - theirs for seed, (mine, theirs) in at.items()}
        estimates = [
            estimate(values, reproduction.level)
            for values in ({s: each[0] for s, each in at.items()}, {s: each[1] for s, each in at.items()}, gaps, on)
        ]
        more = [
            estimate({seed: mine[seed] - theirs[seed] for seed in shared}, reproduction.level)
            for mine, theirs in zip((gaps, on), first, strict=False)
            if (shared := mine.keys() & theirs.keys())
        ]
        shares.append(Share(name, *estimates, *(more or (None, None))))
        first = first or [gaps, on]
    return shares


def gaps_by_round(setup: str, variant: str, reproduction: Reproduction, experiments: Experiments) -> dict[float, float]:
    """Percent of weights left → winning − control in points, mean over seeds; densest first."""
    sides = _Sides(setup, variant, reproduction, experiments)
    gaps: dict[int, list[tuple[float, float]]] = {}
    controls = {(record.seed, record.round): record for each in sides.of("control").values() for record in each}
    for each in sides.of("winning").values():
        for record in each:
            if beside := controls.get((record.seed, record.round)):
                gap = 100 * (record.test_accuracy - beside.test_accuracy)
                gaps.setdefault(record.round, []).append((record.weights_remaining_pct, gap))
    return {float(left): float(gap) for left, gap in (np.mean(gaps[r], axis=0) for r in sorted(gaps))}


def estimate(values: Mapping[int, float], level: float) -> Estimate:
    """Mean and t-interval over seeds; without bounds where there is but one."""
    found = np.array([values[seed] for seed in sorted(values)])
    mean = float(found.mean())
    if len(found) < 2:
        return Estimate(mean, -math.inf, math.inf, tuple(found.tolist()))
    half = float(special.stdtrit(len(found) - 1, (1 + level) / 2) * found.std(ddof=1) / math.sqrt(len(found)))
    return Estimate(mean, mean - half, mean + half, tuple(found.tolist()))


def value_of(record: Record, measure: str) -> float:
    """Accuracy in percent, or the early-stopping iteration (NaN where there is none)."""
    if measure == "accuracy":
        return 100 * record.test_accuracy
    return math.nan if record.early_stop_iteration is None else float(record.early_stop_iteration)


def answer(found: Estimate, above: float | None, below: float | None) -> Answer:
    """Whether the interval lies where it has to."""
    lower, upper = -math.inf if above is None else above, math.inf if below is None else below
    if found.low > lower and found.high < upper:
        return "yes"
    return "no" if found.high <= lower or found.low >= upper else "undecided"


class _Sides:
    """The rounds of the sides of one setup in one variant, by seed, densest first."""

    def __init__(self, setup: str, variant: str, reproduction: Reproduction, experiments: Experiments) -> None:
        self._setup, self._variant, self._experiments = setup, variant, experiments
        self._control = reproduction.variants[variant].control

    def of(self, side: str) -> dict[int, list[Record]]:
        setup, arm = setup_of(side) or self._setup, side.rpartition(":")[2]
        arm = self._control if arm == "control" else arm
        found: dict[int, list[Record]] = {}
        for record in self._experiments[setup, self._variant].records:
            if record.arm == arm or (arm == "dense" and record.arm == "winning" and record.round == 0):
                found.setdefault(record.seed, []).append(record)
        return {seed: sorted(each, key=lambda record: -record.density) for seed, each in found.items()}


def _find(part: Part, variant: str, reproduction: Reproduction, experiments: Experiments) -> Finding:
    measure = {
        "accuracy": _over_rounds,
        "early_stop": _over_rounds,
        "fluctuation": _fluctuation,
        "hours": _hours,
    }
    level = reproduction.level
    experiment = experiments[part.setup, variant]
    if part.measure == "winning_streak":
        found = _streak(experiment, reproduction.variants[variant].control, level)
    else:
        sides = _Sides(part.setup, variant, reproduction, experiments)
        values = measure[part.measure](part, sides, experiment)
        found = estimate(values, level) if values else None
    return Finding(part, found, answer(found, part.above, part.below) if found else "undecided")


def _over_rounds(part: Part, sides: _Sides, _: Experiment) -> dict[int, float]:
    """Seed → the measure of a side, or its difference or ratio to another, at one density or over a range."""
    other = part.minus or part.over
    others = sides.of(other) if other else {}

    def compared(record: Record, seed: int) -> float:
        mine = value_of(record, part.measure)
        if other is None:
            return mine
        beside = others.get(seed, [])
        match = beside[0] if beside and is_dense(other) else _nearest(beside, record.weights_remaining_pct)
        theirs = math.nan if match is None else value_of(match, part.measure)
        if part.minus:
            return mine - theirs
        return mine / theirs if theirs else math.nan

    takes: dict[str, Callable[[list[float]], Any]] = {"mean": np.mean, "least": np.min, "largest": np.max}
    found = {}
    for seed, records in sides.of(part.of).items():
        nearest = None if part.at_pct is None else _nearest(records, part.at_pct)
        chosen = _between(records, part) if part.at_pct is None else [nearest] if nearest else []
        values = [value for record in chosen if not math.isnan(value := compared(record, seed))]
        if values:
            found[seed] = float(takes[part.take](values))
    return found


def _fluctuation(part: Part, sides: _Sides, _: Experiment) -> dict[int, float]:
    """Seed → standard deviation of the change of accuracy from round to round, in points; or that minus another's."""

    def of(side: str) -> dict[int, float]:
        rounds = {seed: _between(records, part) for seed, records in sides.of(side).items()}
        return {
            seed: float(np.std(np.diff([100 * record.test_accuracy for record in each])))
            for seed, each in rounds.items()
            if len(each) > 2
        }

    mine = of(part.of)
    if part.minus is None:
        return mine
    theirs = of(part.minus)
    return {seed: mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()}


def _hours(part: Part, sides: _Sides, experiment: Experiment) -> dict[int, float]:
    """Seed → hours that the winning arm and its control take at report scale, by their median rounds."""
    spent: dict[int, float] = {}
    for side in ("winning", "control"):
        for seed, records in sides.of(side).items():
            spent[seed] = spent.get(seed, 0.0) + steady_seconds(records)
    return {seed: seconds / experiment.part / 3600 for seed, seconds in spent.items()}


def steady_seconds(records: Sequence[Record]) -> float:
    """Seconds that a trajectory's rounds take by their median: what a pause adds to one does not count."""
    return statistics.median(record.seconds for record in records) * len(records)


def _streak(experiment: Experiment, control: str, level: float) -> Estimate | None:
    """Most rounds on end that are shown to win, by the verdict; without an upper bound from fewer than three seeds."""
    verdict = judge(experiment.records, experiment.tolerance, level, (control,))
    if verdict is None or not verdict.rounds:
        return None
    streaks = itertools.groupby(judged.wins == "yes" for judged in verdict.rounds)
    longest = max((len(list(streak)) for won, streak in streaks if won), default=0)
    return Estimate(longest, longest, longest if verdict.method == "t-interval" else math.inf, ())


def _between(records: Sequence[Record], part: Part) -> list[Record]:
    """The rounds from `from_pct` to `to_pct`, those within 2 % of either included."""
    slack = 1.02
    last = (part.to_pct or 0) / slack
    return [record for record in records if last <= record.weights_remaining_pct <= part.from_pct * slack]


def _nearest(records: Sequence[Record], pct: float) -> Record | None:
    """The round whose percentage of weights left is nearest, None where none is near."""
    if not records:
        return None
    found = min(records, key=lambda record: abs(math.log(record.weights_remaining_pct / pct)))
    return found if abs(math.log(found.weights_remaining_pct / pct)) <= math.log(_NEAREST) else None
