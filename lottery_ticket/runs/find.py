"""Finding tickets around a user's own training: any task, any loss, any loop that trains a torch module."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from torch import nn

from lottery_ticket.address import public
from lottery_ticket.config import OF_THE_LOOP, Settings, as_text, flag, merge
from lottery_ticket.engine.job import Member, Train, Watch
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import ARMS, arm_named, check_arms, check_network
from lottery_ticket.method.criteria import scores_by
from lottery_ticket.method.schedule import check_schedule, check_shares
from lottery_ticket.method.trajectory import Checkpoint, Round, evidence, find_tickets
from lottery_ticket.models.fingerprint import Fingerprint
from lottery_ticket.models.network import Network
from lottery_ticket.models.own import label, own_network
from lottery_ticket.record import Record
from lottery_ticket.runs.densities import with_densities
from lottery_ticket.runs.listener import Listener, whoever_is_here
from lottery_ticket.runs.measured import Score, check_score
from lottery_ticket.runs.own_loop import EvaluateFunction, OwnTrain, TrainFunction
from lottery_ticket.runs.plan import Undertaking
from lottery_ticket.runs.purity import check_draws
from lottery_ticket.runs.result import Result
from lottery_ticket.runs.run import Method, OnItsWay, carry_out, resumable
from lottery_ticket.runs.stopwatch import Stopwatch
from lottery_ticket.store import connection, locks, reach, reading
from lottery_ticket.store.layout import OWN_LOOP, SCORE
from lottery_ticket.store.outbox import check_working_folder
from lottery_ticket.store.reading import Stored
from lottery_ticket.store.tracking import Tracker


@dataclass(frozen=True)
class OwnLoop(Undertaking):
    """A run that a user's own functions train, checked and ready.

    Attributes:
        train: what trains the members of a round with them.
    """

    train: Train = field(repr=False)

    @property
    def tags(self) -> dict[str, str]:
        """None: where and on what it is trained is the functions' matter."""
        return {}

    @property
    def length(self) -> str:
        """Rounds, and of what."""
        return f"{len(self.rounds)} rounds of a loop of your own, one network after another"

    @property
    def notes(self) -> Sequence[str]:
        """Where the rounds after the first go on."""
        k = self.settings.rewound_at
        return [f"rewound to iteration {k}: rounds after the first are to go on there (job.begins_at)"] if k else []

    @property
    def work(self) -> int:
        """Members."""
        return self.members

    def trainer(self) -> AbstractContextManager[Train]:
        """This process."""
        return nullcontext(self.train)


