"""Pruning as pure functions: scores, masks and rates in, new masks out."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lottery_ticket.masks import Mask


def prune(scores: Mapping[str, Tensor], mask: Mask, rates: Mapping[str, float], scope: str = "layer") -> Mask:
    """The next round's mask: of each tensor's survivors, round(rate × survivors) with the lowest scores go.

    Exactly that many (Python's `round`: halves to even), ties broken by position (row-major, first goes first),
    never the last survivor of a tensor. With scope "global" the survivors of all tensors are ranked together and
    lose `round(rate × all survivors)`; the rates must then be equal. Source: Frankle & Carbin 2019, section 1
    (layer scope), section 4 (global scope).

    Args:
        scores: prunable tensor → scores of its shape, finite where a weight survives (see `method.criteria`).
        mask: the survivors so far.
        rates: tensor → fraction of its survivors to prune, 0 < rate < 1.
        scope: "layer" or "global".

    Returns:
        A mask nested in `mask`.
    """
    if scope == "layer":
        return {name: _drop_lowest(scores[name], kept, rates[name], 1) for name, kept in mask.items()}
    (rate,) = set(rates.values())
    ranked = {name: scores[name].masked_fill(~kept, -torch.inf).flatten() for name, kept in mask.items()}
    for each in ranked.values():  # the strongest survivor of each tensor stays whatever its score
        each[each.argmax()] = torch.inf
    joined = _drop_lowest(
        torch.cat(list(ranked.values())),
        torch.cat([kept.flatten() for kept in mask.values()]),
        rate,
        len(mask),
    )
    parts = joined.split([kept.numel() for kept in mask.values()])
    return {name: part.view(kept.shape) for (name, kept), part in zip(mask.items(), parts, strict=True)}


def _drop_lowest(scores: Tensor, kept: Tensor, rate: float, at_least: int) -> Tensor:
    """`kept` less the round(rate × survivors) lowest scores, leaving `at_least` survivors."""
    alive = kept.flatten().nonzero().flatten()
    count = min(round(rate * len(alive)), len(alive) - at_least)
    if count < 1:
        return kept.clone()
    candidates = scores.flatten()[alive]
    threshold = candidates.kthvalue(count).values
    below = candidates < threshold
    tied = (candidates == threshold).nonzero().flatten()
    pruned = torch.cat([alive[below], alive[tied[: count - int(below.sum())]]])
    left = kept.flatten().clone()
    left[pruned] = False
    return left.view(kept.shape)
