"""Which sampler finds the boundary between winning and not with the fewest trials?

    python bench/boundary.py [line plane] [--repeat 20] [--csv FILE]
    python bench/boundary.py trainings [--trials 16] [--samplers qmc tpe] [--csv FILE]

`boundary`, a `grid`, evenly spread points (`qmc`) and `tpe`, all with the same number of trials, judged alike: by the
surface through the winning margins (`study.boundary`). TPE is given |margin| to make small.

`line` and `plane` try them on a cheap truth: the surface through real trainings' margins, of fc1 over learning rates
(results/boundary.csv) and over learning rate and prune rate (results/sweeps/map/trials.csv), to which each trial adds
noise as large as theirs. Each repetition has its own noise, sampler seed and place of the grid's first point. Printed
are means with 95 % t-intervals, and how much more than `boundary`'s each is, paired over repetitions: on the line how
far the learning rate at which tickets vanish is from the true one, in %; in the plane the part of it, where trainings
speak for the truth, that is put on the wrong side.

`trainings` does the same once on the line with real trainings: of 7 rounds of 150 iterations, eight seeds a trial,
against the grid of 64 of them in results/boundary.csv.
"""

import argparse
import csv
import itertools
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning

from lottery_ticket.analysis.statistics import over_seeds
from lottery_ticket.study.boundary import SATURATION, Surface, crossings, surface
from lottery_ticket.study.definition import Study
from lottery_ticket.study.parse import parse
from lottery_ticket.study.samplers import make_sampler
from lottery_ticket.study.space import distributions, from_unit, ranges, to_unit
from lottery_ticket.study.sweep import sweep
from lottery_ticket.study.trials import margins

RESULTS = Path(__file__).parents[1] / "results"
SAMPLERS = ("boundary", "grid", "qmc", "tpe")
LR = {"low": 1e-3, "high": 0.3, "log": True}
SPACES = {
    "line": {"lr": LR},
    "plane": {"lr": {"low": 1e-4, "high": 0.3, "log": True}, "prune_rate": {"low": 0.1, "high": 0.8}},
}
TRAININGS = {"line": "boundary.csv", "plane": "sweeps/map/trials.csv"}
TRIALS = {"line": (8, 12, 16, 24, 32), "plane": (9, 16, 25, 36, 49)}
SETTINGS = {"seeds": 8, "rounds": 7, "iterations": 150, "evaluate_every": 150, "validation_size": 0}
LOST = math.log(2)
"""The error on the line where no boundary is found, or at more than twice or half the true one: a factor of 2."""

Found = list[tuple[dict[str, Any], float]]


def main() -> None:
    """Print a table for each place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", metavar="PLACE", help="line, plane or trainings")
    parser.add_argument("--repeat", type=int, default=20, help="repetitions on the cheap truth")
    parser.add_argument("--trials", type=int, default=16, help="trials of each sampler with real trainings")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS, help="those with real trainings")
    parser.add_argument("--csv", type=Path, help="write every repetition, or every training, here")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    rows: list[list[Any]] = []
    for place in given.places or ["line", "plane"]:
        rows += real(given.trials, given.samplers) if place == "trainings" else cheap(Truth.of(place), given.repeat)
    if given.csv:
        with given.csv.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


@dataclass(frozen=True)
class Truth:
    """Margins over a line or a plane: the surface through real trainings', with their noise."""

    place: str
    trainings: Found
    fitted: Surface
    noise: float

    @classmethod
    def of(cls, place: str) -> "Truth":
        """Read from the committed trials."""
        with (RESULTS / TRAININGS[place]).open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("sampler", "grid") == "grid"]
        names = list(SPACES[place])
        trained = [({name: float(row[name]) for name in names}, float(row["winning_margin"])) for row in rows]
        space = ranges(study(place, "boundary", 4))
        fitted = surface(space, trained)
        assert fitted is not None
        points = np.array([to_unit(space, params) for params, _ in trained])
        rest = np.tanh(np.array([value for _, value in trained]) / SATURATION) - fitted.at(points)[0]
        return cls(place, trained, fitted, float(rest.std()))

    def margin(self, point: np.ndarray, draws: np.random.Generator) -> float:
        """What a trial finds at a point of the unit cube."""
        squashed = self.fitted.at(point[None])[0][0] + self.noise * draws.normal()
        return float(np.arctanh(np.clip(squashed, -0.999, 0.999)) * SATURATION)

    def error(self, found: Found) -> float:
        """How wrong the surface through these trials is."""
        space = ranges(study(self.place, "boundary", 4))
        if self.place == "line":
            return apart(found, self.trainings)
        cells = (np.stack(np.meshgrid(*[np.arange(100)] * 2), -1).reshape(-1, 2) + 0.5) / 100
        cells = cells[self.fitted.near(cells)]
        fitted = surface(space, found)
        won = np.full(len(cells), found[0][1] > 0) if fitted is None else fitted.at(cells)[0] > 0
        return 100 * float((won != (self.fitted.at(cells)[0] > 0)).mean())


