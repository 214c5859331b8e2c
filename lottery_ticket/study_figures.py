"""Figures fit for a paper, drawn from the finished trials of a study."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from optuna.distributions import FloatDistribution, IntDistribution

from lottery_ticket.boundary import surface, to_unit
from lottery_ticket.figures import STYLE, Axes, Figure, plt
from lottery_ticket.measures import DENSE, MATCHING, SMALLEST
from lottery_ticket.study import Choices, Range, Study, whole_numbers
from lottery_ticket.trials import Trial, margins

_WINNING, _MATCHING, _NOTHING = "#0072B2", "0.55", "0.88"
_LABELS = {
    "lr": "learning rate",
    "prune_rate": "prune rate per round",
    "prune_rate_conv": "prune rate per round, convolutions",
    "prune_rate_output": "prune rate per round, output layer",
    "rewind_iteration": "rewound to iteration",
    "epochs": "epochs per round",
    "iterations": "iterations per round",
    "batch_size": "batch size (images)",
    "weight_decay": "weight decay",
    "warmup_iterations": "warm-up iterations",
    "optimizer": "optimiser",
    "init": "initial weights",
    "bias_init": "initial biases",
}
_LEARNED = 0.15  # accuracy a network may be below the best one and still have learned
_FINE = 400  # cells of a map, along each side


def draw_study(
    study: Study, trials: Sequence[Trial], name: str, folder: Path, importance: Mapping[str, float]
) -> list[Path]:
    """Draw what the trials allow into the folder; the paths, in order of interest, none without trials.

    Args:
        study: what was searched.
        trials: the finished ones, in any order.
        name: the study's name, for the titles.
        folder: made if need be.
        importance: of each searched setting for what the study looks for, 0–1; empty where it is not known.
    """
    if not trials:
        return []
    drawn: dict[str, Figure | None] = {}
    name = textwrap.fill(name, 60)
    with plt.rc_context(STYLE):
        if len(study.space) == 1:
            drawn["accuracy"] = draw_accuracy(study, trials, name)
            drawn["smallest"] = draw_smallest(study, trials, name)
        elif len(study.space) == 2 and all(isinstance(searched, Range) for searched in study.space.values()):
            drawn["map_smallest"] = draw_map_smallest(study, trials, name)
            drawn["map_gap"] = draw_map_gap(study, trials, name)
        else:
            drawn["smallest"] = draw_smallest(study, trials, name)
        if len(study.space) > 1 and importance:
            drawn["importance"] = draw_importance(importance, name)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for title, figure in drawn.items():
            if figure is not None:
                paths.append(folder / f"{title}.png")
                figure.savefig(paths[-1])
                plt.close(figure)
    return paths


def draw_accuracy(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Accuracy of tickets and reinitialised networks at each density, and their difference, against one setting."""
    ((setting, searched),) = study.space.items()
    trials = sorted(trials, key=lambda trial: _place(searched, trial.params[setting]))
    places = [_place(searched, trial.params[setting]) for trial in trials]
    shown = [pct for pct in study.densities if any(f"winning_accuracy/{pct:g}pct" in t.measures for t in trials)]
    colours = dict(zip(shown, plt.get_cmap("viridis")(np.linspace(0, 0.85, len(shown))), strict=True))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 5.6), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    joined = isinstance(searched, Range)
    dense = _percents(trials, DENSE)
    above.plot(places, dense, **_look("dense", "0.1", joined))
    accuracies, gaps = [dense], {}
    for pct, colour in colours.items():
        for arm in ("reinit", "winning"):
            accuracies.append(_percents(trials, f"{arm}_accuracy/{pct:g}pct"))
            above.plot(places, accuracies[-1], **_look(arm, colour, joined))
        gaps[pct] = _percents(trials, f"winning_minus_reinit/{pct:g}pct")
    _error_scale(above, np.concatenate(accuracies))
    readable = _gaps_that_learned(trials, shown)
    low, high = min([-0.2, *readable]), max([0.2, *readable])
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    below.axhline(0, color="0.4", linewidth=1)
    for pct, colour in colours.items():
        below.plot(places, gaps[pct], **_look("winning", colour, joined))
        for outside, end, marker in ((gaps[pct] > high, high, "^"), (gaps[pct] < low, low, "v")):
            edge = np.array(places)[outside]
            below.plot(edge, np.full(len(edge), end), marker, color=colour, markersize=5, clip_on=False, zorder=3)
    keys = [Line2D([], [], color=colour, linewidth=3, label=f"{pct:g} % left") for pct, colour in colours.items()]
    keys += [
        Line2D([], [], **_look(arm, "0.1" if arm == "dense" else "0.4", joined))
        for arm in ("dense", "winning", "reinit")
    ]
    if joined and _shade(above, setting, searched, trials) and _shade(below, setting, searched, trials):
        keys.append(Patch(color=_WINNING, alpha=0.12, linewidth=0, label="tickets win"))
    if any((each > high).any() or (each < low).any() for each in gaps.values()):
        keys.append(Line2D([], [], linestyle="none", marker="^", color="0.4", markersize=5, label="beyond the axis"))
    figure.legend(handles=keys, loc="outside right center")
    above.set(ylabel="test accuracy (%)", title=name)
    below.set(ylabel="winning − reinit (points)", ylim=(low, high))
    _arrange(below, "x", setting, searched, margin=0.03)
    above.tick_params(axis="x", which="both", length=0)
    figure.align_ylabels()
    return figure


