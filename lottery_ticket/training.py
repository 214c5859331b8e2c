"""The engine: trains and evaluates a stack of networks in lockstep."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_ticket.config import Settings
from lottery_ticket.data import Data, Split
from lottery_ticket.errors import InputError
from lottery_ticket.models import Network, Weights
from lottery_ticket.optim import Optimizer
from lottery_ticket.pruning import Mask
from lottery_ticket.randomness import derive, generator
from lottery_ticket.record import Point
from lottery_ticket.stack import forward, stack, stackable, unstack

FROZEN_BELOW = 1e-6
"""Threshold of `frozen = non-positive`, without absolute value, as in the published code with that fault."""

_EVALUATED_AT_ONCE = 2000  # images × members in one forward pass: enough to be fast, little enough to fit


@dataclass(frozen=True)
class Member:
    """One network to train: whose data order it sees, where it starts, which weights survive."""

    arm: str
    seed: int
    mask: Mask
    weights: Weights


@dataclass(frozen=True)
class Trained:
    """What training made of a member.

    Attributes:
        weights: the trained parameters and buffers, on the CPU; pruned weights are exactly zero.
        curve: the evaluations, in order; the last is at the end of training.
        train_loss: mean over the images of the last (perhaps partial) epoch.
        correct: for each test image, whether the trained network classes it right; bool.
        snapshot: the weights at the iteration asked for, if one was.
        diverged: whether a loss or a weight stopped being finite.
        seconds: the stack's wall time divided by its members.
    """

    weights: Weights
    curve: list[Point]
    train_loss: float
    correct: np.ndarray
    snapshot: Weights | None
    diverged: bool
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far a round is: `members` networks of `total` iterations each, `done` iterations over all of them."""

    round: int
    members: Sequence[Member]
    done: int
    total: int
    accuracy: list[float] | None = None


Watch = Callable[[Progress], None]


def train(
    network: Network,
    members: Sequence[Member],
    data: Data,
    settings: Settings,
    round: int,
    snapshot_at: int | None = None,
    watch: Watch | None = None,
) -> list[Trained]:
    """Train every member from its start under its mask; results in the members' order.

    Each member sees the data in the order of (its seed, round, epoch), so arms of one seed share it.

    Args:
        network: the architecture of all members.
        members: what to train; split into stacks of at most `stack_size`.
        data: on the device to train on.
        settings: optimiser, length of the round, precision, stack.
        round: selects the data order.
        snapshot_at: an iteration after which to keep the weights (late rewinding).
        watch: told of progress every few iterations and at each evaluation.
    """
    size = settings.stack if settings.stack != "auto" else stack_size(network, data, settings, len(members))
    trained: list[Trained] = []
    for first in range(0, len(members), size):
        group = members[first : first + size]
        done = first * iterations_per_round(settings, len(data.train))
        trained += _train_stack(network, group, data, settings, round, snapshot_at, _shift(watch, members, done))
    return trained


def stack_size(network: Network, data: Data, settings: Settings, members: int) -> int:
    """How many members to train at once: as told, else what was measured to be fastest (bench/README.md)."""
    if not stackable(network, data.input_shape):
        return 1
    if settings.stack != "auto":
        return min(settings.stack, members)
    on_cpu = data.train.x.device.type == "cpu"
    return 1 if on_cpu and "conv" in network.kinds.values() else min(8 if on_cpu else 64, members)


