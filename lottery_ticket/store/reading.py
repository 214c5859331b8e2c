"""Runs read back from MLflow: settings, records, masks and weights."""

import json
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter

from lottery_ticket.address import public
from lottery_ticket.config import Settings, StoredSettings
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.method.arms import controls_among
from lottery_ticket.models.fingerprint import Fingerprint
from lottery_ticket.models.prunable import Inventory
from lottery_ticket.record import Record
from lottery_ticket.store import connection, reach
from lottery_ticket.store.beside import located
from lottery_ticket.store.layout import DATA, INVENTORY, LOOKS, NETWORK, ORIGIN, SCORE, SETTINGS, START, WHOLE, Key
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.store.places import repository
from lottery_ticket.store.seal import unseal
from lottery_ticket.store.summary import read_rounds
from lottery_ticket.tickets.files import load_mask, load_weights
from lottery_ticket.version import __version__


class Deleted(InputError):
    """A run was deleted in MLflow and can be restored."""


@dataclass(frozen=True)
class Stored:
    """A run of `lt run`, `lt train` or `lottery_ticket.find`, or a trial of `lt sweep`, as the store has it.

    Attributes:
        children: (arm, seed) → run id of the trajectory.
        records: of all complete rounds, in order of round.
        data: what it was trained on; None where the process ended before it was logged, and of a user's own loop.
        origin: the tags that name the ticket it started from; empty for `lt run`.
        kind: "run", "trial" of a study, or "find" (`layout.OWN_LOOP`).
        network: what it trains; None where the run does not tell.
        lost: (arm, seed) → run id of a trajectory that was there and was deleted since.
        score: what a user's own loop is judged by (`layout.SCORE`); else empty.
        looks: seeds at each look of a run to which they are added until it is decided; else empty.
    """

    run_id: str
    name: str
    experiment_id: str
    settings: Settings = field(repr=False)
    preset: str
    children: dict[tuple[str, int], str] = field(repr=False)
    records: list[Record] = field(repr=False)
    data: DataInfo | None = field(repr=False)
    origin: dict[str, str] = field(repr=False)
    kind: str = "run"
    network: Fingerprint | None = field(default=None, repr=False)
    lost: dict[Key, str] = field(default_factory=dict)
    score: str = ""
    looks: tuple[int, ...] = ()

    @property
    def controls(self) -> tuple[str, ...]:
        """Its arms that winning tickets have to beat."""
        return controls_among(self.settings.arms)

    def must_be_whole(self, tracking_uri: str) -> None:
        """LotteryTicketError where trajectories were deleted: they would be trained again, and all others with them."""
        if self.lost:
            names = ", ".join(f"{arm}-seed{seed}" for arm, seed in self.lost)
            raise LotteryTicketError(
                f"run {self.run_id} lacks {names}, deleted in MLflow: {restoring(self.lost.values(), tracking_uri)}; "
                "where that is no longer possible, start a new run"
            )


def get_run(client: MlflowClient, run_id: str, option: str = "RUN") -> Run:
    """A run of `lt run` or `lt train`, a trial of `lt sweep`, or one of their trajectories, by id; else InputError."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise LotteryTicketError(f"{public(client.tracking_uri)} failed: {one_line(error)}") from error
        raise reach.no_run(option, run_id, client.tracking_uri) from None
    if run.data.tags.get("lt.kind") not in (*WHOLE, "trajectory"):
        raise InputError(option, run_id, f"was not made by `lt run` or `lt train`; {reach.RUNS}")
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        how = restoring([run_id], client.tracking_uri)
        raise Deleted(option, run_id, f"is deleted in MLflow; allowed: a run that is not, or {how}")
    return run


def restoring(run_ids: Iterable[str], tracking_uri: str) -> str:
    """How runs that were deleted in MLflow come back, in words."""
    commands = "; ".join(f"mlflow runs restore --run-id {run_id}" for run_id in run_ids)
    return f"restore it in MLflow's UI, or with MLFLOW_TRACKING_URI={public(tracking_uri)}: {commands}"


def begun(client: MlflowClient, run: Run) -> bool:
    """Whether anything was kept of a run before its process ended."""
    return SETTINGS in {item.path for item in client.list_artifacts(run.info.run_id)}


def read_settings(client: MlflowClient, run: Run) -> Settings:
    """The settings of a run."""
    if not begun(client, run):
        if _tells_of_rounds(run):
            where = public(located(run.info.artifact_uri, client.tracking_uri))
            raise LotteryTicketError(
                f"run {run.info.run_id}: its artifacts are not at {where}, where the store has them"
            )
        raise LotteryTicketError(f"run {run.info.run_id} ended before anything of it was kept; start it again")
    told = _read_json(client, run, SETTINGS)
    try:
        return validated(told)
    except LotteryTicketError:
        raise _of_another_version(run, SETTINGS) from None


def validated(told: bytes) -> Settings:
    """The settings that a `settings.json` tells; LotteryTicketError where it tells none."""
    try:
        return TypeAdapter(StoredSettings).validate_json(told)
    except ValueError as error:
        raise LotteryTicketError(f"no settings: {one_line(error)}") from None


def _tells_of_rounds(run: Run) -> bool:
    try:
        return any(read_rounds(run.data.tags))
    except (ValueError, TypeError, KeyError, IndexError):  # tags that somebody edited
        return True


def read_network(client: MlflowClient, run: Run) -> Fingerprint | None:
    """What the network is that a run trains; None of runs that do not tell, as those of lt 0.3."""
    if NETWORK not in {item.path for item in client.list_artifacts(run.info.run_id)}:
        return None
    try:
        return Fingerprint.model_validate_json(_read_json(client, run, NETWORK))
    except ValueError:
        raise _of_another_version(run, NETWORK) from None


def read_inventory(client: MlflowClient, run: Run) -> Inventory | None:
    """What of a run's network is prunable; None of runs that were made before it was kept."""
    if "lt.prunable_weights" not in run.data.tags:
        return None
    try:
        return Inventory.model_validate_json(_read_json(client, run, INVENTORY))
    except ValueError:
        raise _of_another_version(run, INVENTORY) from None


