"""One `lt run` from settings to result: a plan, the method, a tracker and a listener put together."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from lottery_ticket import process
from lottery_ticket.address import public
from lottery_ticket.config import Settings, code_in, must_be_named
from lottery_ticket.engine.job import Progress, Train, Watch
from lottery_ticket.errors import InputError
from lottery_ticket.method.trajectory import Checkpoint, Round, find_tickets
from lottery_ticket.models.fingerprint import Fingerprint, shapes_of
from lottery_ticket.models.tensors import give
from lottery_ticket.plugins import is_code
from lottery_ticket.randomness import forked
from lottery_ticket.record import Record
from lottery_ticket.runs.densities import with_densities
from lottery_ticket.runs.listener import Listener, whoever_is_here
from lottery_ticket.runs.plan import Plan, Undertaking, make_plan, run_name
from lottery_ticket.runs.seeds import last_look, more_seeds, until_decided
from lottery_ticket.runs.stopwatch import Stopwatch
from lottery_ticket.store import layout, reach
from lottery_ticket.store.opening import Opening
from lottery_ticket.store.outbox import check_working_folder

# What imports MLflow or draws figures is imported where it is needed: a first training begins before.
if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lottery_ticket.runs.keeper import Keeper
    from lottery_ticket.runs.result import Result
    from lottery_ticket.store.reading import Stored
    from lottery_ticket.store.tracking import Tracker


@reach.quietly()
def run(
    settings: Settings,
    *,
    preset: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    max_seeds: int | None = None,
    listener: Listener | None = None,
    begun: float | None = None,
) -> "Result":
    """Run the lottery-ticket experiment that the settings describe and keep every round in MLflow.

    Args:
        settings: what to do; see `load_preset`.
        preset: the preset they come from, kept as a tag; default: the one that `load_preset` was given.
        tracking_uri: of the MLflow store; default MLFLOW_TRACKING_URI, else SQLite at mlruns/mlflow.db.
        experiment: the MLflow experiment's name.
        max_seeds: add seeds to those of the settings until the verdict on every round is decided or there are so many,
            by a design that errs no more than a fixed number of seeds (`runs.seeds`); default: none.
        listener: told of progress; default: lines on standard error in a notebook or a terminal, else nobody.
            `Listener()` is silent.
        begun: since when its seconds count, on the clock of `time.perf_counter`; default: the call.

    The first round trains while the store is opened, and the run is there seconds after it began to.

    Raises:
        InputError: settings that cannot be run here, or an unreachable store; before training starts. What only MLflow
            can tell of a store, in these seconds. Nothing is kept then.
        KeyboardInterrupt: names the run and how to `resume` it.

    Example:
        >>> settings = lottery_ticket.load_preset("quick", dataset="my.npz", rounds=2, iterations=10)
        >>> result = lottery_ticket.run(settings)
        >>> [(record.arm, record.round, round(record.density, 2)) for record in result.rounds]
        [('winning', 0, 1.0), ('reinit', 0, 1.0), ('winning', 1, 0.8), ('reinit', 1, 0.8)]
    """
    clock, listener = Stopwatch(begun), listener or whoever_is_here()
    preset = settings.preset if preset is None else preset
    looks: tuple[int, ...] = ()
    if max_seeds is not None:
        settings, looks = until_decided(settings, max_seeds)
    reach.must_be_usable(tracking_uri, experiment=experiment)
    plan = make_plan(with_densities(settings, tracking_uri), clock=clock)

    def make() -> "Tracker":
        from lottery_ticket.store.tracking import Tracker

        client, name = opening.client(), run_name(settings, preset)
        return Tracker.create(
            client, experiment, plan.settings, preset, name, plan.images, plan.data.info, plan.network, looks=looks
        )

    with Opening(tracking_uri, experiment) as opening:
        this = OnItsWay(plan, make, [], clock, listener, lambda: opening.ready)
        with resumable(lambda: _resuming(this.tracker, tracking_uri)):
            result = carry_out(this, _find(plan))
    named = {name for names in code_in(settings).values() for name in names}
    return _until_decided(result, named, False, tracking_uri, listener, clock)


@reach.quietly()
def resume(
    run_id: str,
    *,
    model: str | None = None,
    code: Collection[str] = (),
    changed_model: bool = False,
    tracking_uri: str | None = None,
    listener: Listener | None = None,
    begun: float | None = None,
) -> "Result":
    """Go on with a run after its last complete round; ends as if it had never been interrupted.

    Bit for bit on the same machine with the same versions. What of a run's settings is code (`module:name`) must be
    named in `code`, or the model in `model`: what stands in a store runs none. InputError if there is no such run, or
    the network is another now, unless `changed_model` says that this is meant; a tag of the run then tells what
    differs. `begun` is as for `run`.

    Example:
        >>> result = lottery_ticket.resume(run_id)  # was finished: nothing is left to train
        >>> max(record.round for record in result.rounds)
        1
    """
    clock, listener = Stopwatch(begun), listener or whoever_is_here()
    from lottery_ticket.store import connection, locks, reading

    with clock.part("tracking"):
        client = connection.connect(tracking_uri, create=False)
        reading.get_run(client, run_id, "--resume")
    check_working_folder()
    named = {name for name in (*code, model) if name and is_code(name)}
    with locks.writing(client, run_id):
        result = _resume(run_id, named, changed_model, client, tracking_uri, listener, clock)
    return _until_decided(result, named, changed_model, tracking_uri, listener, clock)


def _until_decided(
    result: "Result",
    code: Collection[str],
    changed_model: bool,
    tracking_uri: str | None,
    listener: Listener,
    clock: Stopwatch,
) -> "Result":
    """Train more seeds of a run that asks for them, until it is decided."""
    from lottery_ticket.store import locks

    while seeds := more_seeds(result.stored, result.verdict):
        assert result.verdict is not None
        listener.undecided(result.verdict, len(seeds))
        with locks.writing(result.client, result.run_id):
            result = _resume(result.run_id, code, changed_model, result.client, tracking_uri, listener, clock, seeds)
    return result


def _resume(
    run_id: str,
    code: Collection[str],
    changed_model: bool,
    client: "MlflowClient",
    tracking_uri: str | None,
    listener: Listener,
    clock: Stopwatch,
    seeds: tuple[int, ...] | None = None,
) -> "Result":
    """Train what is left of the last seeds that a run was given; `seeds` are those that it has from now on."""
    from lottery_ticket.store import reading
    from lottery_ticket.store.tracking import Tracker

    stored = reading.read_run(client, run_id, "--resume")
    stored.must_be_whole(client.tracking_uri)
    if stored.origin:
        raise InputError("--resume", run_id, "is one training of a ticket; allowed: runs of `lt run`")
    if stored.kind == layout.OWN_LOOP:
        allowed = f'allowed: lottery_ticket.find(…, resume="{run_id}") with the same functions'
        raise InputError("--resume", run_id, f"is of lottery_ticket.find, trained by functions of your own; {allowed}")
    if stored.kind == "trial":
        raise InputError(
            "--resume", run_id, "is a trial of a study; allowed: runs of `lt run` (`lt sweep` goes on with it)"
        )
    must_be_named(stored.settings, code)
    seeds = seeds or stored.settings.seeds
    last = last_look(seeds, stored.looks)
    kept = [record for record in stored.records if record.seed in last]
    settings = stored.settings.model_copy(update={"seeds": last})
    plan = make_plan(settings, known=stored.data, begun=True, clock=clock)
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
        _must_be_measured(plan, kept, stored, client)
    with clock.part("tracking"):
        tracker = Tracker.reopen(client, stored, plan.images, plan.data.info, seeds)
    if began_with and (differences := began_with.differences(now)):
        tracker.tag({"lt.changed_model": "; ".join(differences)[:500]})
    with resumable(lambda: _resuming(tracker, tracking_uri)):
        kept = [record for record in tracker.about.records if record.seed in last]
        return carry_out(OnItsWay(plan, lambda: tracker, kept, clock, listener), _find(plan))


def _must_be_measured(plan: Plan, kept: Sequence[Record], stored: "Stored", client: "MlflowClient") -> None:
    """LotteryTicketError where a network of the last complete round, read back, is not the one that was measured."""
    from lottery_ticket.runs.keeper import complete_rounds
    from lottery_ticket.store import reading
    from lottery_ticket.tickets.accuracy import check_accuracy

    last, _ = complete_rounds(plan.settings, kept)
    record = next((record for record in last if not record.diverged), None)
    if record is None:
        return
    child = stored.children[record.arm, record.seed]
    mask = reading.read_mask(client, child, record.round)
    with forked():
        module = plan.network.build()
    give(module, reading.read_trained(client, child, record.round, mask))
    check_accuracy(module.eval(), record.test_accuracy, stored.settings, plan.data.info, plan.images)


def _network_of(stored: "Stored", client: "MlflowClient") -> Fingerprint | None:
    """What a run has trained: as it tells, or what its tensors tell of one that does not; None where it has none."""
    if stored.network or not stored.records:
        return stored.network
    from lottery_ticket.store import reading

    first = stored.records[0]
    start = reading.read_weights(client, stored.children[first.arm, first.seed], layout.INIT)
    return Fingerprint(tensors=shapes_of(start))


def _resuming(tracker: "Tracker | None", tracking_uri: str | None) -> str:
    """The call that goes on with a run; empty where there is none yet."""
    if tracker is None:
        return ""
    named = code_in(tracker.settings)
    more: dict[str, Any] = {"model": named.pop("model")[0]} if "model" in named else {}
    more |= {"code": [name for names in named.values() for name in names]} if named else {}
    more |= {"tracking_uri": public(tracking_uri)} if tracking_uri else {}
    arguments = "".join(f", {name}={value!r}" for name, value in more.items())
    return f'lottery_ticket.resume("{tracker.run_id}"{arguments})'


@contextmanager
def resumable(call: Callable[[], str]) -> Iterator[None]:
    """What ends the training of a run within it says with which call in Python to go on, where there is one."""

    def told() -> str:
        return f"finished rounds are kept; go on with {call()}" if call() else ""

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(told()) from None  # its text is what notebooks show
    except Exception as error:
        if told():
            error.add_note(told())
        raise


Method = Callable[[Checkpoint | None, Watch, Train], Iterator[list[Round]]]
"""What yields the finished rounds of a run, from the start or after a checkpoint."""


def _find(plan: Plan) -> Method:
    """The method itself: find tickets."""
    return lambda after, watch, trainer: find_tickets(plan.resolved, plan.network, plan.data, after, watch, trainer)


class OnItsWay:
    """A run on its way, which may be made in MLflow while its first round trains.

    Args:
        plan: of what is trained.
        make: makes its tracker, or gives it.
        kept: the records of the rounds that are there already.
        clock: counts where its time goes.
        listener: told of progress, once the run is there.
        ready: whether `make` would not wait.

    Attributes:
        tracker: None until the run is there.
    """

    def __init__(
        self,
        plan: Undertaking,
        make: "Callable[[], Tracker]",
        kept: Sequence[Record],
        clock: Stopwatch,
        listener: Listener,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.plan, self.clock, self.listener, self.ready = plan, clock, listener, ready
        self.tracker: Tracker | None = None
        self._make, self._kept = make, kept
        self._keeper: Keeper | None = None
        self._ending = ExitStack()

    @contextmanager
    def ending_well(self) -> Iterator[None]:
        """Within it, the run does not stay RUNNING when something stops it."""
        with self._ending:
            yield

    def keeper(self) -> "Keeper":
        """What keeps its rounds; makes the run where it is not there yet."""
        from lottery_ticket.runs.keeper import Keeper

        if self._keeper is None:
            with self.clock.part("tracking"), forked():  # a user's network may be drawing meanwhile
                self.tracker = self._make()
                self.tracker.warn = self.listener.warned
                self._ending.enter_context(self.tracker.ending_well())
                self._keeper = Keeper(self.plan, self.tracker, self._kept)
            self.listener.started(self.plan, self.tracker.run_id, self._keeper.done)
        return self._keeper

    def progress(self, progress: Progress) -> None:
        """Tell the listener, where the run is there or can be made."""
        if self._keeper or self.ready():
            self.keeper()
            self.listener.progress(progress)


def carry_out(run: OnItsWay, method: Method) -> "Result":
    """Train the rounds that are not kept yet, keep each as it is finished, conclude."""
    clock, trained = run.clock, []
    with run.ending_well(), run.plan.trainer() as train_members:
        after = run.keeper().after if run.ready() else None
        with clock.part("training"):
            for rounds in method(after, run.progress, train_members):
                with clock.part("tracking"):
                    kept = run.keeper().keep(rounds)
                trained += [done.record for done in rounds]
                run.listener.rounds_finished(kept)
        clock.evaluated(trained)
        assert run.tracker is not None  # made by the first round, or there before
        with clock.part("figures"), process.importing():  # what draws them is imported here
            from lottery_ticket.runs.conclude import conclude
            from lottery_ticket.runs.result import Result
        verdict, figures = conclude(run.tracker, clock)
    return Result(run.tracker.about, verdict, figures, clock.seconds, run.tracker.client)
