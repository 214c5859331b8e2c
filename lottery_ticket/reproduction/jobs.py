"""The runs that a reproduction's claims need, each found in the store or trained, and what comes of the claims."""

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from mlflow import MlflowClient
from mlflow.entities import Run

from lottery_ticket.analysis.sequential import looks
from lottery_ticket.config import Settings, params_then
from lottery_ticket.data.sources import at_hand, load_images
from lottery_ticket.engine.job import in_iterations, iterations_per_round
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.method.arms import across_seeds, check_arms, in_order
from lottery_ticket.method.trajectory import alive
from lottery_ticket.plugins import is_code
from lottery_ticket.record import Record
from lottery_ticket.reproduction.claims import Experiment, Outcome, Share, attribute, decide, read_as
from lottery_ticket.reproduction.definition import Reproduction, Scale
from lottery_ticket.reproduction.facts import DataFacts, StandIns, facts_of
from lottery_ticket.reproduction.records import Folder, Source, but_seeds, sources_of
from lottery_ticket.runs.densities import with_densities
from lottery_ticket.runs.keeper import complete_rounds
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.run import resume
from lottery_ticket.runs.run import run as run_settings
from lottery_ticket.runs.seeds import extended
from lottery_ticket.store import connection, reach, reading
from lottery_ticket.store.layout import ORIGIN
from lottery_ticket.store.limits import may_be
from lottery_ticket.store.reading import Stored


@dataclass
class Job:
    """Trajectories that a reproduction needs: of one setting, each seed of them from wherever it is.

    Attributes:
        settings, preset: what is run; its seeds are those of the first look.
        experiments: the (setup, variant) that need it.
        looks: seeds at each look, where they are added until all is decided; else empty.
        seeds: those that are wanted now.
        runs: runs in the store that differ in their seeds alone, and which seeds they have; finished ones first.
        found: seed → where it was found.
        per_seed: networks × iterations of all rounds of a seed.
    """

    settings: Settings
    preset: str
    experiments: list[tuple[str, str]]
    looks: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    runs: list[tuple[Run, tuple[int, ...]]] = field(default_factory=list)
    found: dict[int, Source] = field(default_factory=dict)
    per_seed: int = 0

    def __post_init__(self) -> None:
        self.seeds = self.seeds or self.settings.seeds

    @cached_property
    def data(self) -> DataFacts:
        """What is known of its data set: from that itself, unless what records tell is put in its place."""
        return facts_of(load_images(self.settings.dataset))

    @property
    def possible(self) -> tuple[int, ...]:
        """All seeds that it may come to want."""
        return extended(self.settings.seeds, self.looks[-1]) if self.looks else self.settings.seeds

    def add_seeds(self) -> bool:
        """Want the seeds of the next look; whether there is one."""
        after = next((each for each in self.looks if each > len(self.seeds)), None)
        if after is not None:
            self.seeds = self.possible[:after]
        return after is not None

    @property
    def missing(self) -> tuple[int, ...]:
        """The seeds that are wanted and not found yet."""
        return tuple(seed for seed in self.seeds if seed not in self.found)

    @property
    def in_store(self) -> list[tuple[Run, tuple[int, ...]]]:
        """The runs that have some of these, and which."""
        missing = set(self.missing)
        return [(run, tuple(sorted(missing & set(seeds)))) for run, seeds in self.runs if missing & set(seeds)]

    @property
    def untrained(self) -> set[int]:
        """The seeds that are to be trained, as far as the runs in the store tell."""
        ended = {seed for run, seeds in self.in_store if run.info.status == "FINISHED" for seed in seeds}
        return set(self.missing) - ended

    @property
    def finished(self) -> bool:
        """Whether nothing is to be trained."""
        return not self.untrained

    @property
    def left(self) -> int:
        """Networks × iterations that are to be trained."""
        return self.per_seed * len(self.untrained)

    @property
    def begun(self) -> bool:
        """Whether some of what is to be trained has begun."""
        return any(run.info.status != "FINISHED" for run, _ in self.in_store)

    @property
    def records(self) -> list[Record]:
        """All rounds that are found, in order of round."""
        found = [record for seed in self.seeds if seed in self.found for record in self.found[seed].rounds]
        return sorted(found, key=lambda record: record.round)


