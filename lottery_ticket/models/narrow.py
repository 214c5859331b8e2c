"""The same network with fewer units: how narrow it is for a number of weights, and its place in the wide one."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.masks import Mask, Weights, under
from lottery_ticket.models import building
from lottery_ticket.models.network import Network
from lottery_ticket.models.tensors import give, tensors_of
from lottery_ticket.randomness import forked, generator

_HALVINGS = 64
"""Widths that are tried at most in a search, each half-way between two: to the last bit of widths down to 1/1,000."""

_TRIED = (0.5, 0.25)
"""Parts of a network's width at which it is tried whether it holds the narrower one."""

_EQUAL = 1e-9
"""By how much float64 may differ where zeros are summed too, as a part of the largest value."""


def narrowed(network: Network, weights: int) -> Network:
    """The network at the width at which its number of prunable weights is the nearest to `weights`; of two the smaller.

    At most as wide as it is, with the same tensors, and, where layers that stay dense leave a choice, the widest. A
    width that has a whole number as its default stays whole. LotteryTicketError where leading blocks of the wide one
    are not the same network, see `obstacle`.
    """
    width, count, more = _widest(network, weights)
    if not count or more - weights < weights - count:
        width, _, _ = _widest(network, more)
    narrow = _at(network, width)
    if why := width < _width(network)[0] and _differs(network, narrow):
        raise LotteryTicketError(_told(width, why))
    return narrow


def places(network: Network, narrow: Network) -> Mask:
    """The mask of a narrower network in this one: the leading block of every prunable tensor, in the other's shape."""
    shapes = {name: value.shape for name, value in tensors_of(narrow.module).items()}
    mask = {name: torch.zeros_like(kept) for name, kept in network.dense_mask().items()}
    for name, kept in mask.items():
        kept[_block(shapes[name])] = True
    return mask


