"""What trials have in common that are trained side by side in one stack: a plan and who trains."""

from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.engine.executors import trainer
from lottery_ticket.engine.job import Train, check_length, in_iterations
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.method.arms import check_arms, check_changes
from lottery_ticket.method.schedule import check_schedule, check_shares
from lottery_ticket.runs.densities import with_densities
from lottery_ticket.runs.plan import Plan, make_plan
from lottery_ticket.store import reading
from lottery_ticket.store.limits import may_be
from lottery_ticket.study.listener import StudyListener
from lottery_ticket.study.opened import Opened
from lottery_ticket.study.trials import RUN_ID

OWN = (
    *("lr", "weight_decay", "schedule", "milestones", "gamma", "warmup_iterations"),
    *("prune_rate", "prune_rate_conv", "prune_rate_output", "scope", "rounds", "arms", "seeds"),
    *("density", "tensor_densities", "criterion", "prune_first", "pruning", "prune_steps"),
    *("checkpoint_precision", "engine_threads", "verdict_tolerance", "verdict_level"),
)
"""Settings that trials in one stack may each have of their own."""

_STANDARDISED_BY = ("dataset", "validation_size", "normalise")
"""Settings that say by what images are standardised."""

Key = tuple[tuple[str, Any], ...]
"""What trials in one stack have in common: see `stackable`."""


def stackable(settings: Settings) -> Key:
    """What trials must have in common to be trained in one stack: the settings but those that each may have alone."""
    return tuple((name, value) for name, value in settings if name not in OWN)


class Stacks:
    """The plans and trainers of a study's trials, one of each for all that can be stacked.

    Args:
        opened, client: the study, and the store that has its runs.
        listener: told of what is odd about the data, once.
        closing: closes what is still open in the end.
    """

    def __init__(self, opened: Opened, client: MlflowClient, listener: StudyListener, closing: ExitStack) -> None:
        self._opened, self._client, self._listener, self._closing = opened, client, listener, closing
        self._trainers: dict[Key, tuple[ExitStack, Train]] = {}
        self._plans: dict[Key, Plan] = {}
        self._images: dict[Key, int] = {}
        self._told: set[str] = set()

    def plan(self, settings: Settings, experiments: int) -> Plan:
        """The plan of a trial, one of so many that are begun together; data, network and allocation are shared.

        InputError where its settings cannot be run: what it has of its own is checked for each trial.
        """
        settings = with_densities(settings, self._client.tracking_uri)
        check_arms(settings)
        check_schedule(settings)
        asked = stackable(settings)
        if asked in self._images:
            settings = in_iterations(settings, self._images[asked])
        key = stackable(settings)
        if key not in self._plans:
            plan = make_plan(settings, experiments, self._known(settings))
            self._images[asked] = len(plan.data.train)
            key = stackable(plan.settings)
            self._plans[key] = plan
            for note in self._plans[key].data_notes:
                if note not in self._told:
                    self._listener.warned(note)
                    self._told.add(note)
        images = len(self._plans[key].data.train)
        check_length(settings, images)  # what it looks at is no part of the key
        check_shares(settings, self._plans[key].network)
        check_changes(settings, images)
        return replace(self._plans[key], settings=in_iterations(settings, images), rounds=range(settings.rounds))

    def trainer(self, key: Key) -> Train:
        """What trains the trials with this in common."""
        if key not in self._trainers:
            opened, plan = self._closing.enter_context(ExitStack()), self._plans[key]
            self._trainers[key] = opened, opened.enter_context(trainer(plan.resolved, plan.allocation, plan.data.info))
        return self._trainers[key][1]

    def keep_only(self, needed: Collection[Key]) -> None:
        """Forget data, networks and processes that none of these trials needs."""
        self._plans = {key: plan for key, plan in self._plans.items() if key in needed}
        for key in self._trainers.keys() - set(needed):
            self._trainers.pop(key)[0].close()

    def _known(self, settings: Settings) -> DataInfo | None:
        """The data set as the study's first trials have it: one standardisation for all, whatever version began it."""
        wanted = settings.as_params()
        for trial in self._opened.optuna.get_trials(deepcopy=False):
            if RUN_ID not in trial.user_attrs:
                continue
            with suppress(MlflowException, LotteryTicketError):  # deleted, or of another version
                run = self._client.get_run(trial.user_attrs[RUN_ID])
                told = {"normalise": "data"} | run.data.params  # what runs did that do not tell
                if all(may_be(told.get(name, ""), wanted[name]) for name in _STANDARDISED_BY):
                    return reading.read_data_info(self._client, run)
        return None