def draw_smallest(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Percent of weights left in the smallest winning and matching ticket against each setting; at the top, none."""
    columns = min(3, len(study.space))
    rows = math.ceil(len(study.space) / columns)
    size = (7, 4) if columns == 1 else (0.8 + 3.4 * columns, 0.6 + 3 * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    keys: dict[str, Line2D | Patch] = {}
    for panel, (setting, searched) in zip(panels.flat, study.space.items(), strict=False):
        ordered = sorted(trials, key=lambda trial: _place(searched, trial.params[setting]))
        places = np.array([_place(searched, trial.params[setting]) for trial in ordered])
        joined = len(study.space) == 1 and isinstance(searched, Range)
        for measure, label, marker, size_, colour in (
            (MATCHING, "smallest that matches", "D", 6.5, _MATCHING),
            (SMALLEST, "smallest that wins", "o", 5.5, _WINNING),
        ):
            left = np.array([trial.measures[measure] for trial in ordered])
            there = left < 100
            look = {"marker": marker, "markersize": size_, "color": colour, "linewidth": 1, "clip_on": False}
            style = "-" if joined else "none"
            (keys[label],) = panel.plot(
                places, np.where(there, left, np.nan), linestyle=style, label=label, zorder=3, **look
            )
            panel.plot(places[~there], left[~there], linestyle="none", markerfacecolor="white", zorder=3, **look)
        if joined and _shade(panel, setting, searched, ordered):
            keys["tickets win"] = Patch(color=_WINNING, alpha=0.12, linewidth=0, label="tickets win")
        _arrange(panel, "x", setting, searched, margin=0.03)
    for panel in panels.flat[len(study.space) :]:
        panel.set_axis_off()
    keys["none"] = Line2D([], [], **_open_circle(_WINNING), label="none")
    smallest = min(min(trial.measures[SMALLEST], trial.measures[MATCHING]) for trial in trials)
    for panel in panels[:, 0]:
        panel.set_ylabel("weights left (%)")
    panel = panels[0, 0]
    panel.set_yscale("log")
    panel.set_ylim(min(smallest, 50) / 1.2, 100 * (100 / min(smallest, 50)) ** 0.06)
    ticks = _log_ticks(min(smallest, 50) / 1.1, 100, (1, 2, 5))
    panel.yaxis.set_major_locator(FixedLocator(ticks))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: "none" if tick > 99.9 else f"{tick:g}"))
    figure.legend(handles=list(keys.values()), loc="outside lower center", ncols=len(keys))
    figure.suptitle(name, fontsize=12)
    return figure


def draw_map_smallest(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Percent of weights left in the smallest winning ticket over two settings; each trial colours its surroundings."""
    figure, axes = plt.subplots(figsize=(6.8, 4.8), layout="constrained")
    left = np.array([trial.measures[SMALLEST] for trial in trials])
    there = left < 100
    if there.any():
        low = left[there].min() / 1.05
        mesh = _cells(axes, study, trials, np.where(there, left, np.nan), cmap="viridis", norm=LogNorm(low, 100))
        bar = figure.colorbar(mesh, ax=axes, label="weights left in the smallest winning ticket (%)", pad=0.02)
        bar.ax.yaxis.set_major_locator(FixedLocator(_log_ticks(low, 100, (1, 2, 5))))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        bar.outline.set_visible(False)
    _finish_map(figure, axes, study, trials, None if there.all() else "no ticket wins")
    axes.set_title(name)
    return figure


def draw_map_gap(study: Study, trials: Sequence[Trial], name: str) -> Figure | None:
    """Winning − reinit in points over two settings, at the density most trials have; None where none was measured."""
    pct = _most_measured(study.densities, trials)
    if pct is None:
        return None
    gaps = _percents(trials, f"winning_minus_reinit/{pct:g}pct")
    measured = np.isfinite(gaps)
    figure, axes = plt.subplots(figsize=(6.8, 4.8), layout="constrained")
    limit = max(0.2, *np.abs(_gaps_that_learned(trials, [pct])))
    mesh = _cells(axes, study, trials, gaps, cmap="RdBu", vmin=-limit, vmax=limit)
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = ends[bool((gaps[measured] < -limit).any()), bool((gaps[measured] > limit).any())]
    bar = figure.colorbar(mesh, ax=axes, label="winning − reinit (points)", pad=0.02, extend=extend)
    bar.outline.set_visible(False)
    _finish_map(figure, axes, study, trials, None if measured.all() else "not measured")
    axes.set_title(f"{name}: winning − reinit at {pct:g} % left")
    return figure


def draw_importance(importance: Mapping[str, float], name: str) -> Figure:
    """The importance of each setting, 0–1, as bars; the largest on top."""
    ordered = sorted(importance.items(), key=lambda pair: pair[1])
    figure, axes = plt.subplots(figsize=(6, 1 + 0.4 * len(ordered)), layout="constrained")
    bars = axes.barh([_LABELS.get(setting, setting) for setting, _ in ordered], [value for _, value in ordered], 0.6)
    for bar in bars:
        bar.set_color(_WINNING)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="importance", title=name, xlim=(0, 1.1 * max(importance.values()) or 1))
    return figure


