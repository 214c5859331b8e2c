"""What `lt run` costs: wall time of the preset `quick`, and how much of it MLflow takes, in a fresh store.

    python bench/quick.py [flags of lt run]

In one process, so that the seconds of the rounds add up. Prints both sides: the whole command (interpreter start,
imports and figures included) and the time it waits for tracking: importing MLflow, making the store (once a store;
opening one that is there takes less), logging every round.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time

import torch


def main() -> None:
    """Run `lt run --json` once in a folder of its own and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        command = [sys.executable, "-m", "lottery_ticket", "run", "--json", "--jobs", "1", *sys.argv[1:]]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        whole = time.perf_counter() - begun
    result = json.loads(done.stdout)
    importing, (making, opening) = startup_seconds()
    tracking = result["tracking_seconds"] + importing
    training = sum(record["seconds"] for record in result["rounds"])
    rows = {
        "whole command": whole,
        "training and evaluating": training,
        "MLflow: import": importing,
        "MLflow: store and logging": result["tracking_seconds"],
        "everything else": whole - training - tracking,
    }
    print(f"lt run {' '.join(sys.argv[1:])}: {len(result['rounds'])} trainings", end="; ")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {platform.python_version()}")
    for name, seconds in rows.items():
        print(f"{name:<28} {seconds:8.2f} s {100 * seconds / whole:6.1f} %")
    again = tracking - making + opening
    print(f"{'tracking / whole command':<28} {100 * tracking / whole:17.1f} %  in a new store")
    print(f"{'':<28} {100 * again / (whole - tracking + again):17.1f} %  in a store that is there (aim: below 3 %)")


def startup_seconds() -> tuple[float, tuple[float, float]]:
    """Seconds to import MLflow in a process that has torch, and to make and then to open a SQLite store."""
    code = """
import time, torch
begun = time.perf_counter()
import mlflow
print(time.perf_counter() - begun)
from lottery_ticket.store import connect
begun = time.perf_counter()
connect("sqlite:///timed.db")
print(time.perf_counter() - begun)
"""
    with tempfile.TemporaryDirectory() as folder:
        told = [run_python(code, folder) for _ in ("makes the store", "opens it")]
    return min(importing for importing, _ in told), (told[0][1], told[1][1])


def run_python(code: str, folder: str) -> list[float]:
    """The numbers that a script prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


if __name__ == "__main__":
    main()
