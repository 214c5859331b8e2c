"""Do the records bear a claim out? Measures over seeds with their intervals, and the answers that follow."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from lottery_ticket.analysis.sequential import level_at, more_seeds
from lottery_ticket.analysis.statistics import family_wise, over_seeds
from lottery_ticket.analysis.verdict import judge
from lottery_ticket.record import Answer, Record, nearest
from lottery_ticket.reproduction.definition import (
    DENSE_THROUGHOUT,
    NEAREST,
    Attribution,
    Claim,
    Part,
    Reproduction,
    Variant,
    is_dense,
    setup_of,
)

Word = Literal["holds", "holds in part", "does not hold", "undecided"]


class Estimate(NamedTuple):
    """A mean over seeds with its interval, and the seeds' own values.

    Attributes:
        low, high: infinite where nothing is known on that side.
        censored: how many early stops never came before the end of training, of how many.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    censored: tuple[int, int] = (0, 0)


class Ends(NamedTuple):
    """A measured value, and from where to where the true one may be: apart where an early stop is censored.

    NaN where a network diverged.
    """

    value: float
    low: float
    high: float
    censored: int = 0
    stops: int = 0


@dataclass(frozen=True)
class Experiment:
    """What was found with one setup in one variant.

    Attributes:
        records: all rounds of its runs, accuracies as the variant reads them (see `read_as`).
        part: of the iterations at report scale that were trained here, 0–1.
        tolerance: accuracy (0–1) that a matching ticket may lose.
        looks: seeds at each look, where they are added until all is decided; else empty.
    """

    records: Sequence[Record]
    part: float
    tolerance: float = 0.002
    looks: tuple[int, ...] = ()

    @property
    def seeds(self) -> int:
        """How many it has."""
        return len({record.seed for record in self.records})

    def level(self, level: float) -> float:
        """The confidence level of each interval, where this is that of all looks together."""
        return level_at(self.seeds, self.looks, level) if self.looks else level


Experiments = Mapping[tuple[str, str], Experiment]


@dataclass(frozen=True)
class Finding:
    """What was measured of a part of a claim.

    Attributes:
        estimate: None where the records do not reach that far, or no seed is left.
        lost: how many seeds are left out, because they diverged or ended before, on whichever side.
        at: percent of weights left in the densest and in the sparsest round that it was measured in, where it is of
            rounds; these are rarely the very ones that the part names.
        other_at: the same of the other side, where the part says where that is measured.
        more: where it is undecided, how many more seeds would decide it if all stays as it is (None: not known, or more
            than anybody trains).
    """

    part: Part
    estimate: Estimate | None
    answer: Answer
    lost: int = 0
    at: tuple[float, float] | None = None
    other_at: tuple[float, float] | None = None
    more: int | None = None


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

    @property
    def decided(self) -> bool:
        """Whether no answer that is open could change the word."""
        answers = {finding.answer for finding in self.findings}
        return "undecided" not in answers or {"yes", "no"} <= answers


@dataclass(frozen=True)
class Share:
    """One variant in an attribution.

    Attributes:
        seeds: those that have all rounds from there on, on both sides, and diverged in none.
        lost: how many others there are.
        winning, other: accuracy in percent at the density where it is read.
        gap: winning − the other side there, in points.
        on: the same in the mean over rounds from there on.
        more, more_on: both less the first variant's; None for that.
    """

    variant: str
    seeds: tuple[int, ...]
    lost: int
    winning: Estimate
    other: Estimate
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
    """The gap in each variant, where its records reach that density and some seed has not diverged."""
    shares: list[Share] = []
    first: list[dict[int, float]] = []
    for name, (setup, variant) in zip(attribution.variants, attribution.experiments, strict=True):
        sides = _Sides(setup, variant, reproduction, experiments)
        winning, control = sides.of("winning"), sides.of(attribution.minus)
        at: dict[int, tuple[float, float]] = {}
        from_there: dict[int, list[float]] = {seed: [] for seed in winning.keys() & control.keys()}
        for seed in from_there:
            one = _nearest(winning[seed], attribution.at_pct)
            other = one and sides.beside(attribution.minus, control[seed], one, attribution.at_pct)
            if one and other:
                at[seed] = 100 * one.test_accuracy, 100 * other.test_accuracy
                rounds = [record for record in winning[seed] if record.round >= one.round]
                from_there[seed] = [gap for _, gap in _gaps(rounds, control[seed], attribution.minus).values()]
        seeds, lost = _whole(from_there)
        if not seeds:
            continue
        of_winning, of_other = ({seed: at[seed][side] for seed in seeds} for side in (0, 1))
        gaps = {seed: of_winning[seed] - of_other[seed] for seed in seeds}
        on = {seed: float(np.mean(from_there[seed])) for seed in seeds}
        level = experiments[setup, variant].level(reproduction.level)
        estimates = [estimate(values, level) for values in (of_winning, of_other, gaps, on)]
        more = [
            estimate({seed: mine[seed] - theirs[seed] for seed in shared}, level)
            for mine, theirs in zip((gaps, on), first, strict=False)
            if (shared := mine.keys() & theirs.keys())
        ]
        shares.append(Share(name, tuple(seeds), lost, *estimates, *(more or (None, None))))
        first = first or [gaps, on]
    return shares


