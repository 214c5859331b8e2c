"""When weights are pruned, in how many steps, and how many survive each round."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, survivors
from lottery_ticket.method.arms import arm_named
from lottery_ticket.method.criteria import criterion_named
from lottery_ticket.method.densities import Shapes, as_told, erk, smart_ratio
from lottery_ticket.method.pruning import Left, keep, left_by
from lottery_ticket.models.network import Network


def pruning_of(settings: Settings) -> Literal["iterative", "one-shot", "init"]:
    """When weights are pruned, where the settings leave it to the criterion too."""
    return criterion_named(settings.criterion).pruning if settings.pruning == "auto" else settings.pruning


def steps_of(settings: Settings) -> int:
    """In how many steps the weights of a mask go."""
    return criterion_named(settings.criterion).steps if settings.prune_steps == "auto" else settings.prune_steps


def check_schedule(settings: Settings) -> None:
    """InputError for an unknown criterion, and where it, the schedule and the arms make no sense together."""
    criterion, pruning = criterion_named(settings.criterion), pruning_of(settings)
    if pruning == "init" and criterion.needs_training:
        why = "compares trained weights with those before, of which there are none at initialisation"
        raise InputError("--criterion", settings.criterion, f"{why}; allowed with it: --pruning iterative or one-shot")
    if pruning == "init" and settings.rounds == 1:
        why = "prunes nothing in the dense round alone; allowed: 2 or more, of which the last is the sparsest"
        raise InputError("--rounds", 1, why)
    for name in settings.arms:
        if pruning == "init" and arm_named(name).keep_start:
            why = "goes on with trained weights, of which pruning at initialisation knows nothing"
            raise InputError("--arms", name, f"{why}; allowed: --pruning iterative or one-shot, or other arms")


def check_shares(settings: Settings, network: Network) -> None:
    """InputError where the tensors cannot have the shares that the settings ask for, in one of the rounds."""
    shapes = {name: kept.shape for name, kept in network.dense_mask().items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    for r in range(1, settings.rounds):
        try:
            _left(settings, network, sizes, shapes, r)
        except ValueError as error:
            left = f"{100 * _density(settings, r):.3g} % of the weights, left in round {r}"
            raise InputError("--scope", settings.scope, f"{error}: {left}; allowed: layer, global, erk") from None


def next_mask(
    settings: Settings, network: Network, before: Mask, r: int, score: Callable[[Mask], Mapping[str, Tensor]]
) -> Mask:
    """The mask of a round.

    In n steps weights go at a rate that stays the same, each step judged anew: Tanaka et al. 2020 (arXiv 2006.05467),
    algorithm 1.

    Args:
        settings: how it is pruned.
        network: whose.
        before: the mask of the round before; where pruning is not iterative, the dense one.
        r: the round whose mask it is, 1 …
        score: gives scores of the survivors of a mask.
    """
    left, steps, mask = left_after(settings, network, before, r), steps_of(settings), before
    for step in range(1, steps + 1):
        mask = keep(score(mask), mask, _on_the_way(survivors(before), left, step / steps))
    return mask


def left_after(settings: Settings, network: Network, before: Mask, r: int) -> Left:
    """How many weights survive in round r: of each tensor, or of all together where they are ranked so.

    By a rate, iterative pruning takes it from the survivors of the round before, and pruning of the dense network as
    often as there have been rounds: both come to the same numbers. By a density d of the last round R, of the whole or
    of a tensor, and by shares of tensors, round r has d^(r/R) of the weights, to the nearest one.

    Raises:
        ValueError: the tensors cannot have such shares of so few weights, with the reason.
    """
    return _left(settings, network, survivors(before), {name: kept.shape for name, kept in before.items()}, r)


def as_many(settings: Settings, network: Network, r: int) -> Mask:
    """A mask of as many weights of each tensor as survive round after round until round r, whichever they are.

    Not of settings by which all tensors are ranked together (`--scope global`).
    """
    dense = network.dense_mask()
    left = left_after(settings.model_copy(update={"pruning": "one-shot"}), network, dense, r) if r else survivors(dense)
    assert not isinstance(left, int)
    return {name: (torch.arange(kept.numel()) < left[name]).view(kept.shape) for name, kept in dense.items()}


def _left(settings: Settings, network: Network, now: Mapping[str, int], shapes: Shapes, r: int) -> Left:
    """As `left_after`, which says it, of so many survivors of tensors of these shapes."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    shared = settings.scope not in ("layer", "global")
    if settings.density is None and settings.tensor_densities is None and not shared:
        times = 1 if pruning_of(settings) == "iterative" else r
        rates = network.rates(settings)
        if settings.scope == "layer":
            return {name: _times(times, rates[name], count, 1) for name, count in now.items()}
        return _times(times, settings.prune_rate, sum(now.values()), len(now))
    if settings.scope == "global":
        return max(len(now), round(_density(settings, r) * sum(sizes.values())))
    if settings.tensor_densities is not None:
        part = r / (settings.rounds - 1)
        shares = {name: share**part for name, share in as_told(shapes, settings.tensor_densities).items()}
    elif shared:
        shares = _SHARES[settings.scope](shapes, _density(settings, r))
    else:
        shares = dict.fromkeys(now, _density(settings, r))
    return {name: min(count, max(1, round(shares[name] * sizes[name]))) for name, count in now.items()}


_SHARES = {"erk": erk, "smart-ratio": smart_ratio}
"""Scope → what gives each tensor its density at one of the whole network."""


def _times(times: int, rate: float, count: int, least: int) -> int:
    for _ in range(times):
        count = left_by(rate, count, least)
    return count


def _density(settings: Settings, r: int) -> float:
    """Of the whole network in round r."""
    if settings.density is None:
        return (1 - settings.prune_rate) ** r
    return settings.density ** (r / (settings.rounds - 1))


def _on_the_way(now: Mapping[str, int], left: Left, part: float) -> Left:
    """How many are left after a part of the steps."""
    if isinstance(left, int):
        total = sum(now.values())
        return round(total * (left / total) ** part)
    return {name: round(count * (left[name] / count) ** part) for name, count in now.items()}
