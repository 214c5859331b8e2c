"""Layers for K networks at once: what `Stack` runs where a module has one of these layers, functions or methods."""

import operator
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery_ticket.engine.sparse.between import normalised, pooled
from lottery_ticket.engine.sparse.blocks import blocked, members_first, vectors
from lottery_ticket.engine.sparse.weights import SparseConvolution, SparseLinear


class NotStackable(Exception):
    """Something that the engine cannot do for several networks at once."""


@dataclass(frozen=True)
class Call:
    """What the steps of one pass share.

    Attributes:
        low, low_linear: products in bfloat16, those of linear layers too.
        channels_last: convolutions take images with their channels last in memory.
    """

    weights: Mapping[str, Any]
    members: int
    training: bool
    low: bool
    low_linear: bool
    generators: Sequence[torch.Generator]
    channels_last: bool = False

    def channels(self, x: Tensor) -> Tensor:
        """Any layout of images → B×(K·C)×H×W."""
        if x.ndim == 6:
            x = members_first(x)
        if x.ndim == 5:
            x = x.transpose(0, 1).flatten(1, 2)
        if x.ndim != 4:
            raise NotStackable("a layer for images after a layer for vectors")
        return x

    def first(self, x: Tensor) -> Tensor:
        """Any layout → members first."""
        if x.ndim == 6:
            return members_first(x)
        return x.unflatten(1, (self.members, -1)).transpose(0, 1) if x.ndim == 4 else x

    def blocks(self, x: Tensor) -> Tensor:
        """Any layout of images → blocks of images."""
        if x.ndim < 4:
            raise NotStackable("a layer for images after a layer for vectors")
        return x if x.ndim == 6 else blocked(self.first(x))

    def side_by_side(self, name: str) -> Tensor | None:
        """A stacked parameter or buffer K×C×… as one of K·C channels, sharing its memory."""
        value = self.weights.get(name)
        return None if value is None else value.flatten(0, 1)


