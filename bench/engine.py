"""Seconds per ticket-epoch of the engine, next to the usual ways to train the same network.

    python bench/engine.py [fc1|lenet5] [--device cpu|cuda] [--parts typical,engine,jobs,floor]
                           [--stacks K …] [--csv FILE]

One row each, all in one run: a plain PyTorch loop over tensors in memory, a typical research script (DataLoader over
torchvision's MNIST with ToTensor and Normalize, gradients masked through NumPy each step), this engine with K networks
in a stack, with K networks in each of two processes (CPU), and the floor: the arithmetic of the matrix products alone
at the machine's measured rate, on CUDA also the bytes of weights and optimiser state at its measured bandwidth. Each
row is a few times timed over a part of an epoch, in turn with the plain loop, and scaled to 1,000 batches of 60: one
epoch of MNIST. Given are medians: the row's seconds, the plain loop's beside it, their ratio. On CUDA the table has the
memory that a row took, and what the engine predicted for it.
"""

import argparse
import csv
import gzip
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.prepared import Data, Split, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.allocation import member_bytes
from lottery_ticket.engine.device import choose_device, free_memory
from lottery_ticket.engine.job import Member, Train
from lottery_ticket.engine.stack import Stack
from lottery_ticket.engine.training import train
from lottery_ticket.engine.workers import Workers
from lottery_ticket.errors import InputError
from lottery_ticket.method.pruning import prune
from lottery_ticket.models.network import Network, make_network

