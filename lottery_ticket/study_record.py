"""A study in Optuna's storage and in MLflow: found or made, and in the end told with tables and figures."""

import csv
import io
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage

import lottery_ticket
from lottery_ticket.boundary import crossings
from lottery_ticket.config import params_then
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.importance import Share, importance
from lottery_ticket.limits import NAME, PARAM, TAG, cut
from lottery_ticket.seal import seal
from lottery_ticket.store import ensure_experiment
from lottery_ticket.study import Study
from lottery_ticket.study_figures import draw_study
from lottery_ticket.study_space import ranges
from lottery_ticket.trials import RUN_ID, Trial, finished, margins

_STUDY, _DEFINITION = "study", "definition"
_PATIENCE = 20  # seconds for the process that made the study to make its run


@dataclass(frozen=True)
class Opened:
    """A study that is there.

    Attributes:
        name: in the storage.
        study: what it is.
        optuna: Optuna's side of it.
        run_id: of its parent run in MLflow.
        continued: whether it had been there before.
    """

    name: str
    study: Study
    optuna: optuna.Study
    run_id: str
    continued: bool


@dataclass(frozen=True)
class Concluded:
    """What the finished trials of a study show.

    Attributes:
        figures, table: paths of the figures, and of the trials as CSV.
        importance: what the variance of the first measure is of, see `importance`; empty where that cannot be told.
        crossings: where one searched range turns from winning to not winning or back, in order; of one range only.
    """

    figures: list[Path]
    table: Path | None
    importance: dict[str, Share]
    crossings: list[float]


def study_folder(name: str) -> Path:
    """Where a study's figures and table are written."""
    return Path("mlruns", "studies", name)


