"""The boundary sampler and the surface under it, on functions whose answer is known."""

import math
from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from lottery_ticket.cli.sweep_display import boundary_in_words
from lottery_ticket.study.boundary import crossings, surface
from lottery_ticket.study.names import MARGIN
from lottery_ticket.study.parse import parse
from lottery_ticket.study.samplers import BoundarySampler, make_sampler
from lottery_ticket.study.space import distributions, from_unit, grid, size, to_unit
from lottery_ticket.study.trials import Trial

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

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


UNIT = {"lr": FloatDistribution(0, 1), "prune_rate": FloatDistribution(0, 1)}
RADIUS = math.sqrt(0.09 / math.pi)  # 9 % of the plane
CELLS = (np.stack(np.meshgrid(np.arange(50), np.arange(50)), -1).reshape(-1, 2) + 0.5) / 50


def region(repetition):
    """Margins that are positive in a disc of 9 % of the plane, and where that is: functions of points n×2."""
    draw = np.random.default_rng(repetition)
    centre = draw.uniform(RADIUS, 1 - RADIUS, 2)

    def inside(points):
        return np.hypot(*(np.asarray(points) - centre).T) < RADIUS

    def margins(points):
        away = np.hypot(*(np.asarray(points) - centre).T)
        return np.clip(0.05 * (RADIUS - away), -0.006, 0.006) + draw.normal(0, 0.002, len(points))

    return margins, inside


def error(points, values, inside):
    """Part of the plane of which the surface through some trials says the wrong thing."""
    trials = zip(points, values, strict=True)
    made = surface(UNIT, [(dict(zip(UNIT, point, strict=True)), value) for point, value in trials])
    said = np.full(len(CELLS), False) if made is None else made.at(CELLS)[0] > 0
    return float(np.mean(said != inside(CELLS)))


def finds_a_region(repetition):
    """Whether 36 trials find the region, the part of the plane that is then wrong, and that of a grid of 36."""
    margins, inside = region(repetition)
    study = study_of(UNIT, 36, lambda params: float(margins([list(params.values())])[0]), seed=repetition)
    points = np.array([list(trial.params.values()) for trial in study.trials])
    lattice = np.stack(np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 1, 6)), -1).reshape(-1, 2)
    ours = error(points, [trial.value for trial in study.trials], inside)
    return inside(points).any(), ours, error(lattice, margins(lattice), inside)


def test_a_small_region_is_found_and_its_edge_better_than_by_a_grid():
    found, ours, grids = finds_a_region(0)
    assert found
    assert ours < grids


@pytest.mark.slow
def test_a_region_of_9_percent_is_found_in_at_least_11_of_12():
    outcomes = [finds_a_region(repetition) for repetition in range(12)]
    found, ours, grids = np.array(outcomes).T
    print(f"found {found.sum():.0f} of 12; wrong of the plane {ours.mean():.4f}, a grid of as many {grids.mean():.4f}")
    assert found.sum() >= 11
    assert ours.mean() < grids.mean()


@pytest.mark.parametrize("seed", range(3))
def test_a_narrow_window_is_found(seed):
    """0.4 of three and a half decades."""
    centre = math.log(1e-3) + seed
    study = study_of(LR, 16, lambda params: 0.006 if abs(math.log(params["lr"]) - centre) < 0.46 else -0.006, seed=seed)
    assert any(trial.value > 0 for trial in study.trials)


def test_whole_numbers_are_tried_one_after_the_other():
    space = {"batch_size": IntDistribution(10, 60)}
    rng = np.random.default_rng(0)
    study = study_of(space, 16, lambda p: 0.01 * math.tanh((31.5 - p["batch_size"]) / 4) + rng.normal(0, 0.002))
    values = [trial.params["batch_size"] for trial in study.trials]
    assert len(set(values)) >= 14  # of 51; one may be asked again where it alone is unsure
    assert np.median(np.abs(np.array(values[8:]) - 31.5)) < 6


def test_a_place_is_tried_again_where_nothing_else_is_unknown():
    space = {"batch_size": IntDistribution(10, 13)}
    rng = np.random.default_rng(1)
    study = study_of(space, 12, lambda p: 0.005 * (11.5 - p["batch_size"]) + rng.normal(0, 0.004), batch=2)
    values = [trial.params["batch_size"] for trial in study.trials]
    assert set(values) == {10, 11, 12, 13}
    assert values.count(11) + values.count(12) > 6


def test_the_surface_does_not_depend_on_the_order_of_the_settings():
    def value(params):
        return 0.01 * math.tanh(math.log(VANISHES / params["lr"]) - 4 * (params["prune_rate"] - 0.45))

    trials = [(trial.params, trial.value) for trial in study_of(PLANE, 24, value).trials]
    turned = dict(reversed(PLANE.items()))
    for rate in (0.3, 0.6):
        found = crossings(PLANE, trials, "lr", prune_rate=rate)
        assert crossings(turned, trials, "lr", prune_rate=rate) == pytest.approx(found, rel=1e-3)


def test_nothing_is_said_of_where_no_trial_is_near():
    """Trials at prune rates up to 0.2 say nothing of 0.7."""
    trials = [
        ({"lr": lr, "prune_rate": rate}, margin(lr)) for lr in (1e-4, 1e-3, 1e-2, 1e-1) for rate in (0.1, 0.15, 0.2)
    ]
    assert len(crossings(PLANE, trials, "lr", prune_rate=0.15)) == 1
    assert crossings(PLANE, trials, "lr", prune_rate=0.7) == []


