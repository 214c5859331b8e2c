"""A study told with tables and figures, kept in MLflow and in a folder."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from lottery_ticket.store.limits import TAG, cut
from lottery_ticket.study.boundary import crossings
from lottery_ticket.study.definition import Study
from lottery_ticket.study.figures import draw_study
from lottery_ticket.study.importance import Share, importance
from lottery_ticket.study.opened import Opened, study_folder
from lottery_ticket.study.space import ranges
from lottery_ticket.study.trials import Trial, finished, margins
from lottery_ticket.study.tuned_figure import draw_tuned
from lottery_ticket.study.tuning import Tuned, compared_with, tune
from lottery_ticket.untrusted import in_csv


@dataclass(frozen=True)
class Concluded:
    """What the finished trials of a study show.

    Attributes:
        figures, table: paths of the figures, and of the trials as CSV.
        importance: what the variance of the first measure is of, see `importance`; empty where that cannot be told.
        crossings: where one searched range turns from winning to not winning or back, in order; of one range only.
        tuned: each arm at its own best, where the study tunes; `tuned_table` is the path of the same as CSV.
    """

    figures: list[Path]
    table: Path | None
    importance: dict[str, Share]
    crossings: list[float]
    tuned: Sequence[Tuned] = ()
    tuned_table: Path | None = None


def conclude(opened: Opened, client: MlflowClient | None, folder: Path | None = None) -> Concluded:
    """Draw the figures and write the table of a study's finished trials; with a client, onto its run as well."""
    trials = finished(opened.optuna)
    folder = folder or study_folder(opened.name)
    folder.mkdir(parents=True, exist_ok=True)
    shares = importance(opened.optuna)
    figures = draw_study(opened.study, trials, opened.name, folder, shares)
    table = folder / "trials.csv"
    table.write_text(as_csv(trials), encoding="utf-8")
    tuned, tuned_table = tune(opened.study, trials) if opened.study.tune else [], None
    if tuned:
        figures += draw_tuned(opened.study, tuned, opened.name, folder)
        tuned_table = folder / "tuned.csv"
        tuned_table.write_text(tuned_as_csv(opened.study, tuned), encoding="utf-8")
    found = boundary_of(opened.study, trials)
    if client is not None and trials:
        for path in figures:
            client.log_artifact(opened.run_id, str(path), "figures")
        for path in filter(None, (table, tuned_table)):
            client.log_artifact(opened.run_id, str(path))
        metrics = {
            "trials": float(len(trials)),
            "seconds": sum(trial.measures["seconds"] for trial in trials),
            "seconds_saved": sum(trial.seconds_saved for trial in trials),
        }
        if opened.study.judged:
            metrics["winning_trials"] = float(sum(trial.phase == "winning" for trial in trials))
            metrics["smallest_winning_pct"] = min(trial.measures["smallest_winning_pct"] for trial in trials)
        at = round(time.time() * 1000)
        client.log_batch(opened.run_id, metrics=[Metric(key, value, at, 0) for key, value in metrics.items()])
        told = {"lt.boundary": ", ".join(f"{value:.4g}" for value in found), "lt.best_trials": _best(trials)}
        client.log_batch(opened.run_id, tags=[RunTag(key, value) for key, value in told.items()])
    return Concluded(figures, table, shares, found, tuned, tuned_table)


def to_json(opened: Opened, trials: Sequence[Trial], concluded: Concluded) -> dict[str, Any]:
    """A study's result as plain data."""
    return {
        "study": opened.name,
        "run_id": opened.run_id,
        "definition": opened.study.model_dump(mode="json"),
        "trials": [_told(trial) for trial in trials],
        "importance": {name: share.part for name, share in concluded.importance.items()},
        "importance_spread": {name: [share.low, share.high] for name, share in concluded.importance.items()},
        "boundary": concluded.crossings,
        "figures": [str(path) for path in concluded.figures],
        "table": str(concluded.table),
        "tuned": [in_columns(opened.study, each) for each in concluded.tuned],
    }


def _told(trial: Trial) -> dict[str, Any]:
    """A trial as plain data; accuracies where the study tunes."""
    return {name: value for name, value in asdict(trial).items() if name != "accuracies" or value}


def boundary_of(study: Study, trials: Sequence[Trial]) -> list[float]:
    """Where the one searched range of a study turns from winning to not winning or back; empty for any other."""
    space = ranges(study)
    if not study.judged or len(study.space) != 1 or len(space) != 1:
        return []
    (along,) = space
    return crossings(space, margins(trials), along)


def as_csv(trials: Sequence[Trial]) -> str:
    """The trials as CSV: one line each, first what was searched, then what was measured."""
    params = list(dict.fromkeys(key for trial in trials for key in trial.params))
    measures = list(dict.fromkeys(key for trial in trials for key in trial.measures))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", *params, "phase", "best", *measures, "seconds_saved", "ended_early", "mlflow_run_id"])
    for trial in trials:
        rows.writerow(
            [
                trial.number,
                *(in_csv(trial.params.get(key, "")) for key in params),
                trial.phase,
                "yes" if trial.best else "no",
                *(_rounded(trial.measures.get(key)) for key in measures),
                _rounded(trial.seconds_saved),
                trial.ended_early,
                trial.run_id,
            ]
        )
    return text.getvalue()


def in_columns(study: Study, tuned: Tuned) -> dict[str, Any]:
    """An arm at a density as a row of `tuned.csv`: column → value, None where there is none; accuracies 0–1.

    What begins with `any_` is of the arm's best trial by *test* accuracy.
    """
    first = compared_with(study.settings_of({}).arms)
    row: dict[str, Any] = {**tuned.group, "density_pct": tuned.pct, "arm": tuned.arm}
    for prefix, chosen, behind in (("", tuned.best, tuned.behind), ("any_", tuned.at_any, tuned.behind_any)):
        row |= {f"{prefix}{name}": chosen and chosen.trial.params[name] for name in study.tune}
        row |= {
            f"{prefix}trial": chosen and chosen.trial.number,
            f"{prefix}weights_remaining_pct": chosen and chosen.left,
            f"{prefix}validation_accuracy": chosen and chosen.validation,
            f"{prefix}test_accuracy": chosen and chosen.test,
            f"{prefix}{first}_minus_arm": behind and behind.mean,
            f"{prefix}low": behind and behind.interval and behind.interval[0],
            f"{prefix}high": behind and behind.interval and behind.interval[1],
        }
    row |= {
        "not_bracketed": " ".join(f"{name}:{edge}" for name, edge in tuned.at_edge.items()),
        "seeds": len(study.settings_of({}).seeds),
        "trials": tuned.trials,
        "trials_counted": len(tuned.candidates),
        "mlflow_run_id": tuned.best and tuned.best.trial.run_id,
    }
    return row


def tuned_as_csv(study: Study, tuned: Sequence[Tuned]) -> str:
    """The arms at their best as CSV: the rows of `in_columns`, accuracies rounded, what was searched as it is."""
    rows = [in_columns(study, each) for each in tuned]
    searched = {*study.space, *(f"any_{name}" for name in study.space)}
    text = io.StringIO()
    written = csv.DictWriter(text, rows[0], lineterminator="\n")
    written.writeheader()
    for row in rows:
        rounded = {
            key: _rounded(value) for key, value in row.items() if isinstance(value, float) and key not in searched
        }
        written.writerow({key: in_csv(value) for key, value in (row | rounded).items()})
    return text.getvalue()


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)


def _best(trials: Sequence[Trial]) -> str:
    return cut(", ".join(str(trial.number) for trial in trials if trial.best), TAG)