def winning_regions(setting: str, searched: Range, trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """(from, to) of one setting where tickets win; an edge is half way between two trials, on the setting's axis.

    The outermost trials stand for as much on their outer side as on their inner one, within the range.
    """
    ordered = sorted(trials, key=lambda trial: trial.params[setting])
    there, back = (math.log, math.exp) if searched.log else (float, float)
    at = np.array([there(trial.params[setting]) for trial in ordered])
    middles = (at[1:] + at[:-1]) / 2
    if len(at) < 2:
        return []
    edges = np.concatenate([[2 * at[0] - middles[0]], middles, [2 * at[-1] - middles[-1]]])
    edges = np.clip([back(edge) for edge in edges], searched.low, searched.high)
    regions: list[tuple[float, float]] = []
    for trial, low, high in zip(ordered, map(float, edges[:-1]), map(float, edges[1:]), strict=True):
        if trial.phase == "winning":
            before = regions.pop() if regions and regions[-1][1] == low else (low, low)
            regions.append((before[0], high))
    return regions


def _shade(axes: Axes, setting: str, searched: Range | Choices, trials: Sequence[Trial]) -> bool:
    """Shade where tickets win; whether they do anywhere."""
    regions = winning_regions(setting, searched, trials) if isinstance(searched, Range) else []
    for low, high in regions:
        axes.axvspan(low, high, color=_WINNING, alpha=0.12, linewidth=0, zorder=0)
    return bool(regions)


def _look(arm: str, colour: object, joined: bool) -> dict[str, object]:
    """How the points of an arm are drawn, and joined where the setting has an order."""
    style = {"dense": "-.", "winning": "-", "reinit": (0, (4, 1.5))}[arm] if joined else "none"
    marker = {"dense": "_" if not joined else None, "winning": "o", "reinit": "o"}[arm]
    face = "white" if arm == "reinit" else colour
    return {
        "label": arm,
        "color": colour,
        "linestyle": style,
        "linewidth": 1.4,
        "marker": marker,
        "markersize": 4 if marker == "o" else 18,
        "markerfacecolor": face,
        "markeredgewidth": 1.1,
    }


def _open_circle(colour: str) -> dict[str, object]:
    return {"linestyle": "none", "marker": "o", "markersize": 5.5, "color": colour, "markerfacecolor": "white"}


def _percents(trials: Sequence[Trial], measure: str) -> np.ndarray:
    """100 × a measure of each trial; NaN, which is not drawn, where it has none."""
    return np.array([100 * trial.measures.get(measure, math.nan) for trial in trials])


def _gaps_that_learned(trials: Sequence[Trial], densities: Sequence[float]) -> list[float]:
    """Winning − reinit in points where both networks learned, so that noise between those that did not says nothing."""
    measured = [
        tuple(trial.measures[f"{measure}/{pct:g}pct"] for measure in _GAP)
        for trial in trials
        for pct in densities
        if all(f"{measure}/{pct:g}pct" in trial.measures for measure in _GAP)
    ]
    best = max((max(winning, reinit) for winning, reinit, _ in measured), default=0)
    return [100 * gap for winning, reinit, gap in measured if min(winning, reinit) >= best - _LEARNED] or [0.0]


_GAP = ("winning_accuracy", "reinit_accuracy", "winning_minus_reinit")


def _most_measured(densities: Sequence[float], trials: Sequence[Trial]) -> float | None:
    """The density at which most trials have a gap, of equals the one nearest 10.7 %; None where no trial has one."""
    counts = {pct: sum(f"winning_minus_reinit/{pct:g}pct" in trial.measures for trial in trials) for pct in densities}
    best = max(counts, key=lambda pct: (counts[pct], -abs(math.log(pct / 10.7))), default=None)
    return best if best is not None and counts[best] else None


def _error_scale(axes: Axes, accuracies: np.ndarray) -> None:
    """An axis of accuracies in percent that is logarithmic in the error where errors differ much.

    So 98 and 97 % can be told apart beside networks that did not learn.
    """
    least = 0.01  # an error below one in 10,000 images
    errors = np.maximum(100 - accuracies[np.isfinite(accuracies)], least)
    low, high = errors.min(), errors.max()
    if high < 4 * low:
        return
    axes.set_yscale(
        "function", functions=(lambda v: -np.log(np.maximum(100 - v, least)), lambda v: 100 - np.exp(-np.asarray(v)))
    )
    low, high = low / 1.15, min(high * 1.15, 100)
    axes.set_ylim(100 - high, 100 - low)
    ticks: list[float] = []
    for error in (90, *_log_ticks(low, high, (1, 2, 5)), *_log_ticks(low, high, (3, 7)), *_log_ticks(low, high, (4,))):
        apart = [abs(math.log(error / tick)) / math.log(high / low) for tick in ticks]
        if low <= error <= high and min(apart, default=1) > 0.07:
            ticks.append(error)
    axes.yaxis.set_major_locator(FixedLocator([100 - tick for tick in sorted(ticks)]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))


def _place(searched: Range | Choices, value: object) -> float:
    """Where a setting's value lies on its axis: itself, or which choice it is."""
    return float(value) if isinstance(searched, Range) else searched.choices.index(value)  # type: ignore[arg-type]


def _arrange(axes: Axes, which: str, setting: str, searched: Range | Choices, margin: float) -> None:
    """Scale, limits, ticks and label of a setting's axis; margin is a part of the range, on either side."""
    axis = getattr(axes, f"{which}axis")
    axis.set_label_text(_LABELS.get(setting, setting.replace("_", " ")))
    if isinstance(searched, Choices):
        texts = [str(choice) for choice in searched.choices]
        axis.set_ticks(range(len(texts)), texts)
        if sum(map(len, texts)) > 40:
            axes.tick_params(axis=which, rotation=20)
        getattr(axes, f"set_{which}lim")(-0.5, len(texts) - 0.5)
        return
    low, high = searched.low, searched.high
    if searched.log:
        getattr(axes, f"set_{which}scale")("log")
        axis.set_major_locator(FixedLocator(_log_ticks(low, high)))
        axis.set_minor_formatter(NullFormatter())
        factor = (high / low) ** margin
        low, high = low / factor, high * factor
    else:
        axis.set_major_locator(MaxNLocator(6, integer=whole_numbers(setting)))
        low, high = low - margin * (high - low), high + margin * (high - low)
    axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    getattr(axes, f"set_{which}lim")(low, high)


def _log_ticks(low: float, high: float, digits: Sequence[int] | None = None) -> list[float]:
    """Numbers of one digit between two others, the fewer the wider these are apart."""
    decades = math.log10(high / low)
    if digits is None:
        digits = (1,) if decades > 4 else (1, 3) if decades > 1.5 else (1, 2, 5) if decades > 0.9 else range(1, 10)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [tick for tick in ticks if 0.999 * low <= tick <= 1.001 * high]


def _cells(axes: Axes, study: Study, trials: Sequence[Trial], values: np.ndarray, **look: object) -> object:
    """Colour each point of the map by the trial nearest to it, which of a grid makes its cells."""
    parts = (np.arange(_FINE) + 0.5) / _FINE
    places = np.array([to_unit(_distributions(study), trial.params) for trial in trials])
    squares = [(parts[:, None] - places[:, d]) ** 2 for d in (0, 1)]
    nearest = np.array([(squares[0] + row).argmin(1) for row in squares[1]])
    (x, y) = (_along(searched, np.linspace(0, 1, _FINE + 1)) for searched in _distributions(study).values())
    return axes.pcolormesh(x, y, np.ma.masked_invalid(values[nearest]), **look)


def _finish_map(figure: Figure, axes: Axes, study: Study, trials: Sequence[Trial], empty: str | None) -> None:
    """Axes, trials, boundary and legend of a map; `empty` says what the cells without a colour are."""
    space = _distributions(study)
    (x, first), (y, second) = study.space.items()
    _arrange(axes, "x", x, first, margin=0)
    _arrange(axes, "y", y, second, margin=0)
    axes.grid(visible=False)
    axes.set_facecolor(_NOTHING)
    keys: list[Line2D | Patch] = []
    for phase, face, label in ((True, "0.1", "trial: tickets win"), (False, "white", "trial: they do not")):
        mine = [trial.params for trial in trials if (trial.phase == "winning") == phase]
        look = {"marker": "o", "linestyle": "none", "markersize": 5.5, "color": "0.1", "markerfacecolor": face}
        if mine:
            halo = [withStroke(linewidth=2, foreground="white")] if phase else []
            axes.plot(
                [params[x] for params in mine],
                [params[y] for params in mine],
                **look,
                clip_on=False,
                zorder=4,
                path_effects=halo,
            )
            keys.append(Line2D([], [], **look, label=label))
    fitted = surface(space, margins(trials))
    if fitted is not None:
        parts = np.linspace(0, 1, 101)
        mean, _ = fitted.at(np.stack(np.meshgrid(parts, parts), -1).reshape(-1, 2))
        if mean.min() < 0 < mean.max():
            horizontal, vertical = (_along(searched, parts) for searched in space.values())
            line = axes.contour(
                horizontal, vertical, mean.reshape(101, 101), [0], colors="0.1", linewidths=1.8, zorder=3
            )
            line.set(path_effects=[withStroke(linewidth=4, foreground="white")])
            keys.append(Line2D([], [], color="0.1", linewidth=1.8, label="boundary"))
    if empty:
        keys.append(Patch(color=_NOTHING, label=empty))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9)


def _distributions(study: Study) -> dict[str, FloatDistribution | IntDistribution]:
    """The study's ranges as `lottery_ticket.boundary` takes them."""
    return {
        name: IntDistribution(int(searched.low), int(searched.high), log=searched.log)
        if whole_numbers(name)
        else FloatDistribution(searched.low, searched.high, log=searched.log)
        for name, searched in study.space.items()
        if isinstance(searched, Range)
    }


def _along(searched: FloatDistribution | IntDistribution, parts: np.ndarray) -> np.ndarray:
    """Values at parts (0–1) of a range, not rounded."""
    low, high = searched.low, searched.high
    return low * (high / low) ** parts if searched.log else low + parts * (high - low)
