"""A study carried out: batches of trials asked from Optuna, trained side by side, told back round by round."""

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass

import optuna
from mlflow import MlflowClient
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import TrialState

from lottery_ticket.engine.job import Progress
from lottery_ticket.errors import InputError
from lottery_ticket.method.trajectory import train_round
from lottery_ticket.store import connection, reach
from lottery_ticket.study import liveness, running
from lottery_ticket.study.checks import check, check_networks
from lottery_ticket.study.conclude import Concluded, conclude
from lottery_ticket.study.definition import Study
from lottery_ticket.study.listener import StudyListener
from lottery_ticket.study.opened import Opened, open_study
from lottery_ticket.study.running import Running
from lottery_ticket.study.samplers import make_sampler
from lottery_ticket.study.space import distributions, size
from lottery_ticket.study.stacks import Stacks
from lottery_ticket.study.storage import open_storage
from lottery_ticket.study.trials import MEASURES, REFUSED, RUN_ID, SURPLUS, Trial, finished

_PATIENCE = 1.0  # seconds between two looks at trials that other processes train


@dataclass(frozen=True)
class Outcome:
    """A study after `sweep`: what it is, its finished trials, and what `conclude` made of them."""

    opened: Opened
    trials: list[Trial]
    concluded: Concluded
    seconds: float


@reach.quietly()
def sweep(
    study: Study,
    name: str | None = None,
    *,
    storage: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    fresh: bool = False,
    concluding: bool = True,
    listener: StudyListener | None = None,
) -> Outcome:
    """Carry out a study, or go on with it; returns when all its trials are finished, or its time is up.

    Args:
        study: what to do; see `load_study`.
        name: under which the storage keeps it; default: the study's.
        storage: of Optuna; default SQLite at mlruns/optuna.db.
        tracking_uri, experiment: of MLflow, as for `run`.
        fresh: begin another study (`NAME-2`, …) even if there is one.
        concluding: draw the study's figures in the end; False for a further process of one command.
        listener: told of progress; default: nobody.

    Raises:
        InputError: settings that cannot be run, a store or storage that cannot be reached, or another study of this
            name in the storage.

    Example:
        >>> study = lottery_ticket.load_study("lr", trials=1, dataset="my.npz", rounds=2, iterations=10, seeds=1)
        >>> outcome = lottery_ticket.sweep(study)
        >>> [(list(trial.params), trial.phase, trial.measures["smallest_winning_pct"]) for trial in outcome.trials]
        [(['lr'], 'none', 100.0)]
    """
    begun = time.perf_counter()
    name = study.name if name is None else name
    if not name:
        raise InputError("name", name, "is missing; allowed: one for the storage, where load_study made no study of it")
    reach.check(tracking_uri, experiment)
    plan = check(study, tracking_uri)
    definition = study.definition() | ({} if "dataset" in study.space else {"data digest": plan.images.digest})
    opened_storage = open_storage(storage)
    client = connection.connect(tracking_uri, experiment=experiment)
    opened = open_study(study, definition, name, opened_storage, client, experiment, fresh)
    check_networks(opened, client)
    opened.optuna.sampler = make_sampler(study)
    listener = listener or StudyListener()
    listener.opened(opened, size(study))
    with _status(opened, client) if concluding else nullcontext():
        _Sweep(opened, client, experiment, listener, begun).carry_out()
        listener.ended()
        concluded = conclude(opened, client) if concluding else Concluded([], None, {}, [])
    return Outcome(opened, finished(opened.optuna), concluded, time.perf_counter() - begun)


