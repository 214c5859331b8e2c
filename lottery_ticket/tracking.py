"""MLflow: every finished round as metrics and artifacts of its trajectory's run."""

import json
import math
import os
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

import lottery_ticket
from lottery_ticket.config import Settings
from lottery_ticket.data import DataInfo, Images
from lottery_ticket.files import save_mask, save_weights
from lottery_ticket.reading import REWOUND, Stored
from lottery_ticket.record import Record
from lottery_ticket.store import ensure_experiment
from lottery_ticket.summary import rounds_tags, verdict_tags
from lottery_ticket.trajectory import Round
from lottery_ticket.verdict import Verdict
from lottery_ticket.view import BY_WEIGHTS, weights_step


class Tracker:
    """Writes one `lt run` or `lt train`: a parent run, a nested child per trajectory, each round as it is finished."""

    def __init__(self, client: MlflowClient, about: Stored, images: Images, info: DataInfo):
        self.client = client
        self.about = about
        self.seconds = 0.0
        """Time the run has waited for tracking so far."""
        self._tags = _common_tags(about.preset) | about.origin
        self._images = _dataset(images, info)
        self._worker = ThreadPoolExecutor(1, "tracking")
        self._pending: Future[None] | None = None

    @classmethod
    def create(
        cls,
        client: MlflowClient,
        experiment: str,
        settings: Settings,
        preset: str,
        name: str,
        images: Images,
        info: DataInfo,
        origin: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        made: Callable[[str], None] | None = None,
    ) -> "Tracker":
        """A new parent run with its children, their params, tags and data set.

        `origin` are the tags that say which ticket is trained, where the run starts from one; `tags` are further ones
        of the parent, as a trial of a study has them. `made` is told the parent's id once the run can be reopened.
        """
        begun = time.perf_counter()
        experiment_id = ensure_experiment(client, experiment)
        about = Stored("", name, experiment_id, settings, preset, {}, [], info, origin or {})
        tracker = cls(client, about, images, info)
        tracker.about = replace(about, run_id=tracker._start(name, {"lt.kind": "run"} | (tags or {})))
        client.log_text(tracker.run_id, settings.model_dump_json(indent=2), "settings.json")
        if made:
            made(tracker.run_id)
        tracker._start_children()
        tracker.seconds = time.perf_counter() - begun
        return tracker

    @classmethod
    def reopen(cls, client: MlflowClient, stored: Stored, images: Images, info: DataInfo) -> "Tracker":
        """Go on with a run; children that it was ended before making are made."""
        tracker = cls(client, stored, images, info)
        tracker._start_children()
        tracker.end("RUNNING")
        return tracker

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
        made = [RunTag(key, str(value)) for key, value in tags.items()]
        for first in range(0, len(made), 100):  # the most that one batch takes
            self.client.log_batch(self.run_id, tags=made[first : first + 100])

    def log_rounds(self, rounds: Sequence[Round], kept: Sequence[Record] = ()) -> None:
        """Keep one round of every trajectory: artifacts, `round.json`, then metrics and tags; `kept` are there already.

        Done beside the training of the next round; an error in it is raised by the next call, or by `wait`.
        """
        self.wait()
        begun = time.perf_counter()
        # Written here, sent there: torch's operations in a second thread would slow down those of the training.
        known = {(record.arm, record.seed) for record in self.about.records}
        precision = self.settings.checkpoint_precision
        written = [
            (done.record, _write(done, precision, (done.record.arm, done.record.seed) not in known)) for done in rounds
        ]
        self._pending = self._worker.submit(self._send, written, [*kept, *(done.record for done in rounds)])
        self.seconds += time.perf_counter() - begun

    def wait(self) -> None:
        """Until every round handed over is kept."""
        begun = time.perf_counter()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
        self.seconds += time.perf_counter() - begun

    def repeat_metrics(self, last: Sequence[Record], partial: Sequence[Record]) -> None:
        """Log the metrics of the last complete round and of what is kept of the next once more.

        In case the process ended before it could. Changes nothing where they are there: the time stamps are the
        records'.
        """
        for record in [*last, *partial]:
            self._log_metrics(record)
        if last:
            self._log_means(last)
            self._summarise(0)

    def _send(self, written: Sequence[tuple[Record, TemporaryDirectory]], records: Sequence[Record]) -> None:
        for record, folder in written:
            run_id, work = self.children[record.arm, record.seed], Path(folder.name)
            self.client.log_artifacts(run_id, str(work / "first"))
            self.client.log_artifacts(run_id, str(work / "last"))
            folder.cleanup()
            self._log_metrics(record)
        self._log_means(records)
        known = {(record.arm, record.seed, record.round) for record in self.about.records}
        self.about.records.extend(r for r in records if (r.arm, r.seed, r.round) not in known)
        self._summarise(records[0].round)

    def _summarise(self, since: int) -> None:
        self.tag(rounds_tags(self.children, self.about.records, since))

    def _log_metrics(self, record: Record) -> None:
        run_id, metrics = self.children[record.arm, record.seed], metrics_of(record)
        tags = [RunTag("lt.diverged_round", str(record.round))] if record.diverged else []
        for first in range(0, len(metrics), 1000):  # the most that one batch takes
            self.client.log_batch(run_id, metrics=metrics[first : first + 1000], tags=tags if not first else [])

    def _log_means(self, records: Sequence[Record]) -> None:
        accuracies = defaultdict(list)
        for record in records:
            accuracies[record.arm].append(record.test_accuracy)
        trunk = [record for record in records if record.arm == "winning"] or records
        left = math.fsum(record.weights_remaining_pct for record in trunk) / len(trunk)
        at, r = max(record.finished_at for record in records), records[0].round
        metrics = [Metric("weights_remaining_pct", left, at, r)]
        for arm, each in accuracies.items():
            mean = math.fsum(each) / len(each)
            metrics.append(Metric(f"test_accuracy/{arm}", mean, at, r))
            metrics.append(Metric(f"{BY_WEIGHTS}/{arm}", mean, at, weights_step(left)))
        self.client.log_batch(self.run_id, metrics=metrics)

    def finish(self, verdict: Verdict | None, figures: Sequence[Path], metrics: Mapping[str, float], at: int) -> None:
        """Verdict, figures and final metrics (time stamp `at`, in ms) onto the parent; all runs finished."""
        self.wait()
        begun = time.perf_counter()
        for figure in figures:
            self.client.log_artifact(self.run_id, str(figure), "figures")
        if verdict is not None:
            self.client.log_text(self.run_id, verdict.to_json(), "verdict.json")
            self.tag(verdict_tags(verdict))
        self.client.log_batch(self.run_id, metrics=[Metric(key, value, at, 0) for key, value in metrics.items()])
        self.end("FINISHED")
        self.seconds += time.perf_counter() - begun

    def end(self, status: str) -> None:
        """Set the status (RUNNING, FINISHED, FAILED, KILLED) of the parent and its children, all rounds kept."""
        self.wait()
        for run_id in [*self.children.values(), self.run_id]:
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
            else:
                self.client.set_terminated(run_id, status=status)

    def _start_children(self) -> None:
        for arm in self.settings.arms:
            for seed in self.settings.seeds:
                if (arm, seed) not in self.children:
                    tags = {"lt.kind": "trajectory", "lt.arm": arm, "lt.seed": str(seed)}
                    tags["mlflow.parentRunId"] = self.run_id
                    self.children[arm, seed] = self._start(f"{arm}-seed{seed}", tags)

    def _start(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.about.experiment_id, run_name=name, tags={**self._tags, **tags})
        params = [Param(key, value) for key, value in self.settings.as_params().items()]
        self.client.log_batch(run.info.run_id, params=params)
        self._log_images(run.info.run_id)
        return run.info.run_id

    def _log_images(self, run_id: str) -> None:
        """The data set as the run's input; tried again where another process logged the same one at the same time."""
        for patience in (0.2, 1.0, 3.0):
            try:
                return self.client.log_inputs(run_id, datasets=[self._images])
            except MlflowException:  # MLflow looks whether the data set is there, then makes it
                time.sleep(patience)
        return self.client.log_inputs(run_id, datasets=[self._images])


