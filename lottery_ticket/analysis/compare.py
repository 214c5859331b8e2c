"""Whether two tickets are the same: overlap of their masks against chance, shared signs, distance of their values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy import stats
from torch import Tensor

from lottery_ticket.config import NOT_TRAINING, as_text
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.tickets.ticket import Ticket

Nested = Literal["equal", "first in second", "second in first"]
Range = tuple[float, float]

_LEVEL = 0.95
_ASIDE = frozenset(("arms", "seeds", "rounds", "evaluate_every", *NOT_TRAINING))
"""Settings that tell nothing of one ticket; its own arm, seed and round are in its name."""


@dataclass(frozen=True)
class Values:
    """How the values of the weights that survive in both tickets compare; None where that is not defined.

    Attributes:
        same_sign: fraction of them with the same sign, those left out that are zero in either.
        same_sign_by_chance: expected if the signs stood in random order, as many of each as there are in each tensor:
            about 0.5, more where both tickets prefer the same sign.
        same_sign_range: the central 95 % of what that gives.
        distance: root mean square of their differences.
        relative_distance: the same, divided by the root mean square of the values: 0 = equal, √2 = independent.
        correlation: Pearson's; chance: 0.
    """

    same_sign: float | None
    same_sign_by_chance: float | None
    same_sign_range: Range | None
    distance: float | None
    relative_distance: float | None
    correlation: float | None


@dataclass(frozen=True)
class Overlap:
    """How two tickets compare in one tensor, or in all together.

    Chance is two independent random masks with as many survivors in each tensor as these have: the size of their
    intersection is hypergeometric.

    Attributes:
        weights: how many there are, pruned ones included.
        densities: of the first and the second ticket, 0–1.
        shared: weights that survive in both.
        iou: intersection over union of the survivors, 0–1; None where nothing survives in either.
        iou_by_chance: intersection over union at the expected intersection.
        iou_range: the central 95 % of what chance gives.
        iou_at_most: where one mask holds the other in each tensor; below 1 where their densities differ.
        z: standard deviations by which the intersection exceeds its expectation; None where chance has no choice.
        start: the values that training starts from.
        trained: the trained weights, where both tickets have them.
    """

    weights: int
    densities: tuple[float, float]
    shared: int
    iou: float | None
    iou_by_chance: float | None
    iou_range: Range | None
    iou_at_most: float | None
    z: float | None
    start: Values
    trained: Values | None


@dataclass(frozen=True)
class Comparison:
    """Two tickets side by side.

    Attributes:
        names: of the two, as `Ticket.name`.
        settings: those in which their runs differ and that bear on the ticket: the first's value and the second's.
        same_start: whether everything starts from the same values, what is not pruned included.
        nested: whether the survivors of one are all among the other's, as in the rounds of one trajectory.
        tensors: prunable tensor → what they share there.
        overall: all prunable tensors together.
    """

    names: tuple[str, str]
    settings: dict[str, tuple[Any, Any]]
    same_start: bool
    nested: Nested | None
    tensors: dict[str, Overlap]
    overall: Overlap

    @property
    def labels(self) -> tuple[str, str]:
        """The two names, each with the settings in which it differs from the other."""
        first, second = (
            ", ".join([name, *(f"{setting}={as_text(values[i])}" for setting, values in self.settings.items())])
            for i, name in enumerate(self.names)
        )
        return first, second


def compare(first: Ticket, second: Ticket) -> Comparison:
    """Compare two tickets tensor by tensor: masks against chance, signs, start values, trained weights.

    Raises:
        InputError: they do not have the same prunable tensors, of the same shapes.

    Example:
        >>> first, second = (lottery_ticket.Ticket.load(f"{run_id}:1:winning-seed{seed}") for seed in (0, 1))
        >>> comparison = lottery_ticket.compare(first, second)
        >>> low, high = comparison.overall.iou_range  # what chance gives
        >>> low < comparison.overall.iou_by_chance < high < comparison.overall.iou_at_most
        True
        >>> comparison.same_start, comparison.nested, list(comparison.tensors)
        (False, None, ['fc1.weight', 'fc2.weight', 'output.weight'])
    """
    _check_same_tensors(first, second)
    ours, theirs = dict(first.settings), dict(second.settings)
    return Comparison(
        names=(first.name, second.name),
        settings={
            name: (ours[name], theirs[name]) for name in ours if name not in _ASIDE and ours[name] != theirs[name]
        },
        same_start=all(
            name in second.weights and torch.equal(value, second.weights[name]) for name, value in first.weights.items()
        ),
        nested=_nested(first.mask, second.mask),
        tensors={name: _overlap(first, second, [name]) for name in first.mask},
        overall=_overlap(first, second, list(first.mask)),
    )


def mask_overlap(first: Mask, second: Mask) -> tuple[float, float]:
    """Intersection over union of the survivors of two masks, and what chance gives (see `Overlap`)."""
    counts = [(kept.numel(), int(kept.sum()), int(second[name].sum())) for name, kept in first.items()]
    shared = sum(int((kept & second[name]).sum()) for name, kept in first.items())
    both = sum(a + b for _, a, b in counts)
    expected, *_ = _intersection_by_chance(counts)
    return shared / (both - shared), expected / (both - expected)


def _check_same_tensors(first: Ticket, second: Ticket) -> None:
    ours, theirs = ({name: tuple(kept.shape) for name, kept in each.mask.items()} for each in (first, second))
    differ = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if differ:
        here, there = (shapes.get(differ[0], "none") for shapes in (theirs, ours))
        why = f"has other prunable tensors than {first.name} ({differ[0]} is {here}, there {there})"
        raise InputError("TICKET", second.name, f"{why}; allowed: two tickets of one architecture")


def _nested(first: Mask, second: Mask) -> Nested | None:
    inside = all(not (first[name] & ~second[name]).any() for name in first)
    around = all(not (second[name] & ~first[name]).any() for name in first)
    if inside and around:
        return "equal"
    return "first in second" if inside else "second in first" if around else None


def _overlap(first: Ticket, second: Ticket, names: Sequence[str]) -> Overlap:
    """What two tickets share in these tensors, counted together."""
    masks = [(first.mask[name], second.mask[name]) for name in names]
    both = {name: a & b for name, (a, b) in zip(names, masks, strict=True)}
    counts = [(a.numel(), int(a.sum()), int(b.sum())) for a, b in masks]
    weights, kept, also_kept = (sum(each) for each in zip(*counts, strict=True))
    shared = sum(int(each.sum()) for each in both.values())
    expected, deviation, (low, high) = _intersection_by_chance(counts)

    def iou(intersection: float) -> float | None:
        union = kept + also_kept - intersection
        return intersection / union if union else None

    def values(of_first: Weights, of_second: Weights) -> Values:
        return _compare_values([(of_first[name][kept], of_second[name][kept]) for name, kept in both.items()])

    lowest, highest = iou(low), iou(high)
    return Overlap(
        weights=weights,
        densities=(kept / weights, also_kept / weights),
        shared=shared,
        iou=iou(shared),
        iou_by_chance=iou(expected),
        iou_range=None if lowest is None or highest is None else (lowest, highest),
        iou_at_most=iou(sum(min(a, b) for _, a, b in counts)),
        z=(shared - expected) / deviation if deviation else None,
        start=values(first.weights, second.weights),
        trained=values(first.trained, second.trained) if first.trained and second.trained else None,
    )


def _compare_values(pairs: Sequence[tuple[Tensor, Tensor]]) -> Values:
    """Compare vectors of equal length, one pair for each tensor, entry by entry."""
    x, y = (torch.cat(each).double() for each in zip(*pairs, strict=True))
    if not len(x) or not (x.isfinite() & y.isfinite()).all():
        return Values(None, None, None, None, None, None)
    same_sign, same_sign_by_chance, same_sign_range = _compare_signs(pairs)
    distance = _rms(x - y)
    size = math.hypot(_rms(x), _rms(y)) / math.sqrt(2)
    x, y = x - x.mean(), y - y.mean()
    spread = _rms(x) * _rms(y)
    return Values(
        same_sign=same_sign,
        same_sign_by_chance=same_sign_by_chance,
        same_sign_range=same_sign_range,
        distance=distance,
        relative_distance=distance / size if size else None,
        correlation=max(-1.0, min(1.0, float((x * y).mean()) / spread)) if spread else None,
    )


def _compare_signs(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[float | None, float | None, Range | None]:
    """The fraction of equal signs, what chance gives and its range; see `Values`."""
    signed_pairs = [(x[(x != 0) & (y != 0)], y[(x != 0) & (y != 0)]) for x, y in pairs]
    signs = [(x > 0, y > 0) for x, y in signed_pairs]
    counts = [(len(x), int(x.sum()), int(y.sum())) for x, y in signs if len(x)]
    if not counts:
        return None, None, None
    signed, positive, also_positive = (sum(each) for each in zip(*counts, strict=True))
    expected, _, (low, high) = _intersection_by_chance(counts)

    def same(positive_in_both: float) -> float:
        return (2 * positive_in_both + signed - positive - also_positive) / signed

    return same(sum(int((x & y).sum()) for x, y in signs)), same(expected), (same(low), same(high))


def _intersection_by_chance(counts: Sequence[tuple[int, int, int]]) -> tuple[float, float, Range]:
    """Mean, standard deviation and central 95 % of the size of the intersection of independent random subsets.

    Hypergeometric in each tensor; over several, which are independent, means and variances add up and the range is
    that of the normal distribution, in whole numbers and within what is possible.

    Args:
        counts: of each tensor (entries, size of the one subset, size of the other).
    """
    mean = sum(a * b / n for n, a, b in counts)
    deviation = math.sqrt(sum(a * b * (n - a) * (n - b) / (n * n * (n - 1)) for n, a, b in counts if n > 1))
    if len(counts) == 1:
        low, high = stats.hypergeom.interval(_LEVEL, *counts[0])
    else:
        half = float(stats.norm.ppf((1 + _LEVEL) / 2)) * deviation
        low = max(round(mean - half), sum(max(0, a + b - n) for n, a, b in counts))
        high = min(round(mean + half), sum(min(a, b) for _, a, b in counts))
    return mean, deviation, (float(low), float(high))


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
