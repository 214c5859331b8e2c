"""ResNet-20 and VGG-16 on images of CIFAR's size: the engine against a plain loop and against a DataLoader script.

    python bench/cifar.py [resnet20 vgg16] [--members 1 4] [--steps 6] [--repeat 3] [--threads N] [--device cpu|cuda]

Milliseconds a step and network at batch 128, medians of rows measured in turn, with flips, crops, momentum and masks
(half of the weights are left): a plain loop in float32 over tensors in memory, whose images are moved all at once, in
the faster of torch's two layouts; a script with torchvision's transforms in a DataLoader of two processes; the engine
in float32 and bfloat16. Images are noise, as only time counts.

Then what flips and crops take, alone, and the memory that one more network of a stack takes, measured and predicted: on
a CPU of the process, each stack in one of its own; on CUDA of the device.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sparse import noise, pruned, step  # the script beside this one
from torch import Tensor
from torchvision import transforms

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.augment import augment, augmentations
from lottery_ticket.data.prepared import Data, Split
from lottery_ticket.engine.allocation import member_bytes
from lottery_ticket.engine.device import choose_device, keep_freed_memory
from lottery_ticket.engine.stack import architecture_of
from lottery_ticket.engine.training import train
from lottery_ticket.models.network import Network, make_network

AIM = 0.9
"""The part of the plain loop's time that one network is meant to take at most, in the better precision."""
AUGMENTED = 0.05
"""The part of a step that flips and crops are meant to take less than."""
PREDICTED = 0.15
"""How far memory may be from what was predicted."""
DENSITY = 0.5
FOR_MEMORY = (2, 4)
"""Sizes of the stacks between which memory is compared."""
LAYOUTS = (torch.contiguous_format, torch.channels_last)
WARM = 2  # steps that are not counted

Batches = Iterable[tuple[Tensor, Tensor]]


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "vgg16"])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4], help="networks in a stack")
    parser.add_argument("--steps", type=int, default=6, help="that are timed, each time")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory-of", type=int, help="print only the most bytes that training a stack of so many took")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = choose_device(given.device)
    for model in given.models:
        settings, data, network = prepared(model, device, given.steps)
        if given.memory_of:
            print(memory_of(network, data, settings, given.memory_of))
        else:
            keep_freed_memory()
            times(network, data, settings, given)
            memory(network, data, settings)


