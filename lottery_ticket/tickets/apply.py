"""Keeping the pruned weights of a module at zero while somebody else trains it."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from lottery_ticket.masks import Mask


class Held:
    """Keeps the pruned weights of a module exactly zero while any torch optimiser trains it, until `remove`.

    Their gradients are set to zero, so that no optimiser's state knows of them, and after each step of any
    `torch.optim` optimiser the weights themselves are, which holds also for those that mix the entries of a gradient
    (Muon). The module's parameters keep their names; `state_dict` is that of a module without it. It holds the
    parameters that the module has now: one that is copied (`copy.deepcopy`) or replaced (`load_state_dict` with
    `assign=True`) is held by a new call of `apply_to`.
    """

    def __init__(self, module: nn.Module, mask: Mask):
        self._pruned: list[tuple[weakref.ref[nn.Parameter], Tensor]] = []
        self._handles: list[Any] = []
        for name, kept in mask.items():
            parameter = module.get_parameter(name)
            pruned = ~kept.to(parameter.device)
            with torch.no_grad():
                parameter.masked_fill_(pruned, 0)
            self._pruned.append((weakref.ref(parameter), pruned))
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(_without(pruned)))
        after_step = register_optimizer_step_post_hook(self._after_step)
        self._handles.append(after_step)
        weakref.finalize(module, after_step.remove)  # which torch keeps for all optimisers

    def remove(self) -> None:
        """Let the pruned weights grow again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        with torch.no_grad():
            for reference, pruned in self._pruned:
                parameter = reference()
                if parameter is not None and id(parameter) in stepped:
                    parameter.masked_fill_(pruned.to(parameter.device), 0)


def _without(pruned: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.masked_fill(pruned.to(gradient.device), 0)
