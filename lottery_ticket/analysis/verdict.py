"""The verdict: is a round's ticket matching, does it beat the control, does it win – yes, no or undecided."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from lottery_ticket.analysis.comparable import CONTROLS, control_of, dense_accuracy, shared_seeds
from lottery_ticket.analysis.sequential import ALL_BUT_ENDLESS, level_at, more_seeds
from lottery_ticket.analysis.statistics import (
    Spread,
    better_than,
    false_discovery,
    half_of,
    mcnemar,
    over_images,
    over_seeds,
)
from lottery_ticket.record import Answer, Record

FEWEST_SEEDS = 3
"""From this many seeds on the evidence is the spread over seeds; below it, one test set."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of test accuracies (0–1), its interval, and McNemar's p-value where that was used.

    The interval is the whole range −1 to 1 where nothing is known of the spread.

    Attributes:
        over_images: whether, of several seeds, it is the interval over the test images, as that over seeds is narrower.
    """

    mean: float
    low: float
    high: float
    p_value: float | None = None
    over_images: bool = False

    @property
    def half(self) -> float | None:
        """Half the interval's width, the least difference that could have been shown; None without an interval."""
        return None if self.high - self.low >= 2 else (self.high - self.low) / 2


@dataclass(frozen=True)
class RoundVerdict:
    """What the evidence says of the winning arm at one round.

    Attributes:
        seeds: those that the means are made of: all arms concerned finished this round without diverging.
        dense, winning, control: mean test accuracies, 0–1; control is None without a control arm.
        against_dense, against_control: winning − dense (round 0 of the winning arm), winning − control.
        matching: not below dense by more than the tolerance.
        beats_control: better than the control arm.
        wins: matching and better than the control, as one of the run's rounds: corrected for their number.
        wins_alone: the same as if this were the only round.
        of_seeds: how many seeds the run has.
        p_wins, p_does_not: one-sided p-values of winning and of not winning, of this round alone.
        p_adjusted: p_wins, corrected for the number of rounds.
        notes: what keeps the round from an answer, in words.
    """

    round: int
    density: float
    seeds: tuple[int, ...]
    dense: float
    winning: float
    control: float | None
    against_dense: Difference
    against_control: Difference | None
    matching: Answer
    beats_control: Answer
    wins: Answer
    wins_alone: Answer
    of_seeds: int
    p_wins: float
    p_does_not: float
    p_adjusted: float
    notes: tuple[str, ...] = ()

    @property
    def only_alone(self) -> bool:
        """Whether the round wins judged alone, but not among all."""
        return self.wins_alone == "yes" and self.wins != "yes"

    @property
    def counted(self) -> str:
        """How many of the run's seeds the round's numbers rest on: "5 of 8"."""
        return f"{len(self.seeds)} of {self.of_seeds}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run; `method` is "t-interval" (three seeds or more) or "mcnemar" (fewer).

    Attributes:
        learned: whether the dense networks are shown to do better than naming the most frequent class does. If they
            are not, there is nothing to match, and no round matches or wins.
        majority: what naming that class gets right, 0–1; None where that is not known.
        dense: mean accuracy of the dense networks, 0–1; None where there are none.
        seeds: how many the run has.
        of_rounds: how many pruned rounds it was to have, among which each is judged.
        level: of each interval; where seeds are added until all is decided, that of the look at so many.
        looks: how many seeds there are at each look there; else empty.
        level_of_all: of all looks together.

    Example:
        >>> verdict = lottery_ticket.load_run(run_id).verdict
        >>> verdict.method, verdict.seeds, verdict.smallest_winning_pct
        ('mcnemar', 2, 100.0)
        >>> [(judged.round, judged.matching, judged.wins) for judged in verdict.rounds]
        [(1, 'undecided', 'undecided')]
    """

    method: Literal["t-interval", "mcnemar"]
    control: str | None
    tolerance: float
    level: float
    rounds: tuple[RoundVerdict, ...] = field(repr=False)
    diverged: tuple[str, ...]
    learned: bool
    majority: float | None
    dense: float | None
    seeds: int
    of_rounds: int
    looks: tuple[int, ...] = ()
    level_of_all: float | None = None

    @property
    def open(self) -> tuple[RoundVerdict, ...]:
        """The rounds of which it is undecided whether they win."""
        return tuple(judged for judged in self.rounds if judged.wins == "undecided")

    @property
    def smallest_winning_pct(self) -> float:
        """Percent of weights left in the smallest ticket that wins; 100 where none does."""
        return min((100 * r.density for r in self.rounds if r.wins == "yes"), default=100.0)

    @property
    def smallest_matching_pct(self) -> float:
        """Percent of weights left in the smallest ticket that matches; 100 where none does."""
        return min((100 * r.density for r in self.rounds if r.matching == "yes"), default=100.0)

    @property
    def detectable(self) -> float | None:
        """The difference winning − control (0–1) below which nothing could be shown, the median over rounds.

        Half the intervals' width; for one round alone, uncorrected. None without intervals.
        """
        halves = [r.against_control.half for r in self.rounds if r.against_control]
        known = [half for half in halves if half is not None]
        return float(np.median(known)) if known else None

    @property
    def evidence(self) -> str:
        """The evidence behind the answers, in words."""
        one_sided = f"{(1 - self.level) / 2:.3g}"
        many = (
            f"; a round wins where that also holds among the {self.of_rounds} rounds (false discovery rate "
            f"{one_sided}, Benjamini & Hochberg 1995)"
            if self.of_rounds > 1
            else ""
        )
        level = f"{100 * self.level:.4g}%"
        if self.method == "t-interval":
            return f"paired differences over seeds, {level} t-intervals{many}{self._of_all}"
        return (
            f"McNemar's test on the test images at level {level}{many} – weaker evidence than three seeds: "
            "it knows nothing of the spread between seeds"
        )

    @property
    def _of_all(self) -> str:
        """How this look's level comes about, in words."""
        if not self.looks or self.level_of_all is None:
            return ""
        number = sum(seeds < self.seeds for seeds in self.looks) + 1
        return (
            f"; look {number} of at most {len(self.looks)}, at {self.seeds} of at most {self.looks[-1]} seeds: "
            f"all looks together hold at {100 * self.level_of_all:.4g}%"
        )

    @property
    def remarks(self) -> list[str]:
        """What else there is to say of the evidence, a sentence each."""
        told = []
        if not self.learned and self.dense is not None:
            chance = "" if self.majority is None else f", naming the most frequent class {100 * self.majority:.2f} %"
            told.append(
                f"The dense network is not shown to have learned: it gets {100 * self.dense:.2f} % of the test images "
                f"right{chance}. There is nothing to match, so no round counts as a ticket."
            )
        if self.detectable is not None and self.control:
            told.append(
                f"With {self.seeds} seed(s) a difference winning − {self.control} below about "
                f"{100 * self.detectable:.2g} points could not have been shown, even in one round alone."
            )
        alone = [str(r.round) for r in self.rounds if r.only_alone]
        if alone:
            told.append(f"Round(s) {', '.join(alone)} win judged alone, but not among all {self.of_rounds}.")
        if self.looks and self.open:
            told.append(f"Undecided after {self.seeds} seeds: {'; '.join(map(self._open_in_words, self.open))}.")
        notes: dict[str, list[str]] = {}
        for judged in self.rounds:
            for note in judged.notes:
                notes.setdefault(note, []).append(str(judged.round))
        return told + [f"Round(s) {', '.join(rounds)}: {note}." for note, rounds in notes.items()]

    def _open_in_words(self, judged: RoundVerdict) -> str:
        """The least difference that these seeds could have shown, and how many more would decide."""
        compared = [(judged.against_dense, -self.tolerance, judged.matching)]
        if judged.against_control:
            compared.append((judged.against_control, 0.0, judged.beats_control))
        undecided = [(difference, bound) for difference, bound, answer in compared if answer == "undecided"]
        halves = [difference.half for difference, _ in undecided]
        if not halves or None in halves:
            return f"round {judged.round}"
        least = max(half for half in halves if half is not None)
        told = f"round {judged.round}, {100 * least:.2g} points could have been shown"
        if any(difference.over_images for difference, _ in undecided):
            return f"{told}, it takes more test images, not more seeds"
        more = [
            more_seeds(abs(difference.mean - bound), difference.half or 0.0, len(judged.seeds), self.level)
            for difference, bound in undecided
        ]
        known = [each for each in more if each is not None]
        needed = f"about {max(known)} more" if len(known) == len(more) else f"more than {ALL_BUT_ENDLESS:,} more"
        return f"{told}, {needed} if it stays as it is"

    def to_json(self) -> str:
        """`verdict.json`: all fields, the two smallest tickets and the evidence in words."""
        extra = {
            "smallest_winning_pct": self.smallest_winning_pct,
            "smallest_matching_pct": self.smallest_matching_pct,
            "detectable": self.detectable,
            "evidence": self.evidence,
            "remarks": self.remarks,
        }
        return json.dumps(asdict(self) | extra, indent=2)


