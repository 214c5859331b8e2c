"""Maps of a study over two ranges: what was found where, as far as the trials speak for it, and the boundary."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from scipy.spatial.distance import cdist
from scipy.stats import norm

from lottery_ticket.analysis.figures import Axes, Figure
from lottery_ticket.analysis.plots import subplots
from lottery_ticket.study.axes import INK, arrange, gaps_at, learned, log_axis, log_ticks, measured_at
from lottery_ticket.study.boundary import near, surface
from lottery_ticket.study.definition import Study
from lottery_ticket.study.names import SMALLEST
from lottery_ticket.study.space import along, grid, ranges, to_unit
from lottery_ticket.study.trials import Trial, margins

_EMPTY = "0.88"
_CELLS = 200  # along each side
_PALEST = 0.15  # of a cell's colour, where it may lie on either side of the boundary
_SIZE = (6.8, 4.8)  # inches


def draw_map_smallest(study: Study, trials: Sequence[Trial], name: str) -> Figure:
    """Percent of weights left in the smallest winning ticket over two settings.

    A trial whose tickets win colours what is around it: as far as the boundary, and as far as a trial speaks for; the
    less sure it is on which side of the boundary a place lies, the paler.
    """
    plane = _Plane(study, trials)
    left = np.array([trial.measures[SMALLEST] for trial in trials])
    won = left < 100
    figure, axes = subplots(figsize=_SIZE, layout="constrained")
    if won.any():
        low, high = left[won].min() / 1.1, min(left[won].max() * 1.1, 100)
        mesh = plane.colour(axes, plane.of_nearest(left, won), True, cmap="viridis_r", norm=LogNorm(low, high))
        bar = figure.colorbar(mesh, ax=axes, label="weights left in the smallest winning ticket (%)", pad=0.02)
        log_axis(bar.ax.yaxis, log_ticks(low, high, 8))
        bar.outline.set_visible(False)
    else:
        plane.colour(axes, np.full(plane.near.shape, np.nan))
    unsure = Patch(color=INK, alpha=_PALEST, linewidth=0, label="paler: less sure whether they win")
    _finish(figure, axes, plane, study, trials, "no ticket wins", [unsure] if plane.bounded else [])
    axes.set_title(name)
    return figure


def draw_map_gap(study: Study, trials: Sequence[Trial], name: str) -> Figure | None:
    """Winning − reinit in points over two settings, at the density most trials have; None where none was measured.

    Cells are left empty where neither of the two learned. The colours span the differences where both did.
    """
    pct = _most_measured(study.densities, trials)
    if pct is None:
        return None
    plane = _Plane(study, trials)
    gaps = gaps_at(trials, pct)
    limit = np.abs(gaps[learned(trials, pct, min)]).max(initial=0.2)
    unmeasured, unlearned = np.isnan(gaps), ~np.isnan(gaps) & ~learned(trials, pct, max)
    gaps[unlearned] = np.nan
    figure, axes = subplots(figsize=_SIZE, layout="constrained")
    mesh = plane.colour(axes, gaps[plane.nearest], cmap="RdBu", vmin=-limit, vmax=limit)
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = ends[bool((gaps < -limit).any()), bool((gaps > limit).any())]
    bar = figure.colorbar(mesh, ax=axes, label="winning − reinit (points)", pad=0.02, extend=extend)
    bar.outline.set_visible(False)
    why = [text for text, found in (("not measured", unmeasured), ("neither learned", unlearned)) if found.any()]
    _finish(figure, axes, plane, study, trials, ", or ".join(why))
    axes.set_title(f"{name}: winning − reinit at {measured_at(trials, pct)} left")
    return figure


class _Plane:
    """What the trials of a study over two ranges say of the plane, cell by cell; rows are of the second setting.

    Attributes:
        nearest: which trial is nearest in the unit square.
        near: where a trial speaks for the cell, by the process through the winning margins, and on a grid the nearest
            of its points was tried.
        empty: which of these cells `colour` had no value for.
        bounded: whether a boundary was seen at all.
    """

    def __init__(self, study: Study, trials: Sequence[Trial]) -> None:
        space = ranges(study)
        places = np.array([to_unit(space, trial.params) for trial in trials])
        parts = (np.arange(_CELLS) + 0.5) / _CELLS
        cells = np.stack(np.meshgrid(parts, parts), -1).reshape(-1, 2)
        square = (_CELLS, _CELLS)
        self._away = cdist(cells, places)
        self.nearest = self._away.argmin(1).reshape(square)
        fitted = surface(space, margins(trials))
        self.bounded = fitted is not None
        self._mean, self._sure = None, np.ones(square)
        if fitted is not None:
            mean, std = fitted.at(cells)
            self._mean = mean.reshape(square)
            self._sure = (2 * norm.cdf(np.abs(mean) / std) - 1).reshape(square)
        self.near = (near(cells, places) if fitted is None else fitted.near(cells)).reshape(square)
        if study.sampler == "grid":
            points = itertools.product(*grid(study).values())
            lattice = np.array([to_unit(space, dict(zip(study.space, values, strict=True))) for values in points])
            tried = cdist(lattice, places).min(1) < 1e-6
            self.near &= tried[cdist(cells, lattice).argmin(1)].reshape(square)
        self.empty = np.full(square, False)
        self._edges = [along(searched, np.linspace(0, 1, _CELLS + 1)) for searched in space.values()]
        self._middles = [along(searched, parts) for searched in space.values()]

    def of_nearest(self, values: np.ndarray, having: np.ndarray) -> np.ndarray:
        """In each cell on the winning side of the boundary the value of the nearest trial of those `having` one."""
        (which,) = np.nonzero(having)
        found = values[which[self._away[:, which].argmin(1)]].reshape(self.near.shape)
        if self._mean is None:  # no boundary was seen
            return np.where(having[self.nearest], found, np.nan)
        return np.where(self._mean > 0, found, np.nan)

    def colour(self, axes: Axes, values: np.ndarray, fading: bool = False, **look: Any) -> Any:
        """Colour the cells that trials are near; grey where such a cell has no value.

        With `fading` the paler the likelier it is, by the process, that a cell lies on the other side of the boundary.
        """
        self.empty = self.near & np.isnan(values)
        alpha: Any = _PALEST + (1 - _PALEST) * self._sure if fading else None  # an array is not in matplotlib's types
        nothing = np.ma.masked_where(~self.empty, np.zeros(values.shape))
        axes.pcolormesh(*self._edges, nothing, cmap=ListedColormap([_EMPTY]), alpha=alpha)
        return axes.pcolormesh(*self._edges, np.ma.masked_where(~self.near | self.empty, values), alpha=alpha, **look)

    def draw_boundary(self, axes: Axes) -> bool:
        """The line on which the surface is 0, where trials are near; whether there is one."""
        if self._mean is None:
            return False
        known = np.ma.masked_where(~self.near, self._mean)
        if not known.count() or not known.min() < 0 < known.max():
            return False
        line = axes.contour(*self._middles, known, [0], colors=INK, linewidths=1.8, zorder=3)
        line.set(path_effects=[withStroke(linewidth=4, foreground="white")])
        return True


def _finish(
    figure: Figure,
    axes: Axes,
    plane: _Plane,
    study: Study,
    trials: Sequence[Trial],
    empty: str,
    more: Sequence[Patch] = (),
) -> None:
    """Axes, trials, boundary and legend of a map; `empty` says what the grey cells are, `more` is in the legend too."""
    (x, first), (y, second) = study.space.items()
    arrange(axes, "x", x, first, margin=0)
    arrange(axes, "y", y, second, margin=0)
    axes.grid(visible=False)
    keys: list[Line2D | Patch] = []
    for wins, face, label in ((True, INK, "trial: tickets win"), (False, "white", "trial: they do not")):
        mine = [trial.params for trial in trials if (trial.phase == "winning") == wins]
        look: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5.5, "color": INK}
        look |= {"markerfacecolor": face, "label": label}
        if mine:
            halo = [withStroke(linewidth=2, foreground="white")] if wins else []
            places = [params[x] for params in mine], [params[y] for params in mine]
            axes.plot(*places, **look, clip_on=False, zorder=4, path_effects=halo)
            keys.append(Line2D([], [], **look))
    if plane.draw_boundary(axes):
        keys.append(Line2D([], [], color=INK, linewidth=1.8, label="boundary"))
    if plane.empty.any() and empty:
        keys.append(Patch(color=_EMPTY, label=empty))
    keys += more
    if not plane.near.all():
        keys.append(Patch(facecolor="white", edgecolor="0.7", label="no trial near"))
    figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=9)


def _most_measured(densities: Sequence[float], trials: Sequence[Trial]) -> float | None:
    """The density at which most trials have a gap, of equals the one nearest to 10.7 %; None where no trial has one."""
    counts = {pct: int(np.isfinite(gaps_at(trials, pct)).sum()) for pct in densities}
    best = max(counts, key=lambda pct: (counts[pct], -abs(math.log(pct / 10.7))), default=None)
    return best if best is not None and counts[best] else None
