"""What proposes a study's trials: Optuna's samplers, evenly spread points, and the one that looks for the boundary.

What any of them proposes for a trial depends on the study's `sampler_seed`, on how many trials were proposed before it
and on what came of them, in whatever process that is: a trial that is tried again counts once.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial.distance import cdist
from scipy.stats import qmc

from lottery_ticket import plugins
from lottery_ticket.randomness import derive
from lottery_ticket.study.boundary import Surface
from lottery_ticket.study.definition import Study
from lottery_ticket.study.space import Space, distributions, from_unit, grid, ranges, to_unit
from lottery_ticket.study.trials import REFUSED, SURPLUS

_CANDIDATES = 2048
_APART = 0.02  # part of the ranges by which trials that run at the same time are apart
_PLACE = 0.002  # part of the ranges within which two trials are in one place
_FEWEST = 4  # trials spread evenly, at least, before the boundary is looked for


def make_sampler(study: Study) -> BaseSampler:
    """The sampler that the study names."""
    seed = study.sampler_seed
    match study.sampler:
        case "grid":
            return _Grid(grid(study), distributions(study), seed)
        case "qmc":
            return _Spread(distributions(study), seed)
        case "tpe":
            return PerTrial(lambda number: TPESampler(seed=derive(seed, "tpe", number) % 2**32, constant_liar=True))
        case "gp":
            return PerTrial(lambda number: GPSampler(seed=derive(seed, "gp", number) % 2**32))
        case "boundary":
            return BoundarySampler(ranges(study), seed)
        case guest:
            made = plugins.named("samplers", guest, {}, "--sampler")(study)
            if not isinstance(made, BaseSampler):
                raise plugins.unfit("--sampler", guest, made, "what makes an optuna.samplers.BaseSampler of a study")
            return made


def _place_in_line(study: optuna.Study, trial: FrozenTrial) -> int:
    """How many trials were proposed before this one; those tried again, and those too many, do not count."""
    retried = RetryHeartbeatStaleTrialCallback.retried_trial_number
    return sum(
        other.number < trial.number and retried(other) is None and SURPLUS not in other.user_attrs
        for other in study.get_trials(deepcopy=False)
    )


class _Together(BaseSampler):
    """A sampler of all parameters together.

    Args:
        space: what is searched.
        seed: of what is random about it.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        self._space, self._seed = dict(space), seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Nothing is: a parameter that is not in the space is an error."""
        raise ValueError(f"{param_name} is not in the search space")

    def _spread(self, index: int) -> dict[str, Any]:
        """The parameters of the index-th of evenly spread points: a scrambled Sobol sequence (Owen 1998)."""
        sequence = qmc.Sobol(len(self._space), scramble=True, rng=self._seed)
        if index:
            sequence.fast_forward(index)
        return self._params(sequence.random(1)[0])

    def _params(self, point: np.ndarray) -> dict[str, Any]:
        """The parameters at a point of the unit cube."""
        parts = zip(self._space.items(), point, strict=True)
        return {name: from_unit(searched, float(part)) for (name, searched), part in parts}


class _Spread(_Together):
    """Evenly spread points, one after the other.

    Optuna's QMCSampler counts how often it is asked: a study that is stopped and gone on with gets other points.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._spread(_place_in_line(study, trial))


class _Grid(_Together):
    """Goes through a grid, each point once: one that is complete, running, waiting or refused is not tried again.

    Optuna's GridSampler counts every failed trial as done, and would end `Study.optimize` after its last point. Trials
    that several processes ask for at once get different points, by their places in line.
    """

    def __init__(self, grid: Mapping[str, Sequence[Any]], space: dict[str, BaseDistribution], seed: int) -> None:
        super().__init__(space, seed)
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        self._points = [points[i] for i in np.random.default_rng(seed).permutation(len(points))]

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        tried = [
            other.params
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and (other.state != TrialState.FAIL or REFUSED in other.user_attrs)
        ]
        index = _place_in_line(study, trial)
        own = self._points[index % len(self._points)]
        free = [point for point in self._points if point not in tried] or self._points
        return own if own in free else free[index % len(free)]


class PerTrial(BaseSampler):
    """A new sampler for each trial, made from its number: processes that share a study do not repeat each other.

    Args:
        make: from the number of a trial, 0 for the first, to a sampler that is seeded by it.
    """

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make
        self._sampler = make(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the trial's sampler."""
        self._sampler = self._make(trial.number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the trial's sampler has it."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the trial's sampler has it."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the trial's sampler has it."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


class BoundarySampler(_Together):
    """Spends trials where the study's one value goes through 0.

    Trials are spread evenly until both sides of 0 have been seen. Then each is put where the straddle heuristic says
    (Bryan et al. 2005, "Active learning for identifying function level set boundaries", NeurIPS, section 3): of all
    points, at the one with the largest 1.96 σ − |μ − level|. Trials that are running count as if they had come out as
    the surface has it, so that trials of one batch, and of other processes, keep away from each other, by 2 % of the
    ranges at least. A place is tried again only where the sign there is still unknown and nowhere else is.

    Args:
        space: parameters that are ranges.
        seed: of the evenly spread points and of the candidates.
    """

    _space: dict[str, Any]  # FloatDistribution | IntDistribution

    def __init__(self, space: Space, seed: int = 0) -> None:
        super().__init__(space, seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the next trial."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        done = [(t.params, t.values[0]) for t in others if t.state == TrialState.COMPLETE]
        running = [t.params for t in others if t.state == TrialState.RUNNING and t.params.keys() == self._space.keys()]
        won = {value > 0 for _, value in done}
        if len(done) < _FEWEST or len(won) < 2:
            return self._spread(_place_in_line(study, trial))
        return self._straddle(done, running, trial.number)

    def _straddle(
        self, done: list[tuple[dict[str, Any], float]], running: list[dict[str, Any]], number: int
    ) -> dict[str, Any]:
        tried = self._points([params for params, _ in done])
        fitted = Surface(tried, np.array([value for _, value in done]))
        drawn = qmc.Sobol(len(self._space), scramble=True, rng=self._seed + number).random(_CANDIDATES)
        candidates = np.unique(self._points([self._params(point) for point in drawn]), axis=0)  # whole numbers are few
        if running:
            pending = self._points(running)
            fitted = fitted.believing(pending)
            apart = cdist(candidates, pending).min(1) >= _APART
            candidates = candidates[apart] if apart.any() else candidates
        mean, std = fitted.at(candidates)
        unsure = 1.96 * std - np.abs(mean)
        new = cdist(candidates, tried).min(1) >= _PLACE
        if new.any() and not (unsure[new].max() <= 0 < unsure.max()):
            candidates, unsure = candidates[new], unsure[new]
        return self._params(candidates[np.argmax(unsure)])

    def _points(self, params: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Parameters as points of the unit cube, n×d."""
        return np.array([to_unit(self._space, each) for each in params])