def judge(
    records: Iterable[Record],
    tolerance: float = 0.002,
    level: float = 0.95,
    controls: Sequence[str] = CONTROLS,
    *,
    classes: int | None = None,
    only_seeds: bool = False,
    looks: Sequence[int] = (),
    rounds: int | None = None,
) -> Verdict | None:
    """The verdict on every round ≥ 1 of the winning arm; None if that arm is not there.

    With three seeds or more: paired differences over seeds and their t-intervals at `level`; where the spread over the
    test images is larger than that over seeds, the test set decides, and the interval is that over it (Agresti & Min
    2005). With fewer: McNemar's exact test on which test images the two networks get right (McNemar 1947), which has to
    bear out what that interval shows.

    Both sides of a comparison have the same seeds: one that diverged on either is left out, and a round that is left
    with fewer than three of a run's three or more stays undecided. A ticket that diverges does not match in that round;
    later rounds, which know nothing of that seed, are undecided at best.

    A round is matching, or beats the control, where a one-sided p-value is at most (1 − level) / 2; of three seeds or
    more that is where its interval lies above the bound. It wins where both hold and still do when the larger p-value
    is corrected for the number of rounds (`statistics.false_discovery`).

    Args:
        records: rounds of all arms and seeds.
        tolerance: accuracy a matching ticket may lose against dense.
        level: confidence level.
        controls: arms that winning tickets have to beat; the first that is there counts.
        classes: of the data set. Records of earlier versions do not tell how many test images are of the most frequent
            class; 1 / classes, the least that can be, is taken then.
        only_seeds: whether the spread over seeds is the only evidence, from two seeds on, whatever the test images say;
            so it is where the records do not tell which of them are right.
        looks: how many seeds there are at each look, where they are added until all is decided; `level` is then that of
            all looks together, and this one is judged at its part of it (`sequential.level_at`).
        rounds: how many the run was to have, the dense one among them; those that were not trained, as it ended early,
            count among all as rounds that do not win. Default: those that are there.

    Example:
        >>> records = lottery_ticket.load_run(run_id).rounds
        >>> lenient = lottery_ticket.judge(records, tolerance=0.5)  # may lose 50 points
        >>> [judged.matching for judged in lenient.rounds]
        ['yes']
    """
    records = list(records)
    only_seeds = only_seeds or not all(record.test_size for record in records)
    table = {(record.arm, record.seed, record.round): record for record in records}
    seeds = sorted({seed for arm, seed, _ in table if arm == "winning"})
    if not seeds:
        return None
    control = control_of(records, controls)
    level_of_all = level if looks else None
    if looks:
        level = level_at(len(seeds), looks, level)
    rules = _Rules(
        method="t-interval" if only_seeds or len(seeds) >= FEWEST_SEEDS else "mcnemar",
        fewest=2 if only_seeds else FEWEST_SEEDS if len(seeds) >= FEWEST_SEEDS else 1,
        images=not only_seeds,
        tolerance=tolerance,
        level=level,
    )
    dense = [table["winning", seed, 0] for seed in seeds if ("winning", seed, 0) in table]
    majority = _majority(dense, classes)
    learned = _learned(dense, majority, 1 - level)
    shared = shared_seeds(records, controls)
    found = []
    for index in sorted({r for arm, _, r in table if arm == "winning" and r > 0}):
        sides = [("winning", index), ("winning", 0), *([(control, index)] if control else [])]
        there = [seed for seed in seeds if all((arm, seed, r) in table for arm, r in sides)]
        if there:
            tickets = {seed: table["winning", seed, index] for seed in seeds if ("winning", seed, index) in table}
            ended = [record.seed for record in dense if not record.diverged and record.seed not in tickets]
            compared = [[table[arm, seed, r] for seed in shared[index] or there] for arm, r in sides]
            judged = _judge_round(compared, shared[index], list(tickets.values()), ended, rules)
            found.append(replace(judged, of_seeds=len(seeds)))
    of_rounds = max(len(found), 0 if rounds is None else rounds - 1)
    return Verdict(
        method=rules.method,
        control=control,
        tolerance=tolerance,
        level=level,
        rounds=_among_all(found, of_rounds, rules.risk, learned),
        diverged=tuple(sorted({f"{record.arm}-seed{record.seed}" for record in records if record.diverged})),
        learned=learned,
        majority=majority,
        dense=dense_accuracy(records, controls),
        seeds=len(seeds),
        of_rounds=of_rounds,
        looks=tuple(looks),
        level_of_all=level_of_all,
    )