def read_data_info(client: MlflowClient, run: Run) -> DataInfo | None:
    """What a run was trained on; None where nothing tells.

    It stands in its `data.json`, and of runs of lt 0.3, which have none, in the run's input. That is no better: MLflow
    keeps one input for all runs on a data set, with what the first of them standardised it by.
    """
    inputs = run.inputs.dataset_inputs if run.inputs else []
    try:
        if DATA in {item.path for item in client.list_artifacts(run.info.run_id)}:
            return DataInfo.model_validate_json(_read_json(client, run, DATA))
        return DataInfo.model_validate(json.loads(inputs[0].dataset.profile)["info"]) if inputs else None
    except (ValueError, KeyError, TypeError):
        raise _of_another_version(run, "its data set") from None


def read_trajectories(client: MlflowClient, parent: Run) -> tuple[dict[Key, Run], dict[Key, str]]:
    """The runs of the trajectories of a run, and the ids of those that were deleted."""
    there: dict[Key, Run] = {}
    lost: dict[Key, str] = {}
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    for child in connection.search(client, [parent.info.experiment_id], query, ViewType.ALL):
        tags = child.data.tags
        if tags.get("lt.kind") == "trajectory":
            key = tag(child, "lt.arm"), _seed(child)
            if child.info.lifecycle_stage == LifecycleStage.ACTIVE:
                there[key] = child
            else:
                lost[key] = child.info.run_id
    with suppress(ValueError, TypeError, KeyError, IndexError):  # tags that somebody edited
        lost |= {(each.arm, each.seed): each.trajectory for each in read_rounds(parent.data.tags)}  # deleted for good
    return there, {key: run_id for key, run_id in lost.items() if key not in there}


def tag(run: Run, name: str) -> str:
    """A tag that every run has that lt made; LotteryTicketError where somebody took it away."""
    try:
        return run.data.tags[name]
    except KeyError:
        raise LotteryTicketError(f"run {run.info.run_id} has no tag {name}, which lt gave it") from None


def _seed(trajectory: Run) -> int:
    told = tag(trajectory, "lt.seed")
    if not re.fullmatch(r"\d{1,10}", told, re.ASCII) or int(told) >= 2**32:
        raise LotteryTicketError(f"run {trajectory.info.run_id} has the tag lt.seed {told:.40}, which is no seed")
    return int(told)


def read_run(client: MlflowClient, run_id: str, option: str = "RUN") -> Stored:
    """A run of `lt run` or `lt train` with the records of its complete rounds; InputError if it is none."""
    parent = get_run(client, run_id, option)
    if parent.data.tags["lt.kind"] not in WHOLE:
        whole = tag(parent, "mlflow.parentRunId")
        raise InputError(option, run_id, f"is one trajectory of a run; allowed: the run, {whole}")
    settings = read_settings(client, parent)
    children, lost = read_trajectories(client, parent)
    ordered = [(arm, seed) for arm in settings.arms for seed in settings.seeds if (arm, seed) in children]
    waiting = Outbox(client.tracking_uri, run_id).waiting()
    records = []
    for arm, seed in ordered:
        on_their_way = [int(folder.name) for folder in waiting if (folder / f"{arm}-seed{seed}").is_dir()]
        records += _read_records(client, children[arm, seed], on_their_way)
    return Stored(
        run_id=run_id,
        name=parent.info.run_name,
        experiment_id=parent.info.experiment_id,
        settings=settings,
        preset=parent.data.tags.get("lt.preset", ""),
        children={key: child.info.run_id for key, child in children.items()},
        records=sorted(records, key=lambda record: record.round),
        data=read_data_info(client, parent),
        origin={key: value for key, value in parent.data.tags.items() if key.startswith(ORIGIN)},
        kind=parent.data.tags["lt.kind"],
        network=read_network(client, parent),
        lost=lost,
        score=parent.data.tags.get(SCORE, ""),
        looks=_looks(parent),
    )


