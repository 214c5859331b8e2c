"""One `lt run` from settings to result: data, network, the method, tracking, verdict and figures put together."""

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from lottery_ticket import reading, shelf, store
from lottery_ticket.accuracy import check_accuracy
from lottery_ticket.address import public
from lottery_ticket.allocation import Allocation, allocate
from lottery_ticket.arms import ARMS, check_arms
from lottery_ticket.config import Settings, as_text, is_code, load_preset, preset_names
from lottery_ticket.data import Data, DataInfo, describe, load_images, prepare
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.figures import draw_all
from lottery_ticket.findings import examine
from lottery_ticket.fingerprint import Fingerprint, shapes_of
from lottery_ticket.images import Images
from lottery_ticket.limits import TAG, cut
from lottery_ticket.listening import Listener, whoever_is_here
from lottery_ticket.models import Network, make_network
from lottery_ticket.outbox import Outbox, check_working_folder
from lottery_ticket.pruning import Mask
from lottery_ticket.randomness import forked
from lottery_ticket.reading import REWOUND, Stored
from lottery_ticket.record import Record
from lottery_ticket.rehearsal import rehearse
from lottery_ticket.rounds_table import conclusions, rounds_table
from lottery_ticket.tensors import give
from lottery_ticket.ticket import Ticket
from lottery_ticket.tracking import Tracker
from lottery_ticket.training import (
    Train,
    Watch,
    arithmetic,
    check_length,
    choose_device,
    iterations_per_round,
    train,
)
from lottery_ticket.trajectory import Checkpoint, Round, alive, find_tickets
from lottery_ticket.verdict import Verdict, judge
from lottery_ticket.workers import Workers


