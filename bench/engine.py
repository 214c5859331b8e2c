"""Seconds per ticket-epoch of the engine, next to the usual ways to train the same network.

    python bench/engine.py [fc1|lenet5] [--device cpu|cuda] [--parts typical,plain,engine,floor]

One row each, all in one run: a typical research script (DataLoader over torchvision's MNIST with ToTensor and
Normalize, gradients masked through NumPy each step), a plain PyTorch loop over tensors in memory, this engine with K
networks in a stack, and the floor: the arithmetic of the matrix products alone at the machine's measured rate. Each is
timed over a part of an epoch, the best of three repeats, and scaled to 1,000 batches of 60: one epoch of MNIST.
"""

import argparse
import gzip
import math
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data import Data, Split, load_images, prepare
from lottery_ticket.models import Network, make_network
from lottery_ticket.training import Member, arithmetic, train

BATCH, EPOCH = 60, 1000  # images a batch, batches an epoch
REPEATS = 3
STACKS = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 4, 16, 64, 256)}


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="fc1", choices=["fc1", "lenet5"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", default="typical,plain,engine,floor")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    settings = load_preset(model=chosen.model, validation_size=0, batch_size=BATCH)
    whole = prepare(load_images("mnist"), 0, device)
    few = Split(whole.test.x[:100], whole.test.y[:100])  # what the engine evaluates at a round's end is not timed
    data = replace(whole, test=few)
    network = make_network(settings, data.input_shape, data.classes)
    steps = {"fc1": 300, "lenet5": 20}[chosen.model] if device.type == "cpu" else 300
    parts = chosen.parts.split(",")
    print(f"{chosen.model} on {device}, batch {BATCH}, Adam; torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, Python {platform.python_version()}; seconds per ticket-epoch")
    reference: float | None = None

    def row(name: str, seconds: float) -> None:
        share = f"{seconds / reference:8.2f} × plain" if reference else ""
        print(f"{name:<26} {seconds:9.3f} s {share}", flush=True)

    if "plain" in parts:
        reference = plain(network, data, steps)
        row("plain loop", reference)
    if "typical" in parts:
        row("typical script", typical(network, device, max(steps // 3, 5)))
    if "engine" in parts:
        for size in STACKS[device.type]:
            if chosen.model == "lenet5" and size > 4 and device.type == "cpu":
                break
            row(f"engine, K = {size}", engine(network, data, settings, size, max(steps // size, 10)))
        if device.type == "cpu":
            low = settings.model_copy(update={"precision": "bfloat16"})
            row("engine, K = 1, bfloat16", engine(network, data, low, 1, steps))
    if "floor" in parts:
        row("floor (matrix products)", floor(network, data, device))


def best_of(run: Callable[[], int], device: torch.device) -> float:
    """Seconds a step: the best of the repeats after one for warm-up; `run` says how many steps it did."""
    times = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        steps = run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / steps)
    return min(times[1:])


def typical(network: Network, device: torch.device, steps: int) -> float:
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

        def run() -> int:
            for step, (x, y) in enumerate(loader):
                optimizer.zero_grad()
                F.cross_entropy(module(x.to(device)), y.to(device)).backward()
                for name, parameter in module.named_parameters():
                    if "weight" in name:
                        values, gradient = parameter.data.cpu().numpy(), parameter.grad.data.cpu().numpy()
                        parameter.grad.data = torch.from_numpy(np.where(np.abs(values) < 1e-6, 0, gradient)).to(device)
                optimizer.step()
                if step + 1 == steps:
                    break
            return steps

        return EPOCH * best_of(run, device)


def plain(network: Network, data: Data, steps: int) -> float:
    """A PyTorch loop over tensors in memory, with the usual optimiser and no masks."""
    device = data.train.x.device
    module = network.build().to(device)
    optimizer = torch.optim.Adam(module.parameters(), 1.2e-3)

    def run() -> int:
        order = torch.randperm(len(data.train), device=device)
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad()
            F.cross_entropy(module(data.train.x[batch]), data.train.y[batch]).backward()
            optimizer.step()
        return steps

    return EPOCH * best_of(run, device)


def engine(network: Network, data: Data, settings: Settings, size: int, steps: int) -> float:
    """`training.train` on one stack of `size` half-pruned networks; what evaluating at the end takes is left out."""
    mask = {name: torch.rand(kept.shape) < 0.5 for name, kept in network.dense_mask().items()}
    members = [Member("winning", seed, mask, network.draw(seed, "init")) for seed in range(size)]
    seconds: dict[int, float] = {}
    with arithmetic(settings, data.train.x.device):
        for count in (1, steps + 1):
            now = settings.model_copy(update={"stack": size, "iterations": count, "epochs": None})

            def run(now: Settings = now) -> int:
                train(network, members, data, now, 0)
                return 1

            seconds[count] = best_of(run, data.train.x.device)
    return EPOCH * (seconds[steps + 1] - seconds[1]) / steps / size


def floor(network: Network, data: Data, device: torch.device) -> float:
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
    side = 2048
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)

    def run() -> int:
        for _ in range(10):
            a @ b
        return 10

    rate = 2 * side**3 / best_of(run, device)
    print(f"matrix products: {rate / 1e9:.0f} Gflop/s; a step takes {operations / 1e6:.1f} Mflop")
    return EPOCH * operations / rate


if __name__ == "__main__":
    main()
