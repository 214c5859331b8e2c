"""The boundary sampler and the surface under it, on functions whose answer is known."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from lottery_ticket.boundary import BoundarySampler, crossings, from_unit, surface, to_unit
from lottery_ticket.samplers import distributions, grid, make_sampler, size
from lottery_ticket.study import parse

LR = {"lr": FloatDistribution(1e-4, 0.3, log=True)}
PLANE = {"lr": FloatDistribution(1e-4, 0.3, log=True), "prune_rate": FloatDistribution(0.1, 0.8)}
VANISHES = 0.013


def margin(lr, noise=0.0):
    """Tickets that win by up to a point up to a learning rate of 0.013, and fail beyond."""
    return 0.01 * math.tanh(math.log(VANISHES / lr)) + noise


def study_of(space, trials, value, batch=4, seed=0):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=BoundarySampler(space, seed))
    while len(study.trials) < trials:
        asked = [study.ask(fixed_distributions=space) for _ in range(batch)]
        for trial in asked:
            study.tell(trial, value(trial.params))
    return study


def test_it_finds_where_tickets_vanish_and_looks_there():
    rng = np.random.default_rng(0)
    study = study_of(LR, 16, lambda params: margin(params["lr"], rng.normal(0, 0.001)))
    found = crossings(LR, [(trial.params, trial.value) for trial in study.trials], "lr")
    assert len(found) == 1
    assert abs(math.log(found[0] / VANISHES)) < 0.1
    off = [abs(math.log(trial.params["lr"] / VANISHES)) for trial in study.trials]
    assert np.median(off[8:]) < np.median(off[:4]) / 2


def test_trials_of_a_batch_keep_apart():
    study = study_of(LR, 12, lambda params: margin(params["lr"]))
    for first in (4, 8):
        places = sorted(math.log(trial.params["lr"]) for trial in study.trials[first : first + 4])
        assert min(np.diff(places)) > 0.02 * math.log(3000)


def test_on_a_plane_the_boundary_is_a_line():
    def value(params):
        return 0.01 * math.tanh(math.log(VANISHES / params["lr"]) - 4 * (params["prune_rate"] - 0.45))

    study = study_of(PLANE, 32, value)
    trials = [(trial.params, trial.value) for trial in study.trials]
    for rate in (0.3, 0.6):
        (found,) = crossings(PLANE, trials, "lr", prune_rate=rate)
        assert abs(math.log(found / VANISHES) + 4 * (rate - 0.45)) < 0.2


def test_nothing_is_said_where_all_trials_agree():
    assert crossings(LR, [({"lr": lr}, 0.01) for lr in (1e-3, 1e-2, 1e-1)], "lr") == []
    assert surface(LR, []) is None


def test_the_unit_cube_and_back():
    space = {"lr": LR["lr"], "batch_size": IntDistribution(10, 90)}
    assert to_unit(space, {"lr": math.sqrt(1e-4 * 0.3), "batch_size": 50}) == pytest.approx([0.5, 0.5])
    assert from_unit(space["lr"], 0.5) == pytest.approx(math.sqrt(1e-4 * 0.3))
    assert from_unit(space["lr"], 1.0) == 0.3
    assert from_unit(space["batch_size"], 0.51) == 51


def definition(sampler, space, **more):
    return parse("mine.toml", {"sampler": sampler, "space": space, "objective": "phase", **more}, {}, {})


RANGE = {"lr": {"low": 1e-4, "high": 0.3, "log": True, "points": 5}, "batch_size": {"low": 20, "high": 22, "points": 3}}


@pytest.mark.parametrize("sampler", ["grid", "qmc", "tpe", "gp", "boundary"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_proposes_in_range_and_again_the_same(sampler):
    study = definition(sampler, RANGE, trials=12)

    def proposed():
        made = optuna.create_study(direction="maximize", sampler=make_sampler(study))
        for _ in range(4):
            for trial in [made.ask(fixed_distributions=distributions(study)) for _ in range(3)]:
                made.tell(trial, margin(trial.params["lr"]))
        return [trial.params for trial in made.trials]

    first = proposed()
    assert first == proposed()
    assert len({tuple(params.values()) for params in first}) == 12
    assert all(1e-4 <= params["lr"] <= 0.3 and params["batch_size"] in (20, 21, 22) for params in first)


def test_a_grid_is_gone_through_once():
    study = definition("grid", RANGE, trials=99)
    assert size(study) == 15
    assert grid(study)["lr"][0] == 1e-4
    assert grid(study)["lr"][-1] == 0.3
    made = optuna.create_study(direction="maximize", sampler=make_sampler(study))
    for _ in range(15):
        trial = made.ask(fixed_distributions=distributions(study))
        made.tell(trial, 0.0)
    assert len({tuple(trial.params.values()) for trial in made.trials}) == 15


def test_the_sampler_that_starts_later_does_not_repeat_the_other():
    study = definition("tpe", RANGE)
    made = optuna.create_study(direction="maximize", sampler=make_sampler(study))
    made.tell(made.ask(fixed_distributions=distributions(study)), 0.0)
    made.sampler = make_sampler(study)  # as another process, or the same command again
    made.tell(made.ask(fixed_distributions=distributions(study)), 0.0)
    assert made.trials[0].params != made.trials[1].params