@dataclass(frozen=True)
class Plan:
    """A run that has been checked and is ready to train.

    Attributes:
        settings: as given.
        allocation: how its members are spread over stacks and processes.
        iterations: of the dense round, at which every round ends.
        rounds: the rounds to train.
        data_notes: what the user should know of the data set, each a line.
    """

    settings: Settings = field(repr=False)
    images: Images
    data: Data
    network: Network = field(repr=False)
    allocation: Allocation
    iterations: int
    rounds: Sequence[int]
    data_notes: tuple[str, ...]

    @property
    def members(self) -> int:
        """Networks in a round: arms × seeds."""
        return len(self.settings.arms) * len(self.settings.seeds)

    @property
    def resolved(self) -> Settings:
        """The settings with what `auto` stands for here."""
        chosen = {"device": str(self.data.train.x.device), "stack": self.allocation.stack, "jobs": self.allocation.jobs}
        return self.settings.model_copy(update=chosen)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before training begins, each a line."""
        return (*self.data_notes, *self.allocation.notes)


@dataclass(frozen=True, repr=False)
class Result:
    """What a run found; a notebook shows it as its table and verdict.

    Attributes:
        stored: the run as MLflow has it: ids, settings and the records of all rounds.
        verdict: None without the arm `winning`.
        figures: paths of the figures drawn.
        seconds, tracking_seconds: wall time of this process's part of the run, and of MLflow in it.
    """

    stored: Stored
    verdict: Verdict | None
    figures: list[Path]
    seconds: float
    tracking_seconds: float
    client: MlflowClient

    def __repr__(self) -> str:
        last = max((record.round for record in self.rounds), default=None)
        return f"Result(run_id={self.run_id!r}, name={self.stored.name!r}, last_round={last})"

    def _repr_html_(self) -> str:
        table = rounds_table(self.stored, self.verdict).to_html()
        sentences = [*conclusions(self.stored, self.verdict), f"Run {self.run_id}."]
        return table + "".join(f"<div>{escape(sentence)}</div>" for sentence in sentences)

    @property
    def run_id(self) -> str:
        """The id of the parent run in MLflow."""
        return self.stored.run_id

    @property
    def rounds(self) -> list[Record]:
        """The numbers of every finished round of every arm and seed, in order of round."""
        return self.stored.records

    def to_json(self) -> dict[str, Any]:
        """The result as plain data; rounds without curves and per-image correctness, which MLflow has."""
        return {
            "run_id": self.run_id,
            "name": self.stored.name,
            "experiment_id": self.stored.experiment_id,
            "tracking_uri": self.client.tracking_uri,
            "settings": self.stored.settings.model_dump(),
            "rounds": [record.model_dump(exclude={"curve", "correct"}) for record in self.rounds],
            "verdict": json.loads(self.verdict.to_json()) if self.verdict else None,
            "figures": [str(path) for path in self.figures],
            "seconds": self.seconds,
            "tracking_seconds": self.tracking_seconds,
        }

    def ticket(self, round: int, seed: int | None = None) -> Ticket:
        """The winning arm's ticket at a round, read from MLflow; the seed defaults to the smallest.

        InputError where that round was not finished.
        """
        trajectory = "" if seed is None else f":winning-seed{seed}"
        return shelf.find(f"{self.run_id}:{round}{trajectory}", tracking_uri=self.client.tracking_uri)

    def smallest_winning_ticket(self) -> Ticket | None:
        """The winning ticket with the fewest weights, of the smallest seed that has it; None if the run found none."""
        won = [r for r in self.verdict.rounds if r.wins == "yes"] if self.verdict else []
        return self.ticket(won[-1].round, min(won[-1].seeds)) if won else None


@store.quietly()
def run(
    settings: Settings,
    *,
    preset: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = store.DEFAULT_EXPERIMENT,
    listener: Listener | None = None,
) -> Result:
    """Run the lottery-ticket experiment that the settings describe and keep every round in MLflow.

    Args:
        settings: what to do; see `load_preset`.
        preset: the preset they come from, kept as a tag; default: the one that `load_preset` was given.
        tracking_uri: of the MLflow store; default MLFLOW_TRACKING_URI, else SQLite at mlruns/mlflow.db.
        experiment: the MLflow experiment's name.
        listener: told of progress; default: lines on standard error in a notebook or a terminal, else nobody.
            `Listener()` is silent.

    Raises:
        InputError: settings that cannot be run here, or an unreachable store; before training starts.
        KeyboardInterrupt: names the run and how to `resume` it.
    """
    begun = time.perf_counter()
    preset = settings.preset if preset is None else preset
    plan = make_plan(settings)
    connecting = time.perf_counter()
    client = store.connect(tracking_uri, experiment=experiment)
    connecting = time.perf_counter() - connecting
    name = run_name(settings, preset)
    network = plan.network
    tracker = Tracker.create(client, experiment, settings, preset, name, plan.images, plan.data.info, network)
    tracker.seconds += connecting
    with _resumable(tracker, tracking_uri):
        return carry_out(plan, tracker, _find(plan), [], begun, listener or whoever_is_here())


@store.quietly()
def resume(
    run_id: str,
    *,
    model: str | None = None,
    changed_model: bool = False,
    tracking_uri: str | None = None,
    listener: Listener | None = None,
) -> Result:
    """Go on with a run after its last complete round; ends as if it had never been interrupted.

    Bit for bit on the same machine with the same versions. A run of a model that is code needs this named in `model`:
    what stands in a store runs none. InputError if there is no such run, or the network is another now, unless
    `changed_model` says that this is meant; a tag of the run then tells what differs.
    """
    client = store.connect(tracking_uri, create=False)
    reading.get_run(client, run_id, "--resume")
    check_working_folder()
    with store.writing(client, run_id):
        return _resume(run_id, model, changed_model, client, tracking_uri, listener or whoever_is_here())


def _resume(
    run_id: str,
    model: str | None,
    changed_model: bool,
    client: MlflowClient,
    tracking_uri: str | None,
    listener: Listener,
) -> Result:
    begun = time.perf_counter()
    stored = reading.read_run(client, run_id, "--resume")
    stored.must_be_whole(client.tracking_uri)
    if stored.origin:
        raise InputError("--resume", run_id, "is one training of a ticket; allowed: runs of `lt run`")
    if stored.kind == "trial":
        raise InputError(
            "--resume", run_id, "is a trial of a study; allowed: runs of `lt run` (`lt sweep` goes on with it)"
        )
    if is_code(stored.settings.model) and model != stored.settings.model:
        allowed = f"allowed: {stored.settings.model}, which runs that code"
        raise InputError("--model", model or "", f"is not what this run trains; {allowed}")
    plan = make_plan(stored.settings, known=stored.data, begun=True)
    if stored.data and stored.data.digest != plan.images.digest:
        raise InputError(
            "--resume",
            run_id,
            f"was trained on another {stored.settings.dataset} (digest {stored.data.digest}, now "
            f"{plan.images.digest}); allowed: the same data",
        )
    now, began_with = plan.network.fingerprint, _network_of(stored, client)
    if began_with:
        Fingerprint(tensors=began_with.tensors).must_be(now, stored.settings.model, overruling=None)
    if began_with and not changed_model:
        began_with.must_be(now, stored.settings.model)
    if not changed_model:
        _must_be_measured(plan, stored, client)
    tracker = Tracker.reopen(client, stored, plan.images, plan.data.info)
    if began_with and (differences := began_with.differences(now)):
        tracker.tag({"lt.changed_model": "; ".join(differences)[:500]})
    with _resumable(tracker, tracking_uri):
        return carry_out(plan, tracker, _find(plan), tracker.about.records, begun, listener)


def _must_be_measured(plan: Plan, stored: Stored, client: MlflowClient) -> None:
    """LotteryTicketError where a network of the last complete round, read back, is not the one that was measured."""
    last, _ = complete_rounds(stored.settings, stored.records)
    record = next((record for record in last if not record.diverged), None)
    if record is None:
        return
    child = stored.children[record.arm, record.seed]
    mask = reading.read_mask(client, child, record.round)
    with forked():
        module = plan.network.build()
    give(module, reading.read_trained(client, child, record.round, mask))
    check_accuracy(module.eval(), record.test_accuracy, stored.settings, plan.data.info, plan.images)


def _network_of(stored: Stored, client: MlflowClient) -> Fingerprint | None:
    """What a run has trained: as it tells, or what its tensors tell of one that does not; None where it has none."""
    if stored.network or not stored.records:
        return stored.network
    first = stored.records[0]
    start = reading.read_weights(client, stored.children[first.arm, first.seed], reading.INIT)
    return Fingerprint(tensors=shapes_of(start))


@contextmanager
def _resumable(tracker: Tracker, tracking_uri: str | None) -> Iterator[None]:
    """What ends the training of a run within it says in Python how to go on."""
    model = tracker.settings.model
    more = {"model": model} if is_code(model) else {}
    more |= {"tracking_uri": public(tracking_uri)} if tracking_uri else {}
    arguments = "".join(f", {name}={value!r}" for name, value in more.items())
    told = f'finished rounds are kept; go on with lottery_ticket.resume("{tracker.run_id}"{arguments})'
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(told) from None  # its text is what notebooks show
    except Exception as error:
        error.add_note(told)
        raise


@store.quietly()
def read_result(run_id: str, tracking_uri: str | None = None, figures: Path | None = None) -> Result:
    """A run's result from MLflow alone, its figures drawn into the folder `figures`."""
    begun = time.perf_counter()
    client = store.connect(tracking_uri, create=False)
    stored = reading.read_run(client, run_id)
    verdict = _judge(stored)
    drawn = _draw(client, stored, figures or figure_folder(run_id))
    return Result(stored, verdict, drawn, time.perf_counter() - begun, 0.0, client)


