"""What `lt run` costs: wall time of the preset `quick`, and how much of it MLflow takes, in a fresh store.

    python bench/quick.py [flags of lt run]

In one process. Prints the parts of the whole command as the run tells them (interpreter start, imports and figures
included), what it waits for tracking among them: what MLflow does beside the training (importing it, making the store,
logging rounds) is not waited for, but takes time of the processor. So the same rounds are trained without MLflow too.
"""

import json
import platform
import resource
import subprocess
import sys
import tempfile
import time

import torch

WITHOUT = """
import sys
from lottery_ticket.config import load_settings
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.runs.plan import make_plan
given = dict(zip((word.removeprefix("--").replace("-", "_") for word in sys.argv[1::2]), sys.argv[2::2]))
plan = make_plan(load_settings(given.pop("preset", None), None, given)[0])
with plan.trainer() as train:
    for _ in find_tickets(plan.resolved, plan.network, plan.data, None, None, train):
        pass
"""


def main() -> None:
    """Run `lt run --json` once in a folder of its own, and its rounds without MLflow, and print the table."""
    flags = ["--jobs", "1", *sys.argv[1:]]
    told, whole, of_processor = timed([sys.executable, "-m", "lottery_ticket", "run", "--json", *flags])
    _, bare, of_bare = timed([sys.executable, "-c", WITHOUT, *flags])
    result = json.loads(told)
    print(f"lt run {' '.join(sys.argv[1:])}: {len(result['rounds'])} trainings", end="; ")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {platform.python_version()}")
    rows = {"whole command": whole, **result["times"], "not told": whole - result["seconds"]}
    for name, seconds in rows.items():
        print(f"{name:<40} {seconds:8.2f} s {100 * seconds / whole:6.1f} %{AIMS.get(name, '')}")
    print(f"{'the same rounds without MLflow or figures':<40} {bare:8.2f} s")
    print(f"{'of the processor: with, without':<40} {of_processor:8.2f} s, {of_bare:.2f} s")


AIMS = {"tracking": "  in a new store (aim: at most 3 %)"}


def timed(command: list[str]) -> tuple[str, float, float]:
    """What a command prints in a folder of its own, its seconds, and those of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
