"""What `lt run` costs: wall time of the preset `quick`, and how much of it MLflow takes, in a fresh store.

    python bench/quick.py [flags of lt run]

Prints both sides: the whole command (interpreter start, imports and figures included) and the time in tracking
(importing MLflow, making the store, logging every round).
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
        command = [sys.executable, "-m", "lottery_ticket", "run", "--json", *sys.argv[1:]]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        whole = time.perf_counter() - begun
    result = json.loads(done.stdout)
    importing = import_seconds()
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
    print(f"{'tracking / whole command':<28} {100 * tracking / whole:17.1f} %  (aim: below 3 %)")


def import_seconds() -> float:
    """Seconds that importing MLflow's client adds to a process that has torch."""
    code = "import torch, time; t = time.perf_counter(); import mlflow; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
