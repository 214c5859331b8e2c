"""The training loop: trains and evaluates a stack of networks in lockstep."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_ticket.config import Settings
from lottery_ticket.data.augment import augment, augmentations
from lottery_ticket.data.prepared import Data, Split
from lottery_ticket.engine.altered import half_of, in_random_order, twice
from lottery_ticket.engine.changing import Changes, begun_under
from lottery_ticket.engine.device import arithmetic, exactly, keep_freed_memory
from lottery_ticket.engine.job import (
    Member,
    Progress,
    Trained,
    Watch,
    evenly,
    iterations_per_round,
    shifted,
    steps,
)
from lottery_ticket.engine.optim import Optimizer
from lottery_ticket.engine.sparse.perceptron import Perceptron, linear_layers
from lottery_ticket.engine.sparse.rule import Rule
from lottery_ticket.engine.sparse.weights import SparseWeight, survivors
from lottery_ticket.engine.stack import Stack, architecture_of, stack, unstack
from lottery_ticket.engine.supermasks import Supermasks
from lottery_ticket.masks import Weights
from lottery_ticket.models.network import Network
from lottery_ticket.models.paths import connected, constant
from lottery_ticket.randomness import derive, forked, generator, seed_globally
from lottery_ticket.record import Point

EVALUATED_AT_ONCE = 2000
"""Images × members in one forward pass of an evaluation, where that is more than a batch each."""

ON_CPU = 250
"""The most images of each member in it on a CPU, whose caches hold what passes between two layers (bench/README.md)."""


def train(
    network: Network,
    members: Sequence[Member],
    data: Data,
    settings: Settings,
    round: int,
    snapshot_at: int | None = None,
    watch: Watch | None = None,
) -> list[Trained]:
    """Train every member from its start under its mask to the round's end; results in the members' order.

    Each member sees the data in the order of (its seed, round, epoch), so arms of one seed share it. With late
    rewinding, one that begins at iteration k takes the k-th batch of that order first, and schedule and warm-up go on
    at k. The optimiser is new at k, for those that come from iteration 0 too: what is rewound has no other, and is to
    differ in nothing else. So it is in open_lth (lottery/runner.py: training to k is a phase of its own).

    Args:
        network: the architecture of all members.
        members: what to train; split into stacks of at most `settings.stack`.
        data: on the device to train on.
        settings: optimiser, length of the round, precision, stack.
        round: selects the data order.
        snapshot_at: an iteration after which to keep the weights (late rewinding).
        watch: told of progress every few iterations and at each evaluation.
    """
    keep_freed_memory()
    architecture = architecture_of(network.module, data.input_shape, settings.precision)
    size = 1 if architecture.unknown else len(members) if settings.stack == "auto" else settings.stack
    trained: dict[int, Trained] = {}
    before, total = 0, steps(members, settings, len(data.train))
    with arithmetic(settings, data.train.x.device):
        rule = Rule(network, settings, data.train.x.device)
        whole = [bool(architecture.unknown) or member.multiplies_all for member in members]
        alone = [() if dense else rule(member.mask) for dense, member in zip(whole, members, strict=True)]
        for stacked in stacks(members, size, alone):
            group = [members[index] for index in stacked]
            results = _Training(network, architecture, group, alone[stacked[0]], data, settings, round).run(
                snapshot_at, shifted(watch, before, total)
            )
            trained |= zip(stacked, results, strict=True)
            before += steps(group, settings, len(data.train))
    return [trained[index] for index in range(len(members))]


def stacks(members: Sequence[Member], size: int, alone: Sequence[tuple[str, ...]] | None = None) -> list[Sequence[int]]:
    """Which members, by index, are trained as one stack: at most `size` of those that are trained alike.

    These begin at one iteration, have the same tensors trained over survivors alone (`alone`, of each member), the same
    images and labels, pruned weights of zero or not, and the same that is trained. As few stacks as it takes, as equal
    as can be.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for index, member in enumerate(members):
        training = "usual" if member.how == "last-rate" else member.how
        alike.setdefault((member.begins_at, training, alone[index] if alone else ()), []).append(index)
    return [stacked for indices in alike.values() for stacked in evenly(indices, size)]


def evaluated_at_once(settings: Settings, members: int, device: torch.device) -> int:
    """Images in one forward pass of an evaluation of a stack."""
    most = EVALUATED_AT_ONCE // members
    return max(settings.batch_size, min(ON_CPU, most) if device.type == "cpu" else most)


