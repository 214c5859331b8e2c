"""How the members of a round are spread: how many in a stack, in how many processes, and whether they fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import Data
from lottery_ticket.engine.device import free_memory
from lottery_ticket.engine.layers import multiplies_bfloat16
from lottery_ticket.engine.sparse.rule import Rule
from lottery_ticket.engine.sparse.rule import available as survivors_alone
from lottery_ticket.engine.stack import Stack, architecture_of, stack
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask
from lottery_ticket.memory import PROCESS_BYTES
from lottery_ticket.models.network import Network
from lottery_ticket.models.tensors import tensors_of

CPU_STACK, CUDA_STACK = 8, 256
"""The largest stacks that `auto` takes: more gained nothing on a CPU (bench/README.md)."""

IN_EACH_PROCESS = 2
"""Networks that each process must have at least for processes to be faster than one stack (bench/README.md)."""

FILLED = 0.85
"""The part of the free memory that is used, by predictions that may be some 15 % too low."""

AT_MOST = 1.7
"""What a step takes at its peak over what its backward pass keeps: 1.5 to 2 on a CPU, by network (bench/README.md)."""

LISTED = 60
"""Bytes that the places of one survivor take at most, those that only sorting them takes included."""


@dataclass(frozen=True)
class Allocation:
    """What `auto` stands for, or what was asked for as far as it fits.

    Attributes:
        stack: networks trained as one set of tensors.
        jobs: processes that train; 1 is this process alone.
        threads: of each process.
        notes: what the user should know about it, each a line.
        limit: what bounds a stack by memory; None where nothing does.
    """

    stack: int
    jobs: int
    threads: int
    notes: tuple[str, ...]
    limit: "Limit | None" = None


class Limit(NamedTuple):
    """What bounds a stack: the networks that there would be in it if they fit, and the bytes that they may take.

    With 20 to 40 % of its weights left a network of survivors takes more than the dense one, with fewer less.
    """

    asked: int
    room: int


def allocate(
    settings: Settings, network: Network, data: Data, available: int | None = None, experiments: int = 1
) -> Allocation:
    """Spread arms × seeds × experiments over processes and stacks, by the rules measured in bench/README.md.

    On a CPU, networks without convolutions are trained in stacks, in one process for every two of them, at most one a
    core; those with convolutions one after another on all cores. On CUDA they are stacked up to 256. No stack is larger
    than fits.

    Args:
        settings: stack and jobs, each `auto` or a number.
        network, data: what is trained, on the device.
        available: bytes of memory that may be used; default what is free now.
        experiments: how many have these settings but for what each member has of its own.
    """
    device = data.train.x.device
    members, cores = experiments * len(settings.arms) * len(settings.seeds), torch.get_num_threads()
    on_cpu, convolutional = device.type == "cpu", "conv" in network.kinds.values()
    notes = []
    if settings.engine == "sparse" and not on_cpu:
        raise InputError("--engine", "sparse", f"is for a CPU; allowed on {device.type}: auto or dense")
    if settings.jobs != "auto":
        if settings.jobs > 1 and not on_cpu:
            raise InputError("--jobs", settings.jobs, f"is for training on a CPU; allowed on {device}: auto or 1")
        jobs = min(settings.jobs, members)
    else:
        importable = not settings.model.startswith("__main__:")  # in a worker that is another module
        spread = on_cpu and not convolutional and importable and settings.executor != "here"
        jobs = max(1, min(cores, members // IN_EACH_PROCESS)) if spread else 1

    available = free_memory(device) if available is None else available
    images = sum(part.x.nbytes for part in (data.train, data.validation, data.test))
    if jobs > 1 and available is not None:
        fit = max(1, int(FILLED * available / (PROCESS_BYTES + images)))
        if fit < jobs:
            notes.append(f"{jobs} processes do not fit into the {_gib(available)} that are free: {fit} are started")
            jobs = fit

    architecture = architecture_of(network.module, data.input_shape, settings.precision)
    most = -(-members // jobs)
    if architecture.unknown:
        size = 1
        if members > 1:
            notes.append(f"networks are trained one at a time: the engine cannot stack {architecture.unknown}")
    elif settings.stack != "auto":
        size = min(settings.stack, most)
    else:
        size = 1 if on_cpu and convolutional else min(CPU_STACK if on_cpu else CUDA_STACK, most)
    limit, threads = None, max(1, cores // jobs)
    if size > 1 and available is not None:
        own = FILLED * available / jobs - (PROCESS_BYTES + images if jobs > 1 else 0)
        limit, settings = Limit(size, max(0, int(own))), by_threads(settings, threads)
        fit = stack_size(limit, network, [network.dense_mask()], data, settings)
        if fit < size:
            each = f"the {_gib(available)} that are free" + (f" for {jobs} processes" if jobs > 1 else "")
            few = {
                name: torch.arange(kept.numel()).view_as(kept) % 100 == 0 for name, kept in network.dense_mask().items()
            }
            late = stack_size(limit, network, [few], data, settings)
            more = f", {late} where 1 % of the weights is left" if late > fit else ""
            notes.append(f"a stack of {size} does not fit into {each}: {fit} at a time{more}")
            size = fit
    if settings.precision == "bfloat16" and not multiplies_bfloat16(device):
        notes.append(
            "this processor has no products of bfloat16: values are rounded to it, which takes longer than float32"
        )
    if settings.engine == "sparse" and architecture.unknown:
        notes.append("pruned weights are multiplied as zeros: so is a network that the engine cannot stack")
    if settings.engine != "dense" and on_cpu and settings.precision == "float32" and not survivors_alone():
        notes.append("pruned weights are multiplied as zeros: numba, which compiles what leaves them out, is not here")
    if settings.precision == "medium" and on_cpu:
        notes.append("precision medium: products of fully connected layers are rounded only if the processor does that")
    if limit:
        twice = Limit(2 * limit.asked, limit.room)
        limit = None if stack_size(twice, network, [network.dense_mask()], data, settings) == twice.asked else limit
    return Allocation(size, jobs, threads, tuple(notes), limit)


def by_threads(settings: Settings, threads: int) -> Settings:
    """The settings with the threads of each process, by which engine auto chooses; those that a run has kept stay."""
    if settings.engine != "auto" or settings.engine_threads:
        return settings
    return settings.model_copy(update={"engine_threads": threads})


def stack_size(limit: Limit, network: Network, masks: Sequence[Mask], data: Data, settings: Settings) -> int:
    """Networks of a round with these masks in a stack: as many as fit, more where survivors are trained alone."""
    architecture = architecture_of(network.module, data.input_shape, settings.precision)
    rule = Rule(network, settings, data.train.x.device)
    each = max(
        member_bytes(network, architecture, data, settings, {name: mask[name] for name in rule(mask)}) for mask in masks
    )
    return max(1, min(limit.asked, limit.room // each))


def member_bytes(
    network: Network, architecture: Stack, data: Data, settings: Settings, alone: Mask | None = None
) -> int:
    """Memory that one more member of a stack takes while it is trained and evaluated, to about 15 %.

    Its weights, gradients, optimiser state, mask and snapshot, and what a step takes at its peak. Of the tensors in
    `alone` survivors alone have gradients and state, and are listed twice: by output and by input.
    """
    weights = sum(value.numel() for value in tensors_of(network.module).values())
    prunable = sum(kept.numel() for kept in network.dense_mask().values())
    survivors = sum(int(kept.sum()) for kept in (alone or {}).values())
    pruned = sum(kept.numel() for kept in (alone or {}).values()) - survivors
    state = 2 if settings.optimizer.startswith("adam") else 1
    floats = (weights - pruned) * (2 + state) + weights * (2 if settings.rewind_iteration else 1)
    kept = activation_bytes(network, architecture, data.input_shape, settings.batch_size)
    return 4 * floats + 9 * prunable + LISTED * survivors + round(AT_MOST * kept)


def activation_bytes(network: Network, architecture: Stack, input_shape: tuple[int, ...], images: int) -> int:
    """Bytes of the values that the backward pass needs of so many images, read off passes over two and four.

    In bfloat16 weights are among them, once.
    """
    two, four = (_kept(network, architecture, torch.zeros(1, count, *input_shape)) for count in (2, 4))
    return two + (four - two) * (images - 2) // 2


def _kept(network: Network, architecture: Stack, images: torch.Tensor) -> int:
    """Bytes of the values that the backward pass needs of these images."""
    weights = {
        name: value.requires_grad_() if name in network.trainable else value
        for name, value in stack([network.draw(0, "activations")], torch.device("cpu")).items()
    }
    own = {value.untyped_storage().data_ptr() for value in weights.values()}
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        scores = architecture(weights, images, training=True, generators=[torch.Generator()])
    del scores
    return sum(kept.values())


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