def iterations_per_round(settings: Settings, images: int) -> int:
    """Optimiser steps in one round."""
    if settings.iterations is not None:
        return settings.iterations
    assert settings.epochs is not None
    return settings.epochs * math.ceil(images / settings.batch_size)


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`; InputError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in found:
        raise InputError("--device", name, f"is not there; allowed on this machine: {', '.join(found)}")
    return torch.device(name)


@contextmanager
def arithmetic(settings: Settings, device: torch.device) -> Iterator[None]:
    """Within it, matrix products have the settings' precision and convolutions are deterministic."""
    if settings.precision == "tf32" and device.type != "cuda":
        raise InputError("--precision", "tf32", f"needs a CUDA device; allowed on {device.type}: float32, bfloat16")
    tf32 = settings.precision == "tf32"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with (
            torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=tf32),
            torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _train_stack(
    network: Network,
    members: Sequence[Member],
    data: Data,
    settings: Settings,
    round: int,
    snapshot_at: int | None,
    watch: Watch,
) -> list[Trained]:
    begun = time.perf_counter()
    device = data.train.x.device
    weights = stack([member.weights for member in members], device)
    masks = {name: kept.to(weights[name].dtype) for name, kept in stack([m.mask for m in members], device).items()}
    for name, kept in masks.items():
        weights[name].mul_(kept)
    trainable = {name: weights[name].requires_grad_() for name in network.trainable}
    total = iterations_per_round(settings, len(data.train))
    optimizer = Optimizer(settings, list(trainable.values()), [masks.get(name) for name in trainable], total)
    snapshot: list[Weights] | None = None
    curves: list[list[Point]] = [[] for _ in members]
    correct = torch.zeros(0)
    iteration = epoch = 0

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(members[0].seed, "dropout", round))
        while iteration < total:
            order = torch.stack([_order(member.seed, len(data.train), round, epoch) for member in members]).to(device)
            loss_sum, seen = torch.zeros(len(members), device=device), 0
            network.module.train()
            for first in range(0, len(data.train), settings.batch_size):
                batch = order[:, first : first + settings.batch_size]
                losses, gradients = _gradients(network, weights, trainable, data.train, batch)
                if settings.frozen == "non-positive":
                    for name in masks:
                        gradients[name].masked_fill_(weights[name] < FROZEN_BELOW, 0)
                optimizer.step(list(gradients.values()))
                loss_sum += losses
                seen += batch.shape[1]
                iteration += 1
                if iteration == snapshot_at:
                    snapshot = unstack(weights)
                ended = iteration == total or first + settings.batch_size >= len(data.train)
                if ended or (settings.evaluate_every and iteration % settings.evaluate_every == 0):
                    correct = _append_points(network, weights, data, curves, iteration, epoch + 1 if ended else None)
                    network.module.train()
                    accuracy = [curve[-1].test_accuracy for curve in curves]
                    watch(Progress(round, members, iteration * len(members), total, accuracy))
                elif iteration % 20 == 0:
                    watch(Progress(round, members, iteration * len(members), total))
                if iteration == total:
                    break
            epoch += 1

    seconds = (time.perf_counter() - begun) / len(members)
    train_loss = (loss_sum / seen).tolist()
    return [
        Trained(
            weights=trained,
            curve=curves[k],
            train_loss=train_loss[k],
            correct=correct[k].cpu().numpy(),
            snapshot=snapshot[k] if snapshot else None,
            diverged=not (
                math.isfinite(train_loss[k]) and all(bool(value.isfinite().all()) for value in trained.values())
            ),
            seconds=seconds,
        )
        for k, trained in enumerate(unstack(weights))
    ]


def _gradients(
    network: Network, weights: Weights, trainable: Weights, images: Split, batch: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The summed loss of each member's batch (K) and each member's gradient of its mean loss, by parameter."""
    y = images.y[batch]
    scores = forward(network.module, weights, images.x[batch])
    each = F.cross_entropy(scores.flatten(0, 1).float(), y.flatten(), reduction="none").view_as(y)
    total = each.mean(1).sum()  # no term has two members in it, so the gradients are those of each alone
    gradients = torch.autograd.grad(total, list(trainable.values()), materialize_grads=True)
    return each.detach().sum(1), dict(zip(trainable, gradients, strict=True))


def _append_points(
    network: Network,
    weights: Weights,
    data: Data,
    curves: list[list[Point]],
    iteration: int,
    epoch: int | None,
) -> Tensor:
    """Evaluate every member on validation and test images, extend the curves; test correctness K×N."""
    test_loss, correct = _evaluate(network, weights, data.test)
    test_accuracy = correct.double().mean(1).tolist()
    validation_loss, validation_accuracy = [None] * len(curves), [None] * len(curves)
    if len(data.validation):
        validation_loss, right = _evaluate(network, weights, data.validation)
        validation_accuracy = right.double().mean(1).tolist()
    for k, curve in enumerate(curves):
        curve.append(
            Point(
                iteration=iteration,
                epoch=epoch,
                validation_loss=validation_loss[k],
                validation_accuracy=validation_accuracy[k],
                test_loss=test_loss[k],
                test_accuracy=test_accuracy[k],
            )
        )
    return correct


@torch.no_grad()
def _evaluate(network: Network, weights: Weights, images: Split) -> tuple[list, Tensor]:
    """Mean loss of each member, and which images it gets right, K×N."""
    network.module.eval()
    members = len(next(iter(weights.values())))
    correct: list[Tensor] = []
    losses = torch.zeros(members, dtype=torch.float64, device=images.y.device)
    size = max(1, _EVALUATED_AT_ONCE // members)
    for first in range(0, len(images), size):
        y = images.y[first : first + size]
        scores = forward(network.module, weights, images.x[first : first + size], shared=True).float()
        losses += (
            F.cross_entropy(scores.flatten(0, 1), y.repeat(members), reduction="none")
            .view(members, -1)
            .sum(1, dtype=torch.float64)
        )
        correct.append(scores.argmax(2) == y)
    return (losses / len(images)).tolist(), torch.cat(correct, 1)


def _order(seed: int, images: int, round: int, epoch: int) -> Tensor:
    return torch.randperm(images, generator=generator(seed, "order", round, epoch))


def _shift(watch: Watch | None, members: Sequence[Member], done: int) -> Watch:
    """A watch for one stack that reports on the whole round."""
    if watch is None:
        return lambda progress: None
    return lambda p: watch(Progress(p.round, members, done + p.done, p.total, p.accuracy))