class _Training:
    """One stack in one round."""

    def __init__(
        self,
        network: Network,
        architecture: Stack,
        members: Sequence[Member],
        sparse: tuple[str, ...],
        data: Data,
        settings: Settings,
        round: int,
    ) -> None:
        self._begun = time.perf_counter()
        self._network, self._architecture, self._members, self._data = network, architecture, members, data
        self._settings, self._round = settings, round
        self._device = device = data.train.x.device
        idle = members[0].how == "untrained"
        self._total = 0 if idle else iterations_per_round(settings, len(data.train))
        self._begins_at = members[0].begins_at
        weights = stack([member.weights for member in members], device)
        self._sparse = sparse
        masks = stack([begun_under(member) for member in members], device)
        for name, kept in () if members[0].frozen else masks.items():
            weights[name].mul_(kept)
        layers = {name: network.module.get_submodule(name.rpartition(".")[0]) for name in sparse}
        alone = {name: survivors(layer, weights[name], masks[name]) for name, layer in layers.items()}
        self._weights: dict[str, Any] = weights | alone
        self._asked = [] if idle else network.trainable  # of what gradients are asked for
        parameters = [self._weights[name] for name in self._asked]
        self._supermasks: Supermasks | None = None
        if members[0].learning:
            self._supermasks = Supermasks(members, {name: weights[name] for name in masks}, round)
            self._weights |= self._supermasks.masked
            self._asked, parameters = list(masks), list(self._supermasks.scores.values())
        self._trainable = [
            each.values if isinstance(each, SparseWeight) else each.requires_grad_()
            for each in (self._weights[name] for name in self._asked)
        ]
        self._labels: Tensor | None = None
        if members[0].training == "random-labels":
            self._labels = torch.stack([in_random_order(data.train.y, member.seed) for member in members])
        otherwise = settings.augment or settings.label_smoothing or architecture.unknown or self._labels is not None
        paths = linear_layers(network.module) if sparse and not otherwise else None
        taken = {f"{path}.{name}" for path in paths or () for name in ("weight", "bias")}
        whole = all(f"{path}.weight" in alone for path in paths or ()) and set(network.trainable) <= taken
        self._perceptron = Perceptron(paths, self._weights) if paths and whole else None
        self._optimizer = Optimizer(
            [member.settings or settings for member in members],
            parameters,
            [None if self._supermasks else masks.get(name) for name in self._asked],
            self._total,
            self._begins_at,
            members[0].frozen,
            members[0].changing,
        )
        self._changes = Changes(members, masks, settings, round, self._total) if members[0].changing else None
        self._generators = [torch.Generator(device) for _ in members if architecture.draws]
        self._augmentations = augmentations(settings.augment or (), data.info, device)
        self._images = [torch.Generator(device) for _ in members if self._augmentations]
        self._loss_sum = torch.zeros(len(members), device=device)
        self._curves: list[list[Point]] = [[] for _ in members]
        self._diverged = [False] * len(members)
        self._constant = [False] * len(members)
        self._evaluating = 0.0
        self._trained_on = 0

    def run(self, snapshot_at: int | None, watch: Watch) -> list[Trained]:
        """Train for the round and evaluate."""
        data, size, every = self._data, self._settings.batch_size, self._settings.evaluate_every
        step = _Replayed(self._step, [*self._generators, *self._images]) if self._capturable() else self._step
        snapshot: list[Weights] | None = None
        correct = torch.zeros(0)
        iteration, seen, per_epoch = self._begins_at, 0, math.ceil(len(data.train) / size)
        with forked(device=self._device):
            self._seed_dropout(self._begins_at)
            if not self._total:
                correct = self._evaluate(0, None)
            while iteration < self._total:
                epoch, batches_done = divmod(iteration, per_epoch)
                order, seen = self._order(epoch), 0
                self._loss_sum.zero_()
                for first in range(batches_done * size, len(data.train), size):
                    batch = order[:, first : first + size]
                    self._seed_augmentations(iteration)
                    if self._changes:
                        self._changes.passed(batch.shape[1], iteration + 1)
                    if self._changes and self._changes.due(iteration + 1):
                        self._change(self._changes, batch, iteration + 1)
                    else:
                        step(batch)
                    seen += batch.shape[1]
                    self._trained_on += batch.shape[1]
                    iteration += 1
                    if iteration == snapshot_at:
                        snapshot = self._unstacked()
                    if iteration == self._settings.rewound_at:
                        self._optimizer.restart()
                        self._seed_dropout(iteration)
                    ended = iteration == self._total or first + size >= len(data.train)
                    if ended or (every and iteration % every == 0):
                        correct = self._evaluate(iteration, epoch + 1 if ended else None)
                        accuracy = [curve[-1].test_accuracy for curve in self._curves]
                        names = [(member.arm, member.seed) for member in self._members]
                        watch(self._progress(iteration, dict(zip(names, accuracy, strict=True))))
                    elif iteration % 20 == 0:
                        watch(self._progress(iteration, {}))
                    if iteration == self._total:
                        break
        return self._results((self._loss_sum / seen).tolist(), correct.cpu().numpy(), snapshot)  # NaN over no images

    def _seed_dropout(self, iteration: int) -> None:
        """Draws begin anew where training may, so that what is rewound to k has those of what gets there from 0.

        Layers that the engine does not know draw from the global generators, from the (one) member's seed.
        """
        places = (self._round, iteration) if iteration else (self._round,)
        seeds = [derive(member.seed, "dropout", *places) for member in self._members]
        for own, seed in zip(self._generators, seeds, strict=False):
            own.manual_seed(seed)
        seed_globally(seeds[0])

    def _seed_augmentations(self, iteration: int) -> None:
        """Each iteration draws anew, so that all arms of a seed see the same images, those that begin late too."""
        for member, images in zip(self._members, self._images, strict=False):
            images.manual_seed(derive(member.seed, "augment", self._round, iteration))

    def _step(self, batch: Tensor) -> None:
        """One iteration on the images K×B."""
        if self._supermasks is None:
            self._optimizer.step(self._gradients(batch))
            return
        self._supermasks.train_under(batch.shape[1])
        gradients = self._gradients(batch)
        self._optimizer.step(self._supermasks.gradients(dict(zip(self._asked, gradients, strict=True))))

    def _change(self, changes: Changes, batch: Tensor, iteration: int) -> None:
        """An iteration on the images K×B with which the masks change: after its step, or with RigL in its place."""
        gradients = self._gradients(batch)
        if changes.by_gradient:
            self._optimizer.skip()
        else:
            self._optimizer.step(gradients)
        changes.change(iteration, self._weights, dict(zip(self._asked, gradients, strict=True)))
        self._optimizer.change([changes.masks.get(name) for name in self._asked])

    def _gradients(self, batch: Tensor) -> Sequence[Tensor]:
        """Those of `_asked`, on the images K×B, pruned weights' too where they are multiplied as zeros."""
        images, labels, flat = self._data.train.x, self._data.train.y, batch.flatten()
        if self._perceptron is not None:
            if not isinstance(images, Tensor):
                images, labels, batch = images[flat], labels[flat], torch.arange(len(flat)).view_as(batch)
            each, gradients = self._perceptron(images, labels, batch)
            self._loss_sum += each.sum(1)
            return [gradients[name] for name in self._asked]
        y = labels.index_select(0, flat) if self._labels is None else self._labels.gather(1, batch).flatten()
        x = images.index_select(0, flat).unflatten(0, batch.shape)
        x = augment(x, self._augmentations, self._images) if self._augmentations else x
        scores = self._architecture(self._weights, x, training=True, generators=self._generators)
        smoothing = self._settings.label_smoothing
        each = F.cross_entropy(scores.flatten(0, 1).float(), y, reduction="none", label_smoothing=smoothing)
        losses = each.view_as(batch).sum(1)
        total = losses.sum() / batch.shape[1]  # no term has two members in it, so each gets its own gradients
        self._loss_sum += losses.detach()
        return torch.autograd.grad(total, self._trainable, materialize_grads=True)

    def _capturable(self) -> bool:
        in_memory = isinstance(self._data.train.x, Tensor)
        alike = self._architecture.unknown is None and self._changes is None and self._supermasks is None
        return self._device.type == "cuda" and alike and in_memory

    def _order(self, epoch: int) -> Tensor:
        """The data order of every member in this epoch, K×N, from its seed."""
        images = len(self._data.train)
        orders = {}
        for seed in {member.seed for member in self._members}:
            source = generator(seed, "order", self._round, epoch)
            orders[seed] = torch.randperm(images, generator=source)
            if self._members[0].training == "half-data":
                orders[seed] = twice(half_of(images, seed), orders[seed], source)
        return torch.stack([orders[member.seed] for member in self._members]).to(self._device)

    def _progress(self, iteration: int, accuracy: dict[tuple[str, int], float]) -> Progress:
        members = len(self._members)
        done, total = iteration - self._begins_at, self._total - self._begins_at
        return Progress(self._round, done * members, total * members, accuracy)

    def _evaluate(self, iteration: int, epoch: int | None) -> Tensor:
        """Evaluate every member on validation and test images, extend the curves; test correctness K×N."""
        begun = time.perf_counter()
        if self._supermasks:
            self._supermasks.evaluate_under(iteration)
        test_loss, correct, constant = self._measure(self._data.test)
        self._constant = constant.tolist()
        test_accuracy = correct.double().mean(1).tolist()
        validation_loss, validation_accuracy = [None] * len(self._curves), [None] * len(self._curves)
        if len(self._data.validation):
            validation_loss, right, _ = self._measure(self._data.validation)
            validation_accuracy = right.double().mean(1).tolist()
        trained = self._loss_sum.tolist()
        for k, curve in enumerate(self._curves):
            losses = trained[k], test_loss[k], validation_loss[k] or 0.0
            self._diverged[k] |= not all(map(math.isfinite, losses))
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
        self._evaluating += time.perf_counter() - begun
        return correct

    def _exact(self) -> AbstractContextManager[None]:
        """Within it, matrix products are in float32 where those of training are in TF32."""
        if self._settings.precision != "tf32":
            return nullcontext()
        return exactly(self._settings, self._device)

    @torch.no_grad()
    def _measure(self, images: Split) -> tuple[list, Tensor, Tensor]:
        """Mean loss of each member, which images it gets right (K×N), and whether it gives all the same scores (K)."""
        members = len(self._members)
        correct: list[Tensor] = []
        lowest: list[Tensor] = []
        highest: list[Tensor] = []
        losses = torch.zeros(members, dtype=torch.float64, device=self._device)
        size = evaluated_at_once(self._settings, members, self._device)
        for x, y in zip(images.x.split(size), images.y.split(size), strict=True):
            with self._exact():
                scores = self._architecture(self._weights, x.expand(members, *x.shape), training=False).float()
            each = F.cross_entropy(scores.flatten(0, 1), y.repeat(members), reduction="none")
            losses += each.view(members, -1).sum(1, dtype=torch.float64)
            correct.append(scores.argmax(2) == y)
            lowest.append(scores.amin(1))
            highest.append(scores.amax(1))
        same = constant(torch.stack(lowest).amin(0), torch.stack(highest).amax(0))
        return (losses / len(images)).tolist(), torch.cat(correct, 1), same

    def _unstacked(self) -> list[Weights]:
        """Each member's weights, pruned ones zero, on the CPU."""
        whole = {
            name: value.dense() if isinstance(value, SparseWeight) else value for name, value in self._weights.items()
        }
        return unstack(whole)

    def _results(self, train_loss: list[float], correct: np.ndarray, snapshot: list[Weights] | None) -> list[Trained]:
        seconds = (time.perf_counter() - self._begun) / len(self._members)
        labels = self._data.test.y
        majority = int(labels.cpu().bincount().max()) / len(labels)
        learned = self._changes or self._supermasks
        changed = learned.made() if learned else []
        sound = self._supermasks.finite() if self._supermasks else [True] * len(self._members)
        masks = [each.mask for each in changed or self._members]
        return [
            Trained(
                weights=trained,
                curve=self._curves[k],
                train_loss=train_loss[k],
                correct=correct[k],
                snapshot=snapshot[k] if snapshot else None,
                diverged=self._diverged[k]
                or not sound[k]
                or not all(bool(value.isfinite().all()) for value in trained.values()),
                majority=majority,
                constant=self._constant[k],
                sparse=self._sparse,
                connected=not self._constant[k]
                or self._members[k].frozen
                or connected(self._network.module, masks[k], self._data.input_shape),
                seconds=seconds,
                evaluation_seconds=self._evaluating / len(self._members),
                images=self._trained_on,
                changed=changed[k] if changed else None,
            )
            for k, trained in enumerate(self._unstacked())
        ]


class _Replayed:
    """A training step captured as a CUDA graph and replayed: one launch an iteration instead of a hundred.

    The first steps are run as they are, on a side stream, as capturing asks for; so is a smaller last batch of an
    epoch. Source: PyTorch's notes on CUDA graphs ("whole-network capture").
    """

    def __init__(self, step: Callable[[Tensor], None], generators: Sequence[torch.Generator]) -> None:
        self._step, self._generators = step, generators
        self._to_warm_up = 3
        self._side = torch.cuda.Stream()
        self._batch: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Tensor) -> None:
        if self._batch is None:
            self._batch = batch.clone()
        if batch.shape != self._batch.shape:
            self._step(batch)
        elif self._to_warm_up:
            self._to_warm_up -= 1
            current = torch.cuda.current_stream()
            self._side.wait_stream(current)
            with torch.cuda.stream(self._side):
                self._step(batch)
            current.wait_stream(self._side)
        else:
            self._batch.copy_(batch)
            self._captured(self._batch).replay()

    def _captured(self, batch: Tensor) -> torch.cuda.CUDAGraph:
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            for own in self._generators:
                self._graph.register_generator_state(own)
            with torch.cuda.graph(self._graph):
                self._step(batch)
        return self._graph
