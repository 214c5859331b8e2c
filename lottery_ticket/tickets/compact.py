"""Compaction: inputs, channels and units that no surviving path reaches are taken out of a pruned network.

Between two layers a value has *entries*: the channels of images, or the features of vectors. First, from layer to layer
forwards, the entries are found that no surviving path reaches from the images: they are constant. The next layer's bias
takes them up where that is exact, which it is not where a convolution pads with zeros, unless the constant is zero.
Then, backwards, the entries are found from which a path goes on to the scores: these stay.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lottery_ticket.errors import InputError, one_line
from lottery_ticket.masks import Mask
from lottery_ticket.tickets.sequential import SIZES, NotAChain, Select, read_chain


@dataclass(frozen=True)
class LayerSize:
    """A `Linear` or `Conv2d` layer: its inputs and its units (of a convolution, channels), each before and after."""

    layer: str
    kind: str
    inputs: tuple[int, int]
    units: tuple[int, int]


@dataclass(frozen=True)
class Compact:
    """A pruned network made small.

    Attributes:
        module: its layers one after another, in eval mode; dots in their names have become underscores.
        mask: weight of the module → bool tensor, True where it survives.
        layers: the sizes of each linear layer and convolution.
        parameters: weights, biases and what normalisation has, before and after.
        weights: the pruned network's tensors → their weights, pruned or not, before and after.
    """

    module: nn.Sequential
    mask: Mask
    layers: tuple[LayerSize, ...]
    parameters: tuple[int, int]
    weights: Mapping[str, tuple[int, int]]


def compact(module: nn.Module, mask: Mask, input_shape: Sequence[int]) -> Compact:
    """A small module that gives the scores which a pruned one gives in eval mode, up to rounding.

    Each layer keeps one unit at least, the last one all of them.

    Args:
        module: a chain of layers, see `chain.KINDS`; its pruned weights are zero. It stays as it is.
        mask: weight of each linear layer and convolution → bool tensor, True where it survives.
        input_shape: of one image as the module takes it.

    Raises:
        InputError: the module is no such chain.
    """
    try:
        with torch.no_grad():
            return _compact(module, mask, input_shape)
    except Exception as error:  # whatever a user's module does when it is traced
        why = f"cannot be made small: {error if isinstance(error, NotAChain) else one_line(error)}"
        allowed = "Linear, Conv2d (groups=1), BatchNorm, 2-d pooling, Flatten, Dropout and activations in one chain"
        raise InputError("--compact", type(module).__name__, f"{why}; allowed: {allowed}") from None


@dataclass
class _Link:
    """A layer of the chain, in float64, of its own.

    Attributes:
        name: in the chain.
        weight: what its weight is called in the pruned network.
        layer: the layer.
        mask: that of its weight; None for layers that are not linear or convolutions.
        shape: of one value before it.
        folded: which entries before it are constant and stand in its bias.
    """

    name: str
    weight: str
    layer: Any
    mask: Tensor | None
    shape: tuple[int, ...] = ()
    folded: Tensor | None = None

    @property
    def joined(self) -> Tensor:
        """Units×inputs, True where a surviving weight joins them."""
        assert self.mask is not None
        return self.mask.reshape(*self.mask.shape[:2], -1).any(2)


def _compact(module: nn.Module, mask: Mask, input_shape: Sequence[int]) -> Compact:
    original = copy.deepcopy(module).double().eval()
    chain = [
        _Link(name, f"{path}.weight", layer, mask[f"{path}.weight"] if type(layer) in SIZES else None)
        for name, path, layer in read_chain(copy.deepcopy(original))
    ]
    images = torch.randn(4, *input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = images.clone()  # for activations in place
    for link in chain:
        link.shape = tuple(x.shape[1:])
        if type(link.layer) is nn.Linear and len(link.shape) > 1:
            raise NotAChain(f"{link.name} is a linear layer over one axis of several")
        x = link.layer(x)
    _fold(chain)
    small, masks, layers = _cut(chain, _needed(chain, x.shape[1]))
    expected = original(images.clone())
    if not torch.dist(small(images.clone()), expected) <= 1e-9 * expected.norm().clamp_min(1):
        raise NotAChain("its graph does not say all that it does")
    before, after = (sum(value.numel() for value in each.parameters()) for each in (module, small))
    weights = {
        link.weight: (link.mask.numel(), masks[f"{link.name}.weight"].numel())
        for link in chain
        if link.mask is not None
    }
    return Compact(small.float(), masks, layers, (before, after), weights)


def _fold(chain: list[_Link]) -> None:
    """Follow the constants from the images to the scores and put them into the biases of the layers that take them."""
    constant = torch.zeros(chain[0].shape[0], dtype=torch.bool)
    value = torch.zeros(len(constant), dtype=torch.float64)
    for link in chain:
        layer = link.layer
        if link.mask is not None:
            link.folded = constant & ((value == 0) | (not _pads_with_zeros(layer)))
            shift = layer.weight.reshape(*layer.weight.shape[:2], -1).sum(2) @ value.where(link.folded, 0)
            if layer.bias is not None or shift.any():
                layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias + shift)
            constant = ~(link.joined & ~link.folded).any(1)
            value = torch.zeros_like(shift) if layer.bias is None else layer.bias.data
        elif type(layer) is nn.Flatten:
            each = math.prod(link.shape[1:])
            constant, value = constant.repeat_interleave(each), value.repeat_interleave(each)
        else:
            filled = value.view(-1, *[1] * (len(link.shape) - 1)).expand(1, *link.shape)
            after = layer(filled.clone()).view(len(value), -1)
            # a pooling that pads changes the border
            constant = constant & torch.isclose(after.amin(1), after.amax(1), rtol=1e-12, atol=0)
            value = after[:, 0]
        value = value.where(constant, 0)


def _needed(chain: list[_Link], scores: int) -> list[Tensor]:
    """For each layer which entries before it have a path to the scores; at the end the scores, all of them."""
    needed = [torch.ones(scores, dtype=torch.bool)]
    for link in reversed(chain):
        before = needed[0]
        if link.folded is not None:
            before = link.joined[before].any(0) & ~link.folded
        elif type(link.layer) is nn.Flatten:
            before = before.view(link.shape[0], -1).any(1)
        needed.insert(0, before)
    return needed


def _cut(chain: list[_Link], needed: list[Tensor]) -> tuple[nn.Sequential, Mask, tuple[LayerSize, ...]]:
    """The chain with the entries that are needed, at least one everywhere; its masks and sizes."""
    small, masks, sizes = nn.Sequential(), {}, []
    present = torch.arange(len(needed[0]))
    for link, (before, after) in zip(chain, pairwise(needed), strict=True):
        layer, inputs, units = link.layer, _indices(before), _indices(after)
        if len(inputs) < len(present):
            select = Select(len(inputs))
            select.index.copy_(torch.searchsorted(present, inputs))
            small.add_module(f"select_{link.name}", select)
        present = inputs
        if link.mask is not None:
            # an entry that stays only because one must is not listened to: its constant may stand in the bias already
            heard = link.mask & before.view(1, -1, *[1] * (link.mask.ndim - 2))
            masks[f"{link.name}.weight"] = kept = heard[units][:, inputs]
            layer.weight = nn.Parameter(layer.weight[units][:, inputs] * kept)
            layer.bias = None if layer.bias is None else nn.Parameter(layer.bias[units])
            names, left = SIZES[type(layer)], (len(inputs), len(units))
            had = [getattr(layer, name) for name in names]
            sizes.append(LayerSize(link.name, type(layer).__name__, *zip(had, left, strict=True)))
            for name, count in zip(names, left, strict=True):
                setattr(layer, name, count)
            present = units
        elif type(layer) is nn.Flatten:
            each = math.prod(link.shape[1:])
            present = (inputs.unsqueeze(1) * each + torch.arange(each)).flatten()
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.num_features = len(inputs)
            for own in [*layer.parameters(), *layer.buffers()]:
                if own.ndim:  # not the number of batches
                    own.data = own[inputs]
        small.add_module(link.name, layer)
    return small.eval(), masks, tuple(sizes)


def _indices(needed: Tensor) -> Tensor:
    """Of the entries that are needed; of the first where none is, for a layer must have one."""
    found = needed.nonzero().flatten()
    return found if len(found) else torch.zeros(1, dtype=torch.int64)


def _pads_with_zeros(layer: nn.Linear | nn.Conv2d) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and layer.padding not in ("valid", (0, 0))
