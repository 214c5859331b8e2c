"""The figure of a study that tunes: what each arm gets right against what is tuned, and which value it was given."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from lottery_ticket.analysis.figures import Axes, Figure
from lottery_ticket.analysis.plots import save_all, style, subplots
from lottery_ticket.method.arms import colours_of
from lottery_ticket.study.axes import INK, arrange, error_scale, in_order, in_words
from lottery_ticket.study.definition import Study, ordered
from lottery_ticket.study.tuning import DENSE, Candidate, Tuned, compared_with

_CHOSEN: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 11, "markerfacecolor": "none"}
_ANY: dict[str, Any] = {"linestyle": "none", "marker": "s", "markersize": 8, "markerfacecolor": "none"}


def draw_tuned(study: Study, tuned: Sequence[Tuned], name: str, folder: Path) -> list[Path]:
    """Draw one figure for each combination of what is searched and not tuned; the paths, none of what has no network.

    Test accuracies are means over seeds, of the trials in which all of them got there.
    """
    groups: list[dict[str, Any]] = []
    for each in tuned:
        if dict(each.group) not in groups:
            groups.append(dict(each.group))
    drawn: dict[str, Figure | None] = {}
    with style():
        for number, group in enumerate(groups, 1):
            rows = [each for each in tuned if dict(each.group) == group and each.best]
            told = ", ".join(f"{key} {value}" for key, value in group.items())
            title = textwrap.fill(f"{name}: {told}" if told else name, 60)
            drawn[f"tuned-{number}" if len(groups) > 1 else "tuned"] = _draw(study, rows, title) if rows else None
        return save_all(drawn, folder)


def _draw(study: Study, rows: Sequence[Tuned], title: str) -> Figure:
    densities = list(dict.fromkeys(row.pct for row in rows))
    arms = list(dict.fromkeys(row.arm for row in rows))
    colours = colours_of(arm for arm in arms if arm != DENSE) | {DENSE: INK}
    size = (1 + 5 * len(study.tune), 1.6 + 2.6 * len(densities))
    figure, panels = subplots(
        len(densities), len(study.tune), figsize=size, sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    for pct, line in zip(densities, panels, strict=True):
        here = [row for row in rows if row.pct == pct]
        for setting, panel in zip(study.tune, line, strict=True):
            for row in here:
                _draw_arm(panel, study, setting, row, colours)
        accuracies = np.array([100 * each.test for row in here for each in row.candidates])
        error_scale(line[0], accuracies)
        first = compared_with(study.settings_of({}).arms)
        left = next((row.best.left for row in here if row.arm == first and row.best), pct)
        line[0].set_title(f"{left:.3g} % left", loc="left")
    for setting, column in zip(study.tune, panels.T, strict=True):
        for panel in column:
            arrange(panel, "x", setting, study.space[setting])
            panel.set_xlabel(in_words(setting) if panel is column[-1] else "")
    keys = [Line2D([], [], color=colours[arm], marker=".", label=arm) for arm in arms]
    keys += [Line2D([], [], color="0.4", label="best by validation accuracy", **_CHOSEN)]
    keys += [Line2D([], [], color="0.4", label="best by test accuracy", **_ANY)]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    figure.suptitle(f"{title}: each arm at its own best", fontsize=12)
    return figure


def _draw_arm(axes: Axes, study: Study, setting: str, row: Tuned, colours: Mapping[str, str]) -> None:
    """An arm's trials along one setting, joined where nothing else is tuned, and the two that are its best."""
    look: dict[str, Any] = {"color": colours[row.arm], "marker": ".", "label": row.arm}
    joined = len(study.tune) == 1 and ordered(study.space[setting])
    axes.plot(*_places(study, setting, row.candidates), linestyle="-" if joined else "none", linewidth=1.2, **look)
    for chosen, mark in ((row.best, _CHOSEN), (row.at_any, _ANY)):
        if chosen:
            axes.plot(*_places(study, setting, [chosen]), color=colours[row.arm], zorder=3, **mark)


def _places(study: Study, setting: str, found: Sequence[Candidate]) -> tuple[np.ndarray, list[float]]:
    tests = {each.trial.number: 100 * each.test for each in found}
    trials, places = in_order(setting, study.space[setting], [each.trial for each in found])
    return places, [tests[trial.number] for trial in trials]
