"""Writing to a store piece by piece: what it will never take is set aside and named, all else is delivered."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DataError, SQLAlchemyError

from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.store.reading import restoring

_NEVER = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"}
_NEVER_HTTP = {400, 411, 413, 414, 415, 422}
_MOST = {"metrics": 1000, "tags": 100}  # in one batch

SetAside = Callable[[str, str, Path | None], None]
"""Told what the store will never take, why, and the file or folder that has it, if there is one."""


class Gone(LotteryTicketError):
    """A run was deleted in MLflow; `restorable` unless for good."""

    def __init__(self, name: str, run_id: str, tracking_uri: str, restorable: bool) -> None:
        self.restorable = restorable
        how = restoring([run_id], tracking_uri) if restorable else "it cannot be restored"
        super().__init__(f"{name} ({run_id}) was deleted in MLflow: {how}")


def never(error: Exception) -> bool:
    """Whether a store has refused something for good: for what it is, not for who asks or how the store fares."""
    if isinstance(error, MlflowException):
        cause = error.__cause__
        return isinstance(cause, DataError) if isinstance(cause, SQLAlchemyError) else error.error_code in _NEVER
    return getattr(getattr(error, "response", None), "status_code", None) in _NEVER_HTTP


class Delivery:
    """Writes to the runs of one store. Gone is raised for a run that was deleted; other errors are the store's."""

    def __init__(self, client: MlflowClient, set_aside: SetAside) -> None:
        self._client, self._set_aside = client, set_aside

    def log(self, run_id: str, name: str, metrics: Sequence[Metric] = (), tags: Sequence[RunTag] = ()) -> None:
        """Metrics and tags of the run that is called `name` where something is to be said of it."""
        for kind, entries in (("metrics", metrics), ("tags", tags)):
            for first in range(0, len(entries), _MOST[kind]):
                self._log(run_id, name, kind, entries[first : first + _MOST[kind]])

    def log_artifacts(self, run_id: str, name: str, folder: Path) -> None:
        """The files in a folder, as they lie there."""
        try:
            self._client.log_artifacts(run_id, str(folder))
        except Exception as error:
            self._check(error, run_id, name)
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                self._log_artifact(run_id, name, file, file.relative_to(folder))

    def _log_artifact(self, run_id: str, name: str, file: Path, path: Path) -> None:
        try:
            self._client.log_artifact(run_id, str(file), None if path.parent == Path() else path.parent.as_posix())
        except Exception as error:
            self._check(error, run_id, name)
            self._set_aside(f"{path} of {name}", one_line(error), file)

    def end(self, run_id: str, name: str, status: str) -> None:
        """Set a run's status: RUNNING, FINISHED, FAILED or KILLED."""
        try:
            if status == "RUNNING":
                self._client.update_run(run_id, status=status)
            else:
                self._client.set_terminated(run_id, status=status)
        except MlflowException as error:
            self._check(error, run_id, name)
            raise

    def _log(self, run_id: str, name: str, kind: str, entries: Sequence[Metric | RunTag]) -> None:
        try:
            self._client.log_batch(run_id, **{kind: entries})
        except Exception as error:
            self._check(error, run_id, name)
            if len(entries) == 1:
                self._set_aside(f"{kind.removesuffix('s')} {entries[0].key!r} of {name}", one_line(error), None)
                return
            half = len(entries) // 2
            for some in (entries[:half], entries[half:]):
                self._log(run_id, name, kind, some)

    def _check(self, error: Exception, run_id: str, name: str) -> None:
        """Raise the error again unless it is for good, and Gone where the run is what is missing."""
        if not never(error):
            raise error
        try:
            there = self._client.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE
        except MlflowException as missing:
            if missing.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise Gone(name, run_id, self._client.tracking_uri, False) from error
        if not there:
            raise Gone(name, run_id, self._client.tracking_uri, True) from error
