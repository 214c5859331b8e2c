"""Where winning turns into not winning: a Gaussian process over the trials, and a sampler that looks there.

The process and its fit are scikit-learn's. The sampler's rule is the straddle heuristic of Bryan et al. 2005, "Active
learning for identifying function level set boundaries" (NeurIPS), section 3: of all points, the one with the largest
1.96 σ − |μ − level|.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial.distance import cdist
from scipy.stats import qmc
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

SATURATION = 0.01
"""Differences of accuracy far larger than this (one point) say no more about where the boundary is."""

_FIRST = 4  # trials spread evenly before the rule begins
_CANDIDATES = 2048
_APART = 0.02  # part of the ranges by which trials that run at the same time are apart

Space = Mapping[str, FloatDistribution | IntDistribution]


class Surface:
    """A Gaussian process through the trials' values, squashed to ±SATURATION; the level is 0.

    Matérn 5/2 with a length for each parameter and white noise, lengths and noise fitted by maximum likelihood.

    Args:
        points: n×d, in the unit cube.
        values: n, e.g. winning margins.
        process: with its lengths and noise; None to fit them.
    """

    def __init__(self, points: np.ndarray, values: np.ndarray, process: GaussianProcessRegressor | None = None) -> None:
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(np.full(points.shape[1], 0.2), (0.03, 3.0), nu=2.5)
        self._points, self._values = points, np.asarray(values)
        self._process = process or GaussianProcessRegressor(
            kernel + WhiteKernel(0.05, (1e-4, 1.0)), n_restarts_optimizer=2, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at the end of its range
            self._process.fit(points, np.tanh(self._values / SATURATION))

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

    Between the outermost trials only: beyond them the surface knows nothing.

    Args:
        space: every parameter's range.
        trials: (params, value).
        along: the parameter.
        others: the values of the other parameters, where there are any.
    """
    fitted = surface(space, trials)
    if fitted is None:
        return []
    names = list(space)
    line = np.tile(to_unit(space, {along: space[along].low, **others}), (1001, 1))
    tried = [to_unit(space, params)[names.index(along)] for params, _ in trials]
    places = np.linspace(min(tried), max(tried), 1001)
    line[:, names.index(along)] = places
    mean, _ = fitted.at(line)
    (before,) = np.nonzero(np.diff(np.sign(mean)))
    share = mean[before] / (mean[before] - mean[before + 1])
    found = places[before] + share * np.diff(places)[before]
    return [from_unit(space[along], float(place)) for place in found]


def to_unit(space: Space, params: Mapping[str, Any]) -> np.ndarray:
    """Parameters as a point of the unit cube, on a log axis where their range has one."""
    point = []
    for name, searched in space.items():
        low, high, value = (np.log(v) if searched.log else v for v in (searched.low, searched.high, params[name]))
        point.append((value - low) / (high - low))
    return np.array(point, dtype=float)


def from_unit(searched: FloatDistribution | IntDistribution, part: float) -> float | int:
    """A parameter's value at a part (0–1) of its range; the other way round."""
    if searched.log:
        value = float(np.exp(np.log(searched.low) + part * (np.log(searched.high) - np.log(searched.low))))
    else:
        value = searched.low + part * (searched.high - searched.low)
    value = min(max(value, searched.low), searched.high)
    return round(value) if isinstance(searched, IntDistribution) else value


class BoundarySampler(BaseSampler):
    """Spends trials where the study's one value goes through 0.

    The first four are spread evenly (a Halton sequence). Then each trial is put where the straddle rule says. Trials
    that are running count as if they had come out as the surface has it, so that trials of one batch, and of other
    processes, keep away from each other, by 2 % of the ranges at least. While all trials lie on one side of 0, the
    least known point is tried.

    Args:
        space: parameters that are ranges.
        seed: of the candidates.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        self._space, self._seed = space, seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters are sampled together."""
        return dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the next trial."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        done = [(t.params, t.values[0]) for t in others if t.state == TrialState.COMPLETE]
        running = [t.params for t in others if t.state == TrialState.RUNNING and t.params.keys() == self._space.keys()]
        names = list(self._space)
        if len(done) < _FIRST:
            halton = qmc.Halton(len(names), scramble=True, rng=self._seed)
            point = halton.random(trial.number + 1)[-1]
        else:
            point = self._straddle(done, running, trial.number)
        return {name: from_unit(self._space[name], float(part)) for name, part in zip(names, point, strict=True)}

    def _straddle(
        self, done: list[tuple[dict[str, Any], float]], running: list[dict[str, Any]], number: int
    ) -> np.ndarray:
        values = np.array([value for _, value in done])
        fitted = Surface(np.array([to_unit(self._space, params) for params, _ in done]), values)
        candidates = qmc.Sobol(len(self._space), scramble=True, rng=self._seed + number).random(_CANDIDATES)
        if running:
            pending = np.array([to_unit(self._space, params) for params in running])
            fitted = fitted.believing(pending)
            apart = cdist(candidates, pending).min(1) >= _APART
            candidates = candidates[apart] if apart.any() else candidates
        mean, std = fitted.at(candidates)
        if (values > 0).all() or (values <= 0).all():
            return candidates[np.argmax(std)]
        return candidates[np.argmax(1.96 * std - np.abs(mean))]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Nothing is: a parameter that is not in the space is an error."""
        raise ValueError(f"{param_name} is not in the search space")