def _gaps(records: Iterable[Record], others: Sequence[Record], minus: str) -> dict[int, tuple[float, float]]:
    """Round of one seed → percent of weights left, and how much better it is than the other side's, in points.

    Where that has the same round; NaN where either diverged.
    """
    beside = {record.round: record for record in others}
    pairs = [(record, others[0] if is_dense(minus) else beside.get(record.round)) for record in records]
    return {mine.round: (mine.weights_remaining_pct, _gap(mine, other)) for mine, other in pairs if other}


def _gap(mine: Record, other: Record) -> float:
    return math.nan if mine.diverged or other.diverged else 100 * (mine.test_accuracy - other.test_accuracy)


def gaps_by_round(
    attribution: Attribution, share: Share, reproduction: Reproduction, experiments: Experiments
) -> dict[float, float]:
    """Percent of weights left → winning − the other side in points, mean over the share's seeds; densest first.

    NaN where one of them diverged.
    """
    of = dict(zip(attribution.variants, attribution.experiments, strict=True))
    sides = _Sides(*of[share.variant], reproduction, experiments)
    winning, others = sides.of("winning"), sides.of(attribution.minus)
    found = [_gaps(winning[seed], others[seed], attribution.minus) for seed in share.seeds]
    rounds = sorted(set().union(*found))
    means = (np.mean([each[index] for each in found if index in each], axis=0) for index in rounds)
    return {float(left): float(gap) for left, gap in means}


def reported_at(
    part: Part, variant: str, reproduction: Reproduction, experiments: Experiments
) -> tuple[str, float, float] | None:
    """Where the source puts one side of a part, as (side, percent of weights left, value), by the other's mean here.

    That is the side that is measured, where it is compared with the dense network or the winning arm, else the other:
    of winning − reinit it is reinit. None where nothing is reported, or that round is not there.
    """
    other = part.minus or part.over
    if part.reported is None or part.at_pct is None or other is None:
        return None
    forward = is_dense(other) or other == "winning"
    first, second = (part.of, part.at_pct), (other, part.other_at_pct or part.at_pct)
    (placed, pct), (beside, beside_pct) = (first, second) if forward else (second, first)
    sides = _Sides(part.setup, variant, reproduction, experiments)
    rounds = [each[0] if is_dense(beside) else _nearest(each, beside_pct) for each in sides.of(beside).values()]
    values = [value_of(record, part.measure) for record in rounds if record and not record.diverged]
    if not values or not math.isfinite(mean := float(np.mean(values))):
        return None
    if part.over:
        return placed, pct, mean * part.reported if forward else mean / part.reported
    return placed, pct, mean + part.reported if forward else mean - part.reported


def claimed_at(
    part: Part, bound: float, variant: str, reproduction: Reproduction, experiments: Experiments
) -> dict[float, float]:
    """Where a bound of a part lies for the side that is measured: percent of weights left → value, densest first.

    Values are in the unit of the part's measure: percent of accuracy, or iterations. Of a difference it is
    measured from the other side's mean here, in each of the rounds that are compared; without another side it
    is level from `from_pct` to `to_pct`. Empty of a ratio, and where nothing is there.
    """
    if part.over or part.to_pct is None:
        return {}
    ends = (part.from_pct, part.to_pct)
    if part.minus is None:
        return dict.fromkeys(ends, bound)
    rounds = _Sides(part.setup, variant, reproduction, experiments).of(part.minus).values()
    there = [record for each in rounds for record in each if not record.diverged]
    if is_dense(part.minus):
        return dict.fromkeys(ends, bound + float(np.mean([value_of(r, part.measure) for r in there]))) if there else {}
    found: dict[int, list[tuple[float, float]]] = {}
    for record in _between(there, part):
        found.setdefault(record.round, []).append((record.weights_remaining_pct, value_of(record, part.measure)))
    means = [np.mean(found[index], axis=0) for index in sorted(found)]
    return {float(left): bound + float(value) for left, value in means}


