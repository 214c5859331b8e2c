"""Compaction: inputs, channels and units that no surviving path reaches are taken out of a pruned network.

Between two layers a value has *entries*: the channels of images, or the features of vectors. First, from layer to layer
forwards, the entries are found that no surviving path reaches from the images: they are constant. The next layer's bias
takes them up where that is exact, which it is not where a convolution pads with zeros, unless the constant is zero.
Then, backwards, the entries are found from which a path goes on to the scores: these stay. What is added stays on all
sides or on none; of what is joined each part goes by itself; a convolution's groups stay whole.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lottery_ticket.errors import InputError, one_line
from lottery_ticket.masks import Mask
from lottery_ticket.tickets.graph import SIZES, Add, Cat, Select, UnknownGraph, read_graph, wired


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
        module: its layers one after another, or wired, in eval mode; dots in their names have become underscores.
        mask: weight of the module → bool tensor, True where it survives.
        layers: the sizes of each linear layer and convolution.
        parameters: weights, biases and what normalisation has, before and after.
        weights: the pruned network's tensors → their weights, pruned or not, before and after.
    """

    module: nn.Module
    mask: Mask
    layers: tuple[LayerSize, ...]
    parameters: tuple[int, int]
    weights: Mapping[str, tuple[int, int]]


def compact(module: nn.Module, mask: Mask, input_shape: Sequence[int]) -> Compact:
    """A small module that gives the scores which a pruned one gives in eval mode, up to rounding.

    Each layer keeps one unit at least, the last one all of them.

    Args:
        module: a graph of layers, see `graph.KINDS`; its pruned weights are zero. It stays as it is.
        mask: weight of a linear layer or convolution → bool tensor, True where it survives; without one, all does.
        input_shape: of one image as the module takes it.

    Raises:
        InputError: the module is no such graph.
    """
    try:
        with torch.no_grad():
            return _compact(module, mask, input_shape)
    except Exception as error:  # whatever a user's module does when it is traced
        why = f"cannot be made small: {error if isinstance(error, UnknownGraph) else one_line(error)}"
        allowed = "Linear, Conv2d, BatchNorm, 2-d pooling, Flatten, Dropout, activations, sums, torch.cat of channels"
        raise InputError("--compact", type(module).__name__, f"{why}; allowed: {allowed}") from None


_NONE = torch.zeros(0)


@dataclass
class _Link:
    """A layer of the graph, in float64, of its own.

    Attributes:
        name, takes: in the graph, see `graph.Node`.
        weight: what its weight is called in the pruned network.
        layer: the layer.
        mask: that of its weight; None for layers that are not linear or convolutions.
        shapes: of one of each value that it takes.
        constant, value: which entries of what it gives are constant, and what they are.
        folded: which entries before it are constant and stand in its bias.
        needed: which entries of what it gives have a path to the scores.
        kept: those that stay: these, and what must with them.
        wanted: of each value that it takes, the entries that it will.
    """

    name: str
    takes: tuple[str, ...]
    weight: str
    layer: Any
    mask: Tensor | None
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    constant: Tensor = _NONE
    value: Tensor = _NONE
    folded: Tensor = _NONE
    needed: Tensor = _NONE
    kept: Tensor = _NONE
    wanted: list[Tensor] = field(default_factory=list)

    @property
    def joined(self) -> Tensor:
        """Units×inputs, True where a surviving weight joins them."""
        assert self.mask is not None
        return self.across(self.mask.reshape(*self.mask.shape[:2], -1).any(2))

    @property
    def groups(self) -> int:
        """Of a convolution; a linear layer is one."""
        return getattr(self.layer, "groups", 1)

    def across(self, own: Tensor) -> Tensor:
        """What is units×inputs of a unit's group, as units×inputs of the layer."""
        if self.groups == 1:
            return own
        return torch.block_diag(*own.chunk(self.groups)).to(own.dtype)


