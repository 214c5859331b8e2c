"""The verdict: is a round's ticket matching, does it beat the control, does it win – yes, no or undecided."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from scipy import special

from lottery_ticket.record import Record

Answer = Literal["yes", "no", "undecided"]
CONTROLS = ("reinit", "reinit-own")
FEWEST_SEEDS = 3
"""From this many seeds on the evidence is the spread over seeds; below it, one test set."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of test accuracies (0–1), its interval, and McNemar's p-value where that was used."""

    mean: float
    low: float
    high: float
    p_value: float | None = None


@dataclass(frozen=True)
class RoundVerdict:
    """What the evidence says of the winning arm at one round.

    Attributes:
        seeds: the seeds that all arms concerned have finished this round with.
        dense, winning, control: mean test accuracies, 0–1; control is None without a control arm.
        against_dense, against_control: winning − dense (round 0 of the winning arm), winning − control.
        matching: not below dense by more than the tolerance.
        beats_control: better than the control arm.
        wins: matching and better than the control.
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


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run; `method` is "t-interval" (three seeds or more) or "mcnemar" (fewer)."""

    method: Literal["t-interval", "mcnemar"]
    control: str | None
    tolerance: float
    level: float
    rounds: tuple[RoundVerdict, ...] = field(repr=False)
    diverged: tuple[str, ...]

    @property
    def smallest_winning_pct(self) -> float:
        """Percent of weights left in the smallest ticket that wins; 100 where none does."""
        return min((100 * r.density for r in self.rounds if r.wins == "yes"), default=100.0)

    @property
    def smallest_matching_pct(self) -> float:
        """Percent of weights left in the smallest ticket that matches; 100 where none does."""
        return min((100 * r.density for r in self.rounds if r.matching == "yes"), default=100.0)

    @property
    def evidence(self) -> str:
        """The evidence behind the answers, in words."""
        if self.method == "t-interval":
            return f"paired differences over seeds, {self.level:.0%} t-intervals"
        return (
            f"McNemar's test on the test images at level {self.level:.0%} – weaker evidence than three seeds: "
            "it knows nothing of the spread between seeds"
        )

    def to_json(self) -> str:
        """`verdict.json`: all fields, the two smallest tickets and the evidence in words."""
        extra = {
            "smallest_winning_pct": self.smallest_winning_pct,
            "smallest_matching_pct": self.smallest_matching_pct,
            "evidence": self.evidence,
        }
        return json.dumps(asdict(self) | extra, indent=2)


def judge(
    records: Iterable[Record], tolerance: float = 0.002, level: float = 0.95, controls: Sequence[str] = CONTROLS
) -> Verdict | None:
    """The verdict on every round ≥ 1 of the winning arm; None if that arm is not there.

    With three seeds or more: paired differences over seeds and their t-intervals at `level`. With fewer:
    McNemar's exact test on which test images the two networks get right (McNemar 1947), and the normal interval of
    the difference of paired proportions; seeds are pooled.

    Args:
        records: rounds of all arms and seeds.
        tolerance: accuracy a matching ticket may lose against dense.
        level: confidence level.
        controls: arms that winning tickets have to beat; the first that is there counts.
    """
    table = {(record.arm, record.seed, record.round): record for record in records}
    seeds = sorted({seed for arm, seed, _ in table if arm == "winning"})
    if not seeds:
        return None
    control = next((arm for arm in controls if any(key[0] == arm for key in table)), None)
    method: Literal["t-interval", "mcnemar"] = "t-interval" if len(seeds) >= FEWEST_SEEDS else "mcnemar"
    compare: Compare = _t_interval if method == "t-interval" else _mcnemar
    verdicts = []
    for index in sorted({r for arm, _, r in table if arm == "winning" and r > 0}):
        here = [
            seed
            for seed in seeds
            if ("winning", seed, index) in table
            and ("winning", seed, 0) in table
            and (control is None or (control, seed, index) in table)
        ]
        if here:
            winning = [table["winning", seed, index] for seed in here]
            dense = [table["winning", seed, 0] for seed in here]
            others = [table[control, seed, index] for seed in here] if control else None
            verdicts.append(_judge_round(index, here, winning, dense, others, compare, tolerance, level))
    diverged = sorted({f"{record.arm}-seed{record.seed}" for record in table.values() if record.diverged})
    return Verdict(method, control, tolerance, level, tuple(verdicts), tuple(diverged))


Compare = Callable[[Sequence[Record], Sequence[Record], float], Difference]


def _judge_round(
    index: int,
    seeds: Sequence[int],
    winning: Sequence[Record],
    dense: Sequence[Record],
    control: Sequence[Record] | None,
    compare: Compare,
    tolerance: float,
    level: float,
) -> RoundVerdict:
    against_dense = compare(winning, dense, level)
    against_control = compare(winning, control, level) if control else None
    matching = _answer(against_dense, -tolerance)
    beats: Answer = "undecided"
    if against_control is not None:
        beats = _answer(against_control, 0.0, strict=True)
        if against_control.p_value is not None and against_control.p_value >= 1 - level:
            beats = "undecided"
    if any(record.diverged for record in winning):
        matching = beats = "no"
    answers = {matching, beats}
    wins: Answer = "no" if "no" in answers else "undecided" if "undecided" in answers else "yes"
    return RoundVerdict(
        round=index,
        density=float(np.mean([record.density for record in winning])),
        seeds=tuple(seeds),
        dense=_mean(dense),
        winning=_mean(winning),
        control=_mean(control) if control else None,
        against_dense=against_dense,
        against_control=against_control,
        matching=matching,
        beats_control=beats,
        wins=wins,
    )


def _answer(difference: Difference, bound: float, strict: bool = False) -> Answer:
    """Whether the difference lies above the bound, by its interval."""
    if difference.low > bound or (difference.low == bound and not strict):
        return "yes"
    return "no" if difference.high < bound or (difference.high == bound and strict) else "undecided"


def _t_interval(ours: Sequence[Record], theirs: Sequence[Record], level: float) -> Difference:
    gaps = np.array([a.test_accuracy - b.test_accuracy for a, b in zip(ours, theirs, strict=True)])
    mean = float(gaps.mean())
    if len(gaps) < 2:  # some seeds diverged: nothing is known of the spread
        return Difference(mean, -1.0, 1.0)
    half = float(special.stdtrit(len(gaps) - 1, (1 + level) / 2) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
    return Difference(mean, mean - half, mean + half)


def _mcnemar(ours: Sequence[Record], theirs: Sequence[Record], level: float) -> Difference:
    a = np.concatenate([record.correct_bits for record in ours])
    b = np.concatenate([record.correct_bits for record in theirs])
    gained, lost, n = int((a & ~b).sum()), int((b & ~a).sum()), len(a)
    mean = (gained - lost) / n
    half = float(special.ndtri((1 + level) / 2)) * np.sqrt(max(gained + lost - (gained - lost) ** 2 / n, 0)) / n
    p_value = min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))
    return Difference(mean, mean - half, mean + half, p_value)


def _mean(records: Sequence[Record]) -> float:
    return float(np.mean([record.test_accuracy for record in records]))
