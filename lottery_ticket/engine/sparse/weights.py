"""The survivors of one tensor of K networks, as the flat values that are multiplied and stepped."""

from typing import Any

import torch
from torch import Tensor


class SparseWeight:
    """The surviving weights of a linear layer in K networks.

    Args:
        weights: K×O×I, pruned ones zero.
        mask: of its shape.

    Attributes:
        values: the survivors, flat, one network after another and row by row; a leaf that gets gradients.
        ends: where the values of each network end.
    """

    def __init__(self, weights: Tensor, mask: Tensor) -> None:
        self._shape, self._mask = weights.shape, mask
        self.values = weights.detach()[mask].contiguous().requires_grad_()
        self.ends: list[int] = mask.flatten(1).sum(1).cumsum(0).tolist()
        kept = mask.flatten(0, 1)
        self._first = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)]).numpy()
        self._column = kept.nonzero()[:, 1].to(torch.int32).numpy()

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The weights K×O×I, pruned ones zero."""
        whole = torch.zeros(self._shape, dtype=self.values.dtype)
        whole[self._mask] = self.values
        return whole

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W·x + bias: K×B×I → K×B×O, images innermost in memory; I of all members may be one (stride 0)."""
        k, rows, _ = self._shape
        shared = x.stride(0) == 0 and not x.requires_grad
        inner = (x[:1] if shared else x).mT.contiguous()
        bias = torch.zeros(k, rows) if bias is None else bias
        return _Linear.apply(inner, self.values, bias, self._first, self._column).mT


class _Linear(torch.autograd.Function):
    """The product of survivors with images K×I×B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor, first: Any, column: Any) -> Tensor:
        from lottery_ticket.engine.sparse import kernels

        threads = torch.get_num_threads() if len(bias) > 1 else 1
        kernels.use_threads(threads)
        forward, ctx.backwards = kernels.compiled(threads > 1)
        y = torch.empty(*bias.shape, x.shape[2])
        forward(first, column, *(each.detach().numpy() for each in (values, x, bias, y)))
        ctx.save_for_backward(x, values)
        ctx.first, ctx.column = first, column
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, values = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_values = torch.empty_like(values)
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else torch.empty(0, 0, 0)
        arrays = (each.detach().numpy() for each in (values, x, gradient, of_values, of_x))
        ctx.backwards(ctx.first, ctx.column, *arrays)
        return of_x if ctx.needs_input_grad[0] else None, of_values, gradient.sum(2), None, None