def open_study(
    study: Study,
    definition: dict[str, str],
    name: str,
    storage: BaseStorage,
    client: MlflowClient,
    experiment: str,
    fresh: bool,
) -> Opened:
    """The latest study of this name (`NAME`, `NAME-2`, …) if there is one, else a new one.

    InputError where it is another study: names the first key of the definition that differs.
    """
    there = family(storage, name)
    if there and not fresh:
        return _continue(study, definition, there[-1], storage, client, experiment)
    new = name if not there else f"{name}-{_rank(name, there[-1]) + 1}"
    try:
        made = optuna.create_study(study_name=new, storage=storage, directions=study.directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            made.set_metric_names(study.measures)
    except DuplicatedStudyError:  # another process was faster
        return _continue(study, definition, new, storage, client, experiment)
    return Opened(new, study, made, _start_run(study, definition, new, made, client, experiment), False)


def read_study(name: str, storage: BaseStorage) -> Opened:
    """A study that is in the storage, as it was begun; InputError if it is not there."""
    names = optuna.get_all_study_names(storage)
    if name not in names:
        raise unknown("STUDY", name, names)
    loaded = optuna.load_study(study_name=name, storage=storage)
    told = loaded.user_attrs.get(_STUDY)
    if told is None:
        raise InputError("STUDY", name, "was not made by `lt sweep`; allowed: studies that it made")
    return Opened(name, Study.model_validate_json(told), loaded, loaded.user_attrs.get(RUN_ID, ""), True)


def family(storage: BaseStorage, name: str) -> list[str]:
    """The studies in the storage that began under this name, oldest first."""
    found = [each for each in optuna.get_all_study_names(storage) if _rank(name, each)]
    return sorted(found, key=lambda each: _rank(name, each))


def _rank(name: str, other: str) -> int:
    """1 for NAME, n for NAME-n, 0 for all else."""
    if other == name:
        return 1
    match = re.fullmatch(re.escape(name) + r"-([1-9]\d*)", other)
    return int(match[1]) if match else 0


def _continue(
    study: Study, definition: dict[str, str], name: str, storage: BaseStorage, client: MlflowClient, experiment: str
) -> Opened:
    loaded = optuna.load_study(study_name=name, storage=storage)
    deadline = time.monotonic() + _PATIENCE
    while RUN_ID not in loaded.user_attrs:  # its maker is about to tell it, or was killed before it did
        if time.monotonic() > deadline:
            _start_run(study, definition, name, loaded, client, experiment)
        time.sleep(0.2)
    told = loaded.user_attrs
    began_as = _as_begun(told[_DEFINITION], study)
    for key in sorted({*definition, *began_as}):
        now, then = definition.get(key, "nothing"), began_as.get(key, "nothing")
        if now != then:
            raise InputError(
                "STUDY", name, f"is in the storage with {key} = {then}, not {now}; allowed: the same study, or --fresh"
            )
    try:
        there = client.get_run(told[RUN_ID]).info.lifecycle_stage == "active"
    except MlflowException:
        there = False
    if not there:
        raise InputError(
            "--tracking-uri",
            client.tracking_uri,
            f"does not have the runs of study {name}; allowed: the store it was begun with, or --fresh",
        )
    return Opened(name, study, loaded, told[RUN_ID], True)


def _as_begun(definition: dict[str, str], study: Study) -> dict[str, str]:
    """A stored definition as it would be written now; a setting that is searched is none of one value."""
    searched = dict.fromkeys(study.space, "searched")
    return {key: value for key, value in params_then(searched | definition).items() if key not in searched}


def _start_run(
    study: Study, definition: dict[str, str], name: str, made: optuna.Study, client: MlflowClient, experiment: str
) -> str:
    tags = {"lt.kind": "study", "lt.study": name, "lt.version": lottery_ticket.__version__}
    run = client.create_run(ensure_experiment(client, experiment), run_name=cut(f"study {name}", NAME), tags=tags)
    params = [Param(key, cut(value, PARAM)) for key, value in definition.items()]
    client.log_batch(run.info.run_id, params=params)
    client.log_text(run.info.run_id, seal(study.model_dump_json(indent=2)), "study.json")
    made.set_user_attr(_DEFINITION, definition)
    made.set_user_attr(_STUDY, study.model_dump_json())
    made.set_user_attr(RUN_ID, run.info.run_id)
    return run.info.run_id


def conclude(opened: Opened, client: MlflowClient | None, folder: Path | None = None) -> Concluded:
    """Draw the figures and write the table of a study's finished trials; with a client, onto its run as well."""
    trials = finished(opened.optuna)
    folder = folder or study_folder(opened.name)
    folder.mkdir(parents=True, exist_ok=True)
    shares = importance(opened.optuna)
    figures = draw_study(opened.study, trials, opened.name, folder, shares)
    table = folder / "trials.csv"
    table.write_text(as_csv(trials), encoding="utf-8")
    found = boundary_of(opened.study, trials)
    if client is not None and trials:
        for path in figures:
            client.log_artifact(opened.run_id, str(path), "figures")
        client.log_artifact(opened.run_id, str(table))
        metrics = {
            "trials": float(len(trials)),
            "winning_trials": float(sum(trial.phase == "winning" for trial in trials)),
            "smallest_winning_pct": min(trial.measures["smallest_winning_pct"] for trial in trials),
            "seconds": sum(trial.measures["seconds"] for trial in trials),
            "seconds_saved": sum(trial.seconds_saved for trial in trials),
        }
        at = round(time.time() * 1000)
        client.log_batch(opened.run_id, metrics=[Metric(key, value, at, 0) for key, value in metrics.items()])
        told = {"lt.boundary": ", ".join(f"{value:.4g}" for value in found), "lt.best_trials": _best(trials)}
        client.log_batch(opened.run_id, tags=[RunTag(key, value) for key, value in told.items()])
    return Concluded(figures, table, shares, found)


def to_json(opened: Opened, trials: Sequence[Trial], concluded: Concluded) -> dict[str, Any]:
    """A study's result as plain data."""
    return {
        "study": opened.name,
        "run_id": opened.run_id,
        "definition": opened.study.model_dump(mode="json"),
        "trials": [asdict(trial) for trial in trials],
        "importance": {name: share.part for name, share in concluded.importance.items()},
        "importance_spread": {name: [share.low, share.high] for name, share in concluded.importance.items()},
        "boundary": concluded.crossings,
        "figures": [str(path) for path in concluded.figures],
        "table": str(concluded.table),
    }


def boundary_of(study: Study, trials: Sequence[Trial]) -> list[float]:
    """Where the one searched range of a study turns from winning to not winning or back; empty for any other."""
    space = ranges(study)
    if len(study.space) != 1 or len(space) != 1:
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
                *(trial.params.get(key, "") for key in params),
                trial.phase,
                "yes" if trial.best else "no",
                *(_rounded(trial.measures.get(key)) for key in measures),
                _rounded(trial.seconds_saved),
                trial.ended_early,
                trial.run_id,
            ]
        )
    return text.getvalue()


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)


def _best(trials: Sequence[Trial]) -> str:
    return cut(", ".join(str(trial.number) for trial in trials if trial.best), TAG)