class ReproductionListener(Listener):
    """What a reproduction tells whoever listens; every method may be left out."""

    def planned(self, jobs: Sequence[Job]) -> None:
        """These are needed; told again where seeds are added."""

    def turned_to(self, job: Job) -> None:
        """This one is looked at now: read where it is finished, else trained."""

    def going_on(self, claims: Sequence[str]) -> None:
        """These claims are undecided, and seeds are added."""


@dataclass(frozen=True)
class Reproduced:
    """What a reproduction found.

    Attributes:
        name, scale: which.
        experiments: (setup, variant) → its rounds.
        sources: (setup, variant) → for each of its settings where its seeds come from.
        outcomes: every claim in every variant.
        attributions: of each of the reproduction's, the variants' shares.
        seconds: wall time of this call.
        away: the data sets that were not on this machine, as records tell of them.
    """

    reproduction: Reproduction
    name: str
    scale: Scale
    experiments: dict[tuple[str, str], Experiment]
    sources: dict[tuple[str, str], list[list[Source]]]
    outcomes: list[Outcome]
    attributions: list[list[Share]]
    seconds: float
    client: MlflowClient = field(repr=False)
    away: tuple[DataFacts, ...] = ()


@dataclass(frozen=True)
class Adding:
    """Whether seeds are added.

    Attributes:
        most: until all is decided or there are so many; None: none are. 0: nothing is trained, what is there is judged,
            and what is not there is not measured.
        records: where finished trajectories are read from and written to, beside the store.
        command: what is told there of how they were made.
    """

    most: int | None = None
    records: Folder | None = None
    command: str = ""


def carry_out(
    reproduction: Reproduction,
    name: str,
    scale: Scale = "quick",
    only: Sequence[str] = (),
    *,
    adding: Adding | None = None,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    listener: ReproductionListener | None = None,
) -> Reproduced:
    """Train what the claims need, all or `only` some of them, and judge these.

    A trajectory that is in the MLflow experiment with the same settings on the same data is read, not trained again;
    a run that was interrupted is resumed. Where nothing is trained and a data set is not on this machine, what the
    records of its trajectories tell stands in for it.

    Raises:
        InputError: settings that cannot be run here, or an unreachable store; before training starts.
    """
    begun = time.perf_counter()
    adding, listener = adding or Adding(), listener or ReproductionListener()
    reach.check(tracking_uri, experiment)
    jobs = make_jobs(reproduction, scale, only)
    by_arms = [_by_arms(job, reproduction, scale) if adding.most == 0 else [] for job in jobs]
    reproduction = reproduction.only(only) if only else reproduction
    stand_ins = StandIns(adding.records) if adding.records and adding.most == 0 else None

    def check(job: Job) -> None:
        if stand_ins and not (at_hand(job.settings.dataset) or is_code(job.settings.dataset)):
            _judge_without_data(job, stand_ins, reproduction, tracking_uri)
        else:
            _plan(job, tracking_uri)

    for job in jobs:
        check(job)
    most = adding.records.most_seeds(adding.most) if adding.records else adding.most
    client = connection.connect(tracking_uri, experiment=experiment)
    provide = _Providing(client, tracking_uri, experiment, adding, listener)

    def look(job: Job) -> None:
        if most and most <= len(job.settings.seeds):
            first = f"{' '.join(job.experiments[0])} begins with {len(job.settings.seeds)}"
            raise InputError("--max-seeds", most, f"leaves no seed to add: {first}; allowed: more")
        job.looks = looks(len(job.settings.seeds), most) if most else ()
        if job.seeds:
            find(job, client, experiment)
            provide.read(job)

    for job in jobs:
        look(job)
    for parts in by_arms:
        for part in parts:
            check(part)
            look(part)
    jobs = [each for job, parts in zip(jobs, by_arms, strict=True) for each in _fullest(job, parts)]
    wanted, needed = reproduction.experiments, [job for job in jobs if job.seeds]
    if not needed:
        away = stand_ins is not None and not at_hand(jobs[0].settings.dataset)
        raise _nothing_there(jobs[0], adding.records, away)
    while True:
        listener.planned(needed)
        for job in needed:
            listener.turned_to(job)
            provide(job)
        mine = {pair: [job for job in jobs if pair in job.experiments] for pair in wanted}
        experiments = {pair: experiment_of(mine[pair], reproduction, pair, scale) for pair in wanted}
        outcomes = decide(reproduction, experiments)
        open_claims = [outcome for outcome in outcomes if not outcome.decided]
        asked = {pair for outcome in open_claims for pair in reproduction.of_claim(outcome.claim, outcome.variant)}
        needed = [job for job in jobs if set(job.experiments) & asked and job.add_seeds()] if adding.most != 0 else []
        if not needed:
            break
        listener.going_on([f"{outcome.claim.id} ({outcome.variant})" for outcome in open_claims])
    return Reproduced(
        reproduction,
        name,
        scale,
        experiments,
        {pair: [[job.found[seed] for seed in job.seeds if seed in job.found] for job in mine[pair]] for pair in wanted},
        outcomes,
        [attribute(each, reproduction, experiments) for each in reproduction.attributions],
        time.perf_counter() - begun,
        client,
        tuple(dict.fromkeys(job.data for job in jobs if job.seeds and not job.data.here)),
    )


