"""Pruning as pure functions: weights, masks and rates in, new masks out."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lottery_ticket.masks import Mask

CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {"magnitude": torch.abs}
"""Criterion → a function from a weight tensor to scores of its shape; the lowest scores go first."""


def prune(
    weights: Mapping[str, Tensor],
    mask: Mask,
    rates: Mapping[str, float],
    scope: str = "layer",
    criterion: str = "magnitude",
) -> Mask:
    """The next round's mask: of each tensor's survivors, round(rate × survivors) with the lowest scores go.

    Exactly that many (Python's `round`: halves to even), ties broken by position (row-major, first goes first),
    never the last survivor of a tensor. With scope "global" the survivors of all tensors are ranked together and
    lose `round(rate × all survivors)`; the rates must then be equal. Source: Frankle & Carbin 2019, section 1
    (layer scope), section 4 (global scope).

    Args:
        weights: trained weights, by name; only the tensors of `mask` are read.
        mask: the survivors so far.
        rates: tensor → fraction of its survivors to prune, 0 < rate < 1.
        scope: "layer" or "global".
        criterion: a name of CRITERIA.

    Returns:
        A mask nested in `mask`.
    """
    scores = {name: CRITERIA[criterion](weights[name].detach()).cpu().float() for name in mask}
    if scope == "layer":
        return {name: _drop_lowest(scores[name], kept, rates[name], 1) for name, kept in mask.items()}
    (rate,) = set(rates.values())
    for name, kept in mask.items():  # the strongest survivor of each tensor stays whatever its score
        best = scores[name].masked_fill(~kept, -torch.inf).flatten().argmax()
        scores[name].view(-1)[best] = torch.inf
    joined = _drop_lowest(
        torch.cat([scores[name].flatten() for name in mask]),
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