def test_nothing_is_said_where_all_trials_agree():
    assert crossings(LR, [({"lr": lr}, 0.01) for lr in (1e-3, 1e-2, 1e-1)], "lr") == []
    assert surface(LR, []) is None


def test_the_unit_cube_and_back():
    space = {"lr": LR["lr"], "batch_size": IntDistribution(10, 90)}
    assert to_unit(space, {"lr": math.sqrt(1e-4 * 0.3), "batch_size": 50}) == pytest.approx([0.5, 0.5])
    assert from_unit(space["lr"], 0.5) == pytest.approx(math.sqrt(1e-4 * 0.3))
    assert from_unit(space["lr"], 1.0) == 0.3
    assert from_unit(space["batch_size"], 0.51) == 51


def test_whole_numbers_are_proposed_as_often_as_each_other():
    one, ten = IntDistribution(1, 3), IntDistribution(1, 10, log=True)
    parts = (np.arange(3000) + 0.5) / 3000
    assert Counter(from_unit(one, part) for part in parts) == {1: 1000, 2: 1000, 3: 1000}
    for searched in (one, ten):
        for value in range(searched.low, searched.high + 1):
            assert from_unit(searched, float(to_unit({"epochs": searched}, {"epochs": value})[0])) == value


def definition(sampler, space, **more):
    return parse("mine.toml", {"sampler": sampler, "space": space, "objective": "phase", **more}, {}, {})


RANGE = {"lr": {"low": 1e-4, "high": 0.3, "log": True, "points": 5}, "batch_size": {"low": 20, "high": 22, "points": 3}}


@pytest.mark.parametrize("sampler", ["grid", "qmc", "tpe", "gp", "boundary"])
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


@pytest.mark.parametrize("sampler", ["grid", "qmc", "boundary"])
def test_a_study_that_is_stopped_within_a_batch_asks_for_the_same_trials(sampler):
    """As one that is not; the boundary's, as long as it spreads them."""
    study = definition(sampler, RANGE, trials=12)

    def proposed(stopping):
        made = optuna.create_study(direction="maximize", sampler=make_sampler(study))
        for batch in range(3):
            asked = [made.ask(fixed_distributions=distributions(study)) for _ in range(4)]
            if stopping and batch == 1:
                for trial in asked[1:]:  # one was finished
                    left = made.tell(trial, state=optuna.trial.TrialState.FAIL)
                    optuna.storages.RetryHeartbeatStaleTrialCallback()(made, left)
                made.tell(asked[0], -0.01)
                asked = [made.ask(fixed_distributions=distributions(study)) for _ in range(3)]
            for trial in asked:
                made.tell(trial, -0.01)
        return {tuple(trial.params.values()) for trial in made.trials if trial.value is not None}

    assert proposed(True) == proposed(False)


def test_the_sampler_that_starts_later_does_not_repeat_the_other():
    study = definition("tpe", RANGE)
    made = optuna.create_study(direction="maximize", sampler=make_sampler(study))
    made.tell(made.ask(fixed_distributions=distributions(study)), 0.0)
    made.sampler = make_sampler(study)  # as another process, or the same command again
    made.tell(made.ask(fixed_distributions=distributions(study)), 0.0)
    assert made.trials[0].params != made.trials[1].params


def told(space, trials):
    """What is said of trials (params, whether tickets win)."""
    study = parse("mine.toml", {"sampler": "qmc", "space": space, "objective": "phase"}, {}, {})
    made = [
        Trial(n, params, "winning" if won else "none", {MARGIN: 0.005 if won else -0.005}, "", 0.0, "", False)
        for n, (params, won) in enumerate(trials)
    ]
    return boundary_in_words(study, made)


BOTH = {"lr": {"low": 1e-4, "high": 0.3, "log": True}, "prune_rate": {"low": 0.1, "high": 0.8}}


def test_where_winning_turns_is_said_the_same_in_either_order():
    places = [(lr, rate) for lr in np.geomspace(1e-4, 0.3, 8).tolist() for rate in (0.1, 0.3, 0.5, 0.7, 0.8)]
    trials = [({"lr": lr, "prune_rate": rate}, lr < 0.01) for lr, rate in places]
    said = told(BOTH, trials)
    assert said.count(" at prune_rate ") == 3
    assert said == told(dict(reversed(BOTH.items())), trials)


@pytest.mark.parametrize(
    ("wins", "words"),
    [
        (lambda lr, rate: (lr, rate) == (1e-4, 0.1), "tickets win in 1 of 16 trials, at lr 0.0001, prune_rate 0.1"),
        (lambda lr, rate: (lr < 2e-4 and rate < 0.2) or (lr > 0.1 and rate > 0.7), "tickets win in 2 of 16 trials"),
        (lambda lr, rate: True, "not seen yet; tickets win in 16 of 16 trials, at lr 0.0001 to 0.3, prune_rate 0.1 to"),
        (lambda lr, rate: False, "not seen yet"),
    ],
)
def test_a_win_that_was_seen_is_said(wins, words):
    places = [(lr, rate) for lr in (1e-4, 2e-3, 2e-2, 0.3) for rate in (0.1, 0.3, 0.6, 0.8)]
    said = told(BOTH, [({"lr": lr, "prune_rate": rate}, wins(lr, rate)) for lr, rate in places])
    assert words in said
    assert ("tickets win" in words) == ("tickets win" in said)
