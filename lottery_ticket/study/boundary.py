"""Where winning turns into not winning: a Gaussian process through the trials' winning margins.

The process and its fit are scikit-learn's.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from lottery_ticket.study.space import Space, from_unit, to_unit

SATURATION = 0.01
"""Differences of accuracy far larger than this (one point) say no more about where the boundary is."""

LENGTHS = (0.05, 0.3)
"""The process's lengths, as parts of the ranges: one that says nothing of what is a third of a range away cannot take a
region nobody tried for known."""

NEAR = 0.7
"""Correlation, by the process, down to which a trial speaks for a place."""


class Surface:
    """A Gaussian process through the trials' values, squashed to ±SATURATION; the level is 0.

    Matérn 5/2 with a length for each parameter and white noise, lengths and noise fitted by maximum likelihood from two
    beginnings that treat all parameters alike, so that their order does not matter.

    Args:
        points: n×d, in the unit cube.
        values: n, e.g. winning margins.
        process: with its lengths and noise; None to fit them.
    """

    def __init__(self, points: np.ndarray, values: np.ndarray, process: GaussianProcessRegressor | None = None) -> None:
        self._points, self._values = points, np.asarray(values)
        squashed = np.tanh(self._values / SATURATION)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at the end of its range
            tried = [process] if process else [_process(points.shape[1], length) for length in (0.1, LENGTHS[1])]
            fitted = [each.fit(points, squashed) for each in tried]
        self._process = max(fitted, key=lambda each: each.log_marginal_likelihood_value_)

    def believing(self, points: np.ndarray) -> "Surface":
        """The surface, lengths and noise as they are, had trials at these points come out as it has them."""
        values = np.arctanh(np.clip(self.at(points)[0], -0.999, 0.999)) * SATURATION
        fixed = GaussianProcessRegressor(self._process.kernel_, optimizer=None)
        return Surface(np.concatenate([self._points, points]), np.concatenate([self._values, values]), fixed)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the squashed value, without the noise, at points of the unit cube m×d."""
        mean, std = self._process.predict(points, return_std=True)
        noise = self._process.kernel_.k2.noise_level
        return mean, np.sqrt(np.maximum(std**2 - noise, 1e-12))

    def near(self, points: np.ndarray) -> np.ndarray:
        """Which points of the unit cube m×d some trial speaks for; see NEAR."""
        return near(points, self._points, self._process.kernel_.k1.k2)


def near(points: np.ndarray, trials: np.ndarray, kernel: Matern | None = None) -> np.ndarray:
    """Which points m×d some of the trials n×d speak for, by a process with this kernel or with middling lengths."""
    kernel = kernel or Matern(np.full(points.shape[1], 0.2), nu=2.5)
    return np.asarray((kernel(points, trials) >= NEAR).any(1))


def surface(space: Space, trials: Sequence[tuple[Mapping[str, Any], float]]) -> Surface | None:
    """The surface through (params, value) of trials; None where there are too few, or they all say the same."""
    values = np.array([value for _, value in trials])
    if len(trials) < 3 or (values > 0).all() or (values <= 0).all():
        return None
    return Surface(np.array([to_unit(space, params) for params, _ in trials]), values)


def crossings(
    space: Space, trials: Sequence[tuple[Mapping[str, Any], float]], along: str, **others: Any
) -> list[float]:
    """The values of one parameter at which the trials' surface goes through 0, rising or falling; in order.

    Between the outermost trials, and of several parameters where trials are near: elsewhere the surface knows nothing.

    Args:
        space: every parameter's range.
        trials: (params, value).
        along: the parameter.
        others: the values of the other parameters, where there are any.
    """
    fitted = surface(space, trials)
    if fitted is None:
        return []
    axis = list(space).index(along)
    line = np.tile(to_unit(space, {along: space[along].low, **others}), (1001, 1))
    tried = [to_unit(space, params)[axis] for params, _ in trials]
    places = np.linspace(min(tried), max(tried), 1001)
    line[:, axis] = places
    mean, _ = fitted.at(line)
    known = fitted.near(line) if others else np.full(len(line), True)
    (before,) = np.nonzero(np.diff(np.sign(mean)) * (known[1:] & known[:-1]))
    share = mean[before] / (mean[before] - mean[before + 1])
    found = places[before] + share * np.diff(places)[before]
    return [from_unit(space[along], float(place)) for place in found]


def _process(parameters: int, length: float) -> GaussianProcessRegressor:
    matern = Matern(np.full(parameters, length), LENGTHS, nu=2.5)
    return GaussianProcessRegressor(ConstantKernel(1.0, (0.1, 10.0)) * matern + WhiteKernel(0.05, (1e-4, 1.0)))
