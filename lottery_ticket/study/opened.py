"""A study in Optuna's storage and in MLflow, found or made."""

import json
import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage

from lottery_ticket.config import Settings, as_text, load_preset, params_then
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.store.connection import ensure_experiment
from lottery_ticket.store.limits import NAME, PARAM, cut
from lottery_ticket.store.seal import seal
from lottery_ticket.study.definition import MACHINE, Study
from lottery_ticket.study.trials import RUN_ID
from lottery_ticket.version import __version__

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
    began_as = _as_begun(told[_DEFINITION], json.loads(told[_STUDY]), study)
    for key in sorted({*definition, *began_as}):
        now, then = definition.get(key, "nothing"), began_as.get(key, "nothing")
        if now != then:
            differs = f"{key} = {then!r}, not {now!r}"
            raise InputError("STUDY", name, f"is in the storage with {differs}; allowed: the same study, or --fresh")
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


def _as_begun(definition: dict[str, str], began: dict[str, Any], study: Study) -> dict[str, str]:
    """A stored definition as it would be written now; a setting that is searched is none of one value.

    Settings that are younger than the study had their defaults then, or what `params_then` says; the precision, which
    definitions did not have before lt 0.5, is in the study itself, `began`.
    """
    searched = dict.fromkeys(study.space, "searched")
    younger = study.definition().keys() & Settings.model_fields.keys() - definition.keys()
    defaults = {name: as_text(Settings.model_fields[name].default) for name in younger}
    precision = began["settings"].get("precision") or load_preset(began["preset"]).precision
    then = defaults | params_then(searched | {"precision": precision} | definition)
    return {key: value for key, value in then.items() if key not in searched and key not in MACHINE}


def _start_run(
    study: Study, definition: dict[str, str], name: str, made: optuna.Study, client: MlflowClient, experiment: str
) -> str:
    tags = {"lt.kind": "study", "lt.study": name, "lt.version": __version__}
    run = client.create_run(ensure_experiment(client, experiment), run_name=cut(f"study {name}", NAME), tags=tags)
    params = [Param(key, cut(value, PARAM)) for key, value in definition.items()]
    client.log_batch(run.info.run_id, params=params)
    client.log_text(run.info.run_id, seal(study.model_dump_json(indent=2)), "study.json")
    made.set_user_attr(_DEFINITION, definition)
    made.set_user_attr(_STUDY, study.model_dump_json())
    made.set_user_attr(RUN_ID, run.info.run_id)
    return run.info.run_id