class _Rules(NamedTuple):
    """How rounds are judged: the method, the seeds that it needs, and whether the test images have a say in it."""

    method: Literal["t-interval", "mcnemar"]
    fewest: int
    images: bool
    tolerance: float
    level: float

    @property
    def risk(self) -> float:
        """The level of each one-sided test."""
        return (1 - self.level) / 2


class _Compared(NamedTuple):
    """A difference, and the spreads that have to show it, each by itself: nothing is shown where there are none."""

    difference: Difference
    spreads: tuple[Spread, ...] = ()

    def above(self, bound: float) -> float:
        """The one-sided p-value of lying above the bound."""
        return max((spread.above(bound) for spread in self.spreads), default=1.0)

    def below(self, bound: float) -> float:
        """The same of lying below."""
        return max((spread.below(bound) for spread in self.spreads), default=1.0)


def _compare(ours: Sequence[Record], theirs: Sequence[Record], rules: _Rules, enough: bool) -> _Compared:
    """Two arms, or one and the dense network, on the same seeds."""
    gaps = [a.test_accuracy - b.test_accuracy for a, b in zip(ours, theirs, strict=True)]
    mean, p_value, spreads = float(np.mean(gaps)), None, tuple[Spread, ...]()
    bits = [np.stack([record.correct_bits for record in side]) for side in (ours, theirs)] if rules.images else None
    on_images = (replace(over_images(*bits), mean=mean),) if bits else ()
    if rules.method == "mcnemar" and bits:
        p_value, spreads = mcnemar(*bits), on_images
    elif spread := over_seeds(gaps):
        spreads = (spread, *on_images)
    if not (spreads and enough):
        return _Compared(Difference(mean, -1.0, 1.0, p_value))
    intervals = [each.interval(rules.level) for each in spreads]
    low, high = min(intervals)  # the widest: all are around the mean
    return _Compared(Difference(mean, low, high, p_value, over_images=low < intervals[0][0]), spreads)


