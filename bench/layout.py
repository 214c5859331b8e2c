"""One convolutional network's step on a CPU in each layout of images, in turn.

    python bench/layout.py [lenet5 conv4] [--precision float32 bfloat16] [--steps 8] [--repeat 5] [--threads 1]

Milliseconds a step of batch 60, medians of rows measured in turn: all with channels first; images with channels last
and their gradients as they come from the linear layers, channels first; both with channels last, as the engine trains.
Images are noise, as only time counts.
"""

import argparse
import statistics
import time
from contextlib import ExitStack
from unittest.mock import patch

import torch
from sparse import noise, pruned, step  # the script beside this one
from torch import Tensor

from lottery_ticket.config import load_preset
from lottery_ticket.engine import layers
from lottery_ticket.engine.device import keep_freed_memory
from lottery_ticket.models.network import make_network

ROWS = {
    "channels first": (patch.object(layers, "_channels_last", lambda x: x),),
    "images channels last": (patch.object(Tensor, "register_hook", lambda *_: None),),
    "gradients too": (),
}
"""Row → what it takes back of how the engine trains."""


def main() -> None:
    """Print a table for each network and precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["lenet5", "conv4"])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=8, help="that are timed, each time")
    parser.add_argument("--repeat", type=int, default=5, help="how often each is measured")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    for model in given.models:
        data = noise((1, 28, 28) if model == "lenet5" else (3, 32, 32))
        for precision in given.precision:
            changes = {"model": model, "precision": precision, "engine": "dense", "jobs": 1, "stack": 1}
            length = {"epochs": None, "evaluate_every": None, "iterations": given.steps + 21}
            settings = load_preset("shu-lenet5", **changes, **length)
            network = make_network(settings, data.input_shape, data.classes)
            found: dict[str, list[float]] = {row: [] for row in ROWS}
            for _ in range(given.repeat):
                for row, without in ROWS.items():
                    with ExitStack() as changed:
                        for change in without:
                            changed.enter_context(change)
                        clock = time.perf_counter
                        found[row].append(1000 * step("dense", network, pruned(network, 1, 0.5), data, settings, clock))
            print(f"\n{model}, {precision}, batch 60, {given.threads} thread(s), torch {torch.__version__}, ms a step")
            for row, each in found.items():
                ratio = statistics.median(each) / statistics.median(found["channels first"])
                print(f"{row:<22} {statistics.median(each):7.1f}  {ratio:5.2f} × channels first")


if __name__ == "__main__":
    main()
