"""How long it takes until something happens: the first training step, a refusal, a list, a run of two iterations.

    python bench/start.py [--rounds 5] [--against FOLDER]

Each command is a process of its own, in turn with the bare `import torch`, and with `--against` in turn with the
version of the package that lies in that folder. Seconds by the clock and of the processor, medians.
"""

import argparse
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]

LT = [sys.executable, "-m", "lottery_ticket"]
FIRST_STEP = """
import os, sys, time
from contextlib import contextmanager

@contextmanager
def executor(settings, allocation, info):
    from lottery_ticket.engine.training import _Training, train
    step = _Training._step
    def first(self, batch):
        step(self, batch)
        os.write(2, f"began {time.time()}".encode())
        os._exit(0)
    _Training._step = first
    yield train
"""
"""An executor that ends the process after the first step."""

RUN = ["run", "--rounds", "2", "--iterations", "1"]
COMMANDS: Mapping[str, tuple[list[str], str]] = {
    "import torch": ([sys.executable, "-c", "import torch"], ""),
    "first training step": ([*LT, "run", "--executor", "first_step:executor"], "import torch + 2 s"),
    "a run of two iterations, new store": ([*LT, *RUN], ""),
    "the same in a store that is there": ([*LT, *RUN, "--tracking-uri", "sqlite:///there/mlflow.db"], ""),
    "lt --help": ([*LT, "--help"], "0.3 s"),
    "lt tickets": ([*LT, "tickets", "--tracking-uri", "sqlite:///there/mlflow.db"], "2 s"),
    "lt tickets, no store": ([*LT, "tickets"], "1 s"),
    **{
        f"refused: lt {' '.join(words).replace('0' * 32, 'RUN').partition(' --tracking-uri sqlite')[0]}": (
            [*LT, *words],
            "1 s",
        )
        for words in (
            ["run", "--lr", "fast"],
            ["run", "--arms", "winning,lottery"],
            ["run", "--dataset", "imagenet"],
            ["run", "--dataset", "no.npz"],
            ["run", "--resume", "0" * 32, "--tracking-uri", "sqlite:///there/mlflow.db"],
            ["run", "--tracking-uri", "http://127.0.0.1:9"],
            ["train", "tickets/none"],
            ["export", "tickets/none", "--format", "tflite"],
            ["sweep", "momentum"],
            ["analyse", "0" * 32, "overlaps"],
        )
    },
}
"""What is timed → its command and what is aimed at."""


def main() -> None:
    """Time all commands by turns and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="how often each command is run")
    options.add_argument("--against", type=Path, help="the root of another version of the repository")
    given = options.parse_args()
    versions = {"now": HERE} | ({"before": given.against.resolve()} if given.against else {})
    seconds: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for _ in range(given.rounds):
        for name, (command, _) in COMMANDS.items():
            for version, root in versions.items():
                seconds.setdefault((name, version), []).append(timed(command, root))
    print(f"medians of {given.rounds}; Python {platform.python_version()}, {os.cpu_count()} processors")
    for name, (_, aim) in COMMANDS.items():
        for version in versions:
            walls, of_processor, said = zip(*seconds[name, version], strict=True)
            told = f"{statistics.median(walls):6.2f} s, processor {statistics.median(of_processor):6.2f} s{said[-1]}"
            print(f"{name:<50} {version:<7} {told}{f'  (aim: {aim})' if aim else ''}")


def timed(command: list[str], root: Path) -> tuple[float, float, str]:
    """Seconds until a command ends or has taken its first step, those of the processor, and what it says it took."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "first_step.py").write_text(FIRST_STEP)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), folder])}
        if "sqlite:///there/mlflow.db" in command:
            make = "from lottery_ticket.store.connection import connect; connect('sqlite:///there/mlflow.db')"
            subprocess.run([sys.executable, "-c", make], cwd=folder, env=environment, capture_output=True, check=True)
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 2):
        raise SystemExit(f"{command}: {done.stderr}")
    if stepped := re.search(r"began ([\d.]+)", done.stderr):
        ended = float(stepped[1])
    said = re.search(r"^(\d+ s)\b", done.stdout, re.MULTILINE)
    of_processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return ended - begun, of_processor, f', said "{said[1]}"' if said else ""


if __name__ == "__main__":
    main()