def estimate(values: Mapping[int, float], level: float) -> Estimate:
    """Mean and t-interval over seeds; without bounds where there is but one, or all give the same."""
    found = [float(values[seed]) for seed in sorted(values)]
    spread = over_seeds(found)
    low, high = spread.interval(level) if spread else (-math.inf, math.inf)
    return Estimate(float(np.mean(found)), low, high, tuple(found))


def _between_ends(ends: Mapping[int, Ends], level: float) -> Estimate:
    """The same where stops are censored: from the interval of the lower ends to that of the upper ones."""
    found = estimate({seed: each.value for seed, each in ends.items()}, level)
    censored, stops = (sum(counts) for counts in zip(*((e.censored, e.stops) for e in ends.values()), strict=True))
    if not censored:
        return found._replace(censored=(0, stops))
    lows, highs = ([each[side] for each in ends.values()] for side in (1, 2))
    spread_low, spread_high = (over_seeds(each) if all(map(math.isfinite, each)) else None for each in (lows, highs))
    low = spread_low.interval(level)[0] if spread_low else -math.inf
    high = spread_high.interval(level)[1] if spread_high else math.inf
    return found._replace(low=low, high=high, censored=(censored, stops))


def value_of(record: Record, measure: str) -> float:
    """Accuracy in percent, or the early-stopping iteration (NaN where there is none)."""
    if measure == "accuracy":
        return 100 * record.test_accuracy
    return math.nan if record.early_stop_iteration is None else float(record.early_stop_iteration)


def answer(found: Estimate, above: float | None, below: float | None) -> Answer:
    """Whether the interval lies where it has to."""
    if (above is None or found.low > above) and (below is None or found.high < below):
        return "yes"
    misses = (above is not None and found.high <= above) or (below is not None and found.low >= below)
    return "no" if misses else "undecided"


class _Sides:
    """The rounds of the sides of one setup in one variant, by seed, densest first."""

    def __init__(self, setup: str, variant: str, reproduction: Reproduction, experiments: Experiments) -> None:
        self._setup, self._variant, self._experiments = setup, variant, experiments
        self._reproduction = reproduction

    def of(self, side: str) -> dict[int, list[Record]]:
        setup, arm = setup_of(side) or self._setup, self._reproduction.arm_of(side, self._variant)
        found: dict[int, list[Record]] = {}
        for record in self._experiments[setup, self._variant].records:
            if record.arm == arm or (arm == "dense" and record.arm == "winning" and record.round == 0):
                found.setdefault(record.seed, []).append(record)
        return {seed: sorted(each, key=lambda record: -record.density) for seed, each in found.items()}

    def beside(self, side: str, records: Sequence[Record], record: Record, pct: float) -> Record | None:
        """Of a side's rounds of one seed that which another side's round is compared with, where that has `pct` left.

        The only one of the dense network; the same round where all weights stay; else the nearest in weights left, and
        among several that are as near the same round.
        """
        if is_dense(side):
            return records[0] if records else None
        same = next((each for each in records if each.round == record.round), None)
        if self._reproduction.arm_of(side, self._variant) in DENSE_THROUGHOUT:
            return same
        found = _nearest(records, pct)
        return same if found and same and same.density == found.density else found

    def seeds(self, side: str) -> set[int]:
        """Those of the side's experiment."""
        return {record.seed for record in self._experiments[setup_of(side) or self._setup, self._variant].records}


class _Measured(NamedTuple):
    """A measure of each seed that is whole, how many others there are, and the rounds of the side that it is of."""

    values: Mapping[int, Ends]
    lost: int = 0
    rounds: Sequence[Record] = ()


