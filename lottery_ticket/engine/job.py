"""What is asked of whoever trains, and what comes back: members in, trained networks out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np

from lottery_ticket.config import Settings, as_text
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.models.network import Network
from lottery_ticket.record import Point

Training = Literal[
    "usual",
    "last-rate",
    "pruned-frozen",
    "random-labels",
    "half-data",
    "gmp",
    "set",
    "rigl",
    "untrained",
    "edge-popup",
    "supermask",
]
"""How a member is trained.

As the settings say (`usual`); after the dense round with the learning rate that the schedule ends with; its pruned
weights frozen at the values they start from, not at zero; on the training images with their labels in random order; on
half of the images, each twice as often; under a mask that changes on the way, as `CHANGING` says; not at all; its mask
alone and no weight, as `LEARNING` says.
"""

CHANGING: tuple[Training, ...] = ("gmp", "set", "rigl")
"""The trainings whose masks change on the way (see `engine.changing`).

Pruned gradually, from the dense network to as many weights of each tensor as the member's mask has; sparse from the
start, weights going and growing elsewhere at random, or where the gradient is largest.
"""

REGROWING: tuple[Training, ...] = ("set", "rigl")
"""Those of them in which weights grow."""

LEARNING: tuple[Training, ...] = ("edge-popup", "supermask")
"""The trainings in which the mask is learned and the weights stay what they are (see `engine.supermasks`).

By scores, of which the largest make a mask of as many weights of each tensor as the member's; by the probabilities that
weights are kept with, which begin as the densities of the member's mask.
"""

FIXED: tuple[Training, ...] = ("untrained", *LEARNING)
"""The trainings in which no weight is trained."""


@dataclass(frozen=True)
class Member:
    """One network to train: whose data order it sees, where it starts, which weights survive.

    `begins_at` is the iteration that its training goes on from: k with late rewinding. `settings` are its own lr,
    weight decay, schedule and warm-up where they are not those of the run; with them a `training` of last-rate is told.
    """

    arm: str
    seed: int
    mask: Mask
    weights: Weights
    begins_at: int = 0
    settings: Settings | None = None
    training: Training = "usual"

    @property
    def frozen(self) -> bool:
        """Whether its pruned weights stay what they start from, and are not zero."""
        return self.training == "pruned-frozen"

    @property
    def how(self) -> Training:
        """How it is trained in fact: a dense network has a mask that neither changes nor can be learned."""
        if self.training not in (*CHANGING, *LEARNING) or not all(bool(kept.all()) for kept in self.mask.values()):
            return self.training
        return "usual" if self.training in CHANGING else "untrained"

    @property
    def changing(self) -> bool:
        """Whether its mask changes while its weights are trained."""
        return self.how in CHANGING

    @property
    def learning(self) -> bool:
        """Whether its mask is trained and not its weights."""
        return self.how in LEARNING

    @property
    def multiplies_all(self) -> bool:
        """Whether pruned weights are multiplied too, whatever the engine: not zero, or to be others on the way."""
        return self.frozen or self.changing or self.how in FIXED


@dataclass(frozen=True)
class Changed:
    """How a member's mask changed while it was trained, or was learned.

    Attributes:
        mask: the mask that its training ended with.
        densities: prunable tensor → the part of it that survived, the mean over the images trained on.
        dense_gradients: of how many images the gradients of pruned weights were asked for too.
        settled_at: the iteration after which there were as many weights as in the end.
    """

    mask: Mask
    densities: Mapping[str, float]
    dense_gradients: int
    settled_at: int


@dataclass(frozen=True)
class Trained:
    """What training made of a member.

    Attributes:
        weights: the trained parameters and buffers, on the CPU; pruned weights are exactly zero, or what they started
            from where they are frozen there.
        curve: the evaluations, in order; the last is at the end of training.
        train_loss: mean over the images of the last (perhaps partial) epoch; NaN where there was none.
        correct: for each test image, whether the trained network classes it right; bool.
        snapshot: the weights at the iteration asked for, if one was.
        diverged: whether a loss or a weight stopped being finite.
        majority: the part of the test images that are of the most frequent class.
        constant: whether every test image gets the same scores.
        connected: whether a path of surviving weights leads from the images to the scores.
        seconds: the stack's wall time divided by its members.
        evaluation_seconds: what of it went into evaluations.
        measured: what else was measured, by name.
        sparse: the tensors that were trained over survivors alone.
        images: how many it was trained on, each as often as it was.
        changed: how its mask changed on the way; None where it stayed the member's.

    Of a loop of a user's own `correct` may be empty, and majority, constant and connected are None: not known.
    """

    weights: Weights
    curve: list[Point]
    train_loss: float
    correct: np.ndarray
    snapshot: Weights | None
    diverged: bool
    majority: float | None
    constant: bool | None
    connected: bool | None
    seconds: float
    measured: Mapping[str, float] = field(default_factory=dict)
    sparse: tuple[str, ...] = ()
    evaluation_seconds: float = 0.0
    images: int = 0
    changed: Changed | None = None


@dataclass(frozen=True)
class Progress:
    """How far a round is.

    Attributes:
        done, total: iterations done in this round and in it altogether, summed over all its members.
        accuracy: of the members that were just evaluated, (arm, seed) → test accuracy.
    """

    round: int
    done: int
    total: int
    accuracy: dict[tuple[str, int], float]


Watch = Callable[[Progress], None]


def shifted(watch: Watch | None, before: int, total: int) -> Watch:
    """A watch for one part of a round that reports on all its `total` iterations, `before` of them done by others."""
    if watch is None:
        return lambda progress: None
    return lambda p: watch(Progress(p.round, before + p.done, total, p.accuracy))


class Train(Protocol):
    """`train`, what does the same in other processes, or a user's own loop, which is given no data (None)."""

    def __call__(
        self,
        network: Network,
        members: Sequence[Member],
        data: Any,
        settings: Settings,
        round: int,
        snapshot_at: int | None = None,
        watch: Watch | None = None,
    ) -> list[Trained]:
        """What became of the members in the round, in their order; see `training.train`."""