def _judge_round(
    compared: Sequence[Sequence[Record]],
    counted: tuple[int, ...],
    tickets: Sequence[Record],
    ended: Sequence[int],
    rules: _Rules,
) -> RoundVerdict:
    """A round judged as if it were the only one, and the dense network had learned.

    Args:
        compared: winning arm, dense network and, where there is one, control: of the same seeds.
        counted: the seeds that are compared; empty where none can be, and what is there diverged.
        tickets: all of the winning arm.
        ended: seeds whose trajectory ended before.
        rules: how to judge.
    """
    winning, dense, *others = compared
    enough = len(counted) >= rules.fewest
    to_dense = _compare(winning, dense, rules, enough)
    to_control = _compare(winning, others[0], rules, enough) if others else None
    matches, falls_short = to_dense.above(-rules.tolerance), to_dense.below(-rules.tolerance)
    beats, loses = (to_control.above(0.0), to_control.below(0.0)) if to_control else (1.0, 1.0)
    sides = [to_dense, *([to_control] if to_control else [])]
    exact = to_control.difference.p_value if to_control else None
    if exact is not None:
        beats, loses = max(beats, exact / 2), max(loses, exact / 2)
    diverged, constant = any(r.diverged for r in tickets), all(r.constant for r in tickets)
    if diverged or constant:
        matches, falls_short = 1.0, 0.0
    if ended:
        matches = 1.0
    notes = {
        "the winning arm diverged": diverged,
        "the tickets give every image the same scores": constant,
        f"{len(ended)} seed(s) ended before": bool(ended),
        f"fewer than {rules.fewest} seeds can be compared, too few for an answer": not enough,
        "all seeds differ by exactly the same, which says nothing of their spread": enough
        and any(not each.spreads for each in sides),
        "intervals are those over the test images, which are wider than those over seeds": any(
            each.difference.over_images for each in sides
        ),
    }
    p_wins, p_does_not = max(matches, beats), min(1.0, 2 * min(falls_short, loses))
    alone = _answer(p_wins, min(falls_short, loses), rules.risk)
    return RoundVerdict(
        round=tickets[0].round,
        density=float(np.mean([record.density for record in winning])),
        seeds=counted,
        dense=_mean(dense),
        winning=_mean(winning),
        control=_mean(others[0]) if others else None,
        against_dense=to_dense.difference,
        against_control=to_control.difference if to_control else None,
        matching=_answer(matches, falls_short, rules.risk),
        beats_control=_answer(beats, loses, rules.risk),
        wins=alone,
        wins_alone=alone,
        of_seeds=len(counted),
        p_wins=p_wins,
        p_does_not=p_does_not,
        p_adjusted=p_wins,
        notes=tuple(note for note, so in notes.items() if so),
    )


