"""Masks and weights by tensor name, and what can be counted on them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lottery_ticket.errors import LotteryTicketError

Weights = dict[str, Tensor]
"""Parameters and buffers of one network by name."""

Mask = dict[str, Tensor]
"""Prunable tensor → bool tensor of its shape, True where the weight survives."""


def density(mask: Mask) -> float:
    """Survivors / prunable weights, over all tensors, 0–1."""
    return sum(survivors(mask).values()) / sum(kept.numel() for kept in mask.values())


def survivors(mask: Mask) -> dict[str, int]:
    """Tensor → number of surviving weights."""
    return {name: int(kept.sum()) for name, kept in mask.items()}


def under(mask: Mask, weights: Mapping[str, Tensor]) -> Weights:
    """The weights with the pruned ones zero. LotteryTicketError where they are of other shapes than the mask."""
    if wrong := [name for name, kept in mask.items() if name not in weights or weights[name].shape != kept.shape]:
        raise LotteryTicketError(f"the values of {wrong[0]} do not fit its mask")
    return {name: value.where(mask[name], 0) if name in mask else value for name, value in weights.items()}


def strongest(scores: Tensor, kept: Tensor, left: int) -> Tensor:
    """`kept` less its lowest scores, so many that `left` survive; of equal scores the first goes first."""
    alive = kept.flatten().nonzero().flatten()
    count = len(alive) - left
    if count < 1:
        return kept.clone()
    candidates = scores.flatten()[alive]
    threshold = candidates.kthvalue(count).values
    below = candidates < threshold
    tied = (candidates == threshold).nonzero().flatten()
    pruned = torch.cat([alive[below], alive[tied[: count - int(below.sum())]]])
    mask = kept.flatten().clone()
    mask[pruned] = False
    return mask.view(kept.shape)