def _find(part: Part, variant: str, reproduction: Reproduction, experiments: Experiments) -> Finding:
    measure: dict[str, Callable[[Part, _Sides, Experiment], _Measured]] = {
        "accuracy": _over_rounds,
        "early_stop": _over_rounds,
        "fluctuation": _fluctuation,
        "hours": _hours,
    }
    experiment = experiments[part.setup, variant]
    level = experiment.level(reproduction.level)
    measured, other_at = _Measured({}), None
    if part.measure == "winning_streak":
        found = _streak(experiment, reproduction.variants[variant].control, level)
    else:
        sides = _Sides(part.setup, variant, reproduction, experiments)
        measured = measure[part.measure](part, sides, experiment)
        found = _between_ends(measured.values, level) if measured.values else None
        found = _ratio(found) if found and part.over else found
        if found and part.measure == "hours" and len(found.values) > 1 and math.isinf(found.low):
            found = found._replace(low=found.mean, high=found.mean)  # a stack's time, which is measured for all at once
        if (other := part.minus or part.over) and (pct := part.other_at_pct):
            beside = sides.of(other)
            other_at = _span(r for seed in measured.values if (r := _nearest(beside[seed], pct)))
    decided = found is not None and not measured.lost
    said = answer(found, part.above, part.below) if found and decided else "undecided"
    more = _more(found, part, level) if found and decided and said == "undecided" else None
    return Finding(part, found, said, measured.lost, _span(measured.rounds), other_at, more)


def _ratio(found: Estimate) -> Estimate:
    """What was estimated of logarithms, as ratios."""
    mean, low, high = (each if math.isinf(each) else math.exp(each) for each in found[:3])
    return found._replace(mean=mean, low=low, high=high, values=tuple(map(math.exp, found.values)))


def _more(found: Estimate, part: Part, level: float) -> int | None:
    """Seeds that would bring the interval to one side of the bounds that it holds."""
    bounds = [each for each in (part.above, part.below) if each is not None]
    mean, low, high = (math.log(each) if part.over and each > 0 else each for each in found[:3])
    bounds = [math.log(each) for each in bounds if each > 0] if part.over else bounds
    if not bounds or not math.isfinite(high - low) or low == high or len(found.values) < 2:
        return None
    return more_seeds(min(abs(mean - each) for each in bounds), (high - low) / 2, len(found.values), level)


def _chosen(records: Sequence[Record], part: Part) -> list[Record]:
    """The rounds of one seed that a part is about."""
    if part.at_pct is None:
        return _between(records, part)
    nearest = _nearest(records, part.at_pct)
    return [nearest] if nearest else []


def _span(records: Iterable[Record]) -> tuple[float, float] | None:
    """Percent of weights left in the densest and in the sparsest of these rounds."""
    left = [record.weights_remaining_pct for record in records]
    return (max(left), min(left)) if left else None


def _whole(values: Mapping[int, Sequence[float]]) -> tuple[list[int], int]:
    """The seeds that have a value for as many rounds as any, and diverged (NaN) in none; the number of the others."""
    most = max(map(len, values.values()), default=0)
    kept = [seed for seed, each in values.items() if most and len(each) == most and not any(map(math.isnan, each))]
    return kept, len(values) - len(kept) if most else 0


def _over_rounds(part: Part, sides: _Sides, _: Experiment) -> _Measured:
    """The measure of a side, or its difference or log ratio to another, at one density or over a range."""
    other = part.minus or part.over
    others = sides.of(other) if other else {}

    def compared(record: Record, seed: int) -> Ends | None:
        mine = _ends(record, part.measure)
        if other is None or mine is None:
            return mine
        beside = others.get(seed, [])
        at = part.other_at_pct or record.weights_remaining_pct
        match = sides.beside(other, beside, record, at)
        theirs = _ends(match, part.measure) if match else None
        if theirs is None or (part.over and min(mine.low, theirs.low) <= 0):
            return None
        if math.isnan(mine.value + theirs.value):
            return _DIVERGED
        counts = mine.censored + theirs.censored, mine.stops + theirs.stops
        if part.minus:
            return Ends(mine.value - theirs.value, mine.low - theirs.high, mine.high - theirs.low, *counts)
        ours, those = ([math.log(each) if each < math.inf else each for each in ends[:3]] for ends in (mine, theirs))
        return Ends(ours[0] - those[0], ours[1] - those[2], ours[2] - those[1], *counts)

    takes: dict[str, Callable[[Sequence[float]], Any]] = {"mean": np.mean, "least": np.min, "largest": np.max}
    take = takes[part.take]
    values: dict[int, list[tuple[Record, Ends]]] = {}
    shared = sides.seeds(part.of) & sides.seeds(other) if other else sides.seeds(part.of)
    for seed, records in sides.of(part.of).items():
        if seed in shared:
            values[seed] = [(record, ends) for record in _chosen(records, part) if (ends := compared(record, seed))]
    kept, lost = _whole({seed: [ends.value for _, ends in each] for seed, each in values.items()})
    found = {}
    for seed in kept:
        value, low, high, censored, stops = zip(*(ends for _, ends in values[seed]), strict=True)
        found[seed] = Ends(float(take(value)), float(take(low)), float(take(high)), sum(censored), sum(stops))
    return _Measured(found, lost, [record for seed in kept for record, _ in values[seed]])


