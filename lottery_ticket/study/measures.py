"""What is measured of a trial: how small a ticket wins, by how much, at what cost; or what its networks get right."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from lottery_ticket.analysis.verdict import RoundVerdict, Verdict
from lottery_ticket.record import Record, nearest
from lottery_ticket.study.definition import EndEarly
from lottery_ticket.study.names import COST, DENSE, LEFT, MARGIN, MATCHING, SMALLEST, VALIDATION

T = TypeVar("T")

PHASES = ("none", "matching", "winning")
"""What a trial shows: no ticket that matches, tickets that match, tickets that win – in two rounds on end each.

Of a trial of one pruned round that round shows it.
"""

NEAREST = 1.35
"""A round stands for a density where the ratio of the two is at most this."""


def measure(
    verdict: Verdict, records: Sequence[Record], densities: Iterable[float], rounds: int, pruning: str
) -> dict[str, float]:
    """The measures of a trial, by name; accuracies and differences are fractions, 0–1.

    `smallest_winning_pct`, `smallest_matching_pct`: percent of weights left, 100 where no ticket is there.
    `winning_margin`: by how much tickets win; see `winning_margin`. `cost`: optimiser steps of one network that the
    smallest winning ticket takes, or where none wins that of the last round: of all rounds up to its own, with one-shot
    pruning of the dense round and its own, with pruning at initialisation of its own alone. `dense_accuracy`: see
    `comparable.dense_accuracy`. `seconds`: of training. At each density (`…/10.7pct`, the round nearest to it), over
    the seeds that can be compared: `weights_remaining_pct`, what that round really had, `winning_accuracy`,
    `reinit_accuracy`, `winning_minus_reinit`, `winning_minus_dense`, and `early_stop_speedup`, the dense network's
    early-stopping iteration over the ticket's, where all of these came before the end.

    Args:
        verdict: on the trial.
        records: of all its rounds.
        densities: percents of weights left.
        rounds: how many the trial was to have.
        pruning: when weights are pruned, as `method.schedule.pruning_of` says it.
    """
    dense = [record for record in records if record.round == 0 and record.arm == "winning"]
    assert verdict.dense is not None  # a trial begins with round 0
    smallest = verdict.smallest_winning_pct
    won = [judged.round for judged in verdict.rounds if judged.wins == "yes"]
    steps = {record.round: record.iterations - record.begins_at for record in records if record.arm == "winning"}
    ticket = won[-1] if won else rounds - 1
    takes = {"iterative": range(ticket + 1), "one-shot": sorted({0, ticket}), "init": [ticket]}[pruning]
    measured = {
        SMALLEST: smallest,
        MATCHING: verdict.smallest_matching_pct,
        MARGIN: winning_margin(verdict),
        COST: float(sum(steps.get(r, steps[max(steps)]) for r in takes)),
        DENSE: verdict.dense,
        "seconds": math.fsum(record.seconds for record in records),
    }
    for pct in densities:
        place = nearest({index: 100 * each.density for index, each in enumerate(verdict.rounds)}, pct, NEAREST)
        if place is None or not (judged := verdict.rounds[place]).seeds:
            continue
        measured[f"{LEFT}/{pct:g}pct"] = 100 * judged.density
        measured[f"winning_accuracy/{pct:g}pct"] = judged.winning
        measured[f"winning_minus_dense/{pct:g}pct"] = judged.against_dense.mean
        if judged.control is not None and judged.against_control is not None:
            measured[f"reinit_accuracy/{pct:g}pct"] = judged.control
            measured[f"winning_minus_reinit/{pct:g}pct"] = judged.against_control.mean
        stops = [r for r in records if r.arm == "winning" and r.round == judged.round and r.seed in judged.seeds]
        beside = [r for r in dense if r.seed in judged.seeds]
        if stops and all(r.early_stop_iteration and not r.stop_censored for r in (*stops, *beside)):
            ours, theirs = (np.mean(np.log([r.early_stop_iteration or 0 for r in each])) for each in (stops, beside))
            measured[f"early_stop_speedup/{pct:g}pct"] = float(np.exp(theirs - ours))
    return measured


def measure_accuracy(records: Sequence[Record]) -> dict[str, float]:
    """The measures of a trial that is not judged, by name.

    `validation_accuracy`: 0–1, at the end of the last round that each arm and seed was trained in, the mean over them.
    `seconds`: of training.

    Args:
        records: of all its rounds, evaluated on validation images.
    """
    last = {(record.arm, record.seed): record.curve[-1] for record in sorted(records, key=lambda each: each.round)}
    found = [point.validation_accuracy for point in last.values() if point.validation_accuracy is not None]
    return {VALIDATION: math.fsum(found) / len(found), "seconds": math.fsum(record.seconds for record in records)}


def phase(verdict: Verdict) -> str:
    """One of PHASES: what two rounds on end show, each judged alone, so that one that wins by chance decides nothing.

    `none` where the dense network is not shown to have learned: there is nothing to match.
    """
    for word in ("winning", "matching"):
        answers = [(judged.wins_alone if word == "winning" else judged.matching) == "yes" for judged in verdict.rounds]
        if any(map(all, _on_end(answers, verdict))):
            return word
    return "none"


def _on_end(values: Sequence[T], verdict: Verdict) -> list[tuple[T, ...]]:
    """What two rounds on end have; of a trial that was to have one pruned round, what that has."""
    return [(value,) for value in values] if verdict.of_rounds == 1 else list(pairwise(values))


def winning_margin(verdict: Verdict) -> float:
    """By how much tickets win: positive exactly where two rounds on end do, each judged alone, or the only one does.

    A round's margin is the smaller of two lower ends of intervals: of winning − control, and of winning − dense plus
    the tolerance. That of a trial is the largest that two rounds on end both have. −1 at least, and where the dense
    network is not shown to have learned.
    """
    if not verdict.learned:
        return -1.0
    margins = [_margin(judged, verdict.tolerance) for judged in verdict.rounds]
    return max(map(min, _on_end(margins, verdict)), default=-1.0)


def _margin(judged: RoundVerdict, tolerance: float) -> float:
    if judged.against_control is None:
        return -1.0
    margin = max(-1.0, min(judged.against_control.low, judged.against_dense.low + tolerance))
    if judged.wins_alone == "yes":
        return max(margin, 1e-9)  # on the edge
    return min(margin, -tolerance if judged.wins_alone == "no" else 0.0)


def settled(records: Sequence[Record], end_early: EndEarly) -> str | None:
    """Why a trial's answer can no longer change, or None: diverged, or far below dense, in all seeds.

    Args:
        records: of all rounds so far.
        end_early: how far below dense, for how many rounds on end.
    """
    winning = [record for record in records if record.arm == "winning"]
    last = max(record.round for record in winning)
    if all(record.diverged for record in winning if record.round == last):
        return f"training diverged in all seeds in round {last}"
    dense = {record.seed: record.test_accuracy for record in winning if record.round == 0}
    recent = [record for record in winning if record.round > last - end_early.rounds]
    far = all(record.test_accuracy < dense[record.seed] - end_early.below_dense for record in recent)
    if last >= end_early.rounds and far:
        points, rounds = 100 * end_early.below_dense, end_early.rounds
        return f"more than {points:g} points below dense in all seeds for {rounds} round(s), at round {last}"
    return None
