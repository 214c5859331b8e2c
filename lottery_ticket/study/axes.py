"""The axes of a study's figures: what trials show, where it was searched, log scales whose ticks can be read, names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lottery_ticket.analysis.figures import Axes
from lottery_ticket.study.definition import Choices, Range, ordered, whole_numbers
from lottery_ticket.study.names import DENSE, LEFT, MARGIN, SMALLEST
from lottery_ticket.study.trials import Trial

_LABELS = {
    "lr": "learning rate",
    "prune_rate": "prune rate per round",
    "prune_rate_conv": "prune rate per round, convolutions",
    "prune_rate_output": "prune rate per round, output layer",
    "rewind_iteration": "rewound to iteration",
    "epochs": "epochs per round",
    "iterations": "iterations per round",
    "batch_size": "batch size (images)",
    "width": "width (times the published channels)",
    "warmup_iterations": "warm-up iterations",
    "optimizer": "optimiser",
    "init": "initial weights",
    "bias_init": "initial biases",
    SMALLEST: "smallest winning ticket",
    MARGIN: "winning margin",
}
INK = "0.1"
_LEARNED = 0.15  # accuracy that a network may be below the best one and still have learned
_KEPT = 0.01  # of an error in percent: one image in 10,000


def percents(trials: Sequence[Trial], measure: str) -> np.ndarray:
    """100 × a measure of each trial; NaN, which is not drawn, where it has none."""
    return np.array([100 * trial.measures.get(measure, math.nan) for trial in trials])


def gaps_at(trials: Sequence[Trial], pct: float) -> np.ndarray:
    """Winning − reinit of each trial at a density, in points; NaN where not measured."""
    return percents(trials, f"winning_minus_reinit/{pct:g}pct")


def measured_at(trials: Sequence[Trial], pct: float) -> str:
    """What percent of weights the rounds nearest to a density really had; about it, where no trial tells (lt 0.4)."""
    measure = f"{LEFT}/{pct:g}pct"
    there = [trial.measures[measure] for trial in trials if measure in trial.measures]
    if not there:
        return f"about {pct:g} %"
    low, high = f"{min(there):.3g}", f"{max(there):.3g}"
    return f"{low} %" if low == high else f"{low}–{high} %"


def learned(trials: Sequence[Trial], pct: float, of: Any) -> np.ndarray:
    """Whether the worse (`of` = min) or better (max) network of each trial learned: is not far below the best dense."""
    best = max(trial.measures[DENSE] for trial in trials)
    measures = [f"{arm}_accuracy/{pct:g}pct" for arm in ("winning", "reinit")]
    worst = [of(trial.measures.get(measure, -1.0) for measure in measures) for trial in trials]
    return np.array(worst) >= best - _LEARNED


def error_scale(axes: Axes, accuracies: np.ndarray) -> None:
    """An axis of accuracies in percent, logarithmic in the error (100 − accuracy) where errors differ much.

    So 98 and 97 % can be told apart in one picture with networks that did not learn.
    """
    errors = np.maximum(100 - accuracies[np.isfinite(accuracies)], _KEPT)
    low, high = errors.min() / 1.15, min(errors.max() * 1.15, 100)
    axes.set_ylabel("test accuracy (%)")
    if high < 5 * low:
        return
    scale = (lambda v: -np.log(np.maximum(100 - v, _KEPT / 2)), lambda v: 100 - np.exp(-v))
    axes.set_yscale("function", functions=scale)
    ticks: list[float] = []
    for error in (90, *(each for digits in ((1,), (2, 5), (3, 7)) for each in _round_numbers(low, high, digits))):
        apart = [abs(math.log(error / tick)) / math.log(high / low) for tick in ticks]
        if low <= error <= high and min(apart, default=1) > 0.07:
            ticks.append(error)
    log_axis(axes.yaxis, [100 - tick for tick in sorted(ticks)])
    axes.set(ylabel="test accuracy (%)\nerror on a log scale", ylim=(100 - high, 100 - low))


def percent_scale(axes: Axes, left: Sequence[float]) -> None:
    """A log axis of percents of weights left that begins at the round number below the smallest; 100 is `none`."""
    low = max(_round_numbers(min(left) / 10, min(*left, 50), (1, 2, 5)))
    axes.set_yscale("log")
    axes.set(ylabel="weights left (%)", ylim=(low / (100 / low) ** 0.04, 100 * (100 / low) ** 0.06))
    log_axis(axes.yaxis, _round_numbers(low, 100, (1, 2, 5)), {100: "none"})


def in_words(name: str) -> str:
    """A setting or measure in words."""
    return _LABELS.get(name, name.replace("_", " "))


def _choices(searched: Choices) -> list[Any]:
    """The choices as they stand on the axis."""
    return sorted(searched.choices) if ordered(searched) else list(searched.choices)


def ends(searched: Choices) -> tuple[float, float]:
    """The limits of an axis of choices, which stand at 0, 1, …"""
    return -0.5, len(searched.choices) - 0.5


def in_order(setting: str, searched: Range | Choices, trials: Sequence[Trial]) -> tuple[list[Trial], np.ndarray]:
    """Trials in order of a setting, and their places on its axis: the value, or which choice it is."""
    values = [trial.params[setting] for trial in trials]
    places = values if isinstance(searched, Range) else [_choices(searched).index(value) for value in values]
    order = np.argsort(places, kind="stable")
    return [trials[i] for i in order], np.array(places, dtype=float)[order]


def arrange(axes: Axes, which: Any, setting: str, searched: Range | Choices, margin: float = 0.03) -> None:
    """Scale, limits, ticks and label of a setting's axis; margin is a part of the range, on either side."""
    axis = getattr(axes, f"{which}axis")
    set_limits = getattr(axes, f"set_{which}lim")
    axis.set_label_text(in_words(setting))
    if isinstance(searched, Choices):
        texts = [str(choice) for choice in _choices(searched)]
        axis.set_ticks(range(len(texts)), texts)
        if sum(map(len, texts)) > 11 * axes.get_window_extent().width / axes.figure.dpi:
            axis.set_tick_params(rotation=25)
        set_limits(*ends(searched))
        return
    low, high = searched.low, searched.high
    if searched.log:
        getattr(axes, f"set_{which}scale")("log")
        inches = axes.get_window_extent().width / axes.figure.dpi
        ticks = log_ticks(low, high, 1.9 * inches)
        log_axis(axis, [t for t in ticks if not whole_numbers(setting) or t == int(t)], minor=True)
        set_limits(low * (low / high) ** margin, high * (high / low) ** margin)
    else:
        axis.set_major_locator(MaxNLocator(6, integer=whole_numbers(setting), steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        set_limits(low - margin * (high - low), high + margin * (high - low))


def log_axis(axis: Axis, ticks: Sequence[float], texts: Mapping[float, str] | None = None, minor: bool = False) -> None:
    """Ticks as plain numbers, or the text given instead; without, or without texts on, those between."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda tick, _: (texts or {}).get(tick, f"{tick:g}")))
    if minor:
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float, most: float) -> list[float]:
    """Round numbers between two others (both > 0), spread over a log axis; `most` of them unless it is very long."""
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = _round_numbers(low, high, digits)
        if len(ticks) <= most:
            break
    return ticks if len(ticks) > 1 else [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]


def _round_numbers(low: float, high: float, digits: Sequence[float]) -> list[float]:
    """The digits times the powers of ten, between two numbers > 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [number for number in numbers if 0.999 * low <= number <= 1.001 * high]
