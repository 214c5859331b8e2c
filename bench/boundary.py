"""Does the boundary sampler find the learning rate at which tickets vanish with a quarter of a grid's trials?

    python bench/boundary.py [--points 64] [--csv FILE]

One study of fc1 on MNIST in short (7 rounds of 150 iterations), over learning rates from 1e-3 to 0.3, twice: as a dense
grid, whose answer counts as the truth, and with the boundary sampler and a quarter of its trials. Both are real
trainings. Printed: where each puts the learning rate at which tickets vanish (the last crossing from winning to not),
how far apart they are on a log scale, and the seconds of both. bench/README.md says how well the grid knows its answer.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

from lottery_ticket.study.boundary import crossings
from lottery_ticket.study.definition import Study
from lottery_ticket.study.parse import parse
from lottery_ticket.study.space import ranges
from lottery_ticket.study.sweep import sweep
from lottery_ticket.study.trials import Trial, margins

BASE = {
    "objective": "phase",
    "batch": 4,
    "densities": [51.2],
    "settings": {"seeds": 8, "rounds": 7, "iterations": 150, "evaluate_every": 150, "validation_size": 0},
}
SPACE = {"low": 1e-3, "high": 0.3, "log": True}


def main() -> None:
    """Run both studies and print both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=64, help="trials of the grid; the sampler has a quarter of them")
    parser.add_argument("--csv", type=Path, help="write the trials of both here")
    arguments = parser.parse_args()
    quarter = arguments.points // 4
    studies = {
        "grid": study("grid", arguments.points, {"points": arguments.points}),
        "boundary": study("boundary", quarter, {}),
    }
    found, rows = {}, ["sampler,trial,lr,winning_margin,phase"]
    with tempfile.TemporaryDirectory() as folder:
        for name, each in studies.items():
            begun = time.perf_counter()
            stores = {key: f"sqlite:///{folder}/{key}.db" for key in ("storage", "tracking_uri")}
            trials = sweep(each, name, concluding=False, **stores).trials
            found[name] = vanishing(each, trials)
            rows += [f"{name},{t.number},{t.params['lr']},{t.measures['winning_margin']},{t.phase}" for t in trials]
            seconds = time.perf_counter() - begun
            print(
                f"{name:>8}: {len(trials):3} trials, {seconds:5.0f} s, tickets vanish at lr {found[name]:.4g}",
                flush=True,
            )
    apart = abs(math.log(found["boundary"] / found["grid"]))
    print(f"apart: {apart:.3f} on the natural log scale, {100 * (math.exp(apart) - 1):.1f} % (asked: at most 10 %)")
    if arguments.csv:
        arguments.csv.write_text("\n".join(rows) + "\n")


def study(sampler: str, trials: int, more: dict) -> Study:
    """The study with one of the two samplers."""
    return parse("bench", BASE | {"sampler": sampler, "trials": trials, "space": {"lr": SPACE | more}}, {}, {})


def vanishing(each: Study, trials: list[Trial]) -> float:
    """The largest learning rate at which the surface through the winning margins crosses 0; NaN if none does."""
    return max(crossings(ranges(each), margins(trials), "lr"), default=math.nan)


if __name__ == "__main__":
    main()
