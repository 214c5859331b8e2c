"""What training over survivors alone costs, by density, against the dense engine and a plain PyTorch loop.

    python bench/sparse.py [fc1 lenet5 vgg resnet20 convolution trajectory] [--members K] [--repeat 3] [--threads N]
                           [--cpu-time] [--densities 0.1 0.03] [--figure FILE.png]

Milliseconds a step and network, medians of rows measured in turn: a plain loop over tensors in memory, one network
after another (convolutional ones in the faster of torch's two layouts); the engine's dense stack; the same members over
survivors alone; and `auto`, as the engine chooses. `vgg` is a chain of three convolutions with batch normalisation
(64-128-256, 32×32 images); its images and those of `resnet20` are noise, as only time counts.
`convolution` is one of 64 → 64 channels, 3×3, at 28×28, forward and both gradients, against torch's; `trajectory` is
35 rounds of fc1, dense and `auto`.

The plain loop profits here from freed memory being kept (bench/pages.py), which in a process of its own it does not.
The first sparse step, which compiles or loads the kernels, is not counted; it is told apart. `--cpu-time` counts the
seconds of the processor, for a machine that others use; with more threads than one it counts all of them.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.prepared import Data, Split, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.device import keep_freed_memory
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.sparse.blocks import blocked
from lottery_ticket.engine.sparse.weights import survivors
from lottery_ticket.engine.training import train
from lottery_ticket.method.pruning import prune
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import Network, make_network

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.03, 0.01, 0.003)
ENGINES = ("dense", "sparse", "auto")
UNCOUNTED = 20  # steps, of which the first watch tells
AIMS = {
    "fc1": {0.1: 0.25, 0.03: 0.12, 0.01: 0.07},
    "convolution": {0.1: 0.3, 0.03: 0.12},
    "lenet5": {0.2: 0.8, 0.05: 0.5},
    "vgg": {0.1: 0.35, 0.03: 0.2},
    "resnet20": {0.1: 0.6, 0.03: 0.35},
}
"""Work → density → the part of the plain loop's time that survivors alone are meant to take at most."""


@dataclass(frozen=True)
class Work:
    """A network and how it is trained: settings, steps that are counted (of the plain loop, of the engine), images."""

    settings: dict
    plain_steps: int
    steps: int
    shape: tuple[int, ...]


SGD = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.01}
WORKS = {
    "fc1": Work({"batch_size": 60}, 160, 160, (1, 28, 28)),
    "lenet5": Work({"model": "lenet5", "batch_size": 60}, 40, 40, (1, 28, 28)),
    "vgg": Work({"model": "__main__:vgg", "batch_size": 128, **SGD}, 8, 20, (3, 32, 32)),
    "resnet20": Work({"model": "resnet20", "batch_size": 128, **SGD}, 8, 20, (3, 32, 32)),
}