def metrics_of(record: Record) -> list[Metric]:
    """The points that a finished round adds to its trajectory's metrics."""
    at, r = record.finished_at, record.round
    values = {
        "test_accuracy": record.test_accuracy,
        "test_accuracy_best": record.test_accuracy_best,
        "test_accuracy_early_stop": record.test_accuracy_early_stop,
        "early_stop_iteration": record.early_stop_iteration,
        "test_loss": record.test_loss,
        "test_loss_best": record.test_loss_best,
        "test_loss_early_stop": record.test_loss_early_stop,
        "train_loss": record.train_loss,
        "validation_loss": record.validation_loss,
        "density": record.density,
        "sparsity": record.sparsity,
        "weights_remaining_pct": record.weights_remaining_pct,
        "seconds": record.seconds,
    }
    values |= {f"density/{tensor}": value for tensor, value in record.densities.items()}
    metrics = [Metric(key, value, at, r) for key, value in values.items() if value is not None]
    epochs = [point for point in record.curve if point.epoch is not None]
    metrics += [
        Metric("epoch_test_accuracy", point.test_accuracy, at, r * len(epochs) + epoch)
        for epoch, point in enumerate(epochs, start=1)
    ]
    metrics.append(Metric(BY_WEIGHTS, record.test_accuracy, at, weights_step(record.weights_remaining_pct)))
    return metrics