def embedded(network: Network, values: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Weights:
    """A narrower network's values as the leading blocks of this one's tensors.

    Outside of them parameters are 0, so that a unit that the narrower one has not gives 0 and is given no gradient,
    also where its weights are not masked; buffers are those that are given.
    """
    parameters = dict(network.module.named_parameters())
    whole = {}
    for name, value in values.items():
        like = buffers[name] if name not in parameters else torch.zeros(parameters[name].shape, dtype=value.dtype)
        whole[name] = like.to(value.dtype, copy=True)
        whole[name][_block(value.shape)] = value
    return whole


def obstacle(network: Network) -> str | None:
    """Why a network cannot stand for narrower ones by leading blocks of its tensors; None where it can.

    Tried at a half and a quarter of its width, in float64: both must give the same scores in training and evaluation,
    and have the same gradients in training, with none for what only the wide one has and trains.
    """
    if network.input_shape is None:
        return "what the network of a loop of your own takes is not known, so that it cannot be tried"
    if not building.takes_width(network.factory.func) or _width(network)[0] is None:
        return "the network has no --width: its factory names no argument `width` with a number as default"
    widest, whole = _width(network)
    tried = [widest * part for part in _TRIED]
    for width in sorted({max(1, int(each)) for each in tried} if whole else tried, reverse=True):
        if not 0 < _count(network, width) < _count(network, widest):
            return f"at width {width:g} the network cannot be built with the same tensors and fewer weights"
        if why := _differs(network, _at(network, width)):
            return _told(width, why)
    return None


def _widest(network: Network, most: int) -> tuple[float, int, int]:
    """The widest that has so many prunable weights at most: its width, its number (0 where none is), and the next.

    The number is taken to grow with the width.
    """
    high, whole = _width(network)
    low, count, more = 0 if whole else 0.0, 0, _count(network, high)
    if more <= most:
        return high, more, more
    for _ in range(_HALVINGS):
        middle = (low + high) // 2 if whole else (low + high) / 2
        if not low < middle < high:
            break
        if (here := _count(network, middle)) <= most:
            low, count = middle, here
        else:
            high, more = middle, here
    return low, count, more


def _told(width: float, why: str) -> str:
    return f"at width {width:g} the network is not what the leading blocks of its tensors are: {why}"


def _width(network: Network) -> tuple[Any, bool]:
    """The width that a network has (None where it is no number), and whether it stays a whole number."""
    default = inspect.signature(network.factory.func).parameters["width"].default
    given = network.factory.keywords.get("width", default)
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return given if is_number else None, isinstance(default, int)


def _at(network: Network, width: float) -> Network:
    """The network at another width; prunable are the tensors of the same names."""
    exact = int(width) if width == int(width) else width  # as `building.call` gives it
    factory = partial(network.factory.func, *network.factory.args, **{**network.factory.keywords, "width": exact})
    with forked(0):
        module = network.ready(factory())
    parameters = dict(module.named_parameters())
    had = network.inventory
    inventory = had.model_copy(
        update={
            "prunable": {name: parameters[name].numel() for name in had.prunable},
            "dense": {n: each.model_copy(update={"count": parameters[n].numel()}) for n, each in had.dense.items()},
            "parameters": sum(value.numel() for value in parameters.values()),
        }
    )
    return replace(network, module=module, factory=factory, inventory=inventory)


def _count(network: Network, width: float) -> int:
    """Its number of prunable weights at that width; 0 where it has not the same tensors, as large at most, there."""
    try:
        try:
            with torch.device("meta"):  # without room for values
                narrow = _at(network, width)
        except Exception:  # a user's code may need them
            narrow = _at(network, width)
    except Exception:
        return 0
    wide, small = (
        {n: tuple(value.shape) for n, value in tensors_of(each.module).items()} for each in (network, narrow)
    )
    if wide.keys() != small.keys() or any(len(shape) != len(small[name]) for name, shape in wide.items()):
        return 0
    fits = all(theirs <= ours for name in wide for theirs, ours in zip(small[name], wide[name], strict=True))
    return narrow.inventory.weights if fits else 0


def _block(shape: torch.Size) -> tuple[slice, ...]:
    """The leading block of that shape."""
    return tuple(slice(size) for size in shape)


def _differs(network: Network, narrow: Network) -> str | None:
    """How a network with a narrower one in its leading blocks differs from that one; None where it does not."""
    source = generator(0, "narrow")
    values = {name: _some(value, source) for name, value in narrow.draw(0, "narrow").items()}
    mask = places(network, narrow)
    with forked(0):
        small, wide = narrow.build().double(), network.build().double()
    give(small, values)
    give(wide, under(mask, embedded(network, values, tensors_of(wide))))
    images = torch.randn(3, *(network.input_shape or ()), dtype=torch.float64, generator=source)
    try:
        for training in (False, True):
            for module in (small, wide):
                _set(module, training)
            ours, theirs = wide(images), small(images)
            if not (ours - theirs).abs().max() <= _EQUAL * theirs.abs().max():
                return f"scores differ {'in training' if training else 'in evaluation'}"
        weighing = torch.randn(ours.shape, dtype=torch.float64, generator=source)
        (ours * weighing).sum().backward()
        (theirs * weighing).sum().backward()
    except Exception as error:
        return f"it cannot be tried in float64 ({one_line(error, 120)})"
    found, expected = _gradients(wide), _gradients(small)
    if alone := found.keys() ^ expected.keys():
        return f"{min(alone)} has a gradient in one of them alone"
    largest = torch.stack([each.abs().max() for each in expected.values()]).max()
    for name, gradient in under({n: kept for n, kept in mask.items() if n in found}, found).items():
        gradient[_block(expected[name].shape)] -= expected[name]
        if not gradient.abs().max() <= _EQUAL * largest:
            return f"gradients of {name} differ"
    return None


def _gradients(module: nn.Module) -> Weights:
    """Parameter → its gradient, of those that have one."""
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def _some(value: Tensor, source: torch.Generator) -> Tensor:
    """Values in float64 that differ everywhere, where they are no counts: biases are often drawn as 0."""
    if not value.is_floating_point():
        return value
    return value.double() + 0.1 * torch.rand(value.shape, dtype=torch.float64, generator=source)


def _set(module: nn.Module, training: bool) -> None:
    """Training or evaluation; nothing is dropped in either, as what is dropped is drawn."""
    module.train(training)
    for part in module.modules():
        if isinstance(part, _DropoutNd):
            part.eval()
