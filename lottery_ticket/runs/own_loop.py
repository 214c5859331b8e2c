"""Training the members of a round with a user's own functions, one after another."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from lottery_ticket.config import Settings
from lottery_ticket.engine.job import Member, Progress, Trained, Watch
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, Weights, density, under
from lottery_ticket.models.network import Network
from lottery_ticket.models.own import label
from lottery_ticket.models.tensors import give, tensors_of
from lottery_ticket.randomness import derive, forked, generator
from lottery_ticket.record import Point, Record
from lottery_ticket.runs.measured import Measured, Score, check_name, number, understand
from lottery_ticket.tickets.apply import Held


@dataclass(frozen=True)
class Job:
    """What a user's `train` is told of the training that it is asked for.

    Attributes:
        seed, round, arm: whose; round 0 is the dense network.
        mask: prunable tensor → bool tensor, True where the weight survives. Pruned weights are kept at zero anyway.
        begins_at: optimiser steps that the module has had already: k where it starts from θₖ (late rewinding), else 0.
            With `rewind_steps="remaining"` a round goes on there: with the schedule, and to the same last step.
        rewind_iteration: the optimiser step of round 0 after which its weights are kept to rewind to; 0 = none.
        evaluate: evaluates the module as it is now, for the learning curve; returns the accuracy (0–1). It changes
            neither the random numbers to come nor the mode of the module.

    Example:
        >>> def train(module: torch.nn.Module, job: lottery_ticket.Job) -> None:
        ...     optimizer = torch.optim.Adam(module.parameters(), lr=0.01 if job.round else 0.02)
        ...     for place in torch.randperm(8, generator=job.generator()):
        ...         optimizer.zero_grad()
        ...         module(torch.eye(8)[place]).square().sum().backward()
        ...         optimizer.step()
        >>> result = lottery_ticket.find(
        ...     lambda: torch.nn.Linear(8, 4), train=train, evaluate=lambda module: 0.5, rounds=2
        ... )
        >>> [record.iterations for record in result.rounds]
        [8, 8, 8, 8]
    """

    seed: int
    round: int
    arm: str
    mask: Mask = field(repr=False)
    begins_at: int
    rewind_iteration: int
    evaluate: Callable[[], float] = field(repr=False)

    @property
    def density(self) -> float:
        """Survivors / prunable weights, 0–1."""
        return density(self.mask)

    def generator(self) -> torch.Generator:
        """A generator for the order of the data, the same for all arms of a seed in a round."""
        return generator(self.seed, "train", self.round)


TrainFunction = Callable[[Any, Job], object]
EvaluateFunction = Callable[[Any], object]


class OwnTrain:
    """`engine.job.Train` with a user's functions.

    Args:
        train, evaluate: the user's.
        score: which number of an evaluation is judged.
        warn: told of what is odd in a training.
        kept: the records of the rounds before.
    """

    def __init__(
        self,
        train: TrainFunction,
        evaluate: EvaluateFunction,
        score: Score,
        warn: Callable[[str], None],
        kept: Sequence[Record],
    ) -> None:
        self._train, self._evaluate, self._score, self._warn = train, evaluate, score, warn
        self._examples = next((record.test_size for record in kept), None)
        self._dense = {record.seed: record.iterations for record in kept if record.round == 0}
        self._evaluating = 0.0

    def __call__(
        self,
        network: Network,
        members: Sequence[Member],
        data: object,
        settings: Settings,
        round: int,
        snapshot_at: int | None = None,
        watch: Watch | None = None,
    ) -> list[Trained]:
        """Train and evaluate every member."""
        trained = []
        for index, member in enumerate(members):
            trained.append(self._one(network, member, round, snapshot_at))
            if watch:
                accuracy = {(member.arm, member.seed): trained[-1].curve[-1].test_accuracy}
                watch(Progress(round, index + 1, len(members), accuracy))
        return trained

    def rehearse(self, network: Network, seed: int) -> None:
        """Evaluate a dense network as it is drawn: InputError where that cannot be judged."""
        module = network.drawn(seed, "init")
        self._measured(module, tensors_of(module), seed, 0)

    def _one(self, network: Network, member: Member, round: int, snapshot_at: int | None) -> Trained:
        begun, evaluated_before = time.perf_counter(), self._evaluating
        module = network.drawn(member.seed, "init")
        give(module, member.weights)
        own = _Parameters(module, member.mask, label(self._train))
        curve: list[Point] = []
        with _held(module, member.mask), _Steps(module, member, snapshot_at) as steps:

            def evaluate() -> float:
                modes = [(part, part.training) for part in module.modules()]
                measured = self._measured(module, tensors_of(module), member.seed, round)
                for part, training in modes:
                    part.training = training
                curve.append(_point(steps.iteration, measured))
                return measured.accuracy

            job = Job(member.seed, round, member.arm, member.mask, member.begins_at, snapshot_at or 0, evaluate)
            module.train()
            with _seeded(member.seed, "train", round):
                told = self._train(module, job)
        own.must_be(module, told)
        weights = {name: value.cpu().clone() for name, value in under(member.mask, _on_cpu(module)).items()}
        give(module, weights)
        measured = self._measured(module, weights, member.seed, round)
        if snapshot_at and steps.snapshot is None:
            why = f"is not reached: {label(self._train)} took {steps.iteration} steps of torch optimisers in round 0"
            raise InputError("--rewind-iteration", snapshot_at, f"{why}; allowed: 0 to that number")
        self._compare_length(member, round, steps.iteration)
        losses = _numbers(told)
        loss = losses.pop("train_loss", None)
        for name in losses:
            check_name(name, "train")
            if name in measured.others:
                why = f"is also what {label(self._evaluate)} returns; allowed: another name"
                raise InputError("train", name, why)
        finite = all(value.isfinite().all() for value in weights.values())
        return Trained(
            weights=weights,
            curve=[*(point for point in curve if point.iteration < steps.iteration), _point(steps.iteration, measured)],
            train_loss=float("nan") if loss is None else loss,
            correct=measured.correct,
            snapshot=steps.snapshot,
            diverged=measured.diverged or not finite or (loss is not None and not abs(loss) < float("inf")),
            majority=None,
            constant=None,
            connected=None,
            seconds=time.perf_counter() - begun,
            measured=losses | measured.others,
            evaluation_seconds=self._evaluating - evaluated_before,
        )

    def _compare_length(self, member: Member, round: int, end: int) -> None:
        """Warn where a training that was to go on at θₖ was as long as one from the start."""
        if round == 0:
            self._dense[member.seed] = end
        dense = self._dense.get(member.seed, 0)
        if member.begins_at and end - member.begins_at >= dense:
            self._warn(
                f"round {round} of {member.arm}-seed{member.seed} took {end - member.begins_at} steps from iteration "
                f"{member.begins_at} on, the dense network {dense} in all: train does not go on at job.begins_at; "
                "rewind_steps='restart' says so"
            )

    def _measured(self, module: nn.Module, weights: Mapping[str, Tensor], seed: int, round: int) -> Measured:
        """The user's evaluation, which must leave the weights as they are."""
        before, begun = {name: value.cpu().clone() for name, value in weights.items()}, time.perf_counter()
        module.eval()
        with _seeded(seed, "evaluate", round):
            told = self._evaluate(module)
        self._evaluating += time.perf_counter() - begun
        after = _on_cpu(module)
        if moved := [name for name, value in before.items() if not _same(value, after[name])]:
            why = f"changes {moved[0]} of the module"
            raise InputError("evaluate", label(self._evaluate), f"{why}; allowed: a function that leaves it as it is")
        measured = understand(told, self._score, all(value.isfinite().all() for value in before.values()))
        examples = len(measured.correct)
        if self._examples is None:
            self._examples = examples
        if examples != self._examples:
            why = f"tells of {examples} examples whether they are right, told of {self._examples} before"
            raise InputError("evaluate", "correct", f"{why}; allowed: the same test examples each time")
        return measured