def figure_folder(run_id: str) -> Path:
    """Where a run's figures are drawn unless told otherwise."""
    return Path("mlruns", "figures", run_id)


def make_plan(
    settings: Settings,
    experiments: int = 1,
    known: DataInfo | None = None,
    begun: bool = False,
    drawn: bool = True,
) -> Plan:
    """Check everything that can be wrong, load the data and build the network. InputError if something is.

    Args:
        settings: of the run.
        experiments: how many of these settings will be trained side by side.
        known: the data set of an earlier training; if it is the same, its images are standardised as they were then.
        begun: the run was begun with these settings, perhaps by an lt that took what does nothing.
        drawn: whether what is trained starts from θ₀, as all but a ticket does.
    """
    check_arms(settings)
    device = choose_device(settings.device)
    with arithmetic(settings, device):  # torch's threads are made here and count denormals as this one does
        images = load_images(settings.dataset, digest=known.digest if known else None)
        same = known if known and known.digest == images.digest else None
        data = prepare(images, settings.validation_size, device, same)
        network = make_network(settings, data.input_shape, data.classes)
        iterations = iterations_per_round(settings, len(data.train))
        if not begun:
            check_length(settings, len(data.train))
        allocation = allocate(settings, network, data, experiments=experiments)
        found, faults = examine(settings, images, data)
        if faults and not same:  # what was trained on before goes on
            raise faults[0]
        notes = tuple(f"{images.name}: {note}" for note in [*images.notes, *found])
        rehearse(settings, network, data, allocation, drawn)
    return Plan(settings, images, data, network, allocation, iterations, range(settings.rounds), notes)


