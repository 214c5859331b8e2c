"""How often is a judgement right, wrong and undecided where the truth is known?

    python bench/judgements.py [--times 400]

Rounds are simulated, with normal noise from seed to seed, for claims that hold, that do not, and that lie on the edge,
where every answer counts as wrong; then judged as `lt reproduce` judges them, from 1, 2, 3, 5 and 10 seeds. Below, the
verdict of `lt run` on 14 rounds that beat dense and their control by nothing: how often one wins, alone and among all,
and two on end do. Exit code 1 where an answer is wrong more often than the level allows, beyond the noise of counting.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from lottery_ticket.analysis.verdict import judge
from lottery_ticket.record import Record, pack_bits
from lottery_ticket.reproduction.claims import Experiment, decide
from lottery_ticket.reproduction.definition import Reproduction
from lottery_ticket.reproduction.parse import parse
from lottery_ticket.study.measures import phase

SEEDS = (1, 2, 3, 5, 10)
LEVEL = 0.95
ROUNDS = 15
SPREAD = 0.002
"""Standard deviation from seed to seed of an accuracy, 0–1."""

Truth = Callable[[int], float]
"""Round → winning − reinit, in points."""

GAP = {"minus": "control", "at_pct": 10.7, "above": 1, "below": 3}
MEAN = {"minus": "control", "from_pct": 40, "to_pct": 5, "above": 1}
STOPS = {"measure": "early_stop", "over": "dense", "at_pct": 10.7, "below": 0.7}
LONG = {"measure": "winning_streak", "above": 1}
NONE = {"measure": "winning_streak", "below": 2}

CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("gap of 1 to 3 points", GAP, "yes", {"gap": lambda r: 2.0}),
    ("gap of 1 to 3 points", GAP, "no", {"gap": lambda r: 0.5}),
    ("gap of 1 to 3 points", GAP, "edge", {"gap": lambda r: 1.0}),
    ("mean gap above 1 point", MEAN, "yes", {"gap": lambda r: 1.0 + r / 20}),
    ("mean gap above 1 point", MEAN, "no", {"gap": lambda r: 1.0 - r / 20}),
    ("mean gap above 1 point", MEAN, "edge", {"gap": lambda r: 1.0}),
    ("stops below 0.7 of dense", STOPS, "yes", {"stops": (1000, 500)}),
    ("stops below 0.7 of dense", STOPS, "no", {"stops": (1000, 1000)}),
    ("the same, most cut off", STOPS, "no", {"stops": (2200, 2200)}),
    ("the same, most cut off", STOPS, "yes", {"stops": (2200, 1100)}),
    ("two wins on end", LONG, "yes", {"gap": lambda r: 1.5}),
    ("two wins on end", LONG, "no", {"gap": lambda r: 1.5 if r % 2 else -0.5}),
    ("two wins on end", LONG, "no", {"gap": lambda r: 1.5 if r % 2 else 0.0}),
    ("no two wins on end", NONE, "yes", {"gap": lambda r: -1.5}),
    ("no two wins on end", NONE, "no", {"gap": lambda r: 0.3}),
    ("no two wins on end", NONE, "no", {"gap": lambda r: 0.05 if r in (6, 7) else -1.5}),
]
END = 2000
"""Iterations of a round: later early stops are cut off."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=400, help="simulated experiments for each row")
    times = parser.parse_args().times
    rng = np.random.default_rng(0)
    over = [f"{name}, {truth}, {seeds} seeds" for name, truth, seeds in claims(times, rng)]
    over += verdicts(times, rng)
    if over:
        sys.exit("wrong more often than the level allows: " + "; ".join(over))


def claims(times: int, rng: np.random.Generator) -> list[tuple[str, str, int]]:
    """Judge the simulated claims; those that are wrong too often."""
    print(f"claims, {times} times each, level {LEVEL:.0%}: % right, wrong, undecided")
    print(f"{'claim':<26}{'truth':<6}" + "".join(f"{f'{n} seed(s)':>20}" for n in SEEDS))
    over = []
    for name, part, truth, how in CASES:
        told, row = reproduction(part), ""
        for seeds in SEEDS:
            answers = Counter(answer(told, records(seeds, rng, **how)) for _ in range(times))
            right = answers[truth]
            wrong = times - right - answers["undecided"]
            shown = "/".join(f"{100 * n / times:.1f}" for n in (right, wrong, answers["undecided"]))
            row += f"{shown:>20}"
            if wrong > stats.binom.isf(1e-3, times, 1 - LEVEL):
                over.append((name, truth, seeds))
        print(f"{name:<26}{truth:<6}{row}", flush=True)
    return over


