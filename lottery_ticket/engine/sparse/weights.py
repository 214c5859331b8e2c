"""The survivors of one tensor of K networks, as the flat values that are multiplied and stepped."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lottery_ticket.engine.sparse.threads import side_by_side

LANES = 32
"""Images of a linear layer stand in rows of a multiple of this, unless they are few: the rest would go one by one."""


def survivors(layer: nn.Module, weights: Tensor, mask: Tensor) -> "SparseWeight":
    """The surviving weights of a linear or convolutional layer in K networks; pruned ones are zero."""
    return SparseConvolution(layer, weights, mask) if isinstance(layer, nn.Conv2d) else SparseLinear(weights, mask)


class SparseWeight:
    """The surviving weights of a layer in K networks.

    Attributes:
        shape: of the weights, with a leading axis of K.
        values: the survivors, flat, one network after another; a leaf that gets gradients.
        ends: where the values of each network end.
    """

    def __init__(self, weights: Tensor, mask: Tensor, index: Tensor) -> None:
        self.shape, self._index = weights.shape, index
        self.values = weights.detach().reshape(-1)[index].requires_grad_()
        self.ends: list[int] = mask.flatten(1).sum(1).cumsum(0).tolist()

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The weights with a leading axis of K, pruned ones zero."""
        whole = torch.zeros(self.shape, dtype=self.values.dtype)
        whole.view(-1)[self._index] = self.values
        return whole


class SparseLinear(SparseWeight):
    """The surviving weights K×O×I of a linear layer.

    Attributes:
        pattern: where the survivors of each output begin, and the input of each.
        transposed: where those of each input begin, the output of each, and its place in `values`.
    """

    def __init__(self, weights: Tensor, mask: Tensor) -> None:
        super().__init__(weights, mask, mask.reshape(-1).nonzero().view(-1))
        members, rows, columns = mask.shape
        row, column = mask.flatten(0, 1).nonzero(as_tuple=True)
        there = row // rows * columns + column
        order = there.argsort(stable=True)
        self.pattern = _first(row, members * rows), column.to(torch.int32).numpy()
        self.transposed = _first(there, members * columns), (row % rows)[order].to(torch.int32).numpy(), order

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W·x + bias: K×B×I → K×B×O, images innermost in memory; x of all members may be one (stride 0)."""
        members, rows, _ = self.shape
        shared = x.stride(0) == 0 and not x.requires_grad
        bias = torch.zeros(members, rows) if bias is None else bias
        return _Linear.apply((x[:1] if shared else x).mT, self.values, bias, self.pattern, self.transposed).mT


class _Linear(torch.autograd.Function):
    """The product of survivors with images K×I×B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor, pattern: Any, transposed: Any) -> Tensor:
        from lottery_ticket.engine.sparse import kernels

        images = x.shape[2]
        x = _widened(x)
        y = torch.empty(*bias.shape, x.shape[2])
        side_by_side(kernels.multiply, len(bias), *pattern, *arrays(values, x, bias, y))
        ctx.save_for_backward(x, values)
        ctx.patterns = pattern, transposed
        return y[:, :, :images]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        from lottery_ticket.engine.sparse import kernels

        x, values = ctx.saved_tensors
        pattern, (first, row, order) = ctx.patterns
        images, gradient = gradients[0].shape[2], _widened(gradients[0])
        of_values = torch.empty_like(values)
        side_by_side(kernels.correlate, len(gradient), *pattern, *arrays(x, gradient, of_values))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.empty_like(x)
            zero = torch.zeros(x.shape[:2])
            side_by_side(kernels.multiply, len(x), first, row, *arrays(values[order], gradient, zero, of_x))
            of_x = of_x[:, :, :images]
        return of_x, of_values, gradients[0].sum(2), None, None


def lanes(images: int) -> int:
    """The length of rows for so many images."""
    return images if images < LANES // 4 else -(-images // LANES) * LANES


def _widened(x: Tensor) -> Tensor:
    """K×F×lanes, contiguous; what is added to B is zero."""
    *shape, images = x.shape
    wide = torch.empty(*shape, lanes(images))
    wide[:, :, :images] = x
    wide[:, :, images:] = 0
    return wide