def _write(done: Round, precision: str, first_round: bool) -> TemporaryDirectory:
    """A folder with the artifacts of a round as they lie in the run: `first`, then `last` with its `round.json`."""
    folder = TemporaryDirectory(prefix="lottery-ticket-")
    place = f"rounds/{done.record.round:02}"
    first, last = Path(folder.name, "first"), Path(folder.name, "last")
    following = f"rounds/{done.record.round + 1:02}"
    (first / place).mkdir(parents=True)
    (last / place).mkdir(parents=True)
    if first_round:
        save_weights(done.start, first / "init.safetensors")
    save_mask(done.mask, first / place / "mask.safetensors")
    kept = None if done.record.diverged else done.mask
    save_weights(done.weights, first / place / "weights.safetensors", kept, precision)
    if done.next_mask is not None:
        (first / following).mkdir()
        save_mask(done.next_mask, first / following / "mask.safetensors")
    if done.rewound is not None:
        (first / REWOUND).parent.mkdir(exist_ok=True)
        save_weights(done.rewound, first / REWOUND)
    (last / place / "round.json").write_text(done.record.model_dump_json())
    return folder


def _dataset(images: Images, info: DataInfo) -> DatasetInput:
    shapes = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype)}
        for key, value in vars(images).items()
        if hasattr(value, "dtype")
    }
    profile = {"num_train": len(images.y_train), "num_test": len(images.y_test), "info": info.model_dump()}
    return DatasetInput(
        Dataset(
            name=images.name[:500],
            digest=images.digest,
            source_type="local",
            source=json.dumps({"uri": images.source}),
            schema=json.dumps({"mlflow_tensorspec": shapes}),
            profile=json.dumps(profile),
        )
    )


def _common_tags(preset: str) -> dict[str, str]:
    tags = {
        "lt.preset": preset,
        "lt.version": lottery_ticket.__version__,
        "lt.torch": torch.__version__,
        "lt.hardware": _hardware(),
    }
    if commit := _git_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def _hardware() -> str:
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join([f"{cpu} ({os.cpu_count()} cores, {torch.get_num_threads()} threads)", *gpus])


def _git_commit() -> str | None:
    """The commit of the working folder, None outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
