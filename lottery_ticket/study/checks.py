"""What is tried before the first trial: every choice of a study, and the networks that earlier trials have trained."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.distributions import BaseDistribution

from lottery_ticket.engine.job import check_length
from lottery_ticket.method.arms import check_changes
from lottery_ticket.models.network import make_network
from lottery_ticket.runs.plan import Plan, make_plan
from lottery_ticket.store import reading
from lottery_ticket.study.definition import Choices, Study
from lottery_ticket.study.opened import Opened
from lottery_ticket.study.space import distributions
from lottery_ticket.study.trials import RUN_ID


def check(study: Study) -> Plan:
    """The plan of one trial, after every choice has been tried that may not be there on this machine."""
    ends = {name: _ends(each) for name, each in distributions(study).items()}
    anyone = {name: values[0] for name, values in ends.items()}
    for name, searched in study.space.items():
        if isinstance(searched, Choices) and name in ("model", "dataset", "precision"):
            for choice in searched.choices:
                make_plan(study.settings_of(anyone | {name: choice}))
    plan = make_plan(study.settings_of(anyone))
    for name, values in ends.items():
        for value in values:
            if name not in ("dataset", "validation_size"):  # of which there would be other images
                settings = study.settings_of(anyone | {name: value})
                check_length(settings, len(plan.data.train))
                check_changes(settings, len(plan.data.train))
    return plan


def _ends(searched: BaseDistribution) -> Sequence[Any]:
    """The choices, or the least and the largest value."""
    return searched.choices if hasattr(searched, "choices") else (searched.low, searched.high)  # type: ignore[attr-defined]


def check_networks(opened: Opened, client: MlflowClient) -> None:
    """InputError where a network that trials have trained is another now: a study compares trials of one."""
    checked: set[tuple[str, str, float | None]] = set()
    for trial in opened.optuna.get_trials(deepcopy=False):
        if RUN_ID not in trial.user_attrs:
            continue
        settings = opened.study.settings_of(trial.params)
        if (key := (settings.model, settings.dataset, settings.width)) in checked:
            continue
        with suppress(MlflowException):  # somebody deleted the run
            run = client.get_run(trial.user_attrs[RUN_ID])
            was, data = reading.read_network(client, run), reading.read_data_info(client, run)
            if was and data:
                was.must_be(make_network(settings, data.input_shape, data.classes).fingerprint, key[0], "--fresh")
            checked.add(key)
