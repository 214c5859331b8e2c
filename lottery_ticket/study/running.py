"""A trial on its way: its run in MLflow, begun or gone on with, and what Optuna is told of its rounds and its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from lottery_ticket.analysis.comparable import comparable, mean_left, trunk_of
from lottery_ticket.analysis.verdict import judge
from lottery_ticket.config import Settings
from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.method.arms import controls_among
from lottery_ticket.method.schedule import pruning_of
from lottery_ticket.method.trajectory import Trajectories
from lottery_ticket.record import Record
from lottery_ticket.runs.conclude import conclude
from lottery_ticket.runs.keeper import Keeper
from lottery_ticket.runs.plan import Plan
from lottery_ticket.store import reading
from lottery_ticket.store.tracking import Tracker
from lottery_ticket.study.accuracies import accuracies
from lottery_ticket.study.definition import Study
from lottery_ticket.study.listener import StudyListener
from lottery_ticket.study.measures import measure, measure_accuracy, phase, settled, winning_margin
from lottery_ticket.study.names import MARGIN
from lottery_ticket.study.opened import Opened
from lottery_ticket.study.stacks import Key, stackable
from lottery_ticket.study.trials import ACCURACIES, ENDED, MEASURES, PHASE, ROUNDS, RUN_ID, SAVED


@dataclass
class Running:
    """A trial on its way."""

    study: Study
    trial: optuna.Trial
    settings: Settings
    plan: Plan
    tracker: Tracker
    keeper: Keeper
    trajectories: Trajectories
    records: list[Record]

    @property
    def number(self) -> int:
        """Optuna's."""
        return self.trial.number

    @property
    def round(self) -> int:
        """The round that is to be trained next."""
        return self.trajectories.round

    @property
    def key(self) -> Key:
        """What the trials have in common that it can be stacked with."""
        return stackable(self.settings)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return not self.trajectories.alive or bool(self._reason)

    @property
    def _reason(self) -> str:
        """Why the trial ends before its last round; empty where it does not, as where other arms are asked for too."""
        if self.study.tune or not self.settings.rounds - self.round or not self.records:
            return ""
        return settled(self.records, self.study.end_early) or ""

    def report(self, r: int) -> None:
        """Tell Optuna of a finished round: its densities and accuracies and, with one objective, the margin so far."""
        controls = controls_among(self.settings.arms)
        told, counted = [], comparable(self.records, controls)
        for index in range(r + 1):
            there = [record for record in self.records if record.round == index]
            here = [record for record in counted if record.round == index] or there
            row = {"pct": mean_left(trunk_of(here))}
            for arm in self.settings.arms:
                accuracies = [record.test_accuracy for record in here if record.arm == arm]
                if accuracies:
                    row[arm] = _mean(accuracies)
            told.append(row)
        self.trial.set_user_attr(ROUNDS, told)
        if self.study.measures == [MARGIN]:
            settings, classes = self.settings, self.plan.data.classes
            level, tolerance = settings.verdict_level, settings.verdict_tolerance
            verdict = judge(self.records, tolerance, level, controls, classes=classes, rounds=settings.rounds)
            assert verdict is not None  # the arm winning is in every study that is judged
            self.trial.report(winning_margin(verdict), r)

    def conclude(self, client: MlflowClient) -> dict[str, Any]:
        """Conclude its run in MLflow, its measures there too; Optuna's attributes of a finished trial."""
        reason = self._reason
        verdict, _ = conclude(self.tracker)
        densities, shown = self.study.densities, ""
        if self.study.judged:
            assert verdict is not None  # the arm winning is in every study that is judged
            pruning, shown = pruning_of(self.settings), phase(verdict)
            measured = measure(verdict, self.records, densities, self.settings.rounds, pruning)
        else:
            measured = measure_accuracy(self.records)
        left = self.settings.rounds - self.round if reason else 0
        saved = left * math.fsum(record.seconds for record in self.records if record.round == self.round - 1)
        at = max(record.finished_at for record in self.records)
        metrics = {**measured, "seconds_saved": saved}
        client.log_batch(self.tracker.run_id, metrics=[Metric(key, value, at, 0) for key, value in metrics.items()])
        self.tracker.tag({"lt.ended_early": reason} | ({"lt.phase": shown} if self.study.judged else {}))
        told = {PHASE: shown, MEASURES: measured, ENDED: reason, SAVED: saved}
        return told | ({ACCURACIES: accuracies(self.records, densities)} if self.study.tune else {})


def begin(
    opened: Opened, trial: optuna.Trial, plan: Plan, client: MlflowClient, experiment: str, listener: StudyListener
) -> Running:
    """A trial with its run in MLflow, which is gone on with where a process has left one."""
    tags = {
        "lt.kind": "trial",
        "lt.study": opened.name,
        "lt.trial": str(trial.number),
        "mlflow.parentRunId": opened.run_id,
    }
    settings = plan.settings
    there = _reopen(trial, plan, client, listener)
    if there is None:
        name = f"trial {trial.number} " + " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        tracker = Tracker.create(
            client,
            experiment,
            settings,
            opened.study.preset,
            name,
            plan.images,
            plan.data.info,
            plan.network,
            tags=tags,
            made=lambda run_id: trial.set_user_attr(RUN_ID, run_id),
        )
        there = tracker, Keeper(plan, tracker, [])
    tracker, keeper = there
    tracker.warn = listener.warned
    tracker.tag(tags)
    kept = [record for record in tracker.about.records if record.round < keeper.done]
    trajectories = Trajectories(settings, plan.network, plan.data, keeper.after)
    return Running(opened.study, trial, settings, plan, tracker, keeper, trajectories, kept)


def _reopen(
    trial: optuna.Trial, plan: Plan, client: MlflowClient, listener: StudyListener
) -> tuple[Tracker, Keeper] | None:
    """The run of a trial that a process left; None where there is none that can be gone on with."""
    run_id = trial.user_attrs.get(RUN_ID)
    if run_id is None:
        return None
    try:
        stored = reading.read_run(client, run_id)
        stored.must_be_whole(client.tracking_uri)
        tracker = Tracker.reopen(client, stored, plan.images, plan.data.info)
        return tracker, Keeper(plan, tracker, tracker.about.records)
    except (LotteryTicketError, MlflowException) as error:
        listener.warned(f"trial {trial.number} is trained from its start: {one_line(error)}")
        return None


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