def run_name(settings: Settings, preset: str) -> str:
    """A run's name: its preset and what differs from it, e.g. `shu-fc1 lr=0.1`."""
    if preset not in preset_names():
        return preset or f"{settings.model} {settings.dataset}"
    base = load_preset(preset)
    changed = [f"{name}={as_text(value)}" for name, value in settings if value not in (None, getattr(base, name))]
    return " ".join([preset, *changed])


def complete_rounds(settings: Settings, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records of the last round that every living trajectory has finished, and those of rounds after it."""
    last: list[Record] = []
    for r in range(settings.rounds):
        here = {(record.arm, record.seed): record for record in records if record.round == r}
        wanted = alive(settings, last)
        if not wanted or not set(wanted) <= set(here):
            break
        last = [here[key] for key in wanted]
    done = last[0].round if last else -1
    return last, [record for record in records if record.round > done]


Method = Callable[[Checkpoint | None, Watch, Train], Iterator[list[Round]]]
"""What yields the finished rounds of a run, from the start or after a checkpoint."""


def _find(plan: Plan) -> Method:
    """The method itself: find tickets."""
    return lambda after, watch, trainer: find_tickets(plan.resolved, plan.network, plan.data, after, watch, trainer)


@dataclass(frozen=True)
class Synced:
    """A run whose rounds the store has now.

    Attributes:
        kind: run, or trial of a study.
        model: that it trains.
        finished: whether it was trained to its end; else `resume` goes on with it.
        refused: what the store will never take, with the reasons.
        deleted: how it comes back, if it is deleted and its rounds wait for that.
    """

    run_id: str
    name: str
    kind: str
    model: str
    finished: bool
    refused: tuple[str, ...] = ()
    deleted: str = ""


def carry_out(
    plan: Plan, tracker: Tracker, method: Method, kept: Sequence[Record], begun: float, listener: Listener
) -> Result:
    """Train the rounds that are not among `kept`, keep each as it is finished, conclude.

    `begun` is when the run began, on the clock of `time.perf_counter`.
    """
    tracker.warn = listener.warned
    with tracker.ending_well(), trainer(plan) as train_members:
        kept_rounds = Keeper(plan, tracker, kept)
        listener.started(plan, tracker.run_id, kept_rounds.done)
        for rounds in method(kept_rounds.after, listener.progress, train_members):
            listener.rounds_finished(kept_rounds.keep(rounds))
        verdict, figures = conclude(tracker)
    return Result(tracker.about, verdict, figures, time.perf_counter() - begun, tracker.seconds, tracker.client)


class Keeper:
    """Keeps the rounds of one experiment in MLflow, from where an earlier process left it.

    Args:
        plan: of the experiment.
        tracker: writes its runs.
        kept: the records that are there already.

    Attributes:
        after: what the method goes on after; None from the start.
    """

    def __init__(self, plan: Plan, tracker: Tracker, kept: Sequence[Record]) -> None:
        self._plan, self._tracker = plan, tracker
        last, self._partial = complete_rounds(plan.settings, kept)
        self._there = {(record.arm, record.seed, record.round) for record in self._partial}
        chosen = {f"lt.{name}": getattr(plan.resolved, name) for name in ("device", "stack", "jobs")}
        notes = {"lt.data_notes": cut("\n".join(plan.data_notes), TAG)} if plan.data_notes else {}
        tracker.tag(chosen | notes | {"lt.host": platform.node()})
        tracker.repeat_metrics(last, self._partial)
        self.done = last[0].round + 1 if last else 0
        self.after = _checkpoint(tracker.client, tracker, plan.settings, last) if last else None

    def keep(self, rounds: Sequence[Round]) -> list[Record]:
        """Keep a finished round; its records."""
        new = [r for r in rounds if (r.record.arm, r.record.seed, r.record.round) not in self._there]
        old = [record for record in self._partial if record.round == rounds[0].record.round]
        self._tracker.log_rounds(new)
        return [*old, *(r.record for r in new)]


def conclude(tracker: Tracker) -> tuple[Verdict | None, list[Path]]:
    """The verdict on a trained run and, but for trials, its figures, kept with the final metrics; it is finished.

    LotteryTicketError where the store does not answer: all is kept, and `sync` concludes later.
    """
    tracker.outbox.close()
    tracker.wait()  # the figures are drawn from what MLflow has
    about = tracker.about
    verdict = _judge(about)
    with tracker.needed():
        figures = [] if about.kind == "trial" else _draw(tracker.client, about, figure_folder(about.run_id))
    at = max(record.finished_at for record in about.records)
    tracker.finish(verdict, figures, _final_metrics(verdict), at)
    return verdict, figures


def sync(run_id: str, *, tracking_uri: str | None = None) -> Synced:
    """Deliver what waits of a run to the store, and conclude the run if it was trained to its end.

    What the store will never take is set aside. Of a run that is deleted all waits for its being restored: Deleted is
    raised the first time, and again nothing is done.
    """
    client = store.connect(tracking_uri, create=False)
    outbox = Outbox(client.tracking_uri, run_id)
    try:
        reading.get_run(client, run_id)
    except reading.Deleted as error:
        if outbox.tell_deleted():
            raise
        return Synced(run_id, "", "", "", False, deleted=str(error))
    except InputError:
        why = f"does not know run {run_id}, of which rounds wait; allowed: the store that it was started with"
        gone = f", or none, after deleting {outbox.folder}, if the run was deleted there for good"
        raise InputError("--tracking-uri", public(client.tracking_uri), why + gone) from None
    with store.writing(client, run_id):
        stored = reading.read_run(client, run_id)
        images = load_images(stored.settings.dataset, digest=stored.data.digest if stored.data else None)
        info = stored.data or describe(images, stored.settings.validation_size)
        reopened = replace(stored, children=stored.children | stored.lost)  # none is made anew
        tracker = Tracker.reopen(client, reopened, images, info)
        here = [record for record in tracker.about.records if (record.arm, record.seed) not in stored.lost]
        tracker.about = replace(tracker.about, records=here)
        if not (finished := tracker.outbox.trained):
            tracker.stop("KILLED")
            tracker.outbox.remove()
        else:
            conclude(tracker)
    return Synced(run_id, stored.name, stored.kind, stored.settings.model, finished, tuple(tracker.refused))


@contextmanager
def trainer(plan: Plan) -> Iterator[Train]:
    """What trains the plan's members: this process, or workers that live as long as the context."""
    if plan.allocation.jobs == 1:
        yield train
    else:
        with Workers(plan.resolved, plan.allocation.threads, plan.data.info) as workers:
            yield workers.train


def _checkpoint(client: MlflowClient, tracker: Tracker, settings: Settings, last: Sequence[Record]) -> Checkpoint:
    """What the run goes on with after its last complete round."""
    masks, initial, rewound = {}, {}, {}
    going_on = {seed for _, seed in alive(settings, last)} if last[0].round + 1 < settings.rounds else set()
    for seed in going_on if "winning" in settings.arms else ():
        initial[seed] = reading.read_weights(client, tracker.children["winning", seed], reading.INIT)
    for record in last:
        child = tracker.children[record.arm, record.seed]
        if ARMS[record.arm].own_mask and record.goes_on and record.round + 1 < settings.rounds:
            masks[record.arm, record.seed] = reading.read_mask(client, child, record.round + 1)
        if record.arm == "winning" and settings.rewind_iteration:
            rewound[record.seed] = reading.read_weights(client, child, REWOUND)
    return Checkpoint(last, masks, initial, rewound)


def _draw(client: MlflowClient, stored: Stored, folder: Path) -> list[Path]:
    """The figures of a run; their titles say where its tickets were trained longer than the dense network.

    LotteryTicketError where they cannot be written.
    """
    furthest = max((r for r in stored.records if r.arm == "winning"), key=lambda r: r.round, default=None)

    def mask(r: int) -> Mask:
        assert furthest is not None  # asked for only where the arm is there
        return reading.read_mask(client, stored.children["winning", furthest.seed], r)

    more = stored.settings.more_than_dense
    name = f"{stored.name} (tickets: {more} iterations more)" if more else stored.name
    shape = stored.data.image_shape if stored.data else None
    try:
        return draw_all(stored.records, name, folder, mask, shape)
    except OSError as error:
        raise LotteryTicketError(f"figures cannot be written in {folder}: {one_line(error)}") from error


def _judge(stored: Stored) -> Verdict | None:
    settings, classes = stored.settings, stored.data.classes if stored.data else None
    return judge(stored.records, settings.verdict_tolerance, settings.verdict_level, classes=classes)


def _final_metrics(verdict: Verdict | None) -> dict[str, float]:
    if verdict is None:
        return {}
    return {
        "dense_accuracy": verdict.dense,
        "smallest_winning_pct": verdict.smallest_winning_pct,
        "smallest_matching_pct": verdict.smallest_matching_pct,
    }
