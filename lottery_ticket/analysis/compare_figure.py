"""The figure of a comparison of two tickets, fit for a paper."""

import math
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.layout_engine import ConstrainedLayoutEngine

from lottery_ticket.analysis.compare import Comparison, Overlap, Range, Values
from lottery_ticket.analysis.figures import Axes
from lottery_ticket.analysis.plots import save, style, subplots

_BLUE, _ORANGE, _BLACK, _GREY = "#0072B2", "#D55E00", "0.1", "0.75"


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw overlap, shared signs and distance of values against chance: a row per tensor, and one for all.

    Args:
        comparison: of two tickets.
        path: of the figure, its folder made if need be; the ending says the format, as for `savefig`.
    """
    overlaps = comparison.tensors | {"all": comparison.overall}
    last = len(overlaps) - 1
    with style():
        size = (8.5 + 0.07 * max(map(len, overlaps)), 1.8 + 0.5 * len(overlaps))
        figure, panels = subplots(1, 3, figsize=size, sharey=True, layout=ConstrainedLayoutEngine(wspace=0.06))
        _draw_masks(panels[0], overlaps.values())
        _draw_signs(panels[1], overlaps.values())
        _draw_distances(panels[2], overlaps.values())
        rows = [f"{name}\n{each.shared:,} shared" for name, each in overlaps.items()]
        panels[0].set_yticks(range(len(rows)), rows, fontsize=9)
        panels[0].set_ylim(last + 0.6, -0.6)
        for panel in panels:
            panel.axhline(last - 0.5, color="0.4", linewidth=0.8)
            panel.grid(visible=False, axis="y")
            panel.tick_params(axis="y", length=0)
        keys = [pair for panel in panels for pair in zip(*panel.get_legend_handles_labels(), strict=True)]
        entries = {text: drawn for drawn, text in keys}
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
        titles = zip("AB", comparison.labels, strict=True)
        figure.suptitle("\n".join(textwrap.fill(f"{letter}: {label}", 100) for letter, label in titles), fontsize=10)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(figure, path)


def _draw_masks(panel: Axes, overlaps: Iterable[Overlap]) -> None:
    """Intersection over union of the survivors."""
    most = 0.0
    for row, each in enumerate(overlaps):
        if each.iou is not None and each.iou_range is not None:
            _draw_chance(panel, each.iou_range, row - 0.3, row + 0.3)
            iou = 100 * each.iou
            panel.plot(iou, row, "D", color=_BLACK, markersize=5.5, clip_on=False, label="masks")
            end = max(iou, 100 * each.iou_range[1])
            panel.annotate(f"{iou:.3g}", (end, row), (6, 0), textcoords="offset points", va="center", fontsize=8)
            most = max(most, end)
    panel.set(xlabel="survivors in both / in either (%)", xlim=(0, 1.18 * most or 1))


def _draw_signs(panel: Axes, overlaps: Iterable[Overlap]) -> None:
    """Fraction of the shared survivors with the same sign."""
    for row, each in enumerate(overlaps):
        for values, top in ((each.start, row - 0.3), (each.trained, row)):
            if values and values.same_sign_range:
                _draw_chance(panel, values.same_sign_range, top, top + 0.3)
        _draw_values(panel, each, row, lambda values: None if values.same_sign is None else 100 * values.same_sign)
    panel.set(xlabel="same sign, of the shared (%)", xlim=(0, 100))


def _draw_distances(panel: Axes, overlaps: Iterable[Overlap]) -> None:
    """Relative distance of the values of the shared survivors."""
    panel.axvline(math.sqrt(2), color="0.4", linestyle="--", linewidth=1, label="independent values")
    for row, each in enumerate(overlaps):
        _draw_values(panel, each, row, lambda values: values.relative_distance)
    ticks = {0: "0", 0.5: "0.5", 1: "1", math.sqrt(2): "√2", 2: "2"}
    panel.set_xticks(list(ticks), list(ticks.values()))
    panel.set(xlabel="their difference / size (r.m.s.)", xlim=(0, 2))


def _draw_values(panel: Axes, overlap: Overlap, row: int, number: Callable[[Values], float | None]) -> None:
    """A number of the start values and, below it, of the trained weights."""
    for values, shift, colour, label in (
        (overlap.start, -0.15, _BLUE, "start values"),
        (overlap.trained, 0.15, _ORANGE, "trained weights"),
    ):
        found = number(values) if values else None
        if found is not None:
            panel.plot(found, row + shift, "o", color=colour, markersize=5.5, clip_on=False, label=label)


def _draw_chance(panel: Axes, ends: Range, top: float, bottom: float) -> None:
    low, high = (100 * end for end in ends)
    panel.fill_betweenx([top, bottom], low, high, color=_GREY, linewidth=1.5, label="chance, central 95 %")