class _Sweep:
    """The trials that this process trains."""

    def __init__(
        self, opened: Opened, client: MlflowClient, experiment: str, listener: StudyListener, begun: float
    ) -> None:
        self._opened, self._client, self._experiment = opened, client, experiment
        self._study, self._optuna = opened.study, opened.optuna
        self._listener, self._begun = listener, begun
        self._asked: list[optuna.Trial] = []
        self._running: list[Running] = []
        self._watch = liveness.Watch(opened.optuna, opened.study.space)

    def carry_out(self) -> None:
        """Batch after batch until no trial is left to begin and none is running anywhere."""
        with ExitStack() as closing, liveness.heartbeat(self._optuna, self._here), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)  # `liveness.heartbeat` does it
            self._stacks = Stacks(self._opened, self._client, self._listener, closing)
            try:
                while True:
                    self._begin_batch()
                    if not self._running and not self._wait():
                        return
                    while self._running:
                        self._train_round()
            except BaseException:
                self._leave()
                raise

    def _here(self) -> list[optuna.Trial]:
        """The trials that are this process's."""
        return [*self._asked, *(each.trial for each in self._running)]

    def _begin_batch(self) -> None:
        self._watch.give_up_stale()
        space = distributions(self._study)
        while len(self._asked) < self._study.batch and not self._late() and self._begun_trials() < size(self._study):
            trial = self._optuna.ask(fixed_distributions=space)
            liveness.beat(self._optuna, trial)
            if self._begun_trials(trial.number) >= size(self._study):  # another process asked at the same time
                trial.set_user_attr(SURPLUS, True)
                self._optuna.tell(trial, state=TrialState.FAIL)
            else:
                self._asked.append(trial)
        experiments = len(self._asked)
        while self._asked:
            try:
                self._begin(self._asked[0], experiments)
            except UpdateFinishedTrialError:
                self._listener.lost(self._asked[0].number)
            self._asked.pop(0)
        self._stacks.keep_only({each.key for each in self._running})

    def _begun_trials(self, before: int | None = None) -> int:
        """Trials begun and not given up, of all or of those with a smaller number."""
        trials = self._optuna.get_trials(deepcopy=False)
        return sum(
            (before is None or trial.number < before)
            and (trial.state in (TrialState.COMPLETE, TrialState.RUNNING) or REFUSED in trial.user_attrs)
            for trial in trials
        )

    def _late(self) -> bool:
        return self._study.timeout is not None and time.perf_counter() - self._begun > self._study.timeout

    def _begin(self, trial: optuna.Trial, experiments: int) -> None:
        try:
            plan = self._stacks.plan(self._study.settings_of(trial.params), experiments)
        except InputError as error:
            trial.set_user_attr(REFUSED, str(error))
            self._optuna.tell(trial, state=TrialState.FAIL)
            self._listener.refused(trial.number, str(error))
            return
        begun = running.begin(self._opened, trial, plan, self._client, self._experiment, self._listener)
        self._running.append(begun)
        self._listener.begun(trial.number, dict(trial.params), plan.settings.rounds, plan)

    def _train_round(self) -> None:
        """Train the earliest round that any trial is at, of all trials that are there and can be stacked with it."""
        for each in [each for each in self._running if each.ended]:
            self._finish(each)  # its last round was kept by the process that left it
        if not self._running:
            return
        first = min(self._running, key=lambda each: each.round)
        r = first.round
        group = [each for each in self._running if each.round == r and each.key == first.key]
        plan, numbers = first.plan, [each.number for each in group]

        def watch(progress: Progress) -> None:
            self._listener.progress(numbers, progress)

        trainer, trajectories = self._stacks.trainer(first.key), [each.trajectories for each in group]
        finished = train_round(trajectories, plan.network, plan.data, plan.resolved, watch, trainer)
        for each, rounds in zip(group, finished, strict=True):
            records = each.keeper.keep(rounds)
            each.records += records
            self._listener.round_finished(each.number, records)
            try:
                each.report(r)
            except UpdateFinishedTrialError:
                self._drop(each)
                continue
            if each.ended:
                self._finish(each)

    def _finish(self, ended: Running) -> None:
        """The trial's measures to MLflow and Optuna; complete, whether or not it went through all its rounds."""
        told = ended.conclude(self._client)
        try:
            for key, value in told.items():
                ended.trial.set_user_attr(key, value)
            self._optuna.tell(ended.trial, [told[MEASURES][name] for name in self._study.measures])
        except (UpdateFinishedTrialError, ValueError):
            self._drop(ended)
            return
        self._running.remove(ended)
        trials = finished(self._optuna)
        self._listener.trial_finished(next(t for t in trials if t.number == ended.number), trials)

    def _drop(self, taken: Running) -> None:
        """Another process has taken the trial over: it goes on with its run."""
        self._running.remove(taken)
        taken.tracker.wait()
        self._listener.lost(taken.number)

    def _leave(self) -> None:
        """Mark what is running for retry: its finished rounds are kept, and whoever goes on with it uses them."""
        trackers = {each.number: each.tracker for each in self._running}
        for trial in [each.trial for each in self._running] + [t for t in self._asked if t.number not in trackers]:
            with suppress(Exception):  # the store or the storage may be what failed; or the trial was just finished
                left = liveness.leave(self._optuna, trial)
                if trial.number in trackers:
                    trackers[trial.number].stop("KILLED")
                elif RUN_ID in left.user_attrs:
                    self._client.set_terminated(left.user_attrs[RUN_ID], status="KILLED")

    def _wait(self) -> bool:
        """Whether there may be more to do, after a while: trials that other processes are training may be left."""
        trials = self._optuna.get_trials(deepcopy=False)
        others = sum(trial.state == TrialState.RUNNING for trial in trials)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if self._late() or not (others or (waiting and self._begun_trials() < size(self._study))):
            return False
        if others:
            self._listener.waiting(others)
        time.sleep(_PATIENCE)
        return True


@contextmanager
def _status(opened: Opened, client: MlflowClient) -> Iterator[None]:
    """The study's run in MLflow does not stay RUNNING."""
    client.update_run(opened.run_id, status="RUNNING")
    try:
        yield
    except BaseException as error:
        with suppress(Exception):
            client.set_terminated(opened.run_id, status="KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    client.set_terminated(opened.run_id, status="FINISHED")