_DIVERGED = Ends(math.nan, math.nan, math.nan)


def _ends(record: Record, measure: str) -> Ends | None:
    """The measure of one round; None where it has none."""
    if record.diverged:
        return _DIVERGED
    value = value_of(record, measure)
    if math.isnan(value):
        return None
    if measure == "accuracy":
        return Ends(value, value, value)
    return Ends(value, value, math.inf if record.stop_censored else value, record.stop_censored, 1)


def _fluctuation(part: Part, sides: _Sides, _: Experiment) -> _Measured:
    """Standard deviation of the change of accuracy from round to round, in points; or that minus another's."""
    compared = [part.of, *([part.minus] if part.minus else [])]
    rounds: dict[int, list[list[Record]]] = {}
    for side in compared:
        for seed, records in sides.of(side).items():
            rounds.setdefault(seed, []).append(_between(records, part))
    accuracies = {
        seed: [[math.nan if record.diverged else 100 * record.test_accuracy for record in side] for side in each]
        for seed, each in rounds.items()
    }
    kept, lost = _whole({seed: [*itertools.chain(*each)] for seed, each in accuracies.items()})
    found = {}
    for seed in kept:
        steps = [float(np.std(np.diff(each))) for each in accuracies[seed] if len(each) > 2]
        if len(steps) == len(compared):
            found[seed] = _exactly(steps[0] - sum(steps[1:]))
    return _Measured(found, lost, [record for seed in found for record in rounds[seed][0]])


def _exactly(value: float) -> Ends:
    return Ends(value, value, value)


def _hours(part: Part, sides: _Sides, experiment: Experiment) -> _Measured:
    """Hours that the winning arm and its control take at report scale, by their median rounds."""
    rounds: dict[int, list[list[Record]]] = {}
    for side in ("winning", "control"):
        for seed, records in sides.of(side).items():
            rounds.setdefault(seed, []).append(records)
    took = {
        seed: [math.nan if record.diverged else record.seconds for record in itertools.chain(*each)]
        for seed, each in rounds.items()
    }
    kept, lost = _whole(took)
    seconds = {seed: math.fsum(map(steady_seconds, rounds[seed])) for seed in kept}
    return _Measured({seed: _exactly(each / experiment.part / 3600) for seed, each in seconds.items()}, lost)


def steady_seconds(records: Sequence[Record]) -> float:
    """Seconds that a trajectory's rounds take by their median: what a pause adds to one does not count."""
    return statistics.median(record.seconds for record in records) * len(records)


def _streak(experiment: Experiment, control: str, level: float) -> Estimate | None:
    """Most rounds on end that win, by the verdict over seeds.

    From the longest run of rounds that are shown to win to the longest of those that are not shown not to: shown among
    all rounds, any wrongly with a probability of at most (1 − level) / 2 (Holm 1979). The value is the longest run of
    rounds that win judged alone. One seed shows nothing.
    """
    verdict = judge(experiment.records, experiment.tolerance, level, (control,), only_seeds=True)
    if verdict is None or not verdict.rounds:
        return None
    rounds, risk = verdict.rounds, (1 - level) / 2
    shown = [p <= risk for p in family_wise([judged.p_wins for judged in rounds])]
    possible = [p > risk for p in family_wise([judged.p_does_not for judged in rounds])]
    alone = [judged.wins_alone == "yes" for judged in rounds]
    return Estimate(_longest(alone), _longest(shown), _longest(possible), ())


def _longest(run: Sequence[bool]) -> int:
    """The most of them that are true on end."""
    return max((len(list(streak)) for true, streak in itertools.groupby(run) if true), default=0)


def _between(records: Sequence[Record], part: Part) -> list[Record]:
    """The rounds from `from_pct` to `to_pct`, those within 2 % of either included."""
    slack = 1.02
    last = (part.to_pct or 0) / slack
    return [record for record in records if last <= record.weights_remaining_pct <= part.from_pct * slack]


def _nearest(records: Sequence[Record], pct: float) -> Record | None:
    """The round whose percentage of weights left is nearest, None where none is near."""
    found = nearest({place: record.weights_remaining_pct for place, record in enumerate(records)}, pct, NEAREST)
    return None if found is None else records[found]
