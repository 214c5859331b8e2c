"""Does a store with many runs slow `lt run` down?

    python bench/full_store.py [--runs 2000] [--pairs 6] [--store FOLDER] [flags of lt run]

Fills a store as `bench/tickets.py` does (15 rounds a run), then times the same `lt run` by turns in it and in a store
that holds one run. Prints both sides and their ratios.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient
from tickets import fill

ROUNDS = 15


def main() -> None:
    """Fill the store, unless it is there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--store", type=Path, help="folder of the full store; kept, and filled only where it is new")
    arguments, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        full, single = arguments.store or Path(temporary, "full"), Path(temporary, "single")
        if not (full / "mlflow.db").exists():
            fill(address(full), arguments.runs, ROUNDS)
        before = count(full)
        timed(single, flags)
        seconds: dict[Path, list[float]] = {single: [], full: []}
        for pair in range(arguments.pairs):
            for store in (single, full) if pair % 2 else (full, single):
                seconds[store].append(timed(store, flags))
    print(f"lt run {' '.join(flags)}, {arguments.pairs} times in each store")
    for name, each in zip(("with one run", f"with {before:,} runs"), seconds.values(), strict=True):
        print(f"{name:<20} median {statistics.median(each):6.2f} s, from {min(each):.2f} to {max(each):.2f}")
    medians, fastest = (of(seconds[full]) / of(seconds[single]) for of in (statistics.median, min))
    print(f"ratio of the medians {medians:.3f}, of the fastest {fastest:.3f} (aim: at most 1.05)")


def address(folder: Path) -> str:
    """The tracking URI of the store in a folder."""
    return f"sqlite:///{folder.resolve()}/mlflow.db"


def count(folder: Path) -> int:
    """How many runs, trajectories not counted, the store has."""
    client, token, found = MlflowClient(address(folder)), None, 0
    while True:
        page = client.search_runs(["1"], "tags.`lt.kind` = 'run'", page_token=token)
        found, token = found + len(page), page.token
        if not token:
            return found


def timed(folder: Path, flags: list[str]) -> float:
    """Seconds of one `lt run`."""
    command = [sys.executable, "-m", "lottery_ticket", "run", "--tracking-uri", address(folder), *flags]
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
