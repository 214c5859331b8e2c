"""Shares of the trials' variance, on functions whose shares are known."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.stats import qmc

from lottery_ticket.study.importance import FEWEST, importance

SPACE = {"lr": FloatDistribution(1e-4, 1, log=True), "prune_rate": FloatDistribution(0, 1)}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def studied(function, trials, space=SPACE):
    """A study of these trials at evenly spread places of two settings; the first may be a choice of two."""
    study = optuna.create_study()
    for a, b in qmc.Halton(2, scramble=True, rng=0).random(trials):
        first = ("adam", "sgd")[int(a > 0.5)] if isinstance(space["lr"], CategoricalDistribution) else 1e-4 ** (1 - a)
        params = {"lr": first, "prune_rate": float(b)}
        value = float(function(a, b))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    return study


def parts(study):
    return {name: share.part for name, share in importance(study).items()}


@pytest.mark.parametrize("trials", [1, 2, FEWEST * 2 - 1])
def test_a_few_trials_say_nothing(trials):
    assert importance(studied(lambda a, b: a, trials)) == {}


def test_equal_trials_and_one_setting_say_nothing():
    assert importance(studied(lambda a, b: 1.0, 32)) == {}
    alone = optuna.create_study()
    for value in np.linspace(0.1, 1, 32).tolist():
        space = {"lr": SPACE["lr"]}
        alone.add_trial(optuna.trial.create_trial(params={"lr": value}, distributions=space, value=value))
    assert importance(alone) == {}


def test_one_setting_alone():
    found = parts(studied(lambda a, b: np.tanh(4 * (a - 0.5)), 32))
    assert list(found) == ["lr", "prune_rate", "interactions", "unexplained"]
    assert found["lr"] > 0.9
    assert sum(found.values()) == pytest.approx(1)


def test_an_exclusive_or_is_what_they_do_together():
    found = parts(studied(lambda a, b: (a > 0.5) ^ (b > 0.5), 64))
    assert max(found["lr"], found["prune_rate"]) < 0.15
    assert found["interactions"] > 2 * max(found["lr"], found["prune_rate"])


def test_noise_is_unexplained():
    draw = np.random.default_rng(0)
    assert parts(studied(lambda a, b: draw.normal(), 32))["unexplained"] > 0.9


def test_choices_count_as_settings_do():
    space = SPACE | {"lr": CategoricalDistribution(("adam", "sgd"))}
    found = parts(studied(lambda a, b: a > 0.5, 32, space))
    assert found["lr"] > 0.9


@pytest.mark.slow
def test_the_spread_holds_the_estimate_and_falls_with_trials():
    draw = np.random.default_rng(0)
    few, many = (importance(studied(lambda a, b: a + b + draw.normal(0, 0.2), n)) for n in (16, 96))
    for shares in (few, many):
        assert all(0 <= share.low <= share.part <= share.high <= 1 for share in shares.values())
    assert many["lr"].high - many["lr"].low < few["lr"].high - few["lr"].low