def verdicts(times: int, rng: np.random.Generator) -> list[str]:
    """Judge runs in which nothing wins; the counts that are too high. One or two seeds: McNemar, one test set."""
    print(
        f"\nverdicts, {times} times each, reinit as good: % of runs in which a round wins alone, among all, two on end"
    )
    over = []
    for seeds in SEEDS:
        spread = SPREAD if seeds > 2 else 0.0  # of which McNemar's test knows nothing
        judged = [judge(seen(seeds, rng, spread)) for _ in range(times)]
        alone, among, pairs = (
            sum(wins(verdict) for verdict in judged if verdict)
            for wins in (
                lambda v: any(r.wins_alone == "yes" for r in v.rounds),
                lambda v: any(r.wins == "yes" for r in v.rounds),
                lambda v: phase(v) == "winning",
            )
        )
        print(f"{seeds:>3} seed(s) " + "".join(f"{100 * n / times:>8.1f}" for n in (alone, among, pairs)), flush=True)
        allowed = stats.binom.isf(1e-3, times, (1 - LEVEL) / 2)
        over += [f"{what}, {seeds} seeds" for what, n in (("among all", among), ("two on end", pairs)) if n > allowed]
    return over


def reproduction(part: dict[str, Any]) -> Reproduction:
    """One claim with this part."""
    setup = {"preset": "shu-fc1", "settings": {"validation_size": 5000}, "quick": {}, "report": {}}
    claim = {"id": "C", "figure": "", "says": "", "variants": ["v"], "parts": [{"says": "", "setup": "s"} | part]}
    told = {"title": "", "source": "", "about": "", "level": LEVEL, "setups": {"s": setup}, "claims": [claim]}
    return parse("simulated", told | {"variants": {"v": {"says": "", "settings": {"arms": "winning,reinit"}}}})


def answer(told: Reproduction, rounds: Sequence[Record]) -> str:
    """What is said of its claim."""
    (outcome,) = decide(told, {("s", "v"): Experiment(rounds, 1.0)})
    return outcome.findings[0].answer


def records(
    seeds: int, rng: np.random.Generator, gap: Truth = lambda r: 0.0, stops: tuple[int, int] | None = None
) -> list[Record]:
    """Rounds of tickets a point above dense and better than reinit by `gap`; medians of the stops, dense first."""
    made = []
    for seed in range(seeds):
        for r in range(ROUNDS):
            ticket = 0.91 if r else 0.9
            for arm, mean in (("winning", ticket), ("reinit", ticket - gap(r) / 100)):
                stop = None
                if stops:
                    stop = min(END, round(stops[r > 0] * float(np.exp(rng.normal(0, 0.15)))))
                made.append(a_round(arm, seed, r, mean + rng.normal(0, SPREAD), stop))
    return made


def seen(seeds: int, rng: np.random.Generator, spread: float) -> list[Record]:
    """Rounds of which each test image is known: 14 that are two points above dense, and above reinit by nothing."""
    made = []
    for seed in range(seeds):
        for r in range(ROUNDS):
            for arm in ("winning", "reinit"):
                right = rng.random(2000) < (0.92 if r else 0.9) + rng.normal(0, spread)
                made.append(a_round(arm, seed, r, float(right.mean()), None, right))
    return made


def a_round(arm: str, seed: int, r: int, accuracy: float, stop: int | None, right: np.ndarray | None = None) -> Record:
    """A record with what judges look at; taken as it is, for there are hundreds of thousands."""
    return Record.model_construct(
        arm=arm,
        seed=seed,
        round=r,
        density=0.8**r,
        iterations=END,
        test_accuracy=accuracy,
        early_stop_iteration=stop,
        seconds=1.0,
        diverged=False,
        test_size=0 if right is None else len(right),
        correct="" if right is None else pack_bits(right),
    )


if __name__ == "__main__":
    main()