def prepared(model: str, device: torch.device, steps: int) -> tuple[Settings, Data, Network]:
    """A network, its recipe and noise on the device; the first 20 steps are not counted."""
    recipe = {"batch_size": 128, "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    recipe |= {"augment": ("flip", "crop"), "epochs": None, "evaluate_every": None, "iterations": steps + 21}
    settings = load_preset("quick", model=model, device=device.type, engine="dense", jobs=1, **recipe)
    few = noise((3, 32, 32))
    parts = [Split(part.x.to(device), part.y.to(device)) for part in (few.train, few.validation, few.test)]
    info = few.info.model_copy(update={"image_shape": (32, 32, 3), "mean": (127.5,) * 3, "std": (63.75,) * 3})
    data = Data(*parts, info)
    return settings, data, make_network(settings, data.input_shape, data.classes)


def times(network: Network, data: Data, settings: Settings, given: argparse.Namespace) -> None:
    """Measure and print milliseconds a step and network, and what flips and crops take of them."""
    device = data.train.x.device

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def script(batches: Callable[[], Batches], layouts: Iterable[torch.memory_format]) -> Callable[[], float]:
        return lambda: min(plain(network, batches(), given.steps, layout, settings, clock) for layout in layouts)

    def engine(size: int, precision: str) -> Callable[[], float]:
        now = settings.model_copy(update={"stack": size, "precision": precision})
        return lambda: step("dense", network, pruned(network, size, DENSITY), data, now, clock)

    precisions = ("float32", "bfloat16")
    measured = {
        "plain loop": script(lambda: in_memory(data, settings), LAYOUTS),
        "DataLoader script": script(lambda: from_loader(settings), LAYOUTS[:1]),
    } | {f"K = {k}, {precision}": engine(k, precision) for k in given.members for precision in precisions}
    found: dict[str, list[float]] = {name: [] for name in measured}
    moving = []
    for _ in range(given.repeat):
        for name, measure in measured.items():
            found[name].append(1000 * measure())
        moving.append(1000 * flips_and_crops(data, settings, clock))
    taken = {name: statistics.median(each) for name, each in found.items()}
    print(f"\n{settings.model}, batch {settings.batch_size}, {given.threads} thread(s) on {device}, torch ", end="")
    print(f"{torch.__version__}, ms a step and network")
    for name, each in taken.items():
        print(f"{name:<20} {each:9.1f}  {each / taken['plain loop']:5.2f} × plain loop")
    alone = min((taken[name], name) for name in taken if name.startswith("K = 1,"))
    print(f"one network at its best: {alone[0] / taken['plain loop']:.2f} × plain loop (aim {AIM})")
    share = statistics.median(moving) / alone[0]
    print(f"flips and crops: {statistics.median(moving):.2f} ms, {share:.1%} of that (aim {AUGMENTED:.0%})")


def plain(
    network: Network,
    batches: Batches,
    steps: int,
    layout: torch.memory_format,
    settings: Settings,
    clock: Callable[[], float],
) -> float:
    """Seconds of a step of a plain loop over these batches, masks multiplied after each step."""
    (member,) = pruned(network, 1, DENSITY)
    device = choose_device(settings.device)
    module = network.build().to(device, memory_format=layout)
    optimizer = torch.optim.SGD(module.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    masks = [(module.get_parameter(name), kept.float().to(device)) for name, kept in member.mask.items()]
    begun = 0.0
    for index, (x, y) in enumerate(islice(batches, steps + WARM)):
        if index == WARM:
            begun = clock()
        optimizer.zero_grad()
        loss = F.cross_entropy(module(x.to(device).contiguous(memory_format=layout)), y.to(device))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for weight, kept in masks:
                weight.mul_(kept)
    return (clock() - begun) / steps


def in_memory(data: Data, settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches of tensors in memory, flipped and cropped all at once."""
    moves = augmentations(settings.augment or (), data.info, data.train.x.device)
    draws = [torch.Generator(data.train.x.device).manual_seed(0)]
    while True:
        order = torch.randperm(len(data.train), device=data.train.x.device)
        for batch in order.split(settings.batch_size)[:-1]:
            yield augment(data.train.x[batch][None], moves, draws)[0], data.train.y[batch]


def from_loader(settings: Settings) -> Batches:
    """The same from pictures, one by one, in two processes."""
    moves = [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return torch.utils.data.DataLoader(
        Pictures(transforms.Compose([*moves, transforms.Normalize((0.5,) * 3, (0.25,) * 3)])),
        settings.batch_size,
        shuffle=True,
        num_workers=2,
        drop_last=True,
    )


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Noise as torchvision's CIFAR-10 gives its images."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self._transform = transform
        self._pixels = np.random.default_rng(0).integers(0, 256, (6000, 32, 32, 3), np.uint8)

    def __len__(self) -> int:
        """As many as `noise`."""
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A picture and its label."""
        return self._transform(Image.fromarray(self._pixels[index])), index % 10


def flips_and_crops(data: Data, settings: Settings, clock: Callable[[], float]) -> float:
    """Seconds that flips and crops of a batch take."""
    moves = augmentations(settings.augment or (), data.info, data.train.x.device)
    x, draws = data.train.x[: settings.batch_size][None], [torch.Generator(data.train.x.device)]
    augment(x, moves, draws)
    begun = clock()
    for _ in range(10):
        augment(x, moves, draws)
    return (clock() - begun) / 10


def memory(network: Network, data: Data, settings: Settings) -> None:
    """Measure and print the memory of one more network."""
    command = [sys.executable, __file__, settings.model, "--device", settings.device]
    took = [
        int(subprocess.check_output([*command, "--memory-of", str(size)], text=True).split()[-1]) for size in FOR_MEMORY
    ]
    more = (took[1] - took[0]) / (FOR_MEMORY[1] - FOR_MEMORY[0])
    predicted = member_bytes(
        network, architecture_of(network.module, data.input_shape, settings.precision), data, settings
    )
    print(
        f"memory of one more network: {more / 2**20:.0f} MiB, predicted {predicted / 2**20:.0f} MiB, "
        f"{predicted / more - 1:+.0%} (aim {PREDICTED:.0%})"
    )


def memory_of(network: Network, data: Data, settings: Settings, size: int) -> int:
    """The most bytes that the process or the device held while it trained and evaluated a stack."""
    now = settings.model_copy(update={"stack": size, "iterations": 3})
    train(network, pruned(network, size, DENSITY), data, now, 0, None, None)
    if settings.device == "cuda":
        return torch.cuda.max_memory_allocated()
    told = Path("/proc/self/status").read_text()  # getrusage would tell what the parent held, if that was more
    return 1024 * int(told.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