def evenly(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """The indices in as few parts of at most `size` as will do, as even as can be."""
    count = math.ceil(len(indices) / size)
    ends = [len(indices) * (i + 1) // count for i in range(count)]
    return [indices[first:end] for first, end in zip([0, *ends], ends, strict=False)]


def in_iterations(settings: Settings, images: int) -> Settings:
    """The settings with every length in iterations, as so many training images make of epochs and parts of a round.

    A length over 0 is one iteration at least. Milestones that are parts are so of the iteration at which a round ends.
    """
    per_epoch = math.ceil(images / settings.batch_size)
    names = ("rewind_iteration", "warmup_iterations", "evaluate_every", "mask_every", "mask_from")
    given = {name: getattr(settings, name) for name in names}
    lengths: dict[str, Any] = {name: _whole(each, per_epoch) for name, each in given.items() if isinstance(each, str)}

    def within(place: float | str) -> int:
        """A place in a round in iterations."""
        if isinstance(place, float):
            return max(1, round(place * iterations_per_round(settings, images)))
        return _whole(place, per_epoch)

    if settings.milestones and any(not isinstance(each, int) for each in settings.milestones):
        lengths["milestones"] = tuple(map(within, settings.milestones))
    if settings.mask_until is not None and not isinstance(settings.mask_until, int):
        lengths["mask_until"] = within(settings.mask_until)
    return settings.model_copy(update=lengths) if lengths else settings


def counts_images(settings: Settings) -> bool:
    """Whether it takes the number of training images to know every length in iterations: some are in epochs."""
    names = ("rewind_iteration", "warmup_iterations", "evaluate_every", "mask_every", "mask_from", "mask_until")
    lengths = [*(getattr(settings, name) for name in names), *(settings.milestones or ())]
    return settings.iterations is None or any(isinstance(each, str) for each in lengths)


def _whole(length: int | str, per_epoch: int) -> int:
    """A length in iterations."""
    return length if isinstance(length, int) else max(1, round(float(length.removesuffix("ep")) * per_epoch))


def iterations_per_round(settings: Settings, images: int) -> int:
    """The iteration at which every round ends: what the dense network trains, and what is left from k on if rewound."""
    per_epoch = math.ceil(images / settings.batch_size)
    more = _whole(settings.rewind_iteration, per_epoch) if settings.rewind_steps == "all" else 0
    if settings.iterations is not None:
        return settings.iterations + more
    assert settings.epochs is not None
    return settings.epochs * per_epoch + more


def steps(members: Sequence[Member], settings: Settings, images: int) -> int:
    """Optimiser steps of these members in one round, summed."""
    trained = [member for member in members if member.how != "untrained"]
    return sum(iterations_per_round(settings, images) - member.begins_at for member in trained)


def at_last_rate(settings: Settings) -> Settings:
    """The settings with the learning rate that their schedule, constant or in steps, ends with, all the time."""
    steps = len(settings.milestones or ()) if settings.schedule == "step" else 0
    held = {"lr": settings.lr * settings.gamma**steps, "schedule": "constant", "warmup_iterations": 0}
    return settings.model_copy(update=held | {"milestones": None})


def check_length(settings: Settings, images: int) -> None:
    """InputError for what a round of so many images is too short for: rewinding, a warm-up, a schedule."""
    asked, settings = settings, in_iterations(settings, images)
    end = iterations_per_round(settings, images)
    whole = f"the {end} iterations of a round"
    if settings.rewound_at >= end or settings.rewind_iteration > end:
        raise InputError("--rewind-iteration", asked.rewind_iteration, f"is not allowed; allowed: fewer than {whole}")
    if settings.warmup_iterations >= end:
        why = "would be under way when training ends"
        raise InputError("--warmup-iterations", asked.warmup_iterations, f"{why}; allowed: fewer than {whole}")
    stones = settings.milestones or ()
    if any(one >= other for one, other in pairwise((0, *stones, end))):
        why = f"are not in order within a round (iterations {', '.join(map(str, stones))})"
        raise InputError("--milestones", as_text(asked.milestones), f"{why}; allowed: growing, before {whole} end")
    if settings.schedule != "constant" and end == 1:
        raise InputError("--schedule", settings.schedule, "does nothing in rounds of one iteration; allowed: constant")
