"""The toolkit of all figures: style, colours, axes and files, without pyplot."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from matplotlib import style as styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lottery_ticket.analysis.cost import in_short
from lottery_ticket.terminal import plain

STYLE = {
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is a $
}
BLUE = "#0072B2"
"""The colour of what has no other."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))
"""Of as many names as there are colours, of as many more, …"""


def style() -> AbstractContextManager[None]:
    """Our own style within the context, whatever the user has set; afterwards it is set again."""
    return styles.context(["default", STYLE])


def subplots(
    rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], layout: Any = None, **shared: Any
) -> tuple[Figure, Any]:
    """As pyplot's `subplots`, but unknown to pyplot: the user's backend and open figures are none of our business."""
    figure = Figure(figsize=figsize, layout=layout)
    return figure, figure.subplots(rows, columns, **shared)


def save_all(drawn: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    """Save figures by title as PNG into a folder, made if need be; the paths, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for title, figure in drawn.items():
        if figure is not None:
            paths.append(folder / f"{title}.png")
            save(figure, paths[-1])
    return paths


def save(figure: Figure, path: Path) -> None:
    """Save a figure, in the format that the path's ending says; its texts, names of strangers' runs say, made plain."""
    for text in figure.findobj(Text):
        text.set_text(plain(text.get_text()))
    figure.savefig(path)


def looks_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How points of each name are drawn, and the line that joins them; of 32 no two look alike."""
    rounds, colours = len(_MARKERS), len(_COLOURS)
    looks = {}
    for index, name in enumerate(names):
        marker, line = _MARKERS[index // colours % rounds]
        looks[name] = {"color": _COLOURS[index % colours], "marker": marker, "linestyle": line, "markersize": 4}
    return looks


def log_percent(axes: Axes, which: str, values: Sequence[float]) -> None:
    """A log axis in percent with readable ticks; x runs from dense to sparse."""
    low = min(values)
    ticks = [tick for tick in (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01) if tick >= low * 0.9]
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_ticks(ticks)
    axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axis.set_minor_formatter(NullFormatter())
    if which == "x":
        axes.set(xlabel="weights left (%)", xlim=(110, low * 0.9))


def log_counts(axes: Axes, values: Sequence[float]) -> None:
    """A log axis x of large numbers, such as 266k, with at least two ticks that are named."""
    axes.set_xscale("log")
    narrow = max(values, default=1) < 20 * min(values, default=1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: in_short(tick)))
    axes.xaxis.set_minor_formatter(NullFormatter())