def _compact(module: nn.Module, mask: Mask, input_shape: Sequence[int]) -> Compact:
    original = copy.deepcopy(module).double().eval()
    images = torch.randn(4, *input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    links, values = {"": _Link("", (), "", nn.Identity(), None)}, {"": images}
    for name, path, layer, takes in read_graph(copy.deepcopy(original)):
        weight = f"{path}.weight"
        survives = mask.get(weight, torch.ones_like(layer.weight, dtype=torch.bool)) if type(layer) in SIZES else None
        shapes = [tuple(values[each].shape[1:]) for each in takes]
        link = links[name] = _Link(name, takes, weight, layer, survives, shapes)
        if type(layer) is nn.Linear and len(link.shapes[0]) > 1:
            raise UnknownGraph(f"{name} is a linear layer over one axis of several")
        if isinstance(layer, Add) and len(set(link.shapes)) > 1:
            raise UnknownGraph(f"{name} adds values of several shapes")
        values[name] = layer(*(values[each] for each in takes))
    for link in links.values():
        entries = values[link.name].shape[1]
        _follow(link, links, entries)
        link.needed, link.kept = (torch.zeros(entries, dtype=torch.bool) for _ in range(2))
    _need(links)
    small, masks, layers = _cut(links)
    expected = original(images.clone())
    if not torch.dist(small(images.clone()), expected) <= 1e-9 * expected.norm().clamp_min(1):
        raise UnknownGraph("its graph does not say all that it does")
    before, after = (sum(value.numel() for value in each.parameters()) for each in (module, small))
    weighted = [(link, link.mask) for link in links.values() if link.mask is not None]
    weights = {link.weight: (kept.numel(), masks[f"{link.name}.weight"].numel()) for link, kept in weighted}
    return Compact(small.float(), masks, layers, (before, after), weights)


def _follow(link: _Link, links: Mapping[str, _Link], entries: int) -> None:
    """Find which entries of what a layer gives are constant; put those that it takes into its bias."""
    layer, before = link.layer, [links[each] for each in link.takes]
    if not before:
        link.constant = torch.zeros(entries, dtype=torch.bool)
        link.value = torch.zeros(entries, dtype=torch.float64)
        return
    constant, value = before[0].constant, before[0].value
    if link.mask is not None:
        link.folded = constant & ((value == 0) | (not _pads_with_zeros(layer)))
        summed = link.across(layer.weight.reshape(*layer.weight.shape[:2], -1).sum(2))
        shift = summed @ value.where(link.folded, 0)
        if layer.bias is not None or shift.any():
            layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias + shift)
        constant = ~(link.joined & ~link.folded).any(1)
        value = torch.zeros_like(shift) if layer.bias is None else layer.bias.data
    elif isinstance(layer, Add):
        constant = torch.stack([each.constant for each in before]).all(0)
        value = torch.stack([each.value for each in before]).sum(0)
    elif isinstance(layer, Cat):
        constant, value = torch.cat([each.constant for each in before]), torch.cat([each.value for each in before])
    elif type(layer) is nn.Flatten:
        each = math.prod(link.shapes[0][1:])
        constant, value = constant.repeat_interleave(each), value.repeat_interleave(each)
    else:
        filled = value.view(-1, *[1] * (len(link.shapes[0]) - 1)).expand(1, *link.shapes[0])
        after = layer(filled.clone()).view(len(value), -1)
        # a pooling that pads changes the border
        constant = constant & torch.isclose(after.amin(1), after.amax(1), rtol=1e-12, atol=0)
        value = after[:, 0]
    link.constant, link.value = constant, value.where(constant, 0)


