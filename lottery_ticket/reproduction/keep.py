"""A reproduction's page and data, written into a folder and kept in MLflow."""

import csv
import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric

from lottery_ticket.record import Cost
from lottery_ticket.reproduction.claims import Estimate, Outcome
from lottery_ticket.reproduction.definition import REPORT_FILES
from lottery_ticket.reproduction.figures import draw_reproduction
from lottery_ticket.reproduction.jobs import Reproduced
from lottery_ticket.reproduction.report import to_html, to_markdown
from lottery_ticket.store.connection import ensure_experiment, telling
from lottery_ticket.store.limits import NAME, TAG, cut
from lottery_ticket.untrusted import in_csv
from lottery_ticket.version import __version__


@dataclass(frozen=True)
class Kept:
    """A report that is written: the run in MLflow that has it too, and names → paths of its files and figures."""

    run_id: str
    files: dict[str, Path]
    done: Reproduced

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain data."""
        return {
            "run_id": self.run_id,
            "scale": self.done.scale,
            "claims": [
                {
                    "id": outcome.claim.id,
                    "variant": outcome.variant,
                    "outcome": outcome.word,
                    "parts": [
                        {
                            "says": finding.part.says,
                            "answer": finding.answer,
                            "more_seeds": finding.more,
                            **({} if finding.estimate is None else _bounds(finding.estimate)),
                        }
                        for finding in outcome.findings
                    ],
                }
                for outcome in self.done.outcomes
            ],
            "files": {name: str(path) for name, path in self.files.items()},
            "seconds": self.done.seconds,
        }


def _bounds(found: Estimate) -> dict[str, Any]:
    low, high = (value if math.isfinite(value) else None for value in (found.low, found.high))
    return {"mean": found.mean, "low": low, "high": high, "seeds": list(found.values)}


def keep_report(done: Reproduced, folder: Path, command: str, experiment: str) -> Kept:
    """Write the report into the folder and log it to MLflow, as a run of its own that names those it draws on."""
    files = write_report(done, folder, command)
    tags = {
        "lt.kind": "reproduction",
        "lt.reproduction": done.name,
        "lt.scale": done.scale,
        "lt.version": __version__,
    }
    words = [f"- **{outcome.claim.id}**, {outcome.variant}: {outcome.word}" for outcome in done.outcomes]
    told = [done.reproduction.title, "", *words, "", "The page is report.html among the artifacts."]
    tags["mlflow.note.content"] = cut("\n".join(told), TAG)
    tags |= {f"lt.claim/{outcome.claim.id}/{outcome.variant}": outcome.word for outcome in done.outcomes}
    tags |= {
        f"lt.run/{setup}/{variant}": cut(",".join(dict.fromkeys(s.run_id for each in all_of for s in each)), TAG)
        for (setup, variant), all_of in done.sources.items()
    }
    with telling("logging the report"):
        at, name = ensure_experiment(done.client, experiment), cut(f"reproduce {done.name} {done.scale}", NAME)
        run_id = done.client.create_run(at, run_name=name, tags=tags).info.run_id
        done.client.set_terminated(run_id, "FAILED")  # until all is there
        for path in files.values():
            done.client.log_artifact(run_id, str(path), "figures" if path.suffix == ".png" else None)
        now = round(time.time() * 1000)
        metrics = [
            Metric(f"{outcome.claim.id}/{outcome.variant}/part{index}", finding.estimate.mean, now, 0)
            for outcome in done.outcomes
            for index, finding in enumerate(outcome.findings, 1)
            if finding.estimate is not None
        ]
        done.client.log_batch(run_id, metrics=metrics)
        done.client.set_terminated(run_id)
    return Kept(run_id, files, done)


def write_report(done: Reproduced, folder: Path, command: str) -> dict[str, Path]:
    """Write report.md, report.html, claims.csv, rounds.csv and the figures into the folder; their names → paths."""
    figures = draw_reproduction(done.reproduction, done.experiments, done.attributions, folder / "figures")
    links = {name: path.relative_to(folder).as_posix() for name, path in figures.items()}
    text = to_markdown(done, links, command)
    page = to_html(text, done.reproduction.title, links, folder)
    contents = text, page, claims_csv(done.outcomes), rounds_csv(done)
    for name, content in zip(REPORT_FILES, contents, strict=True):
        (folder / name).write_text(content, encoding="utf-8")
    return {name: folder / name for name in REPORT_FILES} | dict(figures)


def claims_csv(outcomes: Sequence[Outcome]) -> str:
    """A row for each part of each claim in each variant."""
    rows = [
        [
            outcome.claim.id,
            outcome.variant,
            outcome.word,
            finding.part.says,
            *(("", "", "") if finding.estimate is None else finding.estimate[:3]),
            "" if finding.estimate is None else " ".join(f"{value:.6g}" for value in finding.estimate.values),
            finding.part.above,
            finding.part.below,
            finding.answer,
            "" if finding.estimate is None and not finding.lost else finding.lost,
            "" if finding.estimate is None else finding.estimate.censored[0],
            finding.more,
        ]
        for outcome in outcomes
        for finding in outcome.findings
    ]
    head = ["claim", "variant", "outcome", "part", "mean", "low", "high", "seeds", "above", "below", "answer"]
    head += ["lost_seeds", "censored_stops", "more_seeds"]
    return _csv(head, rows)


def rounds_csv(done: Reproduced) -> str:
    """A row for each round of each trajectory of each experiment."""
    rows = [
        [
            setup,
            variant,
            record.arm,
            record.seed,
            record.round,
            f"{record.weights_remaining_pct:.4f}",
            record.test_accuracy,
            record.test_accuracy_best,
            record.early_stop_iteration,
            record.iterations,
            f"{record.seconds:.2f}",
            record.diverged,
            *_multiply_adds(record.cost),
        ]
        for (setup, variant), experiment in done.experiments.items()
        for record in experiment.records
    ]
    head = ["setup", "variant", "arm", "seed", "round", "weights_remaining_pct", "test_accuracy"]
    head += ["test_accuracy_best", "early_stop_iteration", "iterations", "seconds", "diverged"]
    return _csv([*head, "multiply_adds", "over_survivors", "made_small", "computed", "to_find"], rows)


def _multiply_adds(cost: Cost | None) -> tuple[int | None, ...]:
    """Of an image, dense, over survivors and made small; of the round's training, and of finding its mask."""
    return (None,) * 5 if cost is None else (*cost.an_image, cost.compact, cost.computed, cost.to_find)


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([in_csv(value) for value in row] for row in rows)
    return out.getvalue()
