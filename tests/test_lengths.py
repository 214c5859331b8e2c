"""Lengths of training as epochs or iterations, wherever one is given."""

import pytest

from lottery_ticket.config import load_preset, load_settings
from lottery_ticket.engine.job import check_length, in_iterations, iterations_per_round
from lottery_ticket.errors import InputError
from lottery_ticket.study.definition import Study

IMAGES = 550  # at 60 a batch 10 iterations an epoch


@pytest.mark.parametrize(
    ("given", "epochs", "iterations"),
    [
        ({"epochs": "160ep"}, 160, None),
        ({"iterations": "160ep"}, 160, None),
        ({"epochs": "62500it"}, None, 62500),
        ({"iterations": "62500it"}, None, 62500),
        ({"iterations": "62500"}, None, 62500),
        ({"epochs": 3}, 3, None),
    ],
)
def test_of_a_round(given, epochs, iterations):
    settings = load_preset("quick", **given)
    assert (settings.epochs, settings.iterations) == (epochs, iterations)


def test_of_a_round_in_a_file_and_over_it_in_a_flag(tmp_path):
    (tmp_path / "my.toml").write_text(
        'iterations = "30it"\nrewind_iteration = "0.5ep"\nmilestones = ["1ep", 25, 0.75]\nschedule = "step"'
    )
    settings, _ = load_settings(None, tmp_path / "my.toml", {})
    assert (settings.epochs, settings.iterations, settings.rewind_iteration) == (None, 30, "0.5ep")
    assert settings.milestones == ("1ep", 25, 0.75)
    assert settings.as_params()["milestones"] == "1ep,25,0.75"
    settings, _ = load_settings(None, tmp_path / "my.toml", {"epochs": "4ep"})
    assert (settings.epochs, settings.iterations) == (4, None)


@pytest.mark.parametrize("milestones", [(8,), (8, 12), ("1ep", 0.5)])
def test_milestones_as_text_are_read_back(milestones):
    settings = load_preset("quick", schedule="step", milestones=milestones)
    again = load_preset("quick", schedule="step", milestones=settings.as_params()["milestones"])
    assert again == settings


def test_in_a_sweep():
    study = Study(space={"epochs": {"choices": ["2ep", "30it"]}, "rewind_iteration": {"choices": [0, "1ep"]}})
    trials = [study.settings_of({"epochs": each, "rewind_iteration": "1ep"}) for each in ("2ep", "30it")]
    assert [iterations_per_round(each, IMAGES) for each in trials] == [20, 30]


def test_all_others_become_iterations_of_the_data_set():
    settings = load_preset(
        "quick",
        epochs=4,
        rewind_iteration="0.5ep",
        warmup_iterations="1ep",
        evaluate_every="0.001ep",
        schedule="step",
        milestones=("0.5", "3ep", "35it"),
    )
    resolved = in_iterations(settings, IMAGES)
    assert (resolved.rewind_iteration, resolved.warmup_iterations, resolved.evaluate_every) == (5, 10, 1)
    assert resolved.milestones == (20, 30, 35)
    assert in_iterations(resolved, IMAGES) is resolved
    assert in_iterations(load_preset("quick"), IMAGES) == load_preset("quick")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": "1.5ep"}, "--epochs: '1.5ep' is not allowed; allowed: a whole number ≥ 1 or a length as 160ep"),
        ({"epochs": "0it"}, "--epochs: 0 is not allowed"),
        ({"epochs": "2ep", "iterations": "30it"}, "allowed: exactly one of the two"),
        ({"warmup_iterations": "-1ep"}, "--warmup-iterations: '-1ep' is not allowed; allowed: a whole number ≥ 0 (it"),
        ({"evaluate_every": "0ep"}, "--evaluate-every: '0ep' is not allowed; allowed: a whole number ≥ 1 (iterations"),
        ({"rewind_iteration": float("inf")}, "--rewind-iteration: inf is not allowed"),
        ({"rewind_iteration": "5 epochs"}, "or a length as 5ep or 500it"),
        ({"schedule": "step"}, "--schedule: 'step' needs --milestones"),
        ({"milestones": "1ep"}, "--milestones: '1ep' are for schedule step; allowed with constant: none"),
        ({"gamma": 0.2}, "--gamma: 0.2 is for schedule step"),
        ({"schedule": "step", "milestones": "0"}, "--milestones: '0' is not allowed; allowed: lengths as 80ep,120ep"),
        ({"schedule": "step", "milestones": "1.0"}, "--milestones: '1.0' is not allowed"),
    ],
)
def test_what_is_no_length_is_one_line(given, said):
    with pytest.raises(InputError) as refused:
        load_preset("quick", **given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"schedule": "step", "milestones": "1ep,2ep"},
            "--milestones: '1ep,2ep' are not in order within a round (iterations 10, 20)",
        ),
        (
            {"schedule": "step", "milestones": "15,5"},
            "--milestones: '15,5' are not in order within a round (iterations 15, 5)",
        ),
        ({"warmup_iterations": "2ep"}, "--warmup-iterations: '2ep' would be under way when training ends"),
        (
            {"rewind_iteration": "2ep"},
            "--rewind-iteration: '2ep' is not allowed; allowed: fewer than the 20 iterations",
        ),
    ],
)
def test_what_is_too_long_for_a_round_is_one_line(given, said):
    with pytest.raises(InputError) as refused:
        check_length(load_preset("quick", **given), IMAGES)
    assert said in str(refused.value)
