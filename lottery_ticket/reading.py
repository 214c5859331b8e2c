"""Runs read back from MLflow: settings, records, masks and weights."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.files import load_mask, load_weights
from lottery_ticket.models import Weights
from lottery_ticket.pruning import Mask
from lottery_ticket.record import Record
from lottery_ticket.trajectory import Round

REWOUND = "rounds/00/rewound.safetensors"
"""Where a trajectory of the arm `winning` keeps θₖ."""


@dataclass(frozen=True)
class Stored:
    """A run of `lt run` read back from the store."""

    run_id: str
    name: str
    experiment_id: str
    settings: Settings
    preset: str
    children: dict[tuple[str, int], str]
    records: list[Record]
    dataset_digest: str | None


def read_run(client: MlflowClient, run_id: str, option: str = "RUN") -> Stored:
    """A run of `lt run` with the records of its complete rounds; InputError if it is none."""
    allowed = "allowed: the id of a run that `lt run` made"
    try:
        parent = client.get_run(run_id)
    except MlflowException as error:
        raise InputError(option, run_id, f"is no run in {client.tracking_uri} ({one_line(error)}); {allowed}") from None
    if parent.data.tags.get("lt.kind") != "run":
        raise InputError(option, run_id, f"was not made by `lt run`; {allowed}")
    with TemporaryDirectory() as work:
        settings = Settings.model_validate_json(_download(client, run_id, "settings.json", work).read_bytes())
    children = {}
    query = f"tags.`mlflow.parentRunId` = '{run_id}'"
    for child in _search(client, [parent.info.experiment_id], query):
        if child.data.tags.get("lt.kind") == "trajectory":
            children[child.data.tags["lt.arm"], int(child.data.tags["lt.seed"])] = child.info.run_id
    ordered = [(arm, seed) for arm in settings.arms for seed in settings.seeds if (arm, seed) in children]
    records = [record for key in ordered for record in _read_records(client, children[key])]
    inputs = parent.inputs.dataset_inputs if parent.inputs else []
    return Stored(
        run_id=run_id,
        name=parent.info.run_name,
        experiment_id=parent.info.experiment_id,
        settings=settings,
        preset=parent.data.tags.get("lt.preset", ""),
        children=children,
        records=sorted(records, key=lambda record: record.round),
        dataset_digest=inputs[0].dataset.digest if inputs else None,
    )


def read_mask(client: MlflowClient, child: str, r: int) -> Mask:
    """The mask of round r of the trajectory with this run id."""
    with TemporaryDirectory() as work:
        return load_mask(_download(client, child, f"rounds/{r:02}/mask.safetensors", work))


def read_weights(client: MlflowClient, child: str, path: str) -> Weights:
    """The weights in an artifact of a trajectory, e.g. `init.safetensors`."""
    with TemporaryDirectory() as work:
        return load_weights(_download(client, child, path, work))


def read_round(client: MlflowClient, child: str, record: Record) -> Round:
    """A finished round with its mask and trained weights (which serve as start too: it is over)."""
    mask = read_mask(client, child, record.round)
    weights = read_weights(client, child, f"rounds/{record.round:02}/weights.safetensors")
    return Round(record, mask, weights, weights)


def _read_records(client: MlflowClient, child: str) -> list[Record]:
    """The complete rounds of a trajectory: those whose `round.json` is there and whole."""
    records = []
    folders = sorted(item.path for item in client.list_artifacts(child, "rounds"))
    with TemporaryDirectory() as work:
        for folder in folders:
            if any(item.path == f"{folder}/round.json" for item in client.list_artifacts(child, folder)):
                path = _download(client, child, f"{folder}/round.json", work)
                try:
                    records.append(Record.model_validate_json(path.read_bytes()))
                except ValueError:  # cut off while it was written: this round does not exist
                    continue
    return records


def _download(client: MlflowClient, run_id: str, path: str, folder: str) -> Path:
    try:
        return Path(client.download_artifacts(run_id, path, folder))
    except Exception as error:
        raise LotteryTicketError(f"run {run_id}: artifact {path} cannot be read ({one_line(error)})") from error


def _search(client: MlflowClient, experiments: list[str], query: str) -> list[Run]:
    runs, token = [], None
    while True:
        page = client.search_runs(experiments, query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
