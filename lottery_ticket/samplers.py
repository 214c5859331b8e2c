"""What proposes a study's trials: Optuna's samplers, and the one that looks for the boundary."""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from lottery_ticket.boundary import BoundarySampler, Space
from lottery_ticket.randomness import derive
from lottery_ticket.study import Choices, Study, whole_numbers
from lottery_ticket.trials import REFUSED


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """The study's search space in Optuna's terms."""
    return {name: _distribution(name, searched) for name, searched in study.space.items()}


def ranges(study: Study) -> Space:
    """The parameters of the search space that are ranges."""
    found = distributions(study)
    return {name: each for name, each in found.items() if isinstance(each, FloatDistribution | IntDistribution)}


def grid(study: Study) -> dict[str, list[Any]]:
    """The values of each parameter on the study's grid."""
    values: dict[str, list[Any]] = {}
    for name, searched in study.space.items():
        if isinstance(searched, Choices):
            values[name] = list(searched.choices)
        else:
            assert searched.points is not None  # checked with the study's file
            spaced = np.geomspace if searched.log else np.linspace
            points = spaced(searched.low, searched.high, searched.points).tolist()
            points[0], points[-1] = searched.low, searched.high  # geomspace rounds
            values[name] = sorted({round(point) for point in points}) if whole_numbers(name) else points
    return values


def size(study: Study) -> int:
    """How many trials the study has: what its grid holds at most, where it is one."""
    return (
        min(study.trials, int(np.prod([len(each) for each in grid(study).values()])))
        if study.sampler == "grid"
        else study.trials
    )


def make_sampler(study: Study) -> BaseSampler:
    """The sampler that the study names.

    What it proposes for a trial depends on the study's `sampler_seed`, the trial's number and the trials before it, in
    whatever process that is.
    """
    seed = study.sampler_seed
    match study.sampler:
        case "grid":
            return _Grid(grid(study), distributions(study), seed)
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_asynchronous_seeding=False)
        case "tpe":
            return _PerTrial(lambda number: TPESampler(seed=derive(seed, "tpe", number) % 2**32, constant_liar=True))
        case "gp":
            return _PerTrial(lambda number: GPSampler(seed=derive(seed, "gp", number) % 2**32))
        case _:
            return BoundarySampler(ranges(study), seed)


class _Grid(BaseSampler):
    """Goes through a grid, each point once: one that is complete, running, waiting or refused is not tried again.

    Optuna's GridSampler counts every failed trial as done, and would end `Study.optimize` after its last point. Trials
    that several processes ask for at once get different points, by their numbers.
    """

    def __init__(self, grid: Mapping[str, Sequence[Any]], space: dict[str, BaseDistribution], seed: int) -> None:
        self._space = space
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        self._points = [points[i] for i in np.random.default_rng(seed).permutation(len(points))]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        tried = [
            other.params
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and (other.state != TrialState.FAIL or REFUSED in other.user_attrs)
        ]
        own = self._points[trial.number % len(self._points)]
        free = [point for point in self._points if point not in tried] or self._points
        return own if own in free else free[trial.number % len(free)]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise ValueError(f"{param_name} is not on the grid")


class _PerTrial(BaseSampler):
    """A new sampler for each trial, made from its number: processes that share a study do not repeat each other."""

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make
        self._sampler = make(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler = self._make(trial.number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def _distribution(name: str, searched: Any) -> BaseDistribution:
    if isinstance(searched, Choices):
        return CategoricalDistribution(searched.choices)
    if whole_numbers(name):
        return IntDistribution(int(searched.low), int(searched.high), log=searched.log)
    return FloatDistribution(searched.low, searched.high, log=searched.log)