@dataclass(frozen=True)
class _Geometry:
    """Where a convolution's outputs are: their stride down and right, and how many of so many inputs there are."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    reach: tuple[int, int]

    def outputs(self, *inputs: int) -> tuple[int, ...]:
        """Rows and columns of the output of an input of so many rows and columns."""
        return tuple(
            (size + padding - reach) // stride + 1
            for size, padding, reach, stride in zip(inputs, self.padding, self.reach, self.stride, strict=True)
        )


class SparseConvolution(SparseWeight):
    """The surviving weights K×O×I×kh×kw of a convolution, of any stride, padding with zeros, dilation and groups."""

    def __init__(self, layer: nn.Conv2d, weights: Tensor, mask: Tensor) -> None:
        members, outputs, each = mask.shape[:3]
        k, o, i, a, b = mask.nonzero(as_tuple=True)
        left, rightmost, top, bottom = layer._reversed_padding_repeated_twice
        (d, e), (high, wide) = layer.dilation, layer.kernel_size
        channel, down, right = o // (outputs // layer.groups) * each + i, a * d - top, b * e - left
        # by output, then by what the kernels go through with one part of a row: column, row, channel
        order = _sorted(k * outputs + o, right, down, channel)
        super().__init__(weights, mask, mask.reshape(-1).nonzero().view(-1)[order])
        k, o, channel, down, right = (each[order] for each in (k, o, channel, down, right))
        self._geometry = _Geometry(
            (layer.stride[0], layer.stride[1]),
            (top + bottom, left + rightmost),
            (d * (high - 1) + 1, e * (wide - 1) + 1),
        )
        self._pattern = _first(k * outputs + o, members * outputs), *_small(channel, down, right)
        back = _sorted(k * layer.in_channels + channel, -right, -down, o)
        self._transposed = (
            _first(k * layer.in_channels + channel, members * layer.in_channels),
            *_small(o[back], -down[back], -right[back]),
            back,
        )

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W∗x + bias: N×K×C×H×W×V → N×K×O×H'×W'×V, V images of a block innermost."""
        bias = torch.zeros(self.shape[:2]) if bias is None else bias
        patterns = self._pattern, self._transposed
        return _Convolution.apply(x.contiguous(), self.values, bias, *patterns, self._geometry)


class _Convolution(torch.autograd.Function):
    """The convolution of blocks of images N×K×C×H×W×V with survivors."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor, pattern: Any, transposed: Any, geometry: _Geometry
    ) -> Tensor:
        from lottery_ticket.engine.sparse import kernels

        blocks, members, _, *size, images = x.shape
        high, wide = geometry.outputs(*size)
        y = torch.empty(blocks, *bias.shape, high, wide, images)
        given = arrays(values, x.flatten(4), bias, y.flatten(4))
        side_by_side(kernels.convolve, blocks * members * high, *pattern, *given, geometry.stride, images)
        ctx.save_for_backward(x, values)
        ctx.known = pattern, transposed, geometry
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None, None, None]:
        from lottery_ticket.engine.sparse import kernels

        x, values = ctx.saved_tensors
        pattern, (first, output, up, left, order), geometry = ctx.known
        blocks, members, channels, high, _, images = x.shape
        gradient = gradients[0].contiguous()
        of_bias = gradient.sum((0, 3, 4, 5)) if ctx.needs_input_grad[2] else None
        rest = geometry.stride, images
        parts = torch.zeros(blocks, len(values))
        given = arrays(x.flatten(4), gradient.flatten(4), parts)
        side_by_side(kernels.correlate_images, blocks * members, *pattern, *given, *rest)
        of_x = None
        if ctx.needs_input_grad[0] and geometry.stride == (1, 1):
            of_x, zero = torch.empty_like(x), torch.zeros(members, channels)
            given = arrays(values[order], gradient.flatten(4), zero, of_x.flatten(4))
            side_by_side(kernels.convolve, blocks * members * high, first, output, up, left, *given, *rest)
        elif ctx.needs_input_grad[0]:
            of_x = torch.zeros_like(x)
            given = arrays(values, gradient.flatten(4), of_x.flatten(4))
            side_by_side(kernels.scatter, blocks * members, *pattern, *given, *rest)
        return of_x, parts.sum(0), of_bias, None, None, None


def _first(row: Tensor, rows: int) -> np.ndarray:
    """Where the survivors of each row begin and the last ends, from the row of each."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), row.bincount(minlength=rows).cumsum(0)]).numpy()


def _sorted(*keys: Tensor) -> Tensor:
    """The order by the first key, then the second, and so on."""
    return torch.from_numpy(np.lexsort([key.numpy() for key in reversed(keys)]))


def _small(*indices: Tensor) -> list[np.ndarray]:
    return [each.to(torch.int32).numpy() for each in indices]


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors' memory, as kernels take it."""
    return [each.detach().numpy() for each in tensors]
