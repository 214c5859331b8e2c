"""Which of a run's circumstances change its results, and how far?

    python bench/determinism.py

Trains the same run (fc1 on MNIST, winning and reinit, three seeds, 6 rounds of 300 iterations, 40 % pruned a round) in
processes of their own under other circumstances, and compares masks and accuracies with the first.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient

from lottery_ticket.store.reading import read_mask, read_run

RUN = "run --preset shu-fc1 --rounds 6 --prune-rate 0.4 --arms winning,reinit --device cpu --iterations 300"
BASE = {
    "--seeds": "0,1,2",
    "--stack": "6",
    "--jobs": "1",
    "--precision": "float32",
    "--engine": "dense",
    "threads": "1",
}
CASES: dict[str, dict[str, str]] = {
    "the same, in another process": {},
    "seeds in another order": {"--seeds": "2,0,1"},
    "arms in another order": {"--arms": "reinit,winning"},
    "stacks of 2": {"--stack": "2"},
    "one network at a time": {"--stack": "1"},
    "two processes": {"--jobs": "2", "--stack": "3"},
    "two threads": {"threads": "2"},
    "over survivors alone": {"--engine": "sparse"},
    "engine auto": {"--engine": "auto"},
    "bfloat16": {"--precision": "bfloat16"},
}


def main() -> None:
    """Every case against the first run."""
    with tempfile.TemporaryDirectory() as folder:
        first = outcome(folder, {})
        print(f"{'':<30} survivors shared   accuracies that differ   by at most   on average (points)")
        for name, changes in CASES.items():
            other = outcome(folder, changes)
            shared, all_of_them = 0, 0
            gaps = []
            for key, (accuracy, mask) in first.items():
                there, kept = other[key]
                gaps.append(100 * abs(accuracy - there))
                shared += sum(int((mask[tensor] & kept[tensor]).sum()) for tensor in mask)
                all_of_them += sum(int(mask[tensor].sum()) for tensor in mask)
            differ = sum(gap > 0 for gap in gaps)
            print(
                f"{name:<30} {100 * shared / all_of_them:>14.3f} %   {differ:>12} of {len(gaps)}   {max(gaps):>15.2f}"
                f"   {sum(gaps) / len(gaps):>10.3f}"
            )


def outcome(folder: str, changes: dict[str, str]) -> dict[tuple[str, int, int], tuple[float, dict[str, torch.Tensor]]]:
    """(arm, seed, round) → accuracy and mask."""
    chosen = BASE | changes
    threads = chosen.pop("threads")
    command = [sys.executable, "-m", "lottery_ticket", *RUN.split()]
    command += [word for pair in chosen.items() for word in pair]
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done: Any = subprocess.run(
        [*command, "--json"], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    client = MlflowClient(f"sqlite:///{Path(folder, 'mlruns', 'mlflow.db')}")
    stored = read_run(client, json.loads(done.stdout)["run_id"])
    return {
        (record.arm, record.seed, record.round): (
            record.test_accuracy,
            read_mask(client, stored.children[record.arm, record.seed], record.round),
        )
        for record in stored.records
    }


if __name__ == "__main__":
    main()
