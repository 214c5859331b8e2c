"""Criteria: what is pruned first. A new criterion is one function here, from evidence to scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lottery_ticket import plugins
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.masks import Mask, Weights

Gradients = Callable[[Mapping[str, Tensor], Sequence[int] | None], Weights]
"""`gradients(weights, images)`, see `Evidence`."""


@dataclass(frozen=True)
class Evidence:
    """What a criterion may draw on at the end of one round of one trajectory; all tensors are on the CPU.

    Attributes:
        weights: the trained parameters and buffers, pruned ones zero.
        start: the values that the round's training started from.
        mask: the survivors so far.
        seed, round: of the trajectory.
        images: how many images are trained on.
        gradients: `gradients(weights, images=None)` is the gradient of the mean cross-entropy over the training images
            with these indices (default: all), at any values of the parameters, the pruned ones taken as zero: trained
            parameter → tensor of its shape, pruned weights' too. A criterion that never calls it costs nothing.
    """

    weights: Weights = field(repr=False)
    start: Weights = field(repr=False)
    mask: Mask = field(repr=False)
    seed: int
    round: int
    images: int
    gradients: Gradients = field(repr=False)


class Criterion(NamedTuple):
    """A criterion.

    Attributes:
        scores: from the evidence to prunable tensor → scores of its shape, finite where a weight survives. The lowest
            go first, whatever their sign.
    """

    scores: Callable[[Evidence], Mapping[str, Tensor]]


def _magnitude(at: Evidence) -> Weights:
    """|w| after training. Frankle & Carbin 2019, section 1; Han et al. 2015."""
    return {name: at.weights[name].abs() for name in at.mask}


CRITERIA = {"magnitude": Criterion(_magnitude)}


def criterion_named(name: str) -> Criterion:
    """The criterion of that name, ours or a guest's; InputError where there is none."""
    found = plugins.named("criteria", name, CRITERIA, "--criterion")
    if not isinstance(found, Criterion):
        raise plugins.unfit("--criterion", name, found, "a lottery_ticket.method.Criterion")
    return found


def scores_by(name: str, at: Evidence) -> Weights:
    """The scores of a criterion, float32; LotteryTicketError where they cannot rank the survivors of each tensor."""
    given = criterion_named(name).scores(at)
    if missing := sorted(at.mask.keys() - given.keys()):
        raise LotteryTicketError(f"the criterion {name} gives no scores of {', '.join(missing)}")
    scores = {}
    for tensor, kept in at.mask.items():
        score = torch.as_tensor(given[tensor]).detach().cpu().float()
        if score.shape != kept.shape:
            shapes = f"{tuple(score.shape)} of {tensor}, whose shape is {tuple(kept.shape)}"
            raise LotteryTicketError(f"the criterion {name} gives scores of shape {shapes}")
        if not score[kept].isfinite().all():
            raise LotteryTicketError(f"the criterion {name} gives scores of {tensor} that are not finite")
        scores[tensor] = score
    return scores
