"""Tickets in the MLflow Model Registry: a model that any MLflow can load and serve, and the ticket inside it."""

import re
import shutil
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lottery_ticket.address import public
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.models.libraries import library_of
from lottery_ticket.plugins import is_code
from lottery_ticket.store import connection
from lottery_ticket.store.beside import located
from lottery_ticket.store.summary import in_words
from lottery_ticket.tickets.folder import read_folder
from lottery_ticket.tickets.ticket import Ticket

_MODEL = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d{1,9}))")
_TICKET = "data/ticket"
"""Where a registered model keeps its ticket."""

_LOADER = "lottery_ticket_loader"  # the module that stands in a model beside the code of this package

_NEEDED = ("mlflow", "numpy", "pydantic", "safetensors", "scipy", "torch")
"""What `lottery_ticket.serving` imports: whoever serves a model is asked for these, in the versions of now."""

_TRAJECTORY, _PATH = "lt.trajectory", "lt.path"
"""Tags of a model version: the run and the path in it where the model is."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    alias: str
    uri: str


def register(client: MlflowClient, ticket: Ticket, name: str, alias: str = "smallest") -> Registered:
    """Register a trained ticket of a run as a new version of a model and give it the alias.

    The model takes images as the data set keeps them (its signature says shape and type) and gives class
    probabilities; its input example is two test images. Tags: `lt.density`, `lt.verdict`, and where it comes from.
    It carries the code of this package, so that it asks nobody for it. Of a model that is not the package's, whoever
    loads it must be able to import the factory. InputError for a name or
    alias that MLflow does not allow, and where the data set is not there; LotteryTicketError where the network is not
    the one that was measured.
    """
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import Schema, TensorSpec

    check_names(name, alias)
    run_id = ticket.origin.trajectory
    if run_id is None or ticket.trained is None:
        raise LotteryTicketError("only a trained ticket of a run can be registered")
    images, info = ticket.images(), ticket.data
    if unchecked := ticket.check(ticket.settings.model):
        raise LotteryTicketError(f"{ticket.name} cannot be compared with the logged accuracy: {unchecked}")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(info.dtype), (-1, *info.image_shape))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, info.classes))]),
    )
    needed = [*_NEEDED, *library_of(ticket.settings.model).split()[:1]]
    path = f"models/round-{ticket.origin.round:02}-{uuid4().hex[:8]}"  # a version does not change afterwards
    with connection.telling(f"registering {name}"), TemporaryDirectory() as work:
        save_model(
            Path(work, "model"),
            loader_module=_LOADER,
            code_paths=_code(Path(work)),
            data_path=str(ticket.save(Path(work, "ticket"))),
            signature=signature,
            input_example=images.x_test[:2],
            # which says that its code may be run
            model_config={"model": ticket.settings.model} if is_code(ticket.settings.model) else None,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in needed],
        )
        client.log_artifacts(run_id, str(Path(work, "model")), path)
        if not any(each.name == name for each in client.search_registered_models(f"name = '{name}'")):
            client.create_registered_model(name)
        source = f"{located(client.get_run(run_id).info.artifact_uri, client.tracking_uri)}/{path}"
        tags = {
            "lt.density": f"{ticket.density:.6g}",
            "lt.verdict": in_words(ticket.metrics.matching, ticket.metrics.winning) or "none",
            _TRAJECTORY: run_id,
            _PATH: path,
        }
        made = client.create_model_version(name, source, run_id, tags=tags).version
        client.set_registered_model_alias(name, alias, made)
    return Registered(name, str(made), alias, f"models:/{name}@{alias}")


def _code(work: Path) -> list[str]:
    """The code that a model carries, put together in a folder: what loads it, and the modules of this package."""
    package = Path(str(resources.files("lottery_ticket")))
    loader = shutil.copy(package / f"{_LOADER}.py", work)
    for file in package.rglob("*.py"):
        copy = work / "shipped" / package.name / file.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return [str(loader), str(work / "shipped")]


def find(client: MlflowClient, reference: str, option: str = "TICKET") -> Ticket:
    """The ticket in a registered model: `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
    matched = _MODEL.fullmatch(reference)
    if not matched:
        allowed = "allowed: models:/NAME@ALIAS or models:/NAME/VERSION"
        raise InputError(option, reference, f"names no registered model; {allowed}")
    name, alias, number = matched.groups()
    with connection.telling(f"reading {reference}"), TemporaryDirectory() as work:
        try:
            found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            known = sorted(f"{each.name} ({', '.join(each.aliases)})" for each in client.search_registered_models())
            allowed = f"allowed: {', '.join(known)}" if known else "no model is registered there"
            raise InputError(option, reference, f"is not in {public(client.tracking_uri)}; {allowed}") from None
        run_id, path = found.tags.get(_TRAJECTORY), found.tags.get(_PATH)
        if not run_id or not path:
            raise InputError(option, reference, "holds no ticket; allowed: a model that `lt register` made")
        return read_folder(Path(client.download_artifacts(run_id, f"{path}/{_TICKET}", work)), option)


def check_names(name: str, alias: str) -> None:
    """InputError for a name or alias that MLflow or a `models:/` address cannot take."""
    if not re.fullmatch(r"[\w.-]{1,100}", name) or set(name) == {"."}:
        raise InputError("--name", name, "is not allowed; allowed: letters, digits, _, - and dots, at most 100")
    if not re.fullmatch(r"[\w-]{1,100}", alias) or alias == "latest" or re.fullmatch(r"[vV]\d+", alias):
        allowed = "letters, digits, _ and -, at most 100, but neither `latest` nor v1, v2, …"
        raise InputError("--alias", alias, f"is not allowed; allowed: {allowed}")