@reach.quietly()
def find(
    model_factory: Callable[[], nn.Module],
    *,
    train: TrainFunction,
    evaluate: EvaluateFunction,
    example: Any = None,
    score: tuple[str, float, float] = Score(),
    resume: str | None = None,
    changed_code: bool = False,
    name: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    listener: Listener | None = None,
    **settings: Any,
) -> Result:
    """Find winning tickets with training and evaluation of your own, kept in MLflow and judged as by `run`.

    In each round every arm and seed is trained by `train`, measured by `evaluate`, pruned and rewound. Pruned weights
    are exactly zero at the end, and after every step of any `torch.optim` optimiser.

    Args:
        model_factory: makes a new module each time it is called, without arguments, its values drawn from the global
            generators of torch, NumPy or Python, which are seeded for each seed and arm.
        train: is called as `train(module, job)` and trains the module in place, from where it stands; `job` says for
            which seed, round and arm (see `Job`). The global generators are seeded alike for all arms of a seed in a
            round. It returns nothing, or a mapping of numbers for MLflow, among them `train_loss`. Steps of
            `torch.optim` optimisers on the module's parameters count as iterations.
        evaluate: is called as `evaluate(module)`, the module in eval mode, and returns the test accuracy (0–1), or a
            mapping of numbers with `test_accuracy` and, if you like, `test_loss`, `validation_loss`,
            `validation_accuracy`, others for MLflow, and `correct`: for each test example whether it is right (1-d
            bool, always in one order; their mean is the accuracy). With `correct` one seed is judged as well, by
            McNemar's test; without, the verdict rests on the spread over seeds alone: give two or, better, more.
        example: what the module is called with: a dict of named arguments, a tuple of arguments, or one argument. Then
            all weights that a pass multiplies with are prunable, else those of linear and convolutional layers.
        score: of an evaluation that gives no accuracy: (name, worst, best), the name of the number that is judged and
            its range, e.g. ("bleu", 0, 100), or ("endpoint_error", 20, 0) where less is better. It is judged and shown
            as accuracy from 0 (worst, or worse) to 1 (best), and `verdict_tolerance` is a part of that range.
        resume: the id of such a run that was ended, to go on with after its last complete round; all else as then.
        changed_code: go on though the functions have changed.
        name: of the run in MLflow; default: the factory's.
        tracking_uri, experiment, listener: as for `run`.
        settings: of the method and the verdict: `arms`, `seeds`, `rounds`, `prune_rate`, `scope`, `rewind_iteration`,
            `keep_dense`, `prune_only`, `output_layer`, `verdict_tolerance` and so on, as in `Settings`; `dataset` is
            what your data is called. `init` defaults to "module": the factory's own values.

    Raises:
        InputError: what cannot be: before any training where that can be told, else (a loop that trains a copy, a score
            that is not finite) in the round where it happens; finished rounds are kept.

    Example:
        >>> import torch, lottery_ticket
        >>> x = torch.randn(256, 8)
        >>> y = (x[:, 0] * x[:, 1] > 0).long()
        >>> def make():
        ...     return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
        >>> def train(module, job):
        ...     optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        ...     for batch in torch.randperm(192, generator=job.generator()).split(32):
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
        ...         optimizer.step()
        >>> def evaluate(module):
        ...     return {"correct": module(x[192:]).argmax(1) == y[192:]}
        >>> result = lottery_ticket.find(make, train=train, evaluate=evaluate, rounds=3, prune_rate=0.5)
        >>> result.ticket(round=2).density
        0.25
    """
    clock = Stopwatch()
    for function, what in ((train, "train"), (evaluate, "evaluate")):
        if not callable(function):
            raise InputError(what, function, "cannot be called; allowed: a function")
    if wrong := next((each for each in settings if each in OF_THE_LOOP or each == "model"), None):
        why = "is not for lottery_ticket.find to say: your own functions do"
        raise InputError(wrong, settings[wrong], f"{why}; allowed: settings of the method and the verdict")
    judged, told = check_score(score), listener or whoever_is_here()
    where = f", tracking_uri={public(tracking_uri)!r}" if tracking_uri else ""
    call = f'lottery_ticket.find(…, resume="{{}}"{where})'
    if resume is None:
        chosen = _settings(model_factory, example, settings, tracking_uri)
        plan = _plan(chosen, model_factory, train, evaluate, example, judged, told.warned)
        tags = {"lt.kind": OWN_LOOP, SCORE: str(judged)}
        title = name or f"{chosen.model} {chosen.dataset}"
        with clock.part("tracking"):
            client = connection.connect(tracking_uri, experiment=experiment)
            tracker = Tracker.create(client, experiment, chosen, "", title, None, None, plan.network, tags=tags)
        with resumable(lambda: call.format(tracker.run_id)):
            return carry_out(OnItsWay(plan, lambda: tracker, [], clock, told), _method(plan))
    client = connection.connect(tracking_uri, create=False)
    reading.get_run(client, resume, "resume")
    check_working_folder()
    with locks.writing(client, resume):
        stored = _stored(client, resume, judged)
        beside = {"prune_rate"} if stored.settings.tensor_densities else set()
        own = stored.settings.model_dump(exclude={"model", *OF_THE_LOOP, *beside})
        _must_be(_settings(model_factory, example, own | settings, tracking_uri), stored)
        plan = _plan(stored.settings, model_factory, train, evaluate, example, judged, told.warned, stored.records)
        differences = _differences(plan, stored, client, changed_code)
        with clock.part("tracking"):
            tracker = Tracker.reopen(client, stored, None, None)
        if differences:
            tracker.tag({"lt.changed_model": "; ".join(differences)[:500]})
        with resumable(lambda: call.format(tracker.run_id)):
            return carry_out(OnItsWay(plan, lambda: tracker, tracker.about.records, clock, told), _method(plan))


