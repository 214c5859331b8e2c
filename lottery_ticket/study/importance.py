"""What a study's result depends on: the settings' shares of the trials' variance, what they do together, and the rest.

fANOVA (Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter Importance") divides the variance of
what a random forest predicts. What it predicts need not be what the trials say: of trials that nothing explains a
forest still makes something. So its parts are parts of what the forest explains of trials that its trees have not seen
(the out-of-bag R² of Breiman 2001), and the rest of the trials' variance is unexplained.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial
from sklearn.ensemble import RandomForestRegressor

from lottery_ticket.study.space import to_unit

FEWEST = 8
"""Trials for each setting that is searched, below which nothing is said (bench/importance.py)."""

TOGETHER, UNEXPLAINED = "interactions", "unexplained"

_TREES = 32
_SUBSAMPLES, _KEPT = 10, 0.8  # how often, and of how many of the trials, the spread is taken


@dataclass(frozen=True)
class Share:
    """A part of the trials' variance, 0–1, and the smallest and largest that four fifths of the trials say."""

    part: float
    low: float
    high: float


def importance(study: optuna.Study) -> dict[str, Share]:
    """What the variance of the first measure is of: each setting alone, largest first, `interactions`, `unexplained`.

    The parts sum to 1. Empty for one setting, for fewer than FEWEST trials a setting, and where all trials agree.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    settings = list(trials[0].params) if trials else []
    if len(settings) < 2 or len(trials) < FEWEST * len(settings):
        return {}
    if np.ptp([trial.values[0] for trial in trials]) == 0:
        return {}
    whole = _parts(trials, settings, 0)
    draw = np.random.default_rng(0)
    kept = round(_KEPT * len(trials))
    subsamples = [draw.choice(len(trials), kept, replace=False) for _ in range(_SUBSAMPLES)]
    spread = np.array([_parts([trials[i] for i in each], settings, n) for n, each in enumerate(subsamples, 1)])
    shares = {
        name: Share(*map(float, each))
        for name, *each in zip(
            [*settings, TOGETHER, UNEXPLAINED],
            whole,
            np.minimum(spread.min(0), whole),
            np.maximum(spread.max(0), whole),
            strict=True,
        )
    }
    alone = sorted(settings, key=lambda name: -shares[name].part)
    return {name: shares[name] for name in [*alone, TOGETHER, UNEXPLAINED]}


def _parts(trials: Sequence[FrozenTrial], settings: Sequence[str], seed: int) -> np.ndarray:
    """The parts of the settings, of what they do together, and of what is unexplained."""
    values = np.array([trial.values[0] for trial in trials])
    if np.ptp(values) == 0:
        return np.array([0.0] * (len(settings) + 1) + [1.0])
    spread = [_spread(trial) for trial in trials]
    copy = optuna.create_study()
    for (params, space), value in zip(spread, values, strict=True):
        copy.add_trial(create_trial(params=params, distributions=space, value=value))
    evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        found = get_param_importances(copy, evaluator=evaluator, params=list(settings), normalize=False)
    alone = np.array([found[name] for name in settings])
    alone /= max(alone.sum(), 1.0)
    forest = RandomForestRegressor(2 * _TREES, oob_score=True, random_state=seed).fit(_columns(spread), values)
    explained = max(forest.oob_score_, 0.0)
    return np.array([*(explained * alone), explained * (1 - alone.sum()), 1 - explained])


def _spread(trial: FrozenTrial) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """A trial with its ranges as 0–1, on a log axis where they have one: Optuna's fANOVA weighs them as they are."""
    space = {n: d for n, d in trial.distributions.items() if isinstance(d, FloatDistribution | IntDistribution)}
    parts = dict(zip(space, to_unit(space, trial.params).tolist(), strict=True))
    return {**trial.params, **parts}, {**trial.distributions, **dict.fromkeys(space, FloatDistribution(0, 1))}


def _columns(trials: Sequence[tuple[dict[str, Any], dict[str, BaseDistribution]]]) -> np.ndarray:
    """Parameters as columns: ranges as one, choices as one each."""
    columns = []
    for name, searched in trials[0][1].items():
        given = [params[name] for params, _ in trials]
        if isinstance(searched, CategoricalDistribution):
            columns += [[value == choice for value in given] for choice in searched.choices]
        else:
            columns.append(given)
    return np.array(columns, dtype=float).T