class _Parameters:
    """The parameters of a module before a user's training, to be compared with those after it."""

    def __init__(self, module: nn.Module, mask: Mask, name: str) -> None:
        self._own = dict(module.named_parameters(remove_duplicate=False))
        self._before = {key: value.detach().cpu().clone() for key, value in under(mask, _on_cpu(module)).items()}
        self._module, self._mask, self._name = module, mask, name

    def must_be(self, module: nn.Module, told: object) -> None:
        """InputError where something else was trained, or pruned weights were."""
        now = dict(module.named_parameters(remove_duplicate=False))
        if isinstance(told, nn.Module) and told is not module:
            raise self._refusal("returned another module than the one that it was given")
        if other := [name for name in {**self._own, **now} if now.get(name) is not self._own.get(name)]:
            raise self._refusal(f"put another parameter in the place of {other[0]}, which nothing holds at its mask")
        values = _on_cpu(module)
        for name, kept in self._mask.items():
            if moved := int((values[name][~kept] != 0).sum()):
                why = f"moved {moved:,} pruned weights of {name} from zero, past all torch.optim optimisers"
                raise self._refusal(why)
        if all(_same(values[name], self._before[name]) for name in self._own if name in values):
            raise self._refusal("changed no parameter of the module, as where a copy of it is trained")

    def _refusal(self, why: str) -> InputError:
        return InputError("train", self._name, f"{why}; allowed: to train the given module's own parameters in place")


