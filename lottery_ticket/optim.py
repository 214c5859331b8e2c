"""Optimisers over a stack: one fused step of torch's Adam or SGD for all members, then the masks.

They are element by element, so a stack's step is each member's own. torch's functional forms are used because the
classes of `torch.optim` import the compiler, two seconds that a run has no use for.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from lottery_ticket.config import Settings

BETAS, EPS = (0.9, 0.999), 1e-8
"""Adam's constants, as in Kingma & Ba 2015 and `torch.optim.Adam`."""


class Optimizer:
    """Adam (Kingma & Ba 2015) or SGD with momentum over tensors with a leading member axis.

    Equal to `torch.optim.Adam` and `torch.optim.SGD`: weight decay is added to the gradient.

    Args:
        settings: optimizer, lr, momentum, weight_decay, schedule, warmup_iterations.
        parameters: what is trained; changed in place.
        masks: for each parameter a tensor of its shape, 0 where it is pruned, or None.
        total: iterations of the round, for the schedule.
    """

    def __init__(
        self, settings: Settings, parameters: Sequence[Tensor], masks: Sequence[Tensor | None], total: int
    ) -> None:
        self._settings = settings
        self._parameters = list(parameters)
        self._masks = masks
        self._total = total
        self._fused = parameters[0].device.type in ("cpu", "cuda")
        with_momentum = settings.optimizer == "adam" or settings.momentum
        self._first: list = [torch.zeros_like(p) if with_momentum else None for p in parameters]
        self._second: list[Tensor] = []
        self._steps: list[Tensor] = []
        if settings.optimizer == "adam":
            self._second = [torch.zeros_like(p) for p in parameters]
            self._steps = [torch.zeros((), device=p.device) for p in parameters]
        self._iteration = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step with these gradients (in the parameters' order); pruned weights are zero after it."""
        # torch's fused kernels walk memory and take it that a gradient lies as its parameter does
        gradients = [
            gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, self._parameters, strict=True)
        ]
        lr = self._settings.lr * _factor(self._settings, self._iteration, self._total)
        if self._settings.optimizer == "adam":
            adam(
                self._parameters,
                gradients,
                self._first,
                self._second,
                [],
                self._steps,
                fused=self._fused,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr,
                weight_decay=self._settings.weight_decay,
                eps=EPS,
                maximize=False,
            )
        else:
            sgd(
                self._parameters,
                gradients,
                self._first,
                fused=self._fused,
                weight_decay=self._settings.weight_decay,
                momentum=self._settings.momentum,
                lr=lr,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
        for parameter, mask in zip(self._parameters, self._masks, strict=True):
            if mask is not None:
                parameter.mul_(mask)
        self._iteration += 1


def _factor(settings: Settings, iteration: int, total: int) -> float:
    """What the learning rate is multiplied by: schedule and linear warm-up."""
    factor = (1 + math.cos(math.pi * iteration / total)) / 2 if settings.schedule == "cosine" else 1.0
    if iteration < settings.warmup_iterations:
        factor *= (iteration + 1) / settings.warmup_iterations
    return factor
