"""A study carried out: batches of trials asked from Optuna, trained side by side, told back round by round."""

import math
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import TrialState

from lottery_ticket.analysis.comparable import comparable
from lottery_ticket.analysis.verdict import judge
from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.engine.executors import trainer
from lottery_ticket.engine.job import Progress, Train, check_length
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.method.arms import controls_among
from lottery_ticket.method.trajectory import Trajectories
from lottery_ticket.models.network import make_network
from lottery_ticket.record import Record
from lottery_ticket.runs.conclude import conclude as conclude_run
from lottery_ticket.runs.keeper import Keeper
from lottery_ticket.runs.plan import Plan, make_plan
from lottery_ticket.store import connection, reading
from lottery_ticket.store.limits import may_be
from lottery_ticket.store.tracking import Tracker
from lottery_ticket.study import storage as study_storage
from lottery_ticket.study.conclude import Concluded, conclude
from lottery_ticket.study.definition import Choices, Study
from lottery_ticket.study.listener import StudyListener
from lottery_ticket.study.measures import measure, phase, settled, winning_margin
from lottery_ticket.study.names import MARGIN
from lottery_ticket.study.opened import Opened, open_study
from lottery_ticket.study.samplers import make_sampler
from lottery_ticket.study.space import distributions, size
from lottery_ticket.study.trials import ENDED, MEASURES, PHASE, REFUSED, ROUNDS, RUN_ID, SAVED, SURPLUS, Trial, finished

OWN = (
    *("lr", "weight_decay", "schedule", "warmup_iterations"),
    *("prune_rate", "prune_rate_conv", "prune_rate_output", "scope", "criterion", "rounds", "arms", "seeds"),
    *("checkpoint_precision", "verdict_tolerance", "verdict_level"),
)
"""Settings that trials in one stack may each have of their own."""

Key = tuple[tuple[str, Any], ...]
"""What trials in one stack have in common: see `stackable`."""

_PATIENCE = 1.0  # seconds between two looks at trials that other processes train


@dataclass(frozen=True)
class Outcome:
    """A study after `sweep`: what it is, its finished trials, and what `conclude` made of them."""

    opened: Opened
    trials: list[Trial]
    concluded: Concluded
    seconds: float


@dataclass
class _Running:
    """A trial on its way."""

    trial: optuna.Trial
    settings: Settings
    plan: Plan
    tracker: Tracker
    keeper: Keeper
    trajectories: Trajectories
    records: list[Record] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def key(self) -> Key:
        return stackable(self.settings)


