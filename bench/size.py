"""What the rounds of a trajectory take on disk, and what keeping the trained weights in bfloat16 costs.

    python bench/size.py [flags of lt run]

Runs `lt run --preset shu-fc1 --arms winning --seeds 1 --epochs 1` in a store of its own and adds up its artifacts, in
units of one dense float32 checkpoint (a safetensors file of the network). Then the trained weights are read back and
class the test set again: how many images of each round they class otherwise than the network that was measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file

from lottery_ticket import Ticket
from lottery_ticket.data.prepared import channels_first
from lottery_ticket.store.connection import connect
from lottery_ticket.store.reading import read_run

FLAGS = ["--preset", "shu-fc1", "--arms", "winning", "--seeds", "1", "--epochs", "1"]


def main() -> None:
    """Run, add up, read back."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        command = [sys.executable, "-m", "lottery_ticket", "run", *FLAGS, *sys.argv[1:], "--json"]
        run_id = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)["run_id"]
        client = connect(create=False)
        stored = read_run(client, run_id)
        (child,) = stored.children.values()
        ticket = Ticket.load(f"runs:/{child}:1")
        save_file(ticket.network().draw(0, "init"), "dense.safetensors")
        dense = Path("dense.safetensors").stat().st_size
        sizes: Counter[str] = Counter()
        for path in Path(client.download_artifacts(child, "")).rglob("*.*"):
            sizes[path.name] += path.stat().st_size

        print(f"lt run {' '.join([*FLAGS, *sys.argv[1:]])}: {len(stored.records)} rounds", end="; ")
        print(f"one dense float32 checkpoint: {dense:,} bytes")
        for name, size in sizes.items():
            print(f"{name:<24} {size:>12,} bytes  {size / dense:6.2f} ×")
        tensors = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
        print(f"{'masks, weights and init':<24} {tensors:>12,} bytes  {tensors / dense:6.2f} ×")
        plain = sum(4 * sum(record.survivors.values()) for record in stored.records) + dense
        print(f"{'survivors as float32':<24} {plain:>12,} bytes  {plain / dense:6.2f} ×  (with init, without masks)")

        x = ticket.data.standardise(channels_first(ticket.images().x_test))
        others, differences = [], []
        for record in stored.records[1:]:
            module = Ticket.load(f"runs:/{child}:{record.round}").module(trained=True)
            with torch.no_grad():
                correct = module(x).argmax(1).numpy() == ticket.images().y_test
            others.append(int((correct != record.correct_bits).sum()))
            differences.append(100 * (correct.mean() - record.test_accuracy))
        print(
            f"classed otherwise by the kept weights: {sum(others) / len(others):.1f} of {len(x):,} images a round, "
            f"at most {max(others)}; accuracy {sum(differences) / len(differences):+.4f} points on average, "
            f"from {min(differences):+.2f} to {max(differences):+.2f}"
        )


if __name__ == "__main__":
    main()
