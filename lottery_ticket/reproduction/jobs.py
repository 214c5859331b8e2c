"""The runs that a reproduction's claims need, each found in the store or trained, and what comes of the claims."""

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run

from lottery_ticket.config import Settings, params_then
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.job import iterations_per_round
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.method.arms import check_arms, in_order
from lottery_ticket.method.trajectory import alive
from lottery_ticket.record import Record
from lottery_ticket.reproduction.claims import Experiment, Outcome, Share, attribute, decide, read_as, steady_seconds
from lottery_ticket.reproduction.definition import Reproduction, Scale
from lottery_ticket.runs.keeper import complete_rounds
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.run import resume, run
from lottery_ticket.store import connection, reach, reading
from lottery_ticket.store.layout import ORIGIN
from lottery_ticket.store.limits import may_be
from lottery_ticket.store.reading import Stored


@dataclass
class Job:
    """One run that a reproduction needs.

    Attributes:
        settings, preset: what is run.
        experiments: the (setup, variant) that need it.
        run_id: of the run in the store with these settings, if there is one.
        finished: whether that is complete.
        host: the machine that trains it, by its status in MLflow.
        left: networks × iterations that are to be trained.
    """

    settings: Settings
    preset: str
    experiments: list[tuple[str, str]]
    run_id: str | None = None
    finished: bool = False
    host: str = ""
    left: int = 0


class ReproductionListener(Listener):
    """What a reproduction tells whoever listens; every method may be left out."""

    def planned(self, jobs: Sequence[Job]) -> None:
        """These runs are needed."""

    def turned_to(self, job: Job) -> None:
        """This one is looked at now: read where it is finished, else trained."""


@dataclass(frozen=True)
class Reproduced:
    """What a reproduction found.

    Attributes:
        name, scale: which.
        experiments: (setup, variant) → its rounds.
        runs: (setup, variant) → its runs in MLflow.
        outcomes: every claim in every variant.
        attributions: of each of the reproduction's, the variants' shares.
        seconds: wall time of this call.
    """

    reproduction: Reproduction
    name: str
    scale: Scale
    experiments: dict[tuple[str, str], Experiment]
    runs: dict[tuple[str, str], list[Run]]
    outcomes: list[Outcome]
    attributions: list[list[Share]]
    seconds: float
    client: MlflowClient = field(repr=False)


def carry_out(
    reproduction: Reproduction,
    name: str,
    scale: Scale = "quick",
    only: Sequence[str] = (),
    *,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    listener: ReproductionListener | None = None,
) -> Reproduced:
    """Train what the claims need, all or `only` some of them, and judge these.

    A run that is in the MLflow experiment with the same settings on the same data is read, not trained again; one
    that was interrupted is resumed.

    Raises:
        InputError: settings that cannot be run here, or an unreachable store; before training starts.
    """
    begun = time.perf_counter()
    listener = listener or ReproductionListener()
    reach.check(tracking_uri, experiment)
    jobs = make_jobs(reproduction, scale, only)
    reproduction = reproduction.only(only) if only else reproduction
    for job in jobs:
        try:
            plan = make_plan(job.settings)
        except InputError as error:
            setup, variant = job.experiments[0]
            key = error.option.removeprefix("--").replace("-", "_")
            raise InputError(f"setup {setup}, variant {variant}: {key}", error.value, error.allowed) from None
        job.settings = plan.settings
        job.left = plan.members * plan.iterations * len(plan.rounds)
    client = connection.connect(tracking_uri, experiment=experiment)
    for job in jobs:
        find(job, client, experiment)
    listener.planned(jobs)
    stored: dict[tuple[str, str], list[Stored]] = {pair: [] for pair in reproduction.experiments}
    for job in jobs:
        listener.turned_to(job)
        found = _run_of(job, tracking_uri, experiment, client, listener)
        for pair in job.experiments:
            if pair in stored:
                stored[pair].append(found)
    experiments = {pair: experiment_of(runs, reproduction, pair, scale) for pair, runs in stored.items()}
    return Reproduced(
        reproduction,
        name,
        scale,
        experiments,
        {pair: [client.get_run(each.run_id) for each in runs] for pair, runs in stored.items()},
        decide(reproduction, experiments),
        [attribute(each, reproduction, experiments) for each in reproduction.attributions],
        time.perf_counter() - begun,
        client,
    )


def make_jobs(reproduction: Reproduction, scale: Scale, only: Sequence[str] = ()) -> list[Job]:
    """The runs that a reproduction needs, each once: experiments that differ in their arms alone share a run.

    With `only`, those that these claims need; they are the same runs as without.
    """
    jobs: list[Job] = []
    for setup, variant in reproduction.experiments:
        for settings in reproduction.settings(setup, variant, scale):
            _check(settings, reproduction, setup, variant)
            job = next((job for job in jobs if _but_arms(job.settings) == _but_arms(settings)), None)
            if job is None:
                job = Job(settings, reproduction.setups[setup].preset, [])
                jobs.append(job)
            arms = in_order((*job.settings.arms, *settings.arms))
            job.settings = job.settings.model_copy(update={"arms": arms})
            job.experiments.append((setup, variant))
    wanted = (reproduction.only(only) if only else reproduction).experiments
    return [job for job in jobs if set(job.experiments) & set(wanted)]


