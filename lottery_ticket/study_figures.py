"""Figures fit for a paper, drawn from the finished trials of a study."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from optuna.distributions import FloatDistribution, IntDistribution

from lottery_ticket.boundary import surface, to_unit
from lottery_ticket.figures import Axes, Figure, colormaps, save_all, style, subplots
from lottery_ticket.samplers import ranges
from lottery_ticket.study import DENSE, MATCHING, SMALLEST, Choices, Range, Study
from lottery_ticket.study_axes import (
    arrange,
    ends,
    error_scale,
    in_order,
    in_words,
    log_axis,
    log_ticks,
    ordered,
    percent_scale,
)
from lottery_ticket.trials import Trial, margins

_WINNING, _MATCHING, _EMPTY, _INK = "#0072B2", "0.55", "0.88", "0.1"
_LEARNED = 0.15  # accuracy that a network may be below the best one and still have learned
_FINE = 500  # cells of a map, along each side


def draw_study(
    study: Study, trials: Sequence[Trial], name: str, folder: Path, importance: Mapping[str, float]
) -> list[Path]:
    """Draw what the trials allow into the folder; the paths, in order of interest, none without trials.

    One searched setting: accuracies and the smallest tickets against it. Two that are ranges: maps. Else: the smallest
    winning tickets against each.

    Args:
        study: what was searched.
        trials: the finished ones, in any order.
        name: the study's name, for the titles.
        folder: made if need be.
        importance: setting → its part in the variance of the study's first measure, 0–1; empty where not known.
    """
    if not trials:
        return []
    drawn: dict[str, Figure | None] = {}
    name = textwrap.fill(name, 60)
    searched = list(study.space.values())
    with style():
        if len(searched) == 1:
            drawn["accuracy"] = draw_accuracy(study, trials, name)
            drawn["smallest"] = draw_smallest(study, trials, name)
        elif len(searched) == 2 and all(isinstance(each, Range) for each in searched):
            drawn["map_smallest"] = draw_map_smallest(study, trials, name)
            drawn["map_gap"] = draw_map_gap(study, trials, name)
        else:
            drawn["smallest"] = draw_smallest_of_each(study, trials, name)
        if len(searched) > 1 and importance:
            drawn["importance"] = draw_importance(study, importance, name)
        return save_all(drawn, folder)


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
    accuracies = [_percents(trials, DENSE)]
    above.plot(places, accuracies[0], **_look("dense", _INK, line), zorder=2.5)
    differences = [_gaps(trials, pct) for pct in shown]
    readable = [gap for pct in shown for gap in _gaps(trials, pct)[_learned(trials, pct, min)]]
    ends = min([-0.2, *readable]), max([0.2, *readable])
    low, high = np.array(ends) + np.array([-0.1, 0.1]) * (ends[1] - ends[0])
    for (pct, colour), gaps in zip(colours.items(), differences, strict=True):
        for arm in ("reinit", "winning"):
            accuracies.append(_percents(trials, f"{arm}_accuracy/{pct:g}pct"))
            above.plot(places, accuracies[-1], **_look(arm, colour, line))
        below.plot(places, np.where((gaps < low) | (gaps > high), np.nan, gaps), **_look("winning", colour, line))
        for beyond, end, marker in ((gaps > high, high, "^"), (gaps < low, low, "v")):
            if beyond.any():
                below.plot(places[beyond], [end] * sum(beyond), marker, color=colour, markersize=5, clip_on=False)
    below.axhline(0, color="0.4", linewidth=1)
    error_scale(above, np.concatenate(accuracies))
    keys: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linewidth=3, label=f"{pct:g} % left") for pct, colour in colours.items()
    ]
    keys += [Line2D([], [], **_look(arm, "0.4", line)) for arm in ("winning", "reinit")]
    keys.append(Line2D([], [], **_look("dense", _INK, line)))
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


def draw_map_smallest(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Percent of weights left in the smallest winning ticket over two settings; a trial colours its surroundings."""
    figure, axes = subplots(figsize=(6.8, 4.8), layout="constrained")
    left = np.array([trial.measures[SMALLEST] for trial in trials])
    won = left < 100
    if won.any():
        low, high = left[won].min() / 1.1, min(left[won].max() * 1.1, 100)
        mesh = _cells(axes, study, trials, np.where(won, left, np.nan), cmap="viridis_r", norm=LogNorm(low, high))
        bar = figure.colorbar(mesh, ax=axes, label="weights left in the smallest winning ticket (%)", pad=0.02)
        log_axis(bar.ax.yaxis, log_ticks(low, high, 8))
        bar.outline.set_visible(False)
    _finish_map(figure, axes, study, trials, "" if won.all() else "no ticket wins")
    axes.set_title(name)
    return figure


def draw_map_gap(study: Study, trials: Sequence[Trial], name: str) -> Figure | None:
    """Winning − reinit in points over two settings, at the density most trials have; None where none was measured.

    Cells are left empty where neither of the two learned. The colours span the differences where both did.
    """
    pct = _most_measured(study.densities, trials)
    if pct is None:
        return None
    figure, axes = subplots(figsize=(6.8, 4.8), layout="constrained")
    gaps = _gaps(trials, pct)
    limit = max(0.2, *np.abs(gaps[_learned(trials, pct, min)]))
    unmeasured, unlearned = np.isnan(gaps), ~np.isnan(gaps) & ~_learned(trials, pct, max)
    gaps[unlearned] = np.nan
    mesh = _cells(axes, study, trials, gaps, cmap="RdBu", vmin=-limit, vmax=limit)
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = ends[bool((gaps < -limit).any()), bool((gaps > limit).any())]
    bar = figure.colorbar(mesh, ax=axes, label="winning − reinit (points)", pad=0.02, extend=extend)
    bar.outline.set_visible(False)
    why = [text for text, found in (("not measured", unmeasured), ("neither learned", unlearned)) if found.any()]
    _finish_map(figure, axes, study, trials, ", or ".join(why))
    axes.set_title(f"{name}: winning − reinit at {pct:g} % left")
    return figure