def _settings(factory: Any, example: Any, given: Mapping[str, Any], tracking_uri: str | None) -> Settings:
    """The settings of a run of a user's own loop; InputError where they cannot be."""
    if given.get("prunable") == "products" and example is None:
        why = "follows what the module is called with; allowed with it: example="
        raise InputError("--prunable", "products", why)
    ours = {"model": label(factory), "dataset": "own", "init": "module"}
    settings = merge(({**ours, "prunable": "layers" if example is None else "products"}, None), (dict(given), None))
    settings = with_densities(settings, tracking_uri)
    check_arms(settings)
    if wrong := next((name for name in settings.arms if arm_named(name).training != "usual"), None):
        why = "is trained otherwise than the others, which a loop of your own knows nothing of"
        raise InputError(
            "--arms", wrong, f"{why}; allowed: {', '.join(n for n in ARMS if ARMS[n].training == 'usual')}"
        )
    check_schedule(settings)
    if isinstance(settings.rewind_iteration, str):
        why = "is in epochs, of which lt knows nothing in a loop of your own; allowed: optimiser steps, as 500it"
        raise InputError("--rewind-iteration", settings.rewind_iteration, why)
    if settings.rewind_steps == "all":
        why = "is for training by lt itself; allowed: remaining, restart"
        raise InputError("--rewind-steps", settings.rewind_steps, why)
    return settings


def _plan(
    settings: Settings,
    factory: Callable[[], nn.Module],
    train: TrainFunction,
    evaluate: EvaluateFunction,
    example: Any,
    score: Score,
    warn: Callable[[str], None],
    kept: Sequence[Record] = (),
) -> OwnLoop:
    """Check what can be wrong, and evaluate the network as it is drawn. InputError if something is."""
    with _of_the_factory():
        network = own_network(factory, settings, example, train, evaluate)
        check_network(settings, network)
        check_shares(settings, network)
        check_draws(settings, network)
    trainer = OwnTrain(train, evaluate, score, warn, kept)
    trainer.rehearse(network, settings.seeds[0])
    _try_scores(settings, network)
    return OwnLoop(settings, network, range(settings.rounds), trainer)


def _try_scores(settings: Settings, network: Network) -> None:
    """InputError where the criterion asks for what only this package's own training knows."""
    seed = settings.seeds[0]
    member = Member("winning", seed, network.dense_mask(), network.draw(seed, "init"))
    scores_by(settings.criterion, evidence(settings, network, None, 0, member, member.weights, member.weights))


@contextmanager
def _of_the_factory() -> Iterator[None]:
    """What is wrong with a model within it is told of `model_factory`."""
    try:
        yield
    except InputError as error:
        if error.option != "--model":
            raise
        raise InputError("model_factory", error.value, error.allowed) from error


def _method(plan: OwnLoop) -> Method:
    """The method itself, which has no data to hand on."""

    def method(after: Checkpoint | None, watch: Watch, trainer: Train) -> Iterator[list[Round]]:
        return find_tickets(plan.settings, plan.network, None, after, watch, trainer)

    return method


def _stored(client: MlflowClient, run_id: str, score: Score) -> Stored:
    """The run to go on with; InputError where it is of another kind, or was judged by another score."""
    stored = reading.read_run(client, run_id, "resume")
    stored.must_be_whole(client.tracking_uri)
    if stored.kind != OWN_LOOP:
        raise InputError("resume", run_id, "is no run of lottery_ticket.find; allowed: lt run --resume, or lt sweep")
    if stored.score != str(score):
        raise InputError("score", str(score), f"is not what this run is judged by; allowed: {stored.score}")
    return stored


def _must_be(settings: Settings, stored: Stored) -> None:
    """InputError where settings are not those that a run was begun with."""
    for name, value in settings:
        if name not in OF_THE_LOOP and value != (had := getattr(stored.settings, name)):
            option = "model_factory" if name == "model" else flag(name)
            allowed = f"allowed: {as_text(had)}, with which run {stored.run_id} was begun"
            raise InputError(option, as_text(value), f"cannot go on with it; {allowed}")


def _differences(plan: OwnLoop, stored: Stored, client: MlflowClient, changed_code: bool) -> list[str]:
    """What of the network and the functions is otherwise than when the run was begun; InputError if it must not be."""
    had = reading.read_inventory(client, client.get_run(stored.run_id))
    if had and had.prunable != plan.network.inventory.prunable:
        now = ", ".join(plan.network.kinds)
        raise InputError("example", now, f"are the prunable tensors now; allowed: {', '.join(had.prunable)}")
    if stored.network is None:
        return []
    now_is = plan.network.fingerprint
    with _of_the_factory():
        Fingerprint(tensors=stored.network.tensors).must_be(now_is, stored.settings.model, overruling=None)
        if not changed_code:
            stored.network.must_be(now_is, stored.settings.model, overruling="changed_code=True")
    return stored.network.differences(now_is)
