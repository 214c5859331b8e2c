"""What is tried before the first trial: every choice of a study, and the networks that earlier trials have trained."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.distributions import BaseDistribution

from lottery_ticket.config import Settings
from lottery_ticket.engine.job import check_length
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import check_arms, check_changes
from lottery_ticket.method.schedule import check_schedule, check_shares
from lottery_ticket.models.network import Network, make_network
from lottery_ticket.runs.densities import with_densities
from lottery_ticket.runs.plan import Plan, make_plan
from lottery_ticket.store import reading
from lottery_ticket.study.definition import Choices, Study
from lottery_ticket.study.opened import Opened
from lottery_ticket.study.space import distributions
from lottery_ticket.study.trials import RUN_ID

_METHOD = (
    *("criterion", "prune_first", "pruning", "prune_steps", "rounds", "schedule"),
    *("scope", "density", "tensor_densities", "prune_rate", "prune_rate_conv", "prune_rate_output"),
)
"""Settings that may be allowed alone, but not with one another."""

_NETWORK = ("model", "width", "dataset", "prunable", "keep_dense", "prune_only", "output_layer")
"""Settings that say which tensors there are to prune."""


def check(study: Study, tracking_uri: str | None = None) -> Plan:
    """The plan of one trial, after every choice has been tried that may not be there on this machine.

    InputError for a choice, or an end of a range, that no trial can have. What only some trials cannot have, with
    another choice beside it, is refused of these trials, when they begin.

    Args:
        study: whose.
        tracking_uri: of the MLflow store, where tickets may be whose densities it names.
    """
    ends = {name: _ends(each) for name, each in distributions(study).items()}
    anyone = {name: values[0] for name, values in ends.items()} | _possible(study, ends, tracking_uri)

    def settings_of(**values: Any) -> Settings:
        return with_densities(study.settings_of(anyone | values), tracking_uri)

    for name, searched in study.space.items():
        if isinstance(searched, Choices) and name in ("model", "dataset", "precision"):
            for choice in searched.choices:
                make_plan(settings_of(**{name: choice}))
    plan = make_plan(settings_of())
    if not ends.keys() & set(_NETWORK):
        _possible(study, ends, tracking_uri, plan.network)
    for name, values in ends.items():
        for value in values:
            if name not in ("dataset", "validation_size"):  # of which there would be other images
                settings = study.settings_of(anyone | {name: value})
                check_length(settings, len(plan.data.train))
                check_changes(settings, len(plan.data.train))
    return plan


def _possible(
    study: Study, ends: Mapping[str, Sequence[Any]], tracking_uri: str | None, network: Network | None = None
) -> dict[str, Any]:
    """Of what is searched of the method, values that can be together; InputError for one that can be with none.

    Args:
        study: whose.
        ends: what is searched → its choices, or the ends of its range.
        tracking_uri: see `check`.
        network: whose tensors are to have their densities, where it is known.
    """
    searched = {name: values for name, values in ends.items() if name in _METHOD}
    others = {name: values[0] for name, values in ends.items() if name not in _METHOD}

    def refusal(values: Mapping[str, Any]) -> InputError | None:
        try:
            settings = with_densities(study.settings_of({**others, **values}), tracking_uri)
            check_arms(settings)
            check_schedule(settings)
            if network is not None:
                check_shares(settings, network)
        except InputError as error:
            return error
        return None

    def together(tried: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        refusals = []
        for each in product(*tried.values()):
            values = dict(zip(tried, each, strict=True))
            if (refused := refusal(values)) is None:
                return values
            refusals.append(refused)
        raise refusals[0]

    for name, values in searched.items():
        for value in values:
            together(searched | {name: [value]})
    return together(searched)


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