class _Steps:
    """Counts the steps of torch optimisers on a module's parameters, and keeps its weights after the one asked for."""

    def __init__(self, module: nn.Module, member: Member, snapshot_at: int | None) -> None:
        self._module, self._mask, self._snapshot_at = module, member.mask, snapshot_at
        self._mine = {id(value) for value in module.parameters()}
        self.iteration = member.begins_at
        self.snapshot: Weights | None = None

    def __enter__(self) -> "_Steps":
        self._hook = register_optimizer_step_post_hook(self._after_step)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if any(id(value) in self._mine for group in optimizer.param_groups for value in group["params"]):
            self.iteration += 1
            if self.iteration == self._snapshot_at:
                self.snapshot = {
                    name: value.clone() for name, value in under(self._mask, _on_cpu(self._module)).items()
                }


@contextmanager
def _held(module: nn.Module, mask: Mask) -> Iterator[None]:
    held = Held(module, mask)
    try:
        yield
    finally:
        held.remove()


def _seeded(seed: int, purpose: str, round: int) -> Any:
    """The global generators of torch, NumPy and Python for a user's code, seeded for this place alone."""
    device = torch.device("cuda") if torch.cuda.is_available() else None
    return forked(derive(seed, purpose, round), device)


def _on_cpu(module: nn.Module) -> Weights:
    return {name: value.cpu() for name, value in tensors_of(module).items()}


def _point(iteration: int, measured: Measured) -> Point:
    return Point(
        iteration=iteration,
        epoch=None,
        validation_loss=measured.validation_loss,
        validation_accuracy=measured.validation_accuracy,
        test_loss=measured.test_loss,
        test_accuracy=measured.accuracy,
    )


def _numbers(told: object) -> dict[str, float]:
    """The numbers that `train` returned; InputError where it returned something else than a mapping of them."""
    if told is None or isinstance(told, nn.Module):
        return {}
    if not isinstance(told, Mapping):
        allowed = "allowed: nothing, or a mapping of names to numbers, such as train_loss"
        raise InputError("train", told, f"was returned, which is a {type(told).__name__}; {allowed}")
    return {str(name): number(value, str(name), "train") for name, value in told.items()}


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, but that NaN is NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
