"""What `lt tickets` costs on a store with many runs: fills one through the MLflow client, then times the command.

    python bench/tickets.py [--runs 1000] [--rounds 35] [--store FOLDER]

The runs have the tags, params and metrics that `lt run` gives them (two trajectories each; no artifacts, which the list
does not read). Prints the time of `lt --version`, of importing MLflow and opening the store, and of the command.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track

from lottery_ticket import load_preset
from lottery_ticket.analysis.verdict import judge
from lottery_ticket.data.prepared import describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.record import Point, Record
from lottery_ticket.store.connection import connect
from lottery_ticket.store.rounds import metrics_of
from lottery_ticket.store.summary import rounds_tags, verdict_tags
from lottery_ticket.store.tracking import Tracker


def main() -> None:
    """Fill the store, unless it is there, and time the command five times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=35)
    parser.add_argument("--store", type=Path, help="folder of the store; kept, and filled only where it is new")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.store or Path(temporary)
        uri = f"sqlite:///{folder.resolve()}/mlflow.db"
        if not (folder / "mlflow.db").exists():
            fill(uri, arguments.runs, arguments.rounds)
        listed = json.loads(timed("lt tickets --json", ["tickets", "--json", "--tracking-uri", uri]))
        timed("lt tickets", ["tickets", "--tracking-uri", uri])
        timed(
            "lt tickets --winning --sort density", ["tickets", "--winning", "--sort", "density", "--tracking-uri", uri]
        )
        timed("lt --version", ["--version"])
        print(f"{len({each['run_id'] for each in listed}):,} runs, {len(listed):,} tickets")


def fill(uri: str, runs: int, rounds: int) -> None:
    """Runs as `lt run --preset shu-fc1 --seeds 1` leaves them, with made-up accuracies."""
    client = connect(uri)
    settings = load_preset("shu-fc1", seeds=1, rounds=rounds)
    images = load_images("mnist")
    info = describe(images, settings.validation_size)
    for index in track(range(runs), "filling the store"):
        tracker = Tracker.create(client, "lottery-ticket", settings, "shu-fc1", f"run {index}", images, info)
        records = [made_up(arm, r, random.Random(f"{index} {arm} {r}")) for r in range(rounds) for arm in settings.arms]
        for (arm, _), child in tracker.children.items():
            metrics = [metric for record in records if record.arm == arm for metric in metrics_of(record)]
            for first in range(0, len(metrics), 1000):
                client.log_batch(child, metrics=metrics[first : first + 1000])
        verdict = judge(records)
        tracker.tag(rounds_tags(tracker.children, records, 0) | verdict_tags(verdict))
        tracker.end("FINISHED")


def made_up(arm: str, r: int, source: random.Random) -> Record:
    """A round with a plausible accuracy."""
    density = 0.9**r
    accuracy = 0.97 + 0.01 * source.random() + (0.005 if arm == "winning" else -0.01 * (1 - density))
    point = Point(
        iteration=1000, epoch=1, validation_loss=None, validation_accuracy=None, test_loss=0.1, test_accuracy=accuracy
    )
    tensors = ("fc1.weight", "fc2.weight", "output.weight")
    return Record(
        arm=arm,
        seed=0,
        round=r,
        density=density,
        densities=dict.fromkeys(tensors, density),
        survivors=dict.fromkeys(tensors, 1000),
        iterations=1000,
        train_loss=0.1,
        validation_loss=None,
        test_loss=0.1,
        test_accuracy=accuracy,
        test_loss_best=0.1,
        test_accuracy_best=accuracy,
        best_epoch=1,
        early_stop_iteration=None,
        test_loss_early_stop=None,
        test_accuracy_early_stop=None,
        seconds=1.0,
        finished_at=round(time.time() * 1000),
        diverged=False,
        test_size=8,
        correct="/w==",
        curve=[point],
    )


def timed(name: str, arguments: list[str]) -> str:
    """Run the command five times and print its seconds; its standard output."""
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "lottery_ticket", *arguments], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - begun)
    print(f"{name:<40} median {sorted(seconds)[2]:6.2f} s, from {min(seconds):.2f} to {max(seconds):.2f}")
    return done.stdout


if __name__ == "__main__":
    main()