def main() -> None:
    """Print a table for each work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", default=["fc1"], choices=[*WORKS, "convolution", "trajectory"])
    parser.add_argument("--members", type=int, default=4, help="networks in a stack; convolutional ones are alone")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of the kernels")
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor")
    parser.add_argument("--figure", type=Path, help="draw the first work's times there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    clock = time.process_time if given.cpu_time else time.perf_counter
    for name in given.works:
        if name == "trajectory":
            trajectory(given, clock)
            continue
        rows = convolution(given, clock) if name == "convolution" else network_rows(name, WORKS[name], given, clock)
        if given.figure and name == given.works[0]:
            draw(name, rows, given.figure)


Row = tuple[float, dict[str, float]]
"""Density, and milliseconds by how."""


def network_rows(name: str, work: Work, given: argparse.Namespace, clock: Callable[[], float]) -> list[Row]:
    """Measure and print the rows of a network."""
    members = given.members if name == "fc1" else 1
    data = noise(work.shape)
    flags = {"epochs": None, "evaluate_every": None, "jobs": 1, **work.settings}
    settings = load_preset("quick", iterations=work.steps + UNCOUNTED + 1, stack=members, **flags)
    network = make_network(settings, data.input_shape, data.classes)
    begun = time.perf_counter()
    step("sparse", network, pruned(network, members, 0.05), data, settings.model_copy(update={"iterations": 2}), clock)
    print(
        f"\n{name}, {members} network(s), {given.threads} thread(s), torch {torch.__version__}, ms a step and network"
    )
    print(f"kernels compiled or loaded, and two steps: {time.perf_counter() - begun:.1f} s")
    header("left %", "plain", *ENGINES)
    rows = []
    for density in given.densities:
        chosen = pruned(network, members, density)
        measured = {"plain": lambda m=chosen: plain(network, m[0], data, settings, work.plain_steps, clock)} | {
            engine: lambda e=engine, m=chosen: step(e, network, m, data, settings, clock) for engine in ENGINES
        }
        rows.append(row(density, measured, given.repeat, AIMS[name].get(density)))
    return rows


def convolution(given: argparse.Namespace, clock: Callable[[], float]) -> list[Row]:
    """Measure and print the rows of one convolution, forward and both gradients."""
    layer, images = nn.Conv2d(64, 64, 3, padding=1, bias=False), torch.randn(64, 64, 28, 28)
    print(f"\nconvolution 64 → 64, 3×3, 28×28, batch 64, {given.threads} thread(s), ms")
    header("left %", "plain", "sparse")
    gradient, draw = torch.randn_like(images), torch.Generator().manual_seed(0)

    def dense(layout: torch.memory_format) -> float:
        x = images.to(memory_format=layout).requires_grad_()
        return seconds(
            lambda: torch.autograd.grad(layer(x), [x, layer.weight], gradient.to(memory_format=layout)), clock
        )

    rows = []
    for density in given.densities:
        mask = torch.rand(1, *layer.weight.shape, generator=draw) < density
        weights = survivors(layer, layer.weight.detach()[None] * mask, mask)
        x, g = blocked(images[None]).requires_grad_(), blocked(gradient[None])
        measured: dict[str, Callable[[], float]] = {
            "plain": lambda: min(dense(layout) for layout in (torch.contiguous_format, torch.channels_last)),
            "sparse": lambda w=weights, x=x, g=g: seconds(
                lambda: torch.autograd.grad(w(x, None), [x, w.values], g), clock
            ),
        }
        rows.append(row(density, measured, given.repeat, AIMS["convolution"].get(density)))
    return rows


def trajectory(given: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Measure and print a whole trajectory of fc1 on MNIST: 35 rounds of 100 iterations, 20 % pruned a round."""
    data = prepare(load_images("mnist"), 5000, torch.device("cpu"))
    flags = {"epochs": None, "iterations": 100, "evaluate_every": None, "rounds": 35, "prune_rate": 0.2, "jobs": 1}
    settings = load_preset("quick", stack=given.members, seeds=(0, 1), arms=("winning", "reinit"), **flags)
    found: dict[str, list[float]] = {"dense": [], "auto": []}
    for _ in range(given.repeat):
        for engine, times in found.items():
            begun = clock()
            network = make_network(settings, data.input_shape, data.classes)
            for _ in find_tickets(settings.model_copy(update={"engine": engine}), network, data):
                pass
            times.append(clock() - begun)
    dense, auto = (statistics.median(times) for times in found.values())
    print(
        f"\nfc1, 35 rounds, 4 networks: dense {dense:.1f} s, auto {auto:.1f} s, auto/dense {auto / dense:.2f} (aim 0.5)"
    )


def header(*names: str) -> None:
    """The names of columns, and of the ratios to the first."""
    last = ["auto/dense"] if "auto" in names else []
    print(*(f"{name:>9}" for name in names), *(f"{name + '/plain':>13}" for name in names[2:]), *last, "aim")


def row(density: float, measured: dict[str, Callable[[], float]], repeat: int, aim: float | None) -> Row:
    """Measure in turn, print milliseconds, what they are to the plain loop's, and whether that is what was aimed at."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(repeat):
        for name, measure in measured.items():
            found[name].append(1000 * measure())
    times = {name: statistics.median(each) for name, each in found.items()}
    ratios = [times[name] / times["plain"] for name in times if name != "plain"]
    last = [f"{times['auto'] / times['dense']:10.2f}"] if "auto" in times else []
    if aim is not None:
        last.append(f"≤ {aim} {'met' if times['sparse'] <= aim * times['plain'] else 'missed'}")
    each = [*(f"{each:9.3g}" for each in times.values()), *(f"{each:13.2f}" for each in ratios)]
    print(f"{100 * density:9.3g}", *each, *last)
    return density, times


def noise(shape: tuple[int, ...]) -> Data:
    """Images of noise in place of MNIST's, with few to evaluate."""
    draw = torch.Generator().manual_seed(0)

    def some(count: int) -> Split:
        return Split(torch.randn(count, *shape, generator=draw), torch.randint(10, (count,), generator=draw))

    mnist = prepare(load_images("mnist"), 0, torch.device("cpu"))
    return replace(mnist, train=some(6000), validation=Split(some(0).x, some(0).y), test=some(100))