@connection.quietly()
def sweep(
    study: Study,
    name: str | None = None,
    *,
    storage: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = connection.DEFAULT_EXPERIMENT,
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
    connection.check(tracking_uri, experiment)
    plan = _check(study)
    definition = study.definition() | ({} if "dataset" in study.space else {"data digest": plan.images.digest})
    opened_storage = study_storage.open_storage(storage)
    client = connection.connect(tracking_uri, experiment=experiment)
    opened = open_study(study, definition, name, opened_storage, client, experiment, fresh)
    _check_networks(opened, client)
    opened.optuna.sampler = make_sampler(study)
    listener = listener or StudyListener()
    listener.opened(opened, size(study))
    with _status(opened, client) if concluding else nullcontext():
        _Sweep(opened, client, experiment, listener, begun).carry_out()
        listener.ended()
        concluded = conclude(opened, client) if concluding else Concluded([], None, {}, [])
    return Outcome(opened, finished(opened.optuna), concluded, time.perf_counter() - begun)


def stackable(settings: Settings) -> Key:
    """What trials must have in common to be trained in one stack: the settings but those that each may have alone."""
    return tuple((name, value) for name, value in settings if name not in OWN)


class _Sweep:
    """The trials that this process trains."""

    def __init__(
        self, opened: Opened, client: MlflowClient, experiment: str, listener: StudyListener, begun: float
    ) -> None:
        self._opened, self._client, self._experiment = opened, client, experiment
        self._study, self._optuna = opened.study, opened.optuna
        self._listener, self._begun = listener, begun
        self._asked: list[optuna.Trial] = []
        self._running: list[_Running] = []
        self._silent: dict[int, float] = {}
        self._trainers: dict[Key, tuple[ExitStack, Train]] = {}
        self._plans: dict[Key, Plan] = {}
        self._told: set[str] = set()

    def carry_out(self) -> None:
        """Batch after batch until no trial is left to begin and none is running anywhere."""
        with ExitStack() as self._open, self._heartbeat(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)  # `_heartbeat` does it
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

    def _begin_batch(self) -> None:
        self._give_up_stale()
        space = distributions(self._study)
        while len(self._asked) < self._study.batch and not self._late() and self._begun_trials() < size(self._study):
            trial = self._optuna.ask(fixed_distributions=space)
            self._beat(trial)
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
        self._forget_others()

    def _forget_others(self) -> None:
        """Data, networks and processes that no trial of this batch needs."""
        needed = {running.key for running in self._running}
        self._plans = {key: plan for key, plan in self._plans.items() if key in needed}
        for key in self._trainers.keys() - needed:
            self._trainers.pop(key)[0].close()

    def _give_up_stale(self) -> None:
        """Trials of processes that are not heard of any more fail, and wait to be tried again."""
        fail_stale_trials(self._optuna)
        silent = study_storage.without_heartbeat(self._optuna)  # killed before the first
        self._silent = {number: self._silent.get(number, time.monotonic()) for number in silent}
        for number, seen in self._silent.items():
            if time.monotonic() - seen > study_storage.GRACE:
                with suppress(ValueError):  # another process did it
                    left = self._optuna.tell(number, state=TrialState.FAIL)
                    if left.params.keys() == self._study.space.keys():
                        RetryHeartbeatStaleTrialCallback()(self._optuna, left)

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
            settings = self._study.settings_of(trial.params)
            plan = self._plan(settings, experiments)
        except InputError as error:
            trial.set_user_attr(REFUSED, str(error))
            self._optuna.tell(trial, state=TrialState.FAIL)
            self._listener.refused(trial.number, str(error))
            return
        tags = {
            "lt.kind": "trial",
            "lt.study": self._opened.name,
            "lt.trial": str(trial.number),
            "mlflow.parentRunId": self._opened.run_id,
        }
        there = self._reopen(trial, plan)
        if there is None:
            name = f"trial {trial.number} " + " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
            preset = self._study.preset
            tracker = Tracker.create(
                self._client,
                self._experiment,
                settings,
                preset,
                name,
                plan.images,
                plan.data.info,
                plan.network,
                tags=tags,
                made=lambda run_id: trial.set_user_attr(RUN_ID, run_id),
            )
            there = tracker, Keeper(plan, tracker, [])
        tracker, keeper = there
        tracker.warn = self._listener.warned
        tracker.tag(tags)
        kept = [record for record in tracker.about.records if record.round < keeper.done]
        trajectories = Trajectories(settings, plan.network, plan.data, keeper.after)
        self._running.append(_Running(trial, settings, plan, tracker, keeper, trajectories, kept))
        self._listener.begun(trial.number, dict(trial.params), settings.rounds, plan)

    def _reopen(self, trial: optuna.Trial, plan: Plan) -> tuple[Tracker, Keeper] | None:
        """The run of a trial that a process left; None where there is none that can be gone on with."""
        run_id = trial.user_attrs.get(RUN_ID)
        if run_id is None:
            return None
        try:
            stored = reading.read_run(self._client, run_id)
            stored.must_be_whole(self._client.tracking_uri)
            tracker = Tracker.reopen(self._client, stored, plan.images, plan.data.info)
            return tracker, Keeper(plan, tracker, tracker.about.records)
        except (LotteryTicketError, MlflowException) as error:
            self._listener.warned(f"trial {trial.number} is trained from its start: {one_line(error)}")
            return None

    def _plan(self, settings: Settings, experiments: int) -> Plan:
        """The plan of a trial; trials that can be stacked share its data, network and allocation."""
        key = stackable(settings)
        if key not in self._plans:
            self._plans[key] = make_plan(settings, experiments, self._known(settings))
            for note in self._plans[key].data_notes:
                if note not in self._told:
                    self._listener.warned(note)
                    self._told.add(note)
        check_length(settings, len(self._plans[key].data.train))  # what it looks at is no part of the key
        return replace(self._plans[key], settings=settings, rounds=range(settings.rounds))

    def _known(self, settings: Settings) -> DataInfo | None:
        """The data set as the study's first trials have it: one standardisation for all, whatever version began it."""
        wanted = settings.as_params()
        for trial in self._optuna.get_trials(deepcopy=False):
            if RUN_ID not in trial.user_attrs:
                continue
            with suppress(MlflowException, LotteryTicketError):  # deleted, or of another version
                run = self._client.get_run(trial.user_attrs[RUN_ID])
                if all(may_be(run.data.params.get(name, ""), wanted[name]) for name in ("dataset", "validation_size")):
                    return reading.read_data_info(self._client, run)
        return None

    def _train_round(self) -> None:
        """Train the earliest round that any trial is at, of all trials that are there and can be stacked with it."""
        for each in [each for each in self._running if self._ended(each)]:
            self._finish(each)  # its last round was kept by the process that left it
        if not self._running:
            return
        first = min(self._running, key=lambda each: each.trajectories.round)
        r = first.trajectories.round
        group = [each for each in self._running if each.trajectories.round == r and each.key == first.key]
        members = [
            [replace(member, settings=each.settings) for member in each.trajectories.members()] for each in group
        ]
        everyone = [member for own in members for member in own]
        plan, numbers = first.plan, [each.number for each in group]

        def watch(progress: Progress) -> None:
            self._listener.progress(numbers, progress)

        trained = self._trainer(first)(
            plan.network, everyone, plan.data, plan.resolved, r, first.trajectories.snapshot_at, watch
        )
        for each, own in zip(group, members, strict=True):
            results, trained = trained[: len(own)], trained[len(own) :]
            records = each.keeper.keep(each.trajectories.finish(own, results))
            each.records += records
            self._listener.round_finished(each.number, records)
            try:
                self._report(each, r)
            except UpdateFinishedTrialError:
                self._drop(each)
                continue
            if self._ended(each):
                self._finish(each)

    def _trainer(self, running: _Running) -> Train:
        if running.key not in self._trainers:
            opened, plan = self._open.enter_context(ExitStack()), self._plans[running.key]
            self._trainers[running.key] = (
                opened,
                opened.enter_context(trainer(plan.resolved, plan.allocation, plan.data.info)),
            )
        return self._trainers[running.key][1]

    def _report(self, running: _Running, r: int) -> None:
        """Tell Optuna of a finished round: its densities and accuracies and, with one objective, the margin so far."""
        controls = controls_among(running.settings.arms)
        told, counted = [], comparable(running.records, controls)
        for index in range(r + 1):
            there = [record for record in running.records if record.round == index]
            here = [record for record in counted if record.round == index] or there
            row = {"pct": _mean([record.weights_remaining_pct for record in here])}
            for arm in running.settings.arms:
                accuracies = [record.test_accuracy for record in here if record.arm == arm]
                if accuracies:
                    row[arm] = _mean(accuracies)
            told.append(row)
        running.trial.set_user_attr(ROUNDS, told)
        if self._study.measures == [MARGIN]:
            settings, classes = running.settings, running.plan.data.classes
            level, tolerance = settings.verdict_level, settings.verdict_tolerance
            verdict = judge(running.records, tolerance, level, controls, classes=classes)
            assert verdict is not None  # the arm winning is in every study
            running.trial.report(winning_margin(verdict), r)

    def _ended(self, running: _Running) -> bool:
        return not running.trajectories.alive or bool(self._reason(running))

    def _reason(self, running: _Running) -> str:
        """Why the trial ends before its last round; empty where it does not."""
        left = running.settings.rounds - running.trajectories.round
        if not left or not running.records:
            return ""
        return settled(running.records, self._study.end_early) or ""

    def _finish(self, running: _Running) -> None:
        """The trial's measures to MLflow and Optuna; complete, whether or not it went through all its rounds."""
        reason = self._reason(running)
        verdict, _ = conclude_run(running.tracker)
        assert verdict is not None
        records, settings = running.records, running.settings
        measured = measure(verdict, records, self._study.densities, settings.rounds)
        left = settings.rounds - running.trajectories.round if reason else 0
        saved = left * math.fsum(r.seconds for r in records if r.round == running.trajectories.round - 1)
        at = max(record.finished_at for record in records)
        metrics = {**measured, "seconds_saved": saved}
        run_id = running.tracker.run_id
        self._client.log_batch(run_id, metrics=[Metric(key, value, at, 0) for key, value in metrics.items()])
        running.tracker.tag({"lt.phase": phase(verdict), "lt.ended_early": reason})
        told = {PHASE: phase(verdict), MEASURES: measured, ENDED: reason, SAVED: saved}
        try:
            for key, value in told.items():
                running.trial.set_user_attr(key, value)
            self._optuna.tell(running.trial, [measured[name] for name in self._study.measures])
        except (UpdateFinishedTrialError, ValueError):
            self._drop(running)
            return
        self._running.remove(running)
        trials = finished(self._optuna)
        self._listener.trial_finished(next(t for t in trials if t.number == running.number), trials)

    def _drop(self, running: _Running) -> None:
        """Another process has taken the trial over: it goes on with its run."""
        self._running.remove(running)
        running.tracker.wait()
        self._listener.lost(running.number)

    def _leave(self) -> None:
        """Mark what is running for retry: its finished rounds are kept, and whoever goes on with it uses them."""
        running = {each.number: each for each in self._running}
        for trial in [each.trial for each in self._running] + [t for t in self._asked if t.number not in running]:
            with suppress(Exception):  # the store or the storage may be what failed; or the trial was just finished
                left = self._optuna.tell(trial, state=TrialState.FAIL)
                RetryHeartbeatStaleTrialCallback()(self._optuna, left)
                if trial.number in running:
                    running[trial.number].tracker.stop("KILLED")
                elif RUN_ID in left.user_attrs:
                    self._client.set_terminated(left.user_attrs[RUN_ID], status="KILLED")

    def _wait(self) -> bool:
        """Whether there may be more to do, after a while: trials that other processes are training may be left."""
        trials = self._optuna.get_trials(deepcopy=False)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if self._late() or not (running or (waiting and self._begun_trials() < size(self._study))):
            return False
        if running:
            self._listener.waiting(running)
        time.sleep(_PATIENCE)
        return True

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Within it, the trials that are running are known to be."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(study_storage.HEARTBEAT):
                for trial in [*self._asked, *(running.trial for running in self._running)]:
                    with suppress(Exception):  # a storage that is away for a while is not the trial's end
                        self._beat(trial)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, trial: optuna.Trial) -> None:
        # Only Study.optimize does this by itself; Trial and Study have no public way to it.
        self._optuna._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


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