def _plan(job: Job, tracking_uri: str | None) -> None:
    """Check all that can be wrong with a job before it is trained."""
    try:
        plan = make_plan(with_densities(job.settings, tracking_uri))
    except InputError as error:
        setup, variant = job.experiments[0]
        key = error.option.removeprefix("--").replace("-", "_")
        raise InputError(f"setup {setup}, variant {variant}: {key}", error.value, error.allowed) from None
    job.settings, job.data = plan.settings, facts_of(plan.images)
    job.per_seed = len(plan.settings.arms) * plan.iterations * len(plan.rounds)


def _judge_without_data(job: Job, stand_ins: StandIns, reproduction: Reproduction, tracking_uri: str | None) -> None:
    """Make a job ready that is read and not trained, by what its records tell of the data set.

    Where there are none it wants no seed.
    """
    settings, scales = with_densities(job.settings, tracking_uri), reproduction.scales
    judged = [reproduction.settings(setup, variant, each)[0] for setup, variant in job.experiments for each in scales]
    facts = stand_ins.of(settings, judged)
    if facts is None:
        job.seeds = ()
    else:
        job.settings, job.data = in_iterations(settings, facts.trained_on(settings)), facts


def _nothing_there(job: Job, records: Folder | None, away: bool) -> InputError:
    """Of none of the jobs, of which this is one, there is anything."""
    where = "in the store" if records is None else f"in {records.path}" if away else f"in {records.path} or the store"
    why = f"trains nothing, and there is nothing of {' '.join(job.experiments[0])} {where}"
    store = f"; runs in the store are told by their data set, and {job.settings.dataset} is not on this machine"
    return InputError("--max-seeds", 0, why + store * away)


def make_jobs(reproduction: Reproduction, scale: Scale, only: Sequence[str] = ()) -> list[Job]:
    """The runs that a reproduction needs, each once: experiments that differ in their arms alone share a run.

    With `only`, those that these claims need; they are the same runs as without.
    """
    jobs: list[Job] = []
    for setup, variant in reproduction.experiments:
        for settings in reproduction.settings(setup, variant, scale):
            _check(settings, reproduction, setup, variant)
            job = next((job for job in jobs if but_arms(job.settings) == but_arms(settings)), None)
            if job is None:
                job = Job(settings, reproduction.setups[setup].preset, [])
                jobs.append(job)
            arms = in_order((*job.settings.arms, *settings.arms))
            job.settings = job.settings.model_copy(update={"arms": arms})
            job.experiments.append((setup, variant))
    wanted = (reproduction.only(only) if only else reproduction).experiments
    return [job for job in jobs if set(job.experiments) & set(wanted)]


def _by_arms(job: Job, reproduction: Reproduction, scale: Scale) -> list[Job]:
    """A job's experiments by the arms that they need themselves, where not all need the same."""
    needed: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for pair in job.experiments:
        arms = next(own.arms for own in reproduction.settings(*pair, scale) if but_arms(own) == but_arms(job.settings))
        needed.setdefault(tuple(in_order(arms)), []).append(pair)
    if len(needed) == 1:
        return []
    return [Job(job.settings.model_copy(update={"arms": a}), job.preset, pairs) for a, pairs in needed.items()]