def pruned(network: Network, size: int, density: float) -> list[Member]:
    """Members whose largest weights survive; of the output layer a tenth at least."""
    members = []
    for seed in range(size):
        start, dense = network.draw(seed, "init"), network.dense_mask()
        rates = {name: 1 - (max(density, 0.1) if name in network.output else density) for name in dense}
        scores = {name: start[name].abs() for name in dense}
        mask = dense if density == 1 else prune(scores, dense, {name: max(rate, 1e-9) for name, rate in rates.items()})
        members.append(Member("winning", seed, mask, start))
    return members


def step(
    engine: str,
    network: Network,
    members: list[Member],
    data: Data,
    settings: Settings,
    clock: Callable[[], float],
) -> float:
    """Seconds of the engine per step and network, from the first time that it tells of progress to the last."""
    told: list[tuple[int, float]] = []
    train(
        network,
        members,
        data,
        settings.model_copy(update={"engine": engine}),
        0,
        None,
        lambda progress: told.append((progress.done, clock())),
    )
    (first, begun), (last, ended) = told[0], told[-2 if len(told) > 2 else -1]  # the last is after the evaluation
    return (ended - begun) / max(1, last - first)


def plain(
    network: Network, member: Member, data: Data, settings: Settings, steps: int, clock: Callable[[], float]
) -> float:
    """Seconds of a step of a plain loop, masks multiplied after each step, in the faster layout."""
    layouts = [torch.contiguous_format] + [torch.channels_last] * (settings.model != "fc1")
    return min(plain_in(layout, network, member, data, settings, steps, clock) for layout in layouts)


def plain_in(
    layout: torch.memory_format,
    network: Network,
    member: Member,
    data: Data,
    settings: Settings,
    steps: int,
    clock: Callable[[], float],
) -> float:
    """The same in one layout."""
    module = network.build().to(memory_format=layout)
    module.load_state_dict(member.weights, strict=False)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(module.parameters(), lr=settings.lr)
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD(module.parameters(), lr=settings.lr, momentum=settings.momentum)
    masks = [(module.get_parameter(name), kept.float()) for name, kept in member.mask.items()]
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    images = data.train.x.contiguous(memory_format=layout)
    begun, warm = 0.0, 2
    for index in range(steps + warm):
        if index == warm:
            begun = clock()
        first = index * settings.batch_size % (len(order) - settings.batch_size)
        batch = order[first : first + settings.batch_size]
        optimizer.zero_grad()
        F.cross_entropy(module(images[batch]), data.train.y[batch]).backward()
        optimizer.step()
        with torch.no_grad():
            for weight, kept in masks:
                weight.mul_(kept)
    return (clock() - begun) / steps


def seconds(work: Callable[[], object], clock: Callable[[], float], times: int = 5) -> float:
    """Seconds of a call, the first not counted."""
    work()
    begun = clock()
    for _ in range(times):
        work()
    return (clock() - begun) / times


def draw(name: str, rows: Sequence[Row], file: Path) -> None:
    """The figure of time against density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    labels = {"plain": "plain PyTorch loop", "dense": "the engine's dense stack", "sparse": "over survivors alone"}
    for how, label in labels.items():
        axes.plot([100 * density for density, _ in rows], [times[how] for _, times in rows], "o-", label=label)
    axes.set(xscale="log", yscale="log", xlabel="weights left in %", ylabel="ms a step and network", title=name)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.invert_xaxis()
    axes.legend()
    figure.savefig(file, dpi=120)


def vgg() -> nn.Module:
    """Three convolutions with batch normalisation, ReLU and pooling, 64-128-256."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 16, 10))


if __name__ == "__main__":
    main()
