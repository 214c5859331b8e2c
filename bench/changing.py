"""What a training step costs with masks that change or are learned, against one mask for the whole round.

    python bench/changing.py [fc1 resnet20] [--left 0.1] [--repeat 3]

Milliseconds of the processor a step and network of the dense engine, medians of rows measured in turn: fc1 in a stack
of four at batch 60, ResNet-20 at a quarter of its width alone at batch 128, Adam, images of noise. Of masks that
change, a step between two changes and, by rounds in which they change after every step, what a change takes besides; of
those that are learned every step is both. The last column is for `--mask-every 100`, the default.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch
from sparse import noise, pruned, step  # the script beside this one

from lottery_ticket.config import load_preset
from lottery_ticket.engine.job import CHANGING, LEARNING, Training
from lottery_ticket.models.network import make_network

NETWORKS = {
    "fc1": ((1, 28, 28), 4, {"batch_size": 60}),
    "resnet20": ((3, 32, 32), 1, {"batch_size": 128, "width": 0.25}),
}
"""Model → shape of its images, networks in the stack, settings."""

STEPS = 41
"""Of which the last is evaluated, and the 20 before are timed."""

EVERY = 100
"""The default of `--mask-every`."""


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=[*NETWORKS])
    parser.add_argument("--left", type=float, default=0.1, help="part of the weights")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)  # whose time is then the processor's
    for model in given.models:
        table(model, given.left, given.repeat)


def table(model: str, left: float, repeat: int) -> None:
    """Time and print."""
    shape, size, told = NETWORKS[model]
    still = load_preset(model=model, iterations=STEPS, epochs=None, mask_until=f"{STEPS}it", mask_every=STEPS, **told)
    settings = {
        False: still.model_copy(update={"stack": size}),
        True: still.model_copy(update={"stack": size, "mask_every": 1}),
    }
    data = noise(shape)
    network = make_network(still, shape, data.classes)

    def one(how: Training, changing: bool = False) -> float:
        members = [replace(each, training=how) for each in pruned(network, size, left)]
        return 1e3 * step("dense", network, members, data, settings[changing], time.process_time)

    kinds = [
        ("usual", False),
        *((how, each) for how in CHANGING for each in (False, True)),
        *((how, False) for how in LEARNING),
    ]
    found = {kind: [] for kind in kinds}
    for _ in range(repeat):
        for kind in kinds:
            found[kind].append(one(*kind))
    taken = {kind: statistics.median(each) for kind, each in found.items()}
    whole = taken["usual", False]
    print(f"\n{model}, {100 * left:g} % left, K = {size}, batch {still.batch_size}, torch {torch.__version__}, in ms")
    print(f"{'':<12}{'a step':>10}{'a change':>12}{'× one mask, on average':>26}")
    print(f"{'one mask':<12}{whole:10.3f}{'':>12}{1:26.2f}")
    for how in (*CHANGING, *LEARNING):
        plain = taken[how, False]
        change = taken[how, True] - plain if how in CHANGING else None
        mean = plain + (change or 0.0) / EVERY
        print(f"{how:<12}{plain:10.3f}{'–' if change is None else f'{change:.3f}':>12}{mean / whole:26.2f}")


if __name__ == "__main__":
    main()
