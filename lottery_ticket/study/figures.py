"""Figures fit for a paper, drawn from the finished trials of a study."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lottery_ticket.analysis.figures import Axes, Figure, colormaps
from lottery_ticket.analysis.plots import save_all, style, subplots
from lottery_ticket.study.axes import (
    INK,
    arrange,
    ends,
    error_scale,
    gaps_at,
    in_order,
    in_words,
    learned,
    measured_at,
    percent_scale,
    percents,
)
from lottery_ticket.study.definition import Choices, Range, Study, ordered
from lottery_ticket.study.importance import Share
from lottery_ticket.study.maps import draw_map_gap, draw_map_smallest
from lottery_ticket.study.names import DENSE, MATCHING, SMALLEST
from lottery_ticket.study.trials import Trial

_WINNING, _MATCHING = "#0072B2", "0.55"


def draw_study(
    study: Study, trials: Sequence[Trial], name: str, folder: Path, importance: Mapping[str, Share]
) -> list[Path]:
    """Draw what the trials allow into the folder; the paths, in order of interest, none without trials.

    One searched setting: accuracies and the smallest tickets against it. Two that are ranges: maps. Else: the smallest
    winning tickets against each. None of these of a study that is not judged.

    Args:
        study: what was searched.
        trials: the finished ones, in any order.
        name: the study's name, for the titles.
        folder: made if need be.
        importance: what the variance of the study's first measure is of, see `importance`; empty where not known.
    """
    if not trials:
        return []
    drawn: dict[str, Figure | None] = {}
    name = textwrap.fill(name, 60)
    with style():
        if study.judged:
            drawn |= _draw_tickets_of(study, trials, name)
        if len(study.space) > 1 and importance:
            drawn["importance"] = draw_importance(study, importance, name)
        return save_all(drawn, folder)


def _draw_tickets_of(study: Study, trials: Sequence[Trial], name: str) -> dict[str, Figure | None]:
    """Where tickets win, and how small they are."""
    searched = list(study.space.values())
    if len(searched) == 1:
        return {"accuracy": draw_accuracy(study, trials, name), "smallest": draw_smallest(study, trials, name)}
    if len(searched) == 2 and all(isinstance(each, Range) for each in searched):
        return {"map_smallest": draw_map_smallest(study, trials, name), "map_gap": draw_map_gap(study, trials, name)}
    return {"smallest": draw_smallest_of_each(study, trials, name)}


def draw_accuracy(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Accuracy of tickets and reinitialised networks at each density, and below it their difference.

    Against the one setting that is searched. Differences between networks that did not learn are marked at the edge.
    """
    ((setting, searched),) = study.space.items()
    trials, places = in_order(setting, searched, trials)
    shown = [pct for pct in study.densities if any(f"winning_accuracy/{pct:g}pct" in t.measures for t in trials)]
    colours = dict(zip(shown, colormaps["viridis"](np.linspace(0, 0.85, len(shown))), strict=True))
    figure = Figure(figsize=(7, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    line = ordered(searched) and len(trials) > 1
    accuracies = [percents(trials, DENSE)]
    above.plot(places, accuracies[0], **_look("dense", INK, line), zorder=2.5)
    differences = [gaps_at(trials, pct) for pct in shown]
    readable = [gap for pct in shown for gap in gaps_at(trials, pct)[learned(trials, pct, min)]]
    ends = min([-0.2, *readable]), max([0.2, *readable])
    low, high = np.array(ends) + np.array([-0.1, 0.1]) * (ends[1] - ends[0])
    for (pct, colour), gaps in zip(colours.items(), differences, strict=True):
        for arm in ("reinit", "winning"):
            accuracies.append(percents(trials, f"{arm}_accuracy/{pct:g}pct"))
            above.plot(places, accuracies[-1], **_look(arm, colour, line))
        below.plot(places, np.where((gaps < low) | (gaps > high), np.nan, gaps), **_look("winning", colour, line))
        for beyond, end, marker in ((gaps > high, high, "^"), (gaps < low, low, "v")):
            if beyond.any():
                below.plot(places[beyond], [end] * sum(beyond), marker, color=colour, markersize=5, clip_on=False)
    below.axhline(0, color="0.4", linewidth=1)
    error_scale(above, np.concatenate(accuracies))
    keys: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linewidth=3, label=f"{measured_at(trials, pct)} left")
        for pct, colour in colours.items()
    ]
    keys += [Line2D([], [], **_look(arm, "0.4", line)) for arm in ("winning", "reinit")]
    keys.append(Line2D([], [], **_look("dense", INK, line)))
    keys += _shade(above, searched, trials, places)
    _shade(below, searched, trials, places)
    if any(((gaps < low) | (gaps > high)).any() for gaps in differences):
        keys.append(Line2D([], [], linestyle="none", marker="^", color="0.4", markersize=5, label="beyond the axis"))
    figure.legend(handles=keys, loc="outside right center")
    above.set_title(name)
    below.set(ylabel="winning − reinit (points)", ylim=(low, high))
    arrange(below, "x", setting, searched)
    above.tick_params(axis="x", which="both", length=0)
    figure.align_ylabels()
    return figure