def draw_importance(study: Study, importance: Mapping[str, float], name: str) -> Figure:
    """Each setting's part in the variance of the study's first measure, as bars; the largest on top."""
    bars = sorted(importance.items(), key=lambda pair: pair[1])
    figure, axes = subplots(figsize=(6, 1 + 0.4 * len(bars)), layout="constrained")
    labels = [in_words(setting) for setting, _ in bars]
    drawn = axes.barh(labels, [value for _, value in bars], 0.6, color=_WINNING)
    axes.bar_label(drawn, fmt="%.2f", padding=4, fontsize=9)
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    first = study.measures[0]
    axes.set(xlabel=f"part in the variance of: {in_words(first)}", title=name)
    axes.set_xlim(0, 1.12 * max(importance.values()) or 1)
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


def _percents(trials: Sequence[Trial], measure: str) -> np.ndarray:
    """100 × a measure of each trial; NaN, which is not drawn, where it has none."""
    return np.array([100 * trial.measures.get(measure, math.nan) for trial in trials])


def _gaps(trials: Sequence[Trial], pct: float) -> np.ndarray:
    """Winning − reinit of each trial at a density, in points; NaN where not measured."""
    return _percents(trials, f"winning_minus_reinit/{pct:g}pct")


def _learned(trials: Sequence[Trial], pct: float, of: Any) -> np.ndarray:
    """Whether the worse (`of` = min) or better (max) network of each trial learned: is not far below the best dense."""
    best = max(trial.measures[DENSE] for trial in trials)
    measures = [f"{arm}_accuracy/{pct:g}pct" for arm in ("winning", "reinit")]
    worst = [of(trial.measures.get(measure, -1.0) for measure in measures) for trial in trials]
    return np.array(worst) >= best - _LEARNED


def _most_measured(densities: Sequence[float], trials: Sequence[Trial]) -> float | None:
    """The density at which most trials have a gap, of equals the one nearest to 10.7 %; None where no trial has one."""
    counts = {pct: int(np.isfinite(_gaps(trials, pct)).sum()) for pct in densities}
    best = max(counts, key=lambda pct: (counts[pct], -abs(math.log(pct / 10.7))), default=None)
    return best if best is not None and counts[best] else None


def _cells(axes: Axes, study: Study, trials: Sequence[Trial], values: np.ndarray, **look: Any) -> Any:
    """Colour each point of the map by the trial nearest to it in the unit square; for a grid these are its cells."""
    space = ranges(study)
    parts = (np.arange(_FINE) + 0.5) / _FINE
    places = np.array([to_unit(space, trial.params) for trial in trials])
    across, up = ((parts[:, None] - places[:, d]) ** 2 for d in (0, 1))
    nearest = np.array([(across + row).argmin(1) for row in up])
    x, y = (_along(searched, np.linspace(0, 1, _FINE + 1)) for searched in space.values())
    return axes.pcolormesh(x, y, np.ma.masked_invalid(values[nearest]), **look)


def _finish_map(figure: Figure, axes: Axes, study: Study, trials: Sequence[Trial], empty: str) -> None:
    """Axes, trials, boundary and legend of a map; `empty` says what the cells without a colour are."""
    (x, first), (y, second) = study.space.items()
    arrange(axes, "x", x, first, margin=0)
    arrange(axes, "y", y, second, margin=0)
    axes.grid(visible=False)
    axes.set_facecolor(_EMPTY)
    keys: list[Line2D | Patch] = []
    for wins, face, label in ((True, _INK, "trial: tickets win"), (False, "white", "trial: they do not")):
        mine = [trial.params for trial in trials if (trial.phase == "winning") == wins]
        look: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5.5, "color": _INK}
        look |= {"markerfacecolor": face, "label": label}
        if mine:
            halo = [withStroke(linewidth=2, foreground="white")] if wins else []
            places = [params[x] for params in mine], [params[y] for params in mine]
            axes.plot(*places, **look, clip_on=False, zorder=4, path_effects=halo)
            keys.append(Line2D([], [], **look))
    if _draw_boundary(axes, study, trials):
        keys.append(Line2D([], [], color=_INK, linewidth=1.8, label="boundary"))
    if empty:
        keys.append(Patch(color=_EMPTY, label=empty))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9)


def _draw_boundary(axes: Axes, study: Study, trials: Sequence[Trial]) -> bool:
    """The line on which the surface through the trials' winning margins is 0; whether there is one."""
    space = ranges(study)
    fitted = surface(space, margins(trials))
    if fitted is None:
        return False
    parts = np.linspace(0, 1, 101)
    mean, _ = fitted.at(np.stack(np.meshgrid(parts, parts), -1).reshape(-1, 2))
    if not mean.min() < 0 < mean.max():
        return False
    x, y = (_along(searched, parts) for searched in space.values())
    line = axes.contour(x, y, mean.reshape(101, 101), [0], colors=_INK, linewidths=1.8, zorder=3)
    line.set(path_effects=[withStroke(linewidth=4, foreground="white")])
    return True


def _along(searched: FloatDistribution | IntDistribution, parts: np.ndarray) -> np.ndarray:
    """Values at parts (0–1) of a range, not rounded."""
    low, high = searched.low, searched.high
    return low * (high / low) ** parts if searched.log else low + parts * (high - low)