def _need(links: Mapping[str, _Link]) -> None:
    """From the scores, all of which stay, to the images: which entries are needed, and which must stay with them."""
    *_, last = links.values()
    last.needed[:] = last.kept[:] = True
    for link in reversed([*links.values()]):
        if not link.kept.any():
            link.kept[0] = True  # a layer must have one
        before = [links[each] for each in link.takes]
        if link.mask is not None:
            heard = link.joined[link.needed].any(0) & ~link.folded
            before[0].needed |= heard
            if link.groups > 1:
                whole = link.kept.view(link.groups, -1).any(1)
                link.kept = whole.repeat_interleave(len(link.kept) // link.groups)
                heard = whole.repeat_interleave(len(heard) // link.groups)
            link.wanted = [heard]
        else:
            for one, needed, kept in zip(before, _parts(link, link.needed), _parts(link, link.kept), strict=True):
                one.needed |= needed
                link.wanted.append(kept)
        for one, wanted in zip(before, link.wanted, strict=True):
            one.kept |= wanted


def _parts(link: _Link, entries: Tensor) -> list[Tensor]:
    """Of each value that a layer takes, the entries that some of what it gives are made of."""
    if isinstance(link.layer, Cat):
        return list(entries.split([shape[0] for shape in link.shapes]))
    if type(link.layer) is nn.Flatten:
        entries = entries.view(link.shapes[0][0], -1).any(1)
    return [entries] * len(link.takes)


def _cut(links: Mapping[str, _Link]) -> tuple[nn.Module, Mask, tuple[LayerSize, ...]]:
    """The graph with the entries that stay; its masks and sizes."""
    layers: dict[str, nn.Module] = {}
    wiring: dict[str, list[str]] = {}
    masks, sizes = {}, []
    there = {"": torch.arange(len(links[""].kept))}
    """Name → which of a layer's entries it gives now."""
    for link in [*links.values()][1:]:
        layer, taken, sources = link.layer, [], []
        for place, (source, wanted) in enumerate(zip(link.takes, link.wanted, strict=True)):
            if not wanted.any() and isinstance(layer, Cat):
                continue
            present, inputs = there[source], wanted.nonzero().flatten()
            if not len(inputs):
                inputs = present[:1]  # a layer must have one
            taken.append(inputs)
            if len(inputs) == len(present):
                sources.append(source)
                continue
            select = Select(len(inputs))
            select.index.copy_(torch.searchsorted(present, inputs))
            sources.append(f"select_{link.name}" + (f"_{place}" if place else ""))
            layers[sources[-1]], wiring[sources[-1]] = select, [source]
        inputs, units = taken[0], link.kept.nonzero().flatten()
        if link.mask is not None:
            masks[f"{link.name}.weight"] = _cut_weight(link, inputs, units)
            names, left = SIZES[type(layer)], (len(inputs), len(units))
            had = [getattr(layer, name) for name in names]
            sizes.append(LayerSize(link.name, type(layer).__name__, *zip(had, left, strict=True)))
            for name, count in zip(names, left, strict=True):
                setattr(layer, name, count)
        elif type(layer) is nn.Flatten:
            each = math.prod(link.shapes[0][1:])
            units = (inputs.unsqueeze(1) * each + torch.arange(each)).flatten()
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.num_features = len(inputs)
            for own in [*layer.parameters(), *layer.buffers()]:
                if own.ndim:  # not the number of batches
                    own.data = own[inputs]
        layers[link.name], wiring[link.name], there[link.name] = layer, sources, units
    chained = all([*takes] == [before] for takes, before in zip(wiring.values(), ["", *wiring], strict=False))
    return wired(layers, {} if chained else wiring).eval(), masks, tuple(sizes)


def _cut_weight(link: _Link, inputs: Tensor, units: Tensor) -> Tensor:
    """Cut a linear layer's or convolution's weights and bias; the mask of what is left."""
    layer, mask = link.layer, link.mask
    assert mask is not None
    # an entry that stays only because it must is not listened to: its constant may stand in the bias already
    heard = link.across(torch.ones(mask.shape[:2], dtype=torch.bool)) & ~link.folded
    if link.groups > 1:
        own = mask.shape[1]
        first = (torch.arange(len(mask)) // (len(mask) // link.groups) * own).unsqueeze(1)
        heard = heard.gather(1, first + torch.arange(own))[units]
        mask, weight = mask[units], layer.weight[units]
        layer.groups = len(inputs) // own
    else:
        heard, mask, weight = heard[units][:, inputs], mask[units][:, inputs], layer.weight[units][:, inputs]
    kept = mask & heard.view(*heard.shape, *[1] * (mask.ndim - 2))
    layer.weight = nn.Parameter(weight * kept)
    layer.bias = None if layer.bias is None else nn.Parameter(layer.bias[units])
    return kept


def _pads_with_zeros(layer: nn.Linear | nn.Conv2d) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and layer.padding not in ("valid", (0, 0))
