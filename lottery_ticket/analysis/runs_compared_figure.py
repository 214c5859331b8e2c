"""The figure of arms of several runs side by side."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lottery_ticket.analysis.plots import log_counts, log_percent, looks_of, save, style, subplots
from lottery_ticket.analysis.runs_compared import COUNTED, Gap, Point, RunsCompared
from lottery_ticket.analysis.statistics import over_seeds


def draw_runs(compared: RunsCompared, path: Path) -> None:
    """Draw accuracies and their differences from the first side, against weights left and against multiply-adds.

    Args:
        compared: two sides or more.
        path: of the figure, its folder made if need be; the ending says the format, as for `savefig`.
    """
    looks = looks_of(compared.names)
    everything = [point for points in compared.points.values() for point in points]
    spent = [point.spent for point in everything if point.spent]
    with style():
        size = (10 if spent else 5.5, 6.5 + 0.25 * len(compared.names))
        figure, panels = subplots(
            2, 2 if spent else 1, figsize=size, squeeze=False, layout=ConstrainedLayoutEngine(hspace=0.05)
        )
        _draw_column(panels[:, 0], compared, looks, lambda point: 100 * point.density, lambda gap: 100 * gap.at[0])
        for panel in panels[:, 0]:
            log_percent(panel, "x", [100 * point.density for point in everything])
        if spent:
            _draw_column(panels[:, 1], compared, looks, lambda point: point.spent, lambda gap: gap.at[0], by_spent=True)
            for panel in panels[:, 1]:
                log_counts(panel, spent)
                panel.set_xlabel(f"multiply-adds {COUNTED[compared.cost]}, of all training that led to the network")
        lines = [panels[0, 0].plot([], [], **looks[name])[0] for name in compared.names]
        figure.legend(lines, compared.names, loc="outside lower center")
        path.parent.mkdir(parents=True, exist_ok=True)
        save(figure, path)


def _draw_column(
    panels: Sequence[Axes],
    compared: RunsCompared,
    looks: Mapping[str, dict[str, Any]],
    across: Callable[[Point], float | None],
    across_gap: Callable[[Gap], float],
    by_spent: bool = False,
) -> None:
    """Accuracies above, with the intervals of their means; differences from the first side below."""
    above, below = panels
    for name, points in compared.points.items():
        there = [(x, point) for point in points if (x := across(point)) is not None]
        spreads = [over_seeds(list(point.accuracies.values())) for _, point in there]
        halves = [100 * (spread.interval(compared.level)[1] - spread.mean) if spread else 0.0 for spread in spreads]
        above.errorbar(
            [x for x, _ in there],
            [100 * point.accuracy for _, point in there],
            halves,
            elinewidth=1,
            **looks[name],
        )
    below.axhline(0, color=looks[compared.names[0]]["color"], linewidth=1)
    for other in compared.others:
        gaps = other.by_spent if by_spent else other.by_density
        for gap in gaps:
            if gap.interval:
                ends = [100 * end for end in gap.interval]
                below.plot([across_gap(gap)] * 2, ends, color=looks[other.name]["color"], linewidth=1)
        below.plot(
            [across_gap(gap) for gap in gaps],
            [100 * gap.difference for gap in gaps],
            **looks[other.name] | {"linestyle": "none"},
        )
    above.set_ylabel("test accuracy (%)")
    below.set_ylabel(f"minus {textwrap.shorten(compared.names[0], 30, placeholder=' …')} (points)")
