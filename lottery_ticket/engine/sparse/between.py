"""What lies between convolutions over survivors: normalisation with what follows it, and pooling, on blocks of images.

A convolution with few survivors takes less time than torch takes for the layers around it, each of which reads and
writes all activations once or twice. So batch normalisation, the sum with a residual and ReLU are one pass.
"""

from typing import Any

import torch
from torch import Tensor

from lottery_ticket.engine.sparse.threads import side_by_side
from lottery_ticket.engine.sparse.weights import arrays


def normalised(
    x: Tensor,
    statistics: tuple[Tensor, Tensor] | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    added: Tensor | None,
    rectified: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation of N×K×C×H×W×V (+ `added`) (then ReLU), Ioffe & Szegedy 2015; mean and variance, K·C each.

    With `statistics` by these (mean, variance), otherwise by the batch's.
    """
    channels = x.shape[1] * x.shape[2]
    weight = torch.ones(channels) if weight is None else weight
    bias = torch.zeros(channels) if bias is None else bias
    if statistics is not None:
        mean, variance = statistics
        factor = weight * (variance + eps).rsqrt()
        shift = bias - mean * factor
        if not torch.is_grad_enabled():
            return _scaled(x.contiguous(), factor, shift, added, rectified), mean, variance
        factor, shift = (each.view(1, *x.shape[1:3], 1, 1, 1) for each in (factor, shift))
        y = x * factor + shift if added is None else x * factor + shift + added
        return y.relu() if rectified else y, mean, variance
    return _Normalised.apply(x, weight, bias, added, eps, rectified)


class _Normalised(torch.autograd.Function):
    """Normalisation by the batch's statistics, with what follows it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, eps: float, rectified: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        from lottery_ticket.engine.sparse import kernels

        x = x.contiguous()
        mean, variance = torch.empty(len(weight)), torch.empty(len(weight))
        side_by_side(kernels.moments, len(weight), *arrays(_rows(x), mean, variance))
        deviation = (variance + eps).rsqrt()
        factor = weight * deviation
        y = _scaled(x, factor, bias - mean * factor, added, rectified)
        ctx.save_for_backward(x, y, mean, deviation, weight)
        ctx.options = added is not None, rectified
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        from lottery_ticket.engine.sparse import kernels

        x, y, mean, deviation, weight = ctx.saved_tensors
        summed, rectified = ctx.options
        gradient = gradients[0].contiguous()
        plain, by_x = torch.empty(len(mean)), torch.empty(len(mean))
        side_by_side(
            kernels.scale_sums,
            len(mean),
            *arrays(_rows(x), _rows(y), mean),
            rectified,
            *arrays(_rows(gradient), plain, by_x),
        )
        count = x.numel() // len(mean)
        by_gradient = weight * deviation
        of_weight = by_x * deviation
        of_x = torch.empty_like(x)
        of_added = torch.empty_like(x) if summed else None
        side_by_side(
            kernels.scale_back,
            len(x) * len(mean),
            *arrays(_flat(x), _flat(y), mean),
            rectified,
            *arrays(_flat(gradient), by_gradient, -by_gradient * deviation * of_weight / count),
            *arrays(-by_gradient * plain / count, _flat(of_x), _none() if of_added is None else _flat(of_added)),
        )
        return of_x, of_weight, plain, of_added, None, None


def _scaled(x: Tensor, factor: Tensor, shift: Tensor, added: Tensor | None, rectified: bool) -> Tensor:
    from lottery_ticket.engine.sparse import kernels

    y = torch.empty_like(x)
    more = _none() if added is None else _flat(added.contiguous())
    given = arrays(_flat(x), factor, shift, more)
    side_by_side(kernels.scale, x.shape[0] * len(factor), *given, rectified, *arrays(_flat(y)))
    return y


def pooled(x: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The largest of each window of N×K×C×H×W×V, without padding: N×K×C×H'×W'×V."""
    return _Pooled.apply(x, size, stride)


class _Pooled(torch.autograd.Function):
    """Pooling that remembers which of a window was the largest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        from lottery_ticket.engine.sparse import kernels

        height, width = ((x.shape[3 + axis] - size[axis]) // stride[axis] + 1 for axis in (0, 1))
        y = torch.empty(*x.shape[:3], height, width, x.shape[5])
        taken = torch.empty(y.shape, dtype=torch.uint8)
        flat, small, which = arrays(x.contiguous().flatten(0, 2), y.flatten(0, 2), taken.flatten(0, 2))
        side_by_side(kernels.pool, len(flat), flat, size, stride, small, which)
        ctx.save_for_backward(taken)
        ctx.known = x.shape, size, stride
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        from lottery_ticket.engine.sparse import kernels

        (taken,) = ctx.saved_tensors
        shape, size, stride = ctx.known
        of_x = torch.zeros(shape)
        small, which, flat = arrays(gradients[0].contiguous().flatten(0, 2), taken.flatten(0, 2), of_x.flatten(0, 2))
        side_by_side(kernels.unpool, len(flat), small, which, size, stride, flat)
        return of_x, None, None


def _rows(x: Tensor) -> Tensor:
    """N×K×C×H×W×V → N×K·C×H×W·V."""
    return x.flatten(4).flatten(1, 2)


def _flat(x: Tensor) -> Tensor:
    """N×K×C×H×W×V → N×K·C×H·W·V."""
    return x.flatten(3).flatten(1, 2)


def _none() -> Tensor:
    return torch.empty(0, 0, 0)