def _answer(for_it: float, against_it: float, risk: float) -> Answer:
    """The answer of two one-sided p-values."""
    return "yes" if for_it <= risk else "no" if against_it <= risk else "undecided"


def _among_all(rounds: Sequence[RoundVerdict], of_rounds: int, risk: float, learned: bool) -> tuple[RoundVerdict, ...]:
    """The rounds of one run, each as one of so many, and without a ticket where there is nothing to match."""
    if not learned:
        rounds = [
            replace(r, matching=_not_yes(r.matching), wins=_not_yes(r.wins), wins_alone=_not_yes(r.wins), p_wins=1.0)
            for r in rounds
        ]
    adjusted = false_discovery([r.p_wins for r in rounds] + [1.0] * (of_rounds - len(rounds)))
    return tuple(
        replace(r, p_adjusted=p, wins=r.wins if p <= risk else _not_yes(r.wins))
        for r, p in zip(rounds, adjusted, strict=False)
    )


def _not_yes(answer: Answer) -> Answer:
    return "no" if answer == "no" else "undecided"


def _majority(dense: Sequence[Record], classes: int | None) -> float | None:
    """What naming the most frequent class gets right, as far as it is known."""
    told = [record.majority for record in dense if record.majority is not None]
    return told[0] if told else 1 / classes if classes else None


def _learned(dense: Sequence[Record], majority: float | None, risk: float) -> bool:
    """Whether at least half of the dense networks are shown to get more right than naming the most frequent class."""
    if not dense or majority is None:
        return True
    return risk >= half_of(
        [
            1.0
            if record.diverged or record.constant
            else better_than(majority, int(record.correct_bits.sum()), record.test_size)
            for record in dense
        ]
    )


def _mean(records: Sequence[Record]) -> float:
    return float(np.mean([record.test_accuracy for record in records]))
