"""A network over its survivors alone as a torch module, for a training loop of somebody's own or to classify with."""

import copy

import torch
from torch import Tensor, nn

from lottery_ticket.engine.sparse.rule import KNOWN, available
from lottery_ticket.engine.sparse.weights import SparseWeight, survivors
from lottery_ticket.engine.stack import Stack
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask


class SurvivorsAlone(nn.Module):
    """A module whose linear and convolutional layers multiply, in both directions, no pruned weight.

    `inner` has the module's parameters and buffers by their names; a weight of which something is pruned is one flat
    tensor of its survivors there, so any optimiser steps these alone and needs no mask. `dense` gives the state of the
    module. It takes float32 on a CPU.

    Args:
        module: of layers that the engine can stack; it is copied.
        mask: of its prunable tensors.
        input_shape: of one image.

    Raises:
        InputError: the engine does not know the network, or numba, which compiles the products, is missing.
    """

    def __init__(self, module: nn.Module, mask: Mask, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self._stack = Stack(copy.deepcopy(module), input_shape)
        if self._stack.unknown:
            raise InputError("engine", "sparse", f"does not know {self._stack.unknown}; allowed here: dense")
        if not available():
            raise InputError("engine", "sparse", "needs the package numba; allowed without it: dense")
        self._sparse: dict[str, SparseWeight] = {}
        self.inner = copy.deepcopy(module)
        for name, kept in mask.items():
            path, _, parameter = name.rpartition(".")
            layer = self.inner.get_submodule(path)
            if type(layer) in KNOWN and not kept.all():
                weight = layer.get_parameter(parameter).detach()[None] * kept
                self._sparse[name] = survivors(layer, weight, kept[None])
                layer.register_parameter(parameter, nn.Parameter(self._sparse[name].values.detach()))

    def forward(self, images: Tensor) -> Tensor:
        """Scores N×classes of standardised images N×…."""
        own = {**dict(self.inner.named_parameters()), **dict(self.inner.named_buffers())}
        for name, weight in self._sparse.items():
            weight.values = own.pop(name)
        weights = {name: value.unsqueeze(0) for name, value in own.items()} | self._sparse
        own_draws = [torch.default_generator]
        return self._stack(weights, images.unsqueeze(0), training=self.training, generators=own_draws).squeeze(0)

    @torch.no_grad()
    def dense(self) -> dict[str, Tensor]:
        """The state of the module that this was made of, pruned weights zero."""
        state = {name: value.clone() for name, value in self.inner.state_dict().items()}
        for name, weight in self._sparse.items():
            weight.values = state[name]
            state[name] = weight.dense().squeeze(0)
        return state
