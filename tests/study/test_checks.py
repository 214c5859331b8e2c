"""What is refused of a study before it trains, and of a trial before it begins."""

from contextlib import ExitStack
from types import SimpleNamespace

import optuna
import pytest

from lottery_ticket.errors import InputError
from lottery_ticket.study.checks import check
from lottery_ticket.study.listener import StudyListener
from lottery_ticket.study.parse import parse
from lottery_ticket.study.stacks import Stacks


def study_of(small_npz, space, **more):
    settings = {"model": "mlp:8", "dataset": str(small_npz), "validation_size": 200, "iterations": 10, "rounds": 3}
    fixed = {name: value for name, value in (settings | more).items() if name not in space}
    return parse("mine.toml", {"settings": fixed, "space": space}, {}, {})


def choices(**named):
    return {name: {"choices": values} for name, values in named.items()}


ALWAYS = [
    (
        {"pruning": "init"},
        choices(criterion=["magnitude-init", "movement"]),
        "--criterion: 'movement' compares",
    ),
    ({"criterion": "movement"}, choices(pruning=["one-shot", "init"]), "--criterion: 'movement' compares"),
    (
        {"arms": ["winning", "reinit", "finetune"]},
        choices(schedule=["constant", "cosine"]),
        "--schedule: 'cosine' is next to 0 at its end",
    ),
    ({"pruning": "init"}, choices(rounds=[3, 1]), "--rounds: 1 prunes nothing"),
    ({"pruning": "init"}, {"rounds": {"low": 1, "high": 3}}, "--rounds: 1 prunes nothing"),
    ({}, choices(criterion=["magnitude", "magnitud"]), "--criterion: 'magnitud' is unknown"),
    ({}, choices(tensor_densities=["*=0.5", "no-ticket"]), "--tensor-densities: 'no-ticket' "),
    ({}, choices(tensor_densities=["*=0.5", "fc9.weight=0.5"]), "--tensor-densities: 'fc9.weight=0.5' say nothing of"),
    ({}, choices(scope=["layer", "smart-ratio"]), "--scope: 'smart-ratio' needs convolutions"),
]


@pytest.mark.parametrize(("settings", "space", "said"), ALWAYS, ids=[said for *_, said in ALWAYS])
def test_a_choice_that_no_trial_can_have_is_refused_before_any_trains(small_npz, settings, space, said):
    with pytest.raises(InputError) as told:
        check(study_of(small_npz, space, **settings))
    assert str(told.value).startswith(said)


def test_a_choice_that_some_trials_can_have_is_let_pass(small_npz):
    space = choices(criterion=["movement", "magnitude"], pruning=["init", "iterative"])
    settings = check(study_of(small_npz, space)).settings
    assert (settings.criterion, settings.pruning) == ("movement", "iterative")


def test_each_trial_is_checked_not_the_first_of_its_stack_alone(small_npz, tmp_path):
    space = choices(
        criterion=["magnitude", "movement"],
        pruning=["iterative", "init"],
        schedule=["constant", "cosine"],
        scope=["layer", "smart-ratio"],
    )
    study = study_of(small_npz, space, arms=["winning", "reinit"])
    opened = SimpleNamespace(optuna=optuna.create_study(), study=study)
    client = SimpleNamespace(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with ExitStack() as closing:
        stacks = Stacks(opened, client, StudyListener(), closing)

        def plan(**values):
            return stacks.plan(study.settings_of(values), 1)

        assert plan(criterion="movement").settings.criterion == "movement"
        wrong = [
            ({"criterion": "movement", "pruning": "init"}, "--criterion: 'movement' compares trained weights"),
            ({"scope": "smart-ratio"}, "--scope: 'smart-ratio' needs convolutions"),
            ({"schedule": "cosine", "arms": ["winning", "finetune"]}, "--schedule: 'cosine' is next to 0"),
            ({"tensor_densities": "no-ticket"}, "--tensor-densities: 'no-ticket' "),
            ({"tensor_densities": "fc9.weight=0.1"}, "--tensor-densities: 'fc9.weight=0.1' say nothing of"),
        ]
        for values, said in wrong:
            with pytest.raises(InputError) as told:
                plan(**values)
            assert str(told.value).startswith(said)
        assert plan(pruning="one-shot").settings.pruning == "one-shot"
