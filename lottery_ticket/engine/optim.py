"""Optimisers over a stack: torch's fused Adam, AdamW or SGD on the surviving weights of all members.

They are element by element, so a stack's step is each member's own. Of a tensor that is mostly pruned only the
survivors are gathered, stepped and put back; of the others all values are stepped and the mask is applied. torch's
functional forms are used because the classes of `torch.optim` import the compiler, two seconds that a run has no use
for.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from lottery_ticket.config import Settings
from lottery_ticket.engine.sparse.weights import SparseWeight

BETAS, EPS = (0.9, 0.999), 1e-8
"""Adam's constants, as in Kingma & Ba 2015 and `torch.optim.Adam`."""

FROZEN_BELOW = 1e-6
"""Threshold of `frozen = non-positive`, without absolute value, as in the published code with that fault."""

_WEIGHT_AXES = 3
"""Axes of a stacked weight, at least: what has fewer is a bias or of normalisation."""

GATHERED_BELOW = 0.25
"""Density under which gathering a tensor's survivors costs less than stepping all of it (bench/README.md)."""


class Optimizer:
    """Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019) or SGD over tensors with a leading member axis.

    Equal to `torch.optim.Adam`, `AdamW` and `SGD`.

    Args:
        settings: one for each member, for its own lr, weight decay, schedule and warm-up; optimizer, momentum, what
            decays and frozen are the first's.
        parameters: what is trained, contiguous, changed in place; pruned weights are zero, or not there.
        masks: for each parameter a bool tensor of its shape, False where it is pruned, or None if it is not prunable.
        total: iterations of the round, for the schedule.
        first: the iteration that the first step is, for the schedule and warm-up.
        frozen: pruned weights are not zero, and stay what they are bit for bit.
        changing: the masks change on the way (`change`).
    """

    def __init__(
        self,
        settings: Sequence[Settings],
        parameters: Sequence[Tensor | SparseWeight],
        masks: Sequence[Tensor | None],
        total: int,
        first: int = 0,
        frozen: bool = False,
        changing: bool = False,
    ) -> None:
        self._settings = settings[0]
        device = next((each.device for each in parameters if isinstance(each, Tensor)), torch.device("cpu"))
        self._fused = device.type in ("cpu", "cuda")
        self._tensors = [
            _Flat(p) if isinstance(p, SparseWeight) else _Survivors(p, mask, frozen, changing)
            for p, mask in zip(parameters, masks, strict=True)
        ]
        paces: dict[_Pace, list[int]] = {}
        for k, own in enumerate(settings):
            stones = own.milestones or ()
            pace = _Pace(own.lr, own.weight_decay, own.schedule, stones, own.gamma, own.warmup_iterations, total)
            paces.setdefault(pace, []).append(k)
        everything = range(len(self._tensors))
        spared = [i for i, own in enumerate(parameters) if isinstance(own, Tensor) and own.ndim < _WEIGHT_AXES]
        apart = self._settings.weight_decay_on == "weights" and bool(spared)
        parts = [(True, [i for i in everything if i not in spared]), (False, spared)] if apart else [(True, everything)]
        self._groups = [
            _Group(
                pace if decays else replace(pace, weight_decay=0.0),
                members if len(paces) > 1 else None,
                {i: self._tensors[i] for i in part},
                self._settings,
            )
            for pace, members in paces.items()
            for decays, part in parts
        ]
        # On CUDA the rates of all iterations and the count of them are on the device: a captured step goes on by itself
        self._iteration = first
        self._counter = torch.full((1,), first, dtype=torch.long, device=device)
        self._tables = [
            torch.tensor([group.pace.rate(i) for i in range(total)], device=device)
            if device.type == "cuda" and not group.pace.constant
            else None
            for group in self._groups
        ]

    def restart(self) -> None:
        """Forget the moments, as a new optimiser at this iteration of the schedule would have none."""
        for group in self._groups:
            for moments in (group.first, group.second, group.steps):
                for moment in moments:
                    if moment is not None:
                        moment.zero_()

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step with these gradients (in the parameters' order); pruned weights are zero after it."""
        frozen = self._settings.frozen == "non-positive"
        flat = [own.gradient(gradient, frozen) for own, gradient in zip(self._tensors, gradients, strict=True)]
        for group, table in zip(self._groups, self._tables, strict=True):
            lr = group.pace.rate(self._iteration) if table is None else table.index_select(0, self._counter)[0]
            self._update(group, group.of(flat), lr)
        for own in self._tensors:
            own.put_back()
        self.skip()

    def skip(self) -> None:
        """An iteration without a step: the schedule goes on."""
        self._iteration += 1
        if any(table is not None for table in self._tables):
            self._counter += 1

    @torch.no_grad()
    def change(self, masks: Sequence[Tensor | None]) -> None:
        """Other masks from now on, where they are `changing`: what goes is zero, and what grows has no moments yet."""
        stayed = [own.change(mask) for own, mask in zip(self._tensors, masks, strict=True)]
        for group in self._groups:
            for moments in (group.first, group.second):
                for moment, kept in zip(moments, group.of(stayed), strict=False):
                    if moment is not None:
                        moment.masked_fill_(~kept, 0)

    def _update(self, group: "_Group", gradients: list[Tensor], lr: float | Tensor) -> None:
        if self._settings.optimizer in ("adam", "adamw"):
            adam(
                group.values,
                gradients,
                group.first,
                group.second,
                [],
                group.steps,
                fused=self._fused,
                decoupled_weight_decay=self._settings.optimizer == "adamw",
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr,
                weight_decay=group.pace.weight_decay,
                eps=EPS,
                maximize=False,
            )
        else:
            sgd(
                group.values,
                gradients,
                group.first,
                fused=self._fused,
                weight_decay=group.pace.weight_decay,
                momentum=self._settings.momentum,
                lr=lr,
                dampening=0.0,
                nesterov=self._settings.optimizer == "sgd-nesterov",
                maximize=False,
            )


@dataclass(frozen=True)
class _Pace:
    """How fast a member learns over a round of `total` iterations."""

    lr: float
    weight_decay: float
    schedule: str
    milestones: tuple[int, ...]
    gamma: float
    warmup_iterations: int
    total: int

    @property
    def constant(self) -> bool:
        """Whether every iteration has the same rate."""
        return self.schedule == "constant" and self.warmup_iterations == 0

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration: schedule and linear warm-up."""
        rate = self.lr
        if self.schedule == "cosine":
            rate *= (1 + math.cos(math.pi * iteration / self.total)) / 2
        elif self.schedule == "step":
            rate *= self.gamma ** bisect_right(self.milestones, iteration)
        if iteration < self.warmup_iterations:
            rate *= (iteration + 1) / self.warmup_iterations
        return rate


class _Survivors:
    """One stacked parameter as the flat tensor `values` that is stepped: all of it, or its gathered survivors.

    These where they are few, or where what is pruned is `frozen` and not zero.
    """

    def __init__(self, parameter: Tensor, mask: Tensor | None, frozen: bool = False, changing: bool = False) -> None:
        self._whole = parameter.detach().view(-1)
        self._prunable = mask is not None
        self._index: Tensor | None = None
        self._mask: Tensor | None = None
        counts = torch.full((len(parameter),), parameter[0].numel())
        if mask is not None and (changing or not mask.all()):
            if not changing and (frozen or mask.float().mean() < GATHERED_BELOW):
                self._index = mask.view(-1).nonzero().view(-1)
                counts = mask.flatten(1).sum(1)
            else:
                self._mask = mask.view(-1).to(parameter.dtype)
        self.values = self._whole if self._index is None else self._whole.index_select(0, self._index)
        self._ends: list[int] = counts.cumsum(0).tolist()

    def member(self, k: int) -> slice:
        """Where member k's values are."""
        return slice(self._ends[k - 1] if k else 0, self._ends[k])

    def gradient(self, gradient: Tensor, frozen: bool) -> Tensor:
        """The gradient of `values`; zero at weights that are `frozen` and not positive."""
        flat = gradient.reshape(-1)
        if self._index is not None:
            flat = flat.index_select(0, self._index)
        if not (frozen and self._prunable):
            return flat
        # A product with 0.0 and 1.0: on a CPU an eighth of the time of masked_fill
        return flat * torch.ge(self.values, FROZEN_BELOW, out=torch.empty_like(flat))

    def put_back(self) -> None:
        """After a step: the parameter is the values, and zero where it is pruned."""
        if self._index is not None:
            self._whole.index_copy_(0, self._index, self.values)
        elif self._mask is not None:
            self._whole.mul_(self._mask)

    def change(self, mask: Tensor | None) -> Tensor:
        """Take another mask, where there is one; which of `values` have been kept, and are, bool."""
        if mask is None or self._mask is None:
            return torch.ones_like(self.values, dtype=torch.bool)
        now, stayed = mask.view(-1), mask.view(-1) & self._mask.bool()
        self._mask = now.to(self._whole.dtype)
        self.put_back()
        return stayed


class _Flat:
    """Survivors that are flat already."""

    def __init__(self, weight: SparseWeight) -> None:
        self.values = weight.values.detach()
        self._ends = weight.ends

    def member(self, k: int) -> slice:
        """Where member k's values are."""
        return slice(self._ends[k - 1] if k else 0, self._ends[k])

    def gradient(self, gradient: Tensor, frozen: bool) -> Tensor:
        """The gradient of `values`; zero at weights that are `frozen` and not positive."""
        return gradient * self.values.ge(FROZEN_BELOW) if frozen else gradient

    def put_back(self) -> None:
        """Nothing: what was stepped is the parameter."""

    def change(self, mask: Tensor | None) -> Tensor:
        """All of them: what is trained over survivors alone has one mask."""
        return torch.ones_like(self.values, dtype=torch.bool)


class _Group:
    """The members of one pace, those of their tensors that decay alike, and their state.

    `members` is None for all of the stack; `tensors` are by their place among the parameters.
    """

    def __init__(
        self, pace: _Pace, members: list[int] | None, tensors: Mapping[int, "_Survivors | _Flat"], settings: Settings
    ) -> None:
        self.pace = pace
        everything = slice(None)
        self._where = [
            (i, part)
            for i, own in tensors.items()
            for part in ([everything] if members is None else [own.member(k) for k in members])
        ]
        adaptive = settings.optimizer in ("adam", "adamw")
        self.values = self.of({i: own.values for i, own in tensors.items()})
        self.first: list = [torch.zeros_like(v) if adaptive or settings.momentum else None for v in self.values]
        self.second = [torch.zeros_like(v) for v in self.values] if adaptive else []
        self.steps = [torch.zeros((), device=v.device) for v in self.values] if adaptive else []

    def of(self, flat: Sequence[Tensor] | Mapping[int, Tensor]) -> list[Tensor]:
        """The parts of these flat tensors that belong to the group's members."""
        return [flat[i][part] for i, part in self._where]