BATCH, EPOCH = 60, 1000  # images a batch, batches an epoch
REPEATS = 5
STACKS = {("fc1", "cpu"): (1, 4, 16), ("lenet5", "cpu"): (1, 4)}
CUDA_STACKS = (1, 4, 10, 16, 64, 256)
IN_EACH_PROCESS = {"fc1": (1, 2, 8), "lenet5": (1,)}
DENSITY, LATE = 0.5, 0.03


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="fc1", choices=["fc1", "lenet5"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", default="typical,engine,jobs,floor")
    parser.add_argument("--stacks", type=int, nargs="+", help="the K to measure on CUDA", default=CUDA_STACKS)
    parser.add_argument("--csv", type=Path, help="write the rows there too")
    chosen = parser.parse_args()
    try:
        device = choose_device(chosen.device)
    except InputError as error:
        parser.error(f"{error}. The CUDA rows need an NVIDIA GPU; stacks that do not fit into its memory are left out")
    settings = load_preset(model=chosen.model, validation_size=0, batch_size=BATCH, evaluate_every=None)
    whole = prepare(load_images("mnist"), 0, device)
    few = Split(whole.test.x[:100], whole.test.y[:100])  # what the engine evaluates at a round's end is not timed
    data = replace(whole, test=few)
    network = make_network(settings, data.input_shape, data.classes)
    steps = {"fc1": 600, "lenet5": 20}[chosen.model] if device.type == "cpu" else 300
    parts = chosen.parts.split(",")
    print(f"{chosen.model} on {name_of(device)}, batch {BATCH}, Adam; torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, Python {platform.python_version()}; seconds per ticket-epoch")
    table = Table(device, chosen.csv, plain(network, data, steps), REPEATS)

    if "typical" in parts:
        with typical(network, device, max(steps // 3, 5)) as block:
            table.row("typical script", block)
    low = settings.model_copy(update={"precision": "bfloat16"})
    if "engine" in parts:
        for now in (settings, low):
            for size in STACKS.get((chosen.model, device.type), chosen.stacks):
                table.engine(network, data, now, size, max(steps // (size if device.type == "cpu" else 1), 10), DENSITY)
        late = 1 if chosen.model == "lenet5" else 4
        table.engine(network, data, settings, late, max(steps // late, 10), LATE)
    if "jobs" in parts and device.type == "cpu":
        in_each = IN_EACH_PROCESS[chosen.model]
        for now in (settings, low):
            for size, density in [*((size, DENSITY) for size in in_each), (in_each[-1], LATE)]:
                table.processes(network, data, now, size, max(steps // size, 10), density)
    if "floor" in parts:
        table.row("floor (matrix products)", floor(network, data, device))
        if device.type == "cuda":
            table.row("floor (bytes of the step)", bytes_floor(network, device))


Block = Callable[[], float]
"""Times a part of an epoch and returns seconds per ticket-epoch."""


@dataclass
class Table:
    """Rows of seconds per ticket-epoch, printed as they are measured."""

    device: torch.device
    csv: Path | None
    plain: Block
    repeats: int

    def row(self, name: str, block: Block, predicted: int = 0) -> None:
        """Measure and print one figure; `predicted` is the engine's guess of its memory in bytes."""
        self.plain(), block()  # warm up
        on_cuda = self.device.type == "cuda"
        if on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        pairs = [(self.plain(), block()) for _ in range(self.repeats)]
        took = torch.cuda.max_memory_allocated() if on_cuda else 0
        plain, seconds = (statistics.median(each) for each in zip(*pairs, strict=True))
        share = statistics.median(mine / plain for plain, mine in pairs)
        memory = f"{took / 2**20:9.0f} MiB, predicted {predicted / 2**20:.0f}" if on_cuda else ""
        print(f"{name:<40} {seconds:10.4f} s, plain loop {plain:9.4f} s: {share:7.4f} × {memory}", flush=True)
        if self.csv:
            new = not self.csv.exists()
            with self.csv.open("a", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(["row", "seconds_per_ticket_epoch", "plain", "ratio", "peak_bytes", "predicted"])
                writer.writerow([name, f"{seconds:.6g}", f"{plain:.6g}", f"{share:.6g}", took, predicted])

    def engine(self, network: Network, data: Data, settings: Settings, size: int, steps: int, density: float) -> None:
        """The row of one stack."""
        architecture = Stack(network.module, data.input_shape, settings.precision)
        images = sum(part.nbytes for part in (data.train.x, data.test.x))
        name = f"engine, K = {size}, {settings.precision}, {100 * density:.0f} % left"
        predicted = size * member_bytes(network, architecture, data, settings)
        if predicted > (free_memory(self.device) or predicted):
            print(f"{name:<40} would take {predicted / 2**30:.1f} GiB: not measured", flush=True)
        else:
            self.row(name, engine(network, data, settings, size, steps, density), images + predicted)

    def processes(
        self, network: Network, data: Data, settings: Settings, size: int, steps: int, density: float
    ) -> None:
        """The row of two processes with a stack each."""
        settings = settings.model_copy(update={"jobs": 2})
        with Workers(settings, 1, load_images("mnist").digest) as workers:
            name = f"2 processes × K = {size}, {settings.precision}, {100 * density:.0f} % left"
            self.row(name, engine(network, data, settings, size, steps, density, workers.train))


def name_of(device: torch.device) -> str:
    """The processor, in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@contextmanager
def typical(network: Network, device: torch.device, steps: int) -> Iterator[Block]:
    """A DataLoader over torchvision's MNIST, one network, gradients masked through NumPy after each backward pass."""
    from torchvision import datasets, transforms

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "MNIST", "raw")
        raw.mkdir(parents=True)
        for file in (resources.files("lottery_ticket") / "mnist").iterdir():
            if file.name.endswith(".gz"):
                (raw / file.name[:-3]).write_bytes(gzip.decompress(file.read_bytes()))
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        images = datasets.MNIST(folder, train=True, transform=transform)
        loader = torch.utils.data.DataLoader(images, BATCH, shuffle=True)
        module = network.build().to(device)
        optimizer = torch.optim.Adam(module.parameters(), 1.2e-3)

        def run() -> None:
            for _, (x, y) in zip(range(steps), loader, strict=False):
                optimizer.zero_grad()
                F.cross_entropy(module(x.to(device)), y.to(device)).backward()
                for name, parameter in module.named_parameters():
                    if "weight" in name:
                        values, gradient = parameter.data.cpu().numpy(), parameter.grad.data.cpu().numpy()
                        parameter.grad.data = torch.from_numpy(np.where(np.abs(values) < 1e-6, 0, gradient)).to(device)
                optimizer.step()

        yield lambda: EPOCH * timed(run, device) / steps


def plain(network: Network, data: Data, steps: int) -> Block:
    """A PyTorch loop over tensors in memory, with the usual optimiser and no masks."""
    device = data.train.x.device
    module = network.build().to(device)
    optimizer = torch.optim.Adam(module.parameters(), 1.2e-3)

    def run() -> None:
        order = torch.randperm(len(data.train), device=device)
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad()
            F.cross_entropy(module(data.train.x[batch]), data.train.y[batch]).backward()
            optimizer.step()

    return lambda: EPOCH * timed(run, device) / steps


def engine(
    network: Network, data: Data, settings: Settings, size: int, steps: int, density: float, train: Train = train
) -> Block:
    """A stack of `size` networks, or one in each process; what starting and evaluating take is left out."""
    members = made_up(network, size * (2 if settings.jobs == 2 else 1), density)
    device = data.train.x.device

    def block() -> float:
        seconds = []
        for count in (10, steps + 10):
            now = settings.model_copy(update={"stack": size, "iterations": count, "epochs": None})
            seconds.append(timed(lambda now=now: train(network, members, data, now, 0, None, None), device))
        return EPOCH * (seconds[1] - seconds[0]) / steps / len(members)

    return block


def made_up(network: Network, size: int, density: float) -> list[Member]:
    """Members of which this part of the weights is left, the largest ones."""
    members = []
    for seed in range(size):
        start, dense = network.draw(seed, "init"), network.dense_mask()
        rates = dict.fromkeys(dense, 1 - density)
        scores = {name: start[name].abs() for name in dense}
        members.append(Member("winning", seed, prune(scores, dense, rates), start))
    return members


def floor(network: Network, data: Data, device: torch.device) -> Block:
    """The operations of the products of one step – forward, weights' and inputs' gradients – at the measured rate."""
    operations = 0
    layers = [layer for layer in network.module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    positions: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: positions.append(math.prod(out.shape[2:]))) for layer in layers
    ]
    with torch.no_grad():
        network.module(torch.zeros(1, *data.input_shape))
    for hook in hooks:
        hook.remove()
    for index, (layer, places) in enumerate(zip(layers, positions, strict=True)):
        passes = 2 if index == 0 else 3  # the images need no gradient
        operations += passes * 2 * BATCH * places * layer.weight.numel()
    side = 2048 if device.type == "cpu" else 8192
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    print(f"a step of one ticket takes {operations / 1e6:.1f} Mflop in matrix products")

    def block() -> float:
        rate = 2 * side**3 / timed(lambda: a @ b, device)
        return EPOCH * operations / rate

    return block


def bytes_floor(network: Network, device: torch.device) -> Block:
    """The bytes of a step's weights and Adam's state, read and written once each, at the rate of a large copy."""
    values = sum(parameter.numel() for parameter in network.module.parameters())
    moved = 4 * values * 8  # weights (for the products, then the update), gradient and two moments in; three out
    a = torch.empty(2**28, device=device)
    b = torch.empty_like(a)
    print(f"a step of one ticket moves {moved / 1e6:.1f} MB of weights and optimiser state")

    def block() -> float:
        rate = 2 * a.nbytes / timed(lambda: b.copy_(a), device)
        return EPOCH * moved / rate

    return block


if __name__ == "__main__":
    main()