def _looks(parent: Run) -> tuple[int, ...]:
    try:
        return tuple(int(seeds) for seeds in parent.data.tags.get(LOOKS, "").split(",") if seeds)
    except ValueError:
        raise _of_another_version(parent, f"its tag {LOOKS}") from None


def read_mask(client: MlflowClient, child: str, r: int) -> Mask:
    """The mask of round r of the trajectory with this run id."""
    return _read(client, child, f"rounds/{r:02}/mask.safetensors", load_mask)


def read_weights(client: MlflowClient, child: str, path: str) -> Weights:
    """The weights in an artifact of a trajectory, e.g. `init.safetensors`."""
    return _read(client, child, path, load_weights)


def read_trained(client: MlflowClient, child: str, r: int, mask: Mask) -> Weights:
    """The trained weights of round r of the trajectory with this run id, under its mask there."""
    return _read_survivors(client, child, f"rounds/{r:02}/weights.safetensors", mask)


def read_start(client: MlflowClient, child: str, r: int, mask: Mask) -> Weights:
    """The start values of round r of the trajectory with this run id, of an arm that has them kept."""
    return _read_survivors(client, child, f"rounds/{r:02}/{START}", mask)


def _read_survivors(client: MlflowClient, child: str, path: str, mask: Mask) -> Weights:
    return _read(client, child, path, lambda file: load_weights(file, mask))


def _read(client: MlflowClient, child: str, path: str, load: Callable[[Path], Weights]) -> Weights:
    """What an artifact holds; LotteryTicketError naming run and artifact where it is damaged."""
    with TemporaryDirectory() as work:
        file = _download(client, child, path, work)
        try:
            return load(file)
        except LotteryTicketError as error:
            told = str(error).replace(f"{file} cannot be read: ", "")
            raise LotteryTicketError(f"run {child}: artifact {path} cannot be read: {told}") from None


def read_round(client: MlflowClient, child: str, r: int) -> Record:
    """The record of round r of the trajectory with this run id."""
    with TemporaryDirectory() as work:
        return read_record(_download(client, child, f"rounds/{r:02}/round.json", work))


def read_record(path: Path) -> Record:
    """The record in a `round.json`; LotteryTicketError where it is damaged."""
    try:
        return Record.model_validate_json(unseal(path.read_bytes()))
    except (OSError, ValueError, LotteryTicketError) as error:
        raise LotteryTicketError(f"{path.name} cannot be read: {one_line(error)}") from None


def _read_records(client: MlflowClient, child: Run, waiting: Collection[int]) -> list[Record]:
    """The complete rounds of a trajectory: those whose `round.json` is there, but for those that are on their way."""
    records = []
    # The client's own methods ask the store for the run once an artifact, which takes most of the time.
    address = located(child.info.artifact_uri, client.tracking_uri)
    there = repository(address, client.tracking_uri)
    with TemporaryDirectory() as work:
        for folder in sorted(item.path for item in there.list_artifacts("rounds")):
            path, r = f"{folder}/round.json", Path(folder).name
            if not r.isdecimal() or int(r) in waiting or path not in {i.path for i in there.list_artifacts(folder)}:
                continue
            try:
                records.append(read_record(Path(there.download_artifacts(path, work))))
            except LotteryTicketError as error:
                raise LotteryTicketError(f"run {child.info.run_id}: {folder}/{error}") from None
            except Exception as error:
                raise _unreadable(client, child.info.run_id, path, error) from error
    return records


def _read_json(client: MlflowClient, run: Run, path: str) -> bytes:
    with TemporaryDirectory() as work:
        told = _download(client, run.info.run_id, path, work).read_bytes()
    try:
        return unseal(told)
    except LotteryTicketError as error:
        raise LotteryTicketError(f"run {run.info.run_id}: {path} cannot be read: {error}") from None


def _of_another_version(run: Run, what: str) -> LotteryTicketError:
    made = run.data.tags.get("lt.version", "another")
    return LotteryTicketError(
        f"run {run.info.run_id}: {what} cannot be read: it is damaged, or made by another version (lt {made}; this is "
        f"{__version__})"
    )


def _download(client: MlflowClient, run_id: str, path: str, folder: str) -> Path:
    try:
        return Path(client.download_artifacts(run_id, path, folder))
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(client, run_id, path, error) from error


def _unreadable(client: MlflowClient, run_id: str, path: str, error: Exception) -> LotteryTicketError:
    try:  # MLflow says of a file that it could not fetch that its path may be wrong, whatever the reason
        client.get_run(run_id)
    except MlflowException as why:
        error = why
    return LotteryTicketError(f"run {run_id}: artifact {path} cannot be read ({one_line(error)})")