def _fullest(job: Job, parts: Sequence[Job]) -> list[Job]:
    """Of a job that is read, not trained, those parts that are there for more seeds than all of it, and the rest."""
    fuller = [part for part in parts if len(part.seeds) > len(job.seeds)]
    job.experiments = [pair for pair in job.experiments if not any(pair in part.experiments for part in fuller)]
    return [*([job] if job.experiments else []), *fuller]


def _check(settings: Settings, reproduction: Reproduction, setup: str, variant: str) -> None:
    """InputError where the runs could not be read as the variant says."""
    try:
        check_arms(settings)
    except InputError as error:
        raise InputError(f"setup {setup}, variant {variant}: arms", error.value, error.allowed) from None
    if apart := across_seeds(settings.arms, extended(settings.seeds, len(settings.seeds) + 1)):
        why = "takes its masks from another seed, but each seed that is not there yet is trained apart"
        raise InputError(f"setup {setup}, variant {variant}: arms", apart[0], f"{why}; allowed: arms of one seed")
    if reproduction.variants[variant].accuracy == "early-stop" and not settings.validation_size:
        where = f"variant {variant}: accuracy"
        raise InputError(
            where, "early-stop", f"needs validation images, of which setup {setup} has none; allowed: last, best"
        )


def but_arms(settings: Settings) -> dict[str, str]:
    """The settings, as text, that experiments whose runs are the same have in common."""
    return settings.model_copy(update={"arms": ()}).training()


def find(job: Job, client: MlflowClient, experiment: str) -> None:
    """Look in the store for runs with the job's settings, whatever their seeds: finished ones and some to resume."""
    at = client.get_experiment_by_name(experiment)
    if at is None:
        return
    query = f"tags.`lt.kind` = 'run' and params.model = '{job.settings.model}' and params.lr = '{job.settings.lr}'"
    for found in connection.search(client, [at.experiment_id], query):
        from_ticket = any(tag.startswith(ORIGIN) for tag in found.data.tags)
        if from_ticket or not (data := reading.read_data_info(client, found)) or data.digest != job.data.digest:
            continue
        if _same(client, found, job.settings) and (found.info.status == "FINISHED" or reading.begun(client, found)):
            job.runs.append((found, reading.read_settings(client, found).seeds))
    job.runs.sort(key=lambda each: each[0].info.status != "FINISHED")


def _same(client: MlflowClient, run: Run, settings: Settings) -> bool:
    """Whether a run finds what these settings find: by its params where they say all, else by its `settings.json`."""
    wanted, params = but_seeds(settings), params_then(run.data.params)
    told = {name: params.get(name) for name in wanted}
    if told == wanted:
        return True
    if not all(value is None or may_be(value, wanted[name]) for name, value in told.items()):
        return False
    with suppress(LotteryTicketError):  # nothing of it was kept
        return but_seeds(reading.read_settings(client, run)) == wanted
    return False