def draw_smallest(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Percent of weights left in the smallest winning and the smallest matching ticket against the one setting."""
    ((setting, searched),) = study.space.items()
    trials, places = in_order(setting, searched, trials)
    figure, axes = subplots(figsize=(7, 4), layout="constrained")
    keys: list[Line2D | Patch] = []
    for measure, label, marker, size in (
        (MATCHING, "smallest matching ticket", "D", 6.5),
        (SMALLEST, "smallest winning ticket", "o", 5.5),
    ):
        look: dict[str, Any] = {"color": _WINNING if measure == SMALLEST else _MATCHING, "marker": marker}
        look |= {"markersize": size, "linestyle": "-" if ordered(searched) else "none", "linewidth": 1}
        _draw_tickets(axes, places, [trial.measures[measure] for trial in trials], look)
        keys.append(Line2D([], [], **look, label=label))
    keys += _shade(axes, searched, trials, places)
    arrange(axes, "x", setting, searched)
    percent_scale(axes, [trial.measures[measure] for trial in trials for measure in (MATCHING, SMALLEST)])
    axes.set_title(name)
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9)
    return figure


def draw_smallest_of_each(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Percent of weights left in the smallest winning ticket against each setting, one panel each."""
    columns = 2 if len(study.space) in (2, 4) else 3
    rows = math.ceil(len(study.space) / columns)
    size = (0.8 + 3.2 * columns, 0.5 + 2.7 * rows)
    figure, panels = subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, (setting, searched) in zip(panels.flat, study.space.items(), strict=False):
        sorted_trials, places = in_order(setting, searched, trials)
        look = {"color": _WINNING, "marker": "o", "markersize": 5.5, "linestyle": "none"}
        _draw_tickets(panel, places, [trial.measures[SMALLEST] for trial in sorted_trials], look)
        arrange(panel, "x", setting, searched)
    for panel in panels.flat[len(study.space) :]:
        panel.set_axis_off()
    for panel in panels[:, 0]:
        percent_scale(panel, [trial.measures[SMALLEST] for trial in trials])
    figure.suptitle(f"{name}: smallest winning ticket", fontsize=12)
    return figure


def draw_importance(study: Study, importance: Mapping[str, Share], title: str) -> Figure:
    """What the variance of the study's first measure is of, as bars: each setting, the largest on top, and the rest."""
    figure, axes = subplots(figsize=(6, 1 + 0.4 * len(importance)), layout="constrained")
    names, shares = list(importance)[::-1], list(importance.values())[::-1]
    parts = np.array([share.part for share in shares])
    colours = [_WINNING if name in study.space else _MATCHING for name in names]
    axes.barh([in_words(name) for name in names], parts, 0.6, color=colours)
    spread = [parts - [share.low for share in shares], [share.high for share in shares] - parts]
    axes.errorbar(parts, range(len(parts)), xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    for place, share in enumerate(shares):
        axes.annotate(f"{share.part:.2f}", (share.high, place), (5, 0), textcoords="offset points", va="center")
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    first = study.measures[0]
    axes.set(xlabel=f"part of the variance of: {in_words(first)}", title=title, xlim=(0, 1.12))
    return figure


def winning_regions(
    places: Sequence[float], won: Sequence[bool], low: float, high: float, log: bool
) -> list[tuple[float, float]]:
    """(from, to) of where trials won; an edge is half way to the next trial, on a log axis if so told.

    The outermost trials stand for as much on their outer side as on their inner one, between low and high. A single
    trial stands for nothing.

    Args:
        places: of the trials, in order.
        won: whether tickets win there.
        low, high: ends of the axis.
        log: whether it is logarithmic.
    """
    if len(places) < 2:
        return []
    at = np.log(places) if log else np.asarray(places, dtype=float)
    middles = (at[1:] + at[:-1]) / 2
    edges = np.array([2 * at[0] - middles[0], *middles, 2 * at[-1] - middles[-1]])
    edges = np.clip(np.exp(edges) if log else edges, low, high)
    regions: list[tuple[float, float]] = []
    for begin, end, wins in zip(edges[:-1].tolist(), edges[1:].tolist(), won, strict=True):
        if wins and regions and regions[-1][1] == begin:
            regions[-1] = (regions[-1][0], end)
        elif wins:
            regions.append((begin, end))
    return regions


def _shade(axes: Axes, searched: Range | Choices, trials: Sequence[Trial], places: np.ndarray) -> list[Patch]:
    """Shade where tickets win, if the setting has an order; what the legend says of it."""
    if not ordered(searched):
        return []
    low, high = (searched.low, searched.high) if isinstance(searched, Range) else ends(searched)
    log = isinstance(searched, Range) and searched.log
    look: dict[str, Any] = {"color": _WINNING, "alpha": 0.12, "linewidth": 0}
    regions = winning_regions(places.tolist(), [trial.phase == "winning" for trial in trials], low, high, log)
    for begin, end in regions:
        axes.axvspan(begin, end, zorder=0, **look)
    return [Patch(label="tickets win", **look)] if regions else []


def _look(arm: str, colour: Any, line: bool) -> dict[str, Any]:
    """How the points of an arm are drawn, and whether a line joins them."""
    style: Any = {"dense": "-.", "winning": "-", "reinit": (0, (4, 1.5))}[arm]
    marker, size = ("o", 4) if arm != "dense" or line else ("_", 18)
    return {
        "label": arm,
        "color": colour,
        "linestyle": style if line else "none",
        "linewidth": 1.4,
        "marker": marker if arm != "dense" or not line else "none",
        "markersize": size,
        "markerfacecolor": "white" if arm == "reinit" else colour,
    }


def _draw_tickets(axes: Axes, places: np.ndarray, left: Sequence[float], look: Mapping[str, Any]) -> None:
    """Smallest tickets, joined as the look says; hollow at 100 where there is none."""
    there = np.array(left) < 100
    axes.plot(places, np.where(there, left, np.nan), zorder=3, **look)
    hollow = {**look, "linestyle": "none", "markerfacecolor": "white"}
    axes.plot(places[~there], np.array(left)[~there], zorder=3, **hollow)