def apart(found: Found, truth: Found) -> float:
    """How far two answers to where tickets vanish are from each other, in %."""
    mine, true = (
        max(crossings(ranges(study("line", "boundary", 4)), trials, "lr"), default=math.nan)
        for trials in (found, truth)
    )
    distance = abs(math.log(mine / true)) if mine > 0 else LOST
    return 100 * math.expm1(min(distance, LOST))


def study(place: str, sampler: str, trials: int, seed: int = 0, **more: Any) -> Study:
    """A study of a sampler with so many trials; a grid's points divide them."""
    space = SPACES[place]
    points = {"points": round(trials ** (1 / len(space)))} if sampler == "grid" else {}
    told = {"sampler": sampler, "trials": trials, "objective": "phase", "densities": [51.2], "sampler_seed": seed}
    return parse("bench", told | more | {"space": {name: each | points for name, each in space.items()}}, {}, {})


def cheap(truth: Truth, repeat: int) -> Iterator[list[Any]]:
    """Each sampler, number of trials and repetition; prints the table."""
    measure = {"line": "% from the true learning rate", "plane": "% of the plane on the wrong side"}[truth.place]
    print(f"\n{truth.place}: {measure}, mean of {repeat} repetitions and its 95 % t-interval", flush=True)
    print("".join(f"{name:>24}" for name in ("trials", *SAMPLERS)))
    for trials in TRIALS[truth.place]:
        errors = {}
        for sampler in SAMPLERS:
            errors[sampler] = [truth.error(tried(truth, sampler, trials, seed)) for seed in range(repeat)]
            yield from ([truth.place, sampler, trials, seed, error] for seed, error in enumerate(errors[sampler]))
        more = [[a - b for a, b in zip(each, errors["boundary"], strict=True)] for each in errors.values()]
        for name, cells in ((str(trials), list(errors.values())), ("more than boundary", more)):
            print("".join(f"{cell:>24}" for cell in (name, *map(interval, cells))), flush=True)


def interval(values: list[float]) -> str:
    """Mean and 95 % t-interval."""
    spread = over_seeds(values)
    low, high = spread.interval(0.95) if spread else (math.nan, math.nan)
    return f"{np.mean(values):.2f} ({low:.2f} to {high:.2f})"


def tried(truth: Truth, sampler: str, trials: int, seed: int) -> Found:
    """What a sampler's trials find."""
    draws = np.random.default_rng(seed)
    each = study(truth.place, sampler, trials, seed)
    space = ranges(each)
    if sampler == "grid":
        return [(params, truth.margin(to_unit(space, params), draws)) for params in shifted(each, draws)]
    asked = optuna.create_study(sampler=make_sampler(each), direction="maximize" if sampler != "tpe" else "minimize")
    found: Found = []
    for _ in range(trials):
        trial = asked.ask(distributions(each))
        found.append((trial.params, truth.margin(to_unit(space, trial.params), draws)))
        asked.tell(trial, abs(found[-1][1]) if sampler == "tpe" else found[-1][1])
    return found


def shifted(each: Study, draws: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The points of a grid that begins at a random part of its first cell: no boundary lies on one by chance."""
    space = ranges(each)
    points = round(each.trials ** (1 / len(space)))
    starts = draws.uniform(size=len(space))
    for place in itertools.product(range(points), repeat=len(space)):
        parts = (np.array(place) + starts) / points
        yield {name: from_unit(searched, part) for (name, searched), part in zip(space.items(), parts, strict=True)}


def real(trials: int, samplers: Sequence[str]) -> Iterator[list[Any]]:
    """Each sampler once with trainings; prints where it puts the boundary. The grid of 64 is the truth."""
    truth = Truth.of("line").trainings
    yield ["sampler", "trial", "lr", "winning_margin"]
    where = partial(crossings, ranges(study("line", "boundary", 4)), along="lr")
    print(f"\nthe grid of {len(truth)} trainings: tickets vanish at lr {max(where(truth)):.4g}")
    for sampler in samplers:
        begun = time.perf_counter()
        found = trained(sampler, trials)
        yield from ([sampler, index, params["lr"], margin] for index, (params, margin) in enumerate(found))
        vanish = max(where(found), default=math.nan)
        seconds = time.perf_counter() - begun
        print(
            f"{sampler:>8}: {trials} trials, {seconds:5.0f} s, {vanish:.4g}, {apart(found, truth):.1f} % off",
            flush=True,
        )


def trained(sampler: str, trials: int) -> Found:
    """Trials that are real trainings."""
    each = study("line", sampler, trials, batch=4, settings=SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        stores = {key: f"sqlite:///{folder}/{key}.db" for key in ("storage", "tracking_uri")}
        return margins(sweep(each, sampler, concluding=False, **stores).trials)


if __name__ == "__main__":
    main()