def _check(settings: Settings, reproduction: Reproduction, setup: str, variant: str) -> None:
    """InputError where the runs could not be read as the variant says."""
    try:
        check_arms(settings)
    except InputError as error:
        raise InputError(f"setup {setup}, variant {variant}: arms", error.value, error.allowed) from None
    if reproduction.variants[variant].accuracy == "early-stop" and not settings.validation_size:
        where = f"variant {variant}: accuracy"
        raise InputError(
            where, "early-stop", f"needs validation images, of which setup {setup} has none; allowed: last, best"
        )


def _but_arms(settings: Settings) -> dict[str, str]:
    return settings.model_copy(update={"arms": ()}).training()


def find(job: Job, client: MlflowClient, experiment: str) -> None:
    """Look for the job's run in the store: a finished one if there is, else one that can be resumed."""
    at = client.get_experiment_by_name(experiment)
    if at is None:
        return
    digest = load_images(job.settings.dataset).digest
    query = f"tags.`lt.kind` = 'run' and params.model = '{job.settings.model}' and params.lr = '{job.settings.lr}'"
    for found in connection.search(client, [at.experiment_id], query):
        from_ticket = any(tag.startswith(ORIGIN) for tag in found.data.tags)
        if from_ticket or not (data := reading.read_data_info(client, found)) or data.digest != digest:
            continue
        if not _same(client, found, job.settings):
            continue
        if found.info.status == "FINISHED":
            job.run_id, job.finished = found.info.run_id, True
            return
        if job.run_id is None and reading.begun(client, found):
            job.run_id, job.host = found.info.run_id, _host(found)


def _same(client: MlflowClient, run: Run, settings: Settings) -> bool:
    """Whether a run finds what these settings find: by its params where they say all, else by its `settings.json`."""
    wanted, params = settings.training(), params_then(run.data.params)
    told = {name: params.get(name) for name in wanted}
    if told == wanted:
        return True
    if not all(value is None or may_be(value, wanted[name]) for name, value in told.items()):
        return False
    with suppress(LotteryTicketError):  # nothing of it was kept
        return reading.read_settings(client, run).training() == wanted
    return False


def _host(run: Run) -> str:
    """The machine that trains a run, as far as MLflow knows; empty where none does."""
    return run.data.tags.get("lt.host", "") if run.info.status == "RUNNING" else ""


def _run_of(
    job: Job, tracking_uri: str | None, experiment: str, client: MlflowClient, listener: ReproductionListener
) -> Stored:
    """The job's run, finished."""
    if job.finished and job.run_id:
        stored = reading.read_run(client, job.run_id)
        stored.must_be_whole(client.tracking_uri)
        last, _ = complete_rounds(stored.settings, stored.records)
        if not last or (last[0].round + 1 < stored.settings.rounds and alive(stored.settings, last)):
            raise LotteryTicketError(
                f"run {job.run_id} is finished, but the store lacks rounds of it: delete it, and it is trained again"
            )
        return stored
    if job.run_id:
        if job.host not in ("", platform.node()):
            raise LotteryTicketError(
                f"run {job.run_id} is being trained on {job.host}: wait until that ends, or, if it was killed, "
                f"go on with lt run --resume {job.run_id}"
            )
        return resume(job.run_id, model=job.settings.model, tracking_uri=tracking_uri, listener=listener).stored
    return run(
        job.settings, preset=job.preset, tracking_uri=tracking_uri, experiment=experiment, listener=listener
    ).stored


def experiment_of(
    runs: Sequence[Stored], reproduction: Reproduction, pair: tuple[str, str], scale: Scale
) -> Experiment:
    """What its runs found, with the tolerance of the reproduction's own settings, whatever those of the runs were."""
    setup, variant = pair
    first = reproduction.settings(setup, variant, scale)[0]
    full = reproduction.settings(setup, variant, "report")[0]
    images = len(load_images(first.dataset).y_train) - first.validation_size
    trained = first.rounds * iterations_per_round(first, images)
    part = trained / (full.rounds * iterations_per_round(full, images))
    records = runs[0].records if len(runs) == 1 else _joined(runs)
    trajectories = [[r for r in run.records if (r.arm, r.seed) == key] for run in runs for key in run.children]
    return Experiment(
        read_as(records, reproduction.variants[variant]),
        part,
        sum(record.seconds for rounds in trajectories for record in rounds),
        sum(map(steady_seconds, trajectories)),
        len(trajectories),
        first.verdict_tolerance,
    )


def _joined(runs: Sequence[Stored]) -> list[Record]:
    """One curve of several runs: the dense network of the first, then the last round of each, densest first."""
    lasts = [[record for record in run.records if record.round == run.settings.rounds - 1] for run in runs]
    lasts = sorted((each for each in lasts if each), key=lambda each: -each[0].density)
    dense = [record for record in runs[0].records if record.round == 0]
    return [*dense, *(record.model_copy(update={"round": r}) for r, each in enumerate(lasts, 1) for record in each)]
