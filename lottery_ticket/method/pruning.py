"""Pruning as pure functions: scores, masks and how much in, new masks out."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lottery_ticket.masks import Mask, strongest, survivors

Left = Mapping[str, int] | int
"""How many weights survive: of each tensor, or of all together, ranked together."""


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
    now = survivors(mask)
    if scope == "layer":
        return keep(scores, mask, {name: left_by(rates[name], count) for name, count in now.items()})
    (rate,) = set(rates.values())
    return keep(scores, mask, left_by(rate, sum(now.values()), len(now)))


def left_by(rate: float, count: int, least: int = 1) -> int:
    """How many of so many survivors are left by a rate."""
    return max(least, count - round(rate * count))


def keep(scores: Mapping[str, Tensor], mask: Mask, left: Left) -> Mask:
    """The survivors with the highest scores, exactly so many where there are as many; ties and last ones as `prune`.

    Args:
        scores, mask: as for `prune`.
        left: tensor → how many survive, or how many of all tensors ranked together.

    Returns:
        A mask nested in `mask`.
    """
    if not isinstance(left, int):
        return {name: strongest(scores[name], kept, max(1, left[name])) for name, kept in mask.items()}
    ranked = {name: scores[name].masked_fill(~kept, -torch.inf).flatten() for name, kept in mask.items()}
    for each in ranked.values():  # the strongest survivor of each tensor stays whatever its score
        each[each.argmax()] = torch.inf
    joined = strongest(
        torch.cat(list(ranked.values())), torch.cat([kept.flatten() for kept in mask.values()]), max(len(mask), left)
    )
    parts = joined.split([kept.numel() for kept in mask.values()])
    return {name: part.view(kept.shape) for (name, kept), part in zip(mask.items(), parts, strict=True)}