def _check(study: Study) -> Plan:
    """The plan of one trial, after every choice has been tried that may not be there on this machine."""
    anyone = {name: _any_of(each) for name, each in distributions(study).items()}
    for name, searched in study.space.items():
        if isinstance(searched, Choices) and name in ("model", "dataset", "precision"):
            for choice in searched.choices:
                make_plan(study.settings_of(anyone | {name: choice}))
    plan = make_plan(study.settings_of(anyone))
    for name, each in distributions(study).items():
        for value in _ends(each):
            if name not in ("dataset", "validation_size"):  # of which there would be other images
                check_length(study.settings_of(anyone | {name: value}), len(plan.data.train))
    return plan


def _ends(searched: optuna.distributions.BaseDistribution) -> Sequence[Any]:
    """The choices, or the least and the largest value."""
    return searched.choices if hasattr(searched, "choices") else (searched.low, searched.high)  # type: ignore[attr-defined]


def _check_networks(opened: Opened, client: MlflowClient) -> None:
    """InputError where a network that trials have trained is another now: a study compares trials of one."""
    checked: set[tuple[str, str]] = set()
    for trial in opened.optuna.get_trials(deepcopy=False):
        if RUN_ID not in trial.user_attrs:
            continue
        settings = opened.study.settings_of(trial.params)
        if (key := (settings.model, settings.dataset)) in checked:
            continue
        with suppress(MlflowException):  # somebody deleted the run
            run = client.get_run(trial.user_attrs[RUN_ID])
            was, data = reading.read_network(client, run), reading.read_data_info(client, run)
            if was and data:
                was.must_be(make_network(settings, data.input_shape, data.classes).fingerprint, key[0], "--fresh")
            checked.add(key)


def _any_of(searched: optuna.distributions.BaseDistribution) -> Any:
    return _ends(searched)[0]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
