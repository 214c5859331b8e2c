"""Do memory and time per round stay flat over 300 rounds?

    python bench/soak.py [--rounds 300]

One `lt run` (100 iterations a round on 1,200 images of MNIST, arms winning and reinit) in one process, kept in a new
MLflow store. Prints the resident memory and the seconds per round, medians over parts of the run.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lottery_ticket.config import load_preset
from lottery_ticket.data.sources import load_images
from lottery_ticket.record import Record
from lottery_ticket.runs.run import Listener, run

PARTS = 6


class Watch(Listener):
    """Notes memory (bytes) and time after each round."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self.times = [time.perf_counter()]

    def rounds_finished(self, records: Sequence[Record]) -> None:
        """A round is finished."""
        self.memory.append(resident())
        self.times.append(time.perf_counter())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    images = load_images("mnist")
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "small.npz")
        parts = {"x_train": 1200, "y_train": 1200, "x_test": 400, "y_test": 400}
        np.savez(data, **{name: getattr(images, name)[:count] for name, count in parts.items()})
        settings = load_preset(
            dataset=str(data), validation_size=200, rounds=rounds, iterations=100, prune_rate=0.01, stack=2, jobs=1
        )
        run(settings, tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db", listener=watch)
    seconds = np.diff(watch.times)
    print("rounds        memory (MB)   seconds per round (medians)")
    medians = []
    for part in np.array_split(np.arange(rounds), PARTS):
        memory = statistics.median(watch.memory[i] for i in part) / 1e6
        medians.append((memory, statistics.median(seconds[part])))
        print(f"{part[0]:>4} to {part[-1]:<4}  {memory:>11.1f}   {medians[-1][1]:.3f}")
    (_, first), (warm, _), (last, end) = medians[0], medians[1], medians[-1]
    print(f"memory after warm-up {last / warm:.3f} ×, time per round {end / first:.2f} ×")


def resident() -> int:
    """Resident memory of this process in bytes; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    main()