class _Providing:
    """Gets the seeds that jobs want: from files, from runs in the store, or by training them."""

    def __init__(
        self,
        client: MlflowClient,
        tracking_uri: str | None,
        experiment: str,
        adding: Adding,
        listener: ReproductionListener,
    ) -> None:
        self._client, self._uri, self._experiment = client, tracking_uri, experiment
        self._adding, self._listener = adding, listener

    def read(self, job: Job) -> None:
        """Take what the folder has of a job; without training, what is there is all that is wanted."""
        there = {}
        if self._adding.records:
            there = self._adding.records.find(job.settings, job.data.digest)
        if self._adding.most == 0:
            stored = {seed for run, seeds in job.runs if run.info.status == "FINISHED" for seed in seeds}
            have = [seed for seed in job.possible if seed in there or seed in stored]
            full = max((each for each in job.looks if set(job.possible[:each]) <= set(have)), default=len(have))
            job.seeds = tuple(have[:full])
        job.found = {seed: source for seed, source in there.items() if seed in job.possible}

    def __call__(self, job: Job) -> None:
        """What a job still lacks of what it wants; all of it in the folder then."""
        for run, _ in job.in_store:
            if run.info.status == "FINISHED" and (seeds := _shared(job, run)):
                self._take(job, self._read_whole(run.info.run_id, seeds), seeds)
        for run, _ in job.in_store:
            if job.missing and (seeds := _shared(job, run)):
                self._take(job, self._resume(job, run), seeds)
        if job.missing:
            settings = job.settings.model_copy(update={"seeds": job.missing})
            trained = run_settings(
                settings,
                preset=job.preset,
                tracking_uri=self._uri,
                experiment=self._experiment,
                listener=self._listener,
            )
            self._take(job, trained.stored, settings.seeds)
        if self._adding.records:
            for seed in job.seeds:
                self._adding.records.add(job.found[seed])

    def _take(self, job: Job, stored: Stored, seeds: Sequence[int]) -> None:
        settings = job.settings.model_copy(update={"seeds": tuple(seeds)})
        tags = self._client.get_run(stored.run_id).data.tags
        job.found |= sources_of(
            settings,
            job.data.digest,
            self._adding.command,
            tags,
            stored.run_id,
            stored.records,
            job.data.train_size,
        )

    def _read_whole(self, run_id: str, seeds: tuple[int, ...]) -> Stored:
        """A finished run, of which all rounds of these seeds are there."""
        stored = reading.read_run(self._client, run_id)
        stored.must_be_whole(self._client.tracking_uri)
        settings = stored.settings.model_copy(update={"seeds": seeds})
        last, _ = complete_rounds(settings, [record for record in stored.records if record.seed in seeds])
        if not last or (last[0].round + 1 < settings.rounds and alive(settings, last)):
            raise LotteryTicketError(
                f"run {run_id} is finished, but the store lacks rounds of it: delete it, and it is trained again"
            )
        return stored

    def _resume(self, job: Job, run: Run) -> Stored:
        """A run that was begun, trained to its end."""
        run_id, host = run.info.run_id, _host(run)
        if host not in ("", platform.node()):
            raise LotteryTicketError(
                f"run {run_id} is being trained on {host}: wait until that ends, or, if it was killed, "
                f"go on with lt run --resume {run_id}"
            )
        return resume(run_id, model=job.settings.model, tracking_uri=self._uri, listener=self._listener).stored


def _shared(job: Job, run: Run) -> tuple[int, ...]:
    """The seeds of a run that a job lacks now."""
    return next((seeds for each, seeds in job.in_store if each is run), ())


def _host(run: Run) -> str:
    """The machine that trains a run, as far as MLflow knows; empty where none does."""
    return run.data.tags.get("lt.host", "") if run.info.status == "RUNNING" else ""


def experiment_of(pieces: Sequence[Job], reproduction: Reproduction, pair: tuple[str, str], scale: Scale) -> Experiment:
    """What its jobs found, with the tolerance of the reproduction's own settings, whatever those of the runs were.

    Without rounds where they want no seed, as where nothing is trained and nothing is there.
    """
    setup, variant = pair
    pieces = [piece for piece in pieces if piece.seeds]
    if not pieces:
        return Experiment([], 0.0)
    first = reproduction.settings(setup, variant, scale)[0]
    full = reproduction.settings(setup, variant, "report")[0]
    images = pieces[0].data.trained_on(first)
    trained = first.rounds * iterations_per_round(first, images)
    part = trained / (full.rounds * iterations_per_round(full, images))
    records = pieces[0].records if len(pieces) == 1 else _joined(pieces)
    accuracies = read_as(records, reproduction.variants[variant])
    return Experiment(accuracies, part, first.verdict_tolerance, pieces[0].looks)


def _joined(pieces: Sequence[Job]) -> list[Record]:
    """One curve of several settings: the dense network of the first, then the last round of each, densest first."""
    lasts = [[record for record in piece.records if record.round == piece.settings.rounds - 1] for piece in pieces]
    lasts = sorted((each for each in lasts if each), key=lambda each: -each[0].density)
    dense = [record for record in pieces[0].records if record.round == 0]
    return [*dense, *(record.model_copy(update={"round": r}) for r, each in enumerate(lasts, 1) for record in each)]
