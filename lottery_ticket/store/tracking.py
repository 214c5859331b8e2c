"""MLflow: every finished round as metrics and artifacts of its trajectory's run."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from lottery_ticket.address import public, tracking_uri
from lottery_ticket.analysis.comparable import comparable, mean_left, trunk_of
from lottery_ticket.analysis.verdict import Verdict
from lottery_ticket.config import OF_THE_LOOP, Settings
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.method.schedule import pruning_of
from lottery_ticket.method.trajectory import Round
from lottery_ticket.models.network import Network
from lottery_ticket.record import Record
from lottery_ticket.store import connection, locks
from lottery_ticket.store.chart_view import BY_COMPRESSION, compression_step
from lottery_ticket.store.courier import Courier, patience
from lottery_ticket.store.delivery import Delivery, Gone
from lottery_ticket.store.layout import DATA, INVENTORY, LOOKS, NETWORK, OWN_LOOP, SETTINGS, place
from lottery_ticket.store.limits import NAME, PARAM, cut
from lottery_ticket.store.machine import machine_tags
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.store.reading import Stored, read_record
from lottery_ticket.store.rounds import LEFT, MULTIPLY_ADDS, dataset_input, metrics_of, write
from lottery_ticket.store.seal import seal
from lottery_ticket.store.summary import rounds_tags, verdict_tags


class Tracker:
    """Writes one `lt run` or `lt train`: a parent run, a nested child per trajectory, each round as it is finished.

    Finished rounds go to a local folder first (`Outbox`) and from there to the store, beside the training. Where the
    store does not take them they wait there; training goes on.

    Attributes:
        warn: told once when the store stops taking rounds, when it takes them again, and of what it will never take.
        refused: that, with the reasons.
    """

    def __init__(self, client: MlflowClient, about: Stored, images: Images | None, info: DataInfo | None):
        self.client = client
        self.about = about
        self._tags = machine_tags(about.preset) | about.origin
        self._images = dataset_input(images, info) if images and info else None
        self.warn: Callable[[str], None] = lambda message: None
        self._begun = {(record.arm, record.seed) for record in about.records}
        self._courier = Courier(client.tracking_uri, lambda: self.outbox, self._send, self._warn)
        self._held = ExitStack()
        self._patience = patience()
        self._delivery = Delivery(client, self._set_aside)
        self._delivered: set[Path] = set()
        self.refused: list[str] = []

    @classmethod
    def create(
        cls,
        client: MlflowClient,
        experiment: str,
        settings: Settings,
        preset: str,
        name: str,
        images: Images | None,
        info: DataInfo | None,
        network: Network,
        origin: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        made: Callable[[str], None] | None = None,
        looks: tuple[int, ...] = (),
    ) -> "Tracker":
        """A new parent run with its children, their params, tags and data set, and what is told of its network.

        `origin` are the tags that say which ticket is trained, where the run starts from one; `tags` are further ones
        of the parent, as a trial of a study has them. Without images nothing is told of the data. `made` is
        told the parent's id once the run can be reopened. `looks` are as in `Stored`.
        """
        experiment_id = connection.ensure_experiment(client, experiment)
        tags, name = {"lt.kind": "run"} | network.inventory.as_tags() | (tags or {}), cut(name, NAME)
        tags |= {LOOKS: ",".join(map(str, looks))} if looks else {}
        kind, start = tags["lt.kind"], origin or {}
        about = Stored("", name, experiment_id, settings, preset, {}, [], info, start, kind, looks=looks)
        tracker = cls(client, about, images, info)
        tracker.about = replace(about, run_id=tracker._start(name, tags))
        with tracker.ending_well():
            tracker._hold()
            client.log_text(tracker.run_id, seal(network.inventory.model_dump_json(indent=2)), INVENTORY)
            client.log_text(tracker.run_id, seal(network.fingerprint.model_dump_json(indent=2)), NETWORK)
            if info:
                client.log_text(tracker.run_id, seal(info.model_dump_json(indent=2)), DATA)
            tracker._keep_settings()
            if made:
                made(tracker.run_id)
            tracker._start_children()
        return tracker

    @classmethod
    def reopen(
        cls,
        client: MlflowClient,
        stored: Stored,
        images: Images | None,
        info: DataInfo | None,
        seeds: tuple[int, ...] | None = None,
    ) -> "Tracker":
        """Go on with a run: children that it was ended before making are made, rounds that wait are delivered.

        With `seeds` these are its seeds from now on, those that it has among them.
        """
        tracker = cls(client, stored, images, info)
        tracker._hold()
        if seeds and seeds != stored.settings.seeds:
            tracker.about = replace(stored, settings=stored.settings.model_copy(update={"seeds": seeds}))
            tracker._keep_settings()
        tracker._start_children()
        tracker.wait()
        tracker._begun |= {(record.arm, record.seed) for record in stored.records}  # those that waited among them
        tracker.end("RUNNING")
        return tracker

    def _warn(self, message: str) -> None:
        self.warn(message)

    @property
    def outbox(self) -> Outbox:
        """Where the run's rounds wait for the store."""
        return Outbox(self.client.tracking_uri, self.run_id)

    @property
    def run_id(self) -> str:
        """The id of the parent run."""
        return self.about.run_id

    @property
    def settings(self) -> Settings:
        """Those of the run."""
        return self.about.settings

    @property
    def children(self) -> dict[tuple[str, int], str]:
        """(arm, seed) → the id of the trajectory's run."""
        return self.about.children

    def tag(self, tags: Mapping[str, object]) -> None:
        """Set tags of the parent run."""
        self._delivery.log(self.run_id, "the run", tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_rounds(self, rounds: Sequence[Round]) -> None:
        """Keep one round of every trajectory: artifacts, `round.json`, then metrics and tags.

        Sent beside the training of the next round. LotteryTicketError where it cannot be written here.
        """
        try:
            with self.outbox.putting(rounds[0].record.round) as folder:
                for done in rounds:  # here: torch's operations in a second thread would slow down the training's
                    key = done.record.arm, done.record.seed
                    where = folder / "{}-seed{}".format(*key)
                    drawn = self.about.kind == OWN_LOOP
                    judged = done.record.round == 0 and pruning_of(self.settings) == "one-shot"
                    precision = "float32" if judged else self.settings.checkpoint_precision
                    write(done, precision, key not in self._begun, drawn, where)
        except OSError as error:
            raise LotteryTicketError(f"a finished round cannot be kept in {self.outbox.folder}: {error}") from error
        self._begun |= {(done.record.arm, done.record.seed) for done in rounds}
        self._courier.call()

    def wait(self) -> None:
        """Until the store has every round handed over; LotteryTicketError if it refuses them too long."""
        with self.needed():
            self._courier.wait(self._patience)
        arms, seeds = self.settings.arms, self.settings.seeds
        self.about.records.sort(key=lambda each: (each.round, arms.index(each.arm), seeds.index(each.seed)))

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Within it nothing can be done without the store; LotteryTicketError that says where all is kept."""
        try:
            yield
        except LotteryTicketError:
            raise
        except Exception as error:
            uri = self.client.tracking_uri
            option = "" if uri == tracking_uri() else f" --tracking-uri {public(uri)}"
            raise LotteryTicketError(
                f"{public(uri)} does not take run {self.run_id} ({one_line(error)}); what it has not got is kept in "
                f"{self.outbox.folder}: deliver it with lt sync{option}"
            ) from error

    def repeat_metrics(self, last: Sequence[Record], partial: Sequence[Record]) -> None:
        """Log the metrics of the last complete round and of what is kept of the next once more, and those that lack.

        In case the process ended before it could, or the run was deleted then and restored. Changes nothing where they
        are there: the time stamps are the records'.
        """
        for record in [*last, *partial]:
            self._log_metrics(record)
        if last:
            self._log_lacking(last[0].round)
            self._log_means(last)
            self._summarise(0)

    def _log_lacking(self, before: int) -> None:
        """The metrics of rounds before this one that the store does not have."""

        def rounds(run_id: str, metric: str) -> set[int]:
            return {point.step for point in self.client.get_metric_history(run_id, metric)}

        earlier = [record for record in self.about.records if record.round < before]
        there = {key: rounds(run_id, "test_accuracy") for key, run_id in self.children.items() if earlier}
        for record in earlier:
            if record.round not in there[record.arm, record.seed]:
                self._log_metrics(record)
        for r in {record.round for record in earlier} - (rounds(self.run_id, LEFT) if earlier else set()):
            self._log_means([record for record in earlier if record.round == r])

    def _send(self, folder: Path) -> None:
        """Everything of a round onto its runs; nothing changes where it is there already."""
        r = int(folder.name)
        for arm, seed in [(arm, seed) for arm in self.settings.arms for seed in self.settings.seeds]:
            work = folder / f"{arm}-seed{seed}"
            if work.is_dir():
                try:
                    record = read_record(work / "last" / place(r) / "round.json")
                except LotteryTicketError as error:
                    raise LotteryTicketError(
                        f"{work}: {error}; delete {folder} and go on with lt run --resume {self.run_id}, which trains "
                        "the round again"
                    ) from None
                if work not in self._delivered:
                    self._send_trajectory(work, record)
                    self._delivered.add(work)
                if (arm, seed, r) not in {(each.arm, each.seed, each.round) for each in self.about.records}:
                    self.about.records.append(record)
        self._log_means([record for record in self.about.records if record.round == r])
        self._summarise(r)

    def _send_trajectory(self, work: Path, record: Record) -> None:
        """A round of one trajectory onto its run; set aside where that was deleted."""
        name, run_id = f"{record.arm}-seed{record.seed}", self.children[record.arm, record.seed]
        try:
            for part in ("first", "last"):
                self._delivery.log_artifacts(run_id, name, work / part)
            self._log_metrics(record)
        except Gone as gone:
            self._set_aside(f"rounds of {name}", str(gone), None if gone.restorable else work)

    def _set_aside(self, what: str, why: str, files: Path | None) -> None:
        if self.outbox.set_aside(what, why, files):
            self.refused.append(f"{what}: {why}")
            self.warn(f"{public(self.client.tracking_uri)} will not take {what} ({why}); all else is delivered")

    def _summarise(self, since: int) -> None:
        self.tag(rounds_tags(self.children, self.about.records, since))

    def _log_metrics(self, record: Record) -> None:
        name, run_id = f"{record.arm}-seed{record.seed}", self.children[record.arm, record.seed]
        tags = [RunTag("lt.diverged_round", str(record.round))] if record.diverged else []
        self._delivery.log(run_id, name, metrics_of(record), tags)

    def _log_means(self, records: Sequence[Record]) -> None:
        """Of a round: means over the seeds that can be compared, and how many these are."""
        at, r = max(record.finished_at for record in records), records[0].round
        counted = [record for record in comparable(self.about.records, self.about.controls) if record.round == r]
        trunk = trunk_of(counted or records)
        metrics = [
            Metric(LEFT, mean_left(trunk), at, r),
            Metric("seeds", float(len({each.seed for each in counted})), at, r),
        ]
        costs = [record.cost for record in trunk if record.cost]
        if len(costs) == len(trunk):
            sparse = math.fsum(cost.an_image.sparse for cost in costs) / len(costs)
            metrics.append(Metric(f"{MULTIPLY_ADDS}/inference_sparse", sparse, at, r))
        for arm in dict.fromkeys(record.arm for record in counted):
            mine = [record for record in counted if record.arm == arm]
            mean = math.fsum(record.test_accuracy for record in mine) / len(mine)
            metrics.append(Metric(f"test_accuracy/{arm}", mean, at, r))
            metrics.append(Metric(f"{BY_COMPRESSION}/{arm}", mean, at, compression_step(mean_left(mine))))
        self._delivery.log(self.run_id, "the run", metrics)

    def finish(self, verdict: Verdict | None, figures: Sequence[Path], metrics: Mapping[str, float], at: int) -> None:
        """Verdict, figures and final metrics (time stamp `at`, in ms) onto the parent; all runs finished."""
        self.wait()
        with self.needed():
            for figure in figures:
                self.client.log_artifact(self.run_id, str(figure), "figures")
            if verdict is not None:
                self.client.log_text(self.run_id, seal(verdict.to_json()), "verdict.json")
                self.tag(verdict_tags(verdict))
            self._delivery.log(self.run_id, "the run", [Metric(key, value, at, 0) for key, value in metrics.items()])
            if refused := self.outbox.refused:
                self.client.log_dict(self.run_id, refused, "refused.json")
            self.end("FINISHED")
        self.outbox.remove()
        self._held.close()

    def end(self, status: str) -> None:
        """Set the status (RUNNING, FINISHED, FAILED, KILLED) of the parent and its children, but for deleted ones."""
        for (arm, seed), run_id in self.children.items():
            with suppress(Gone):
                self._delivery.end(run_id, f"{arm}-seed{seed}", status)
        self._delivery.end(self.run_id, "the run", status)

    @contextmanager
    def ending_well(self) -> Iterator[None]:
        """Within it, the runs do not stay RUNNING when something stops them."""
        try:
            yield
        except BaseException as error:
            with suppress(Exception):  # the store itself may be what failed
                self.stop("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise

    def stop(self, status: str) -> None:
        """End before its time; what is not delivered at once waits."""
        self._courier.leave(within=2.0)
        with self._held:
            self.end(status)

    def _hold(self) -> None:
        """No other process writes the run until this one ends with it."""
        self._held.enter_context(locks.writing(self.client, self.run_id))

    def _keep_settings(self) -> None:
        self.client.log_text(self.run_id, seal(self.settings.model_dump_json(indent=2)), SETTINGS)

    def _start_children(self) -> None:
        for arm in self.settings.arms:
            for seed in self.settings.seeds:
                if (arm, seed) not in self.children:
                    tags = {"lt.kind": "trajectory", "lt.arm": arm, "lt.seed": str(seed)}
                    tags["mlflow.parentRunId"] = self.run_id
                    self.children[arm, seed] = self._start(f"{arm}-seed{seed}", tags)

    def _start(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.about.experiment_id, run_name=name, tags={**self._tags, **tags})
        told = self.settings.as_params()
        if self.about.kind == OWN_LOOP:
            told = {key: value for key, value in told.items() if key not in OF_THE_LOOP}
        params = [Param(key, cut(value, PARAM)) for key, value in told.items()]
        self.client.log_batch(run.info.run_id, params=params)
        if self._images:
            self._log_images(run.info.run_id, self._images)
        return run.info.run_id

    def _log_images(self, run_id: str, images: DatasetInput) -> None:
        """The data set as the run's input; tried again where another process logged the same one at the same time."""
        for pause in (0.2, 1.0, 3.0):
            try:
                return self.client.log_inputs(run_id, datasets=[images])
            except MlflowException:  # MLflow looks whether the data set is there, then makes it
                time.sleep(pause)
        return self.client.log_inputs(run_id, datasets=[images])