Run = Callable[..., Any]


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has products of bfloat16; a CPU that has none takes many times longer for them.

    A CPU whose oneDNN is told not to use what it has (`ONEDNN_MAX_CPU_ISA`) has none: torch's own sum in bfloat16.
    """
    if device.type != "cpu":
        return True
    here = torch.cpu.get_capabilities()
    used = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(used and (here.get("avx512_bf16") or here.get("amx_bf16")))


def _rounded(value: Tensor) -> Tensor:
    """A factor rounded to bfloat16, in the type that its device multiplies.

    The product is rounded to bfloat16 too, and so are the gradients of both, so that nothing but the order in which
    products are summed depends on the device.
    """
    low = value.to(torch.bfloat16)
    return low if multiplies_bfloat16(value.device) else low.float()


def _linear(layer: Any, path: str) -> Run:
    def run(call: Call, x: Tensor) -> Tensor:
        if x.ndim != 3:
            raise NotStackable("a linear layer over more than one axis")
        weight, bias = call.weights[f"{path}.weight"], call.weights.get(f"{path}.bias")
        if isinstance(weight, SparseLinear):
            return weight(x, bias)
        if call.low_linear:
            x, weight, bias = _rounded(x), _rounded(weight), None if bias is None else _rounded(bias)
        # W·xᵀ instead of x·Wᵀ: this way round autograd gives a gradient that lies in memory as the weights do
        x = x.to(weight.dtype).mT
        result = (torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)).mT
        return result.to(torch.bfloat16) if call.low_linear else result

    return run


def _conv2d(layer: Any, path: str) -> Run:
    if layer.padding_mode != "zeros":
        raise NotStackable(f"padding of mode {layer.padding_mode}")

    def run(call: Call, x: Tensor) -> Tensor:
        survivors = call.weights[f"{path}.weight"]
        if isinstance(survivors, SparseConvolution):
            return survivors(call.blocks(x), call.weights.get(f"{path}.bias"))
        x, weight, bias = call.channels(x), call.side_by_side(f"{path}.weight"), call.side_by_side(f"{path}.bias")
        assert weight is not None
        if call.low:
            x, weight, bias = _rounded(x), _rounded(weight), None if bias is None else _rounded(bias)
        if call.channels_last:
            x = _channels_last(x)
        result = F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, call.members * layer.groups)
        return result.to(torch.bfloat16) if call.low else result

    return run


def _channels_last(x: Tensor) -> Tensor:
    """The same images with channels last. Of one channel either layout is both: strides say which torch goes on in."""
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    return x.clone(memory_format=torch.channels_last)


def _normalised(one: Callable[[Call, Tensor], Tensor], call: Call, x: Tensor) -> Tensor:
    """A normalisation of B×(K·C)×… for vectors and images."""
    if x.ndim == 3:
        return one(call, x.transpose(0, 1).flatten(1)).unflatten(1, (call.members, -1)).transpose(0, 1)
    return one(call, call.channels(x))


class BatchNorm:
    """Batch normalisation, and what of a sum and a ReLU follows it: one pass over blocks of images."""

    def __init__(self, layer: Any, path: str) -> None:
        if layer.momentum is None:
            raise NotStackable("batch normalisation with a cumulative average")
        self._layer, self._path = layer, path

    def __call__(self, call: Call, x: Tensor) -> Tensor:
        """The normalised values, in the layout of x."""
        return self._of_blocks(call, x, None, False) if x.ndim == 6 else _normalised(self._torch, call, x)

    def followed(self, rectified: bool) -> Run:
        """The step of x (+ another value) (then ReLU) that this begins."""

        def run(call: Call, x: Tensor, *added: Tensor) -> Tensor:
            more = call.blocks(added[0]) if x.ndim == 6 and added else None
            if x.ndim == 6 and (more is None or more.shape == x.shape):
                return self._of_blocks(call, x, more, rectified)
            x = self(call, x)
            if added:
                x = _ADD(call, x, added[0] if more is None else more)
            return torch.relu(x) if rectified else x

        return run

    def _torch(self, call: Call, x: Tensor) -> Tensor:
        layer, path = self._layer, self._path
        mean, variance, weight, bias = self._tensors(call)
        if call.training and mean is not None:
            call.weights[f"{path}.num_batches_tracked"].add_(1)
        by_batch = call.training or mean is None
        return F.batch_norm(x, mean, variance, weight, bias, by_batch, layer.momentum, layer.eps)

    def _of_blocks(self, call: Call, x: Tensor, added: Tensor | None, rectified: bool) -> Tensor:
        layer, path = self._layer, self._path
        mean, variance, weight, bias = self._tensors(call)
        kept = None if call.training or mean is None or variance is None else (mean, variance)
        values = x.numel() // (x.shape[1] * x.shape[2])
        if kept is None and values == 1:
            raise ValueError("Expected more than 1 value per channel when training")  # as torch has it
        y, middle, spread = normalised(x, kept, weight, bias, layer.eps, added, rectified)
        if kept is None and mean is not None and variance is not None:
            call.weights[f"{path}.num_batches_tracked"].add_(1)
            mean.lerp_(middle, layer.momentum)
            variance.lerp_(spread * (values / (values - 1)), layer.momentum)
        return y

    def _tensors(self, call: Call) -> list[Tensor | None]:
        return [call.side_by_side(f"{self._path}.{name}") for name in ("running_mean", "running_var", "weight", "bias")]


def _group_norm(layer: Any, path: str) -> Run:
    def one(call: Call, x: Tensor) -> Tensor:
        weight, bias = call.side_by_side(f"{path}.weight"), call.side_by_side(f"{path}.bias")
        return F.group_norm(x.float() if call.low else x, call.members * layer.num_groups, weight, bias, layer.eps)

    return lambda call, x: _normalised(one, call, x)


def _dropout(layer: Any, path: str) -> Run:
    """Draws of the member's own generator, so that they do not depend on who else is in the stack."""
    scale = 1 / (1 - layer.p) if layer.p < 1 else 0.0

    def run(call: Call, x: Tensor) -> Tensor:
        if not call.training:
            return x
        kept = torch.empty(call.first(x).shape, dtype=x.dtype, device=x.device)
        for own, generator in zip(kept, call.generators, strict=True):
            own.bernoulli_(1 - layer.p, generator=generator)
        layout = {4: call.channels, 6: call.blocks}.get(x.ndim, call.first)
        return x * layout(kept) * scale

    return run


def _plain(layer: Any, path: str) -> Run:
    """An element-wise layer, never in place: what comes over survivors alone is a view, which autograd keeps whole."""
    if getattr(layer, "inplace", False):
        layer = copy(layer)
        layer.inplace = False
    return lambda call, x: layer(x)


def _pool(layer: Any, path: str) -> Run:
    if getattr(layer, "return_indices", False):
        raise NotStackable("pooling that gives indices")
    return lambda call, x: layer(call.channels(x))


def _max_pool(layer: Any, path: str) -> Run:
    plain = _pool(layer, path)
    if (_pair(layer.padding), _pair(layer.dilation), layer.ceil_mode) != ((0, 0), (1, 1), False):
        return plain
    size, stride = _pair(layer.kernel_size), _pair(layer.stride)
    return lambda call, x: pooled(x, size, stride) if x.ndim == 6 and size[0] * size[1] < 256 else plain(call, x)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _flatten(layer: Any, path: str) -> Run:
    return lambda call, x: _flat(call, x, layer.start_dim, layer.end_dim)


def _flat(call: Call, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    image = 4 if x.ndim > 3 else 2
    if start_dim != 1 or end_dim not in (-1, image - 1):
        raise NotStackable("a flatten of other axes than all of an image's")
    if call.channels_last and x.ndim == 4 and x.requires_grad:
        x.register_hook(_channels_last)  # pooling whose gradient comes in another layout reorders whole images
    return vectors(x) if x.ndim == 6 else call.first(x).flatten(2)


def _view(call: Call, x: Tensor, *sizes: Any) -> Tensor:
    flat = _flat(call, x, 1)
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    if len(sizes) != 2 or sizes[1] not in (-1, flat.shape[2]):
        raise NotStackable("a view other than a flatten")
    return flat


def _mean(call: Call, x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    if keepdim or x.ndim not in (4, 5, 6) or sorted(axis % 4 for axis in dim) != [2, 3]:
        raise NotStackable("a mean over other axes than an image's height and width")
    return vectors(x.mean((3, 4))) if x.ndim == 6 else call.first(x).mean((3, 4))


def _elementwise(function: Callable[..., Tensor]) -> Callable[[Mapping[str, Any]], Run]:
    """A function of one or more values of one shape, such as a residual sum."""

    def make(options: Mapping[str, Any]) -> Run:
        options = {name: value for name, value in options.items() if name != "inplace"}  # as `_plain`

        def run(call: Call, *values: Any) -> Tensor:
            layouts = {value.ndim for value in values if isinstance(value, Tensor)}
            if len(layouts) > 1 and min(layouts) > 3:
                layout = call.blocks if 6 in layouts else call.channels
                values = tuple(layout(value) if isinstance(value, Tensor) else value for value in values)
            elif len(layouts) != 1:
                raise NotStackable(f"{function.__name__} of values of different shapes")
            return function(*values, **options)

        return run

    return make


def _on_channels(function: Callable[..., Tensor]) -> Callable[[Mapping[str, Any]], Run]:
    return lambda options: lambda call, x, *rest: function(call.channels(x), *rest, **options)


def _own(run: Run) -> Callable[[Mapping[str, Any]], Run]:
    return lambda options: lambda call, *values: run(call, *values, **options)


_ADD = _elementwise(operator.add)({})

LAYERS: dict[type, Callable[[Any, str], Run]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.BatchNorm1d: BatchNorm,
    nn.BatchNorm2d: BatchNorm,
    nn.GroupNorm: _group_norm,
    nn.Dropout: _dropout,
    nn.Flatten: _flatten,
    nn.MaxPool2d: _max_pool,
    **dict.fromkeys([nn.AvgPool2d, nn.AdaptiveAvgPool2d], _pool),
    **dict.fromkeys([nn.Identity, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Sigmoid], _plain),
}
"""Layer type → what makes its step from (the layer, its path in the network)."""

FUNCTIONS: dict[Any, Callable[[Mapping[str, Any]], Run]] = {
    **{
        function: _elementwise(function)
        for function in (operator.add, torch.add, torch.relu, F.relu, F.gelu, torch.tanh, F.silu)
    },
    operator.iadd: _elementwise(operator.add),  # the left side may be the images
    **{function: _on_channels(function) for function in (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d)},
    torch.flatten: _own(_flat),
    getattr: _own(lambda call, x, name: getattr(call.first(x)[0], name) if name == "shape" else _refuse(name)),
    operator.getitem: _own(lambda call, shape, index: shape[index] if not isinstance(shape, Tensor) else _refuse("[]")),
}

METHODS: dict[str, Callable[[Mapping[str, Any]], Run]] = {
    "relu": _elementwise(torch.relu),
    "tanh": _elementwise(torch.tanh),
    "add": _elementwise(torch.add),
    "flatten": _own(_flat),
    "view": _own(_view),
    "reshape": _own(_view),
    "mean": _own(_mean),
    "size": _own(lambda call, x, *axis: call.first(x)[0].size(*axis)),
}


def _refuse(name: str) -> Any:
    raise NotStackable(f"the use of {name} outside of a layer")
