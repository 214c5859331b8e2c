"""Where the artifacts of a store are: of a SQLite store beside its database, whatever absolute path was recorded.

MLflow records the path that the store had when an experiment was made, in each experiment, run and registered model.
A store that was moved or copied since, or that is reached by another path, has its artifacts where it is now.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.file_utils import get_local_path_or_none

from lottery_ticket.address import artifacts_of, sqlite_file
from lottery_ticket.store.places import allowed, repository

_PATIENCE = 20  # seconds for others that write to the file


class Client(MlflowClient):
    """A client of a store that looks for artifacts where they are, and nowhere but in places that are allowed."""

    def __init__(self, tracking_uri: str) -> None:
        super().__init__(tracking_uri)
        self._of_runs: dict[str, ArtifactRepository] = {}

    def _artifacts(self, run_id: str) -> ArtifactRepository:
        if found := self._of_runs.get(run_id):
            return found
        place = located(self.get_run(run_id).info.artifact_uri, self.tracking_uri)
        found = repository(place, self.tracking_uri)
        if not sqlite_file(self.tracking_uri):  # of which asking costs nothing
            self._of_runs[run_id] = found
        return found

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """A file among a run's artifacts."""
        self._artifacts(run_id).log_artifact(local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        """The files of a folder among a run's artifacts."""
        self._artifacts(run_id).log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """A run's artifacts in a folder of them."""
        return self._artifacts(run_id).list_artifacts(path)

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """Where a run's artifact is, or a copy of it in the folder `dst_path`."""
        return self._artifacts(run_id).download_artifacts(path, dst_path)


def located(recorded: str, tracking_uri: str) -> str:
    """The address of a run's artifacts, of which the store says that it is `recorded`; see `places.allowed`."""
    file = sqlite_file(tracking_uri)
    return allowed(_of_run(recorded, file) if file else recorded, tracking_uri)


def must_take_runs(recorded: str, tracking_uri: str) -> None:
    """InputError where an experiment, of which the store says that its runs are `recorded`, has them elsewhere."""
    file = sqlite_file(tracking_uri)
    allowed(_of_experiment(recorded, file) if file else recorded, tracking_uri)


def put_right(file: Path) -> None:
    """Record where a SQLite store's artifacts are now, so that any MLflow finds them; in one step.

    Nothing is done where nothing has changed or the file cannot be written: `Client` finds them all the same.
    """
    if not os.access(file, os.W_OK):
        return
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=_PATIENCE)) as store, store:
        experiments = _changes(store, "experiments", "artifact_location", file, _of_experiment)
        store.executemany("UPDATE experiments SET artifact_location = ?2 WHERE artifact_location = ?1", experiments)
        runs = _changes(store, "runs", "artifact_uri", file, _of_run)
        store.executemany("UPDATE runs SET artifact_uri = ?2 WHERE artifact_uri = ?1", runs)
        for column in ("source", "storage_location"):
            store.executemany(
                f"UPDATE model_versions SET {column} = ?2 || substr({column}, length(?1) + 1) "
                f"WHERE substr({column}, 1, length(?1) + 1) = ?1 || '/'",
                runs,
            )


def _changes(
    store: sqlite3.Connection, table: str, column: str, file: Path, where: Callable[[str, Path], str]
) -> list[tuple[str, str]]:
    """Recorded addresses and what they are now, where that differs."""
    root = f"{artifacts_of(file).as_uri()}/"
    query = f"SELECT DISTINCT {column} FROM {table} WHERE substr({column}, 1, length(?1)) <> ?1"
    found = [(recorded, where(recorded, file)) for (recorded,) in store.execute(query, (root,))]
    return [(recorded, now) for recorded, now in found if recorded != now]


def _of_run(recorded: str, file: Path) -> str:
    """A run's artifacts lie at ROOT/EXPERIMENT/RUN/artifacts."""
    path, here = _paths(recorded, file, above=2)
    if here is None or not (here.exists() or (_is_ours(path.parents[2]) and not path.exists())):
        return recorded  # as those of a database that was copied alone
    return here.as_uri()


def _of_experiment(recorded: str, file: Path) -> str:
    """An experiment's runs have their artifacts below ROOT/EXPERIMENT, the runs to come as well."""
    path, here = _paths(recorded, file, above=0)
    if here is None:
        return recorded
    of_another = (path.parent.parent / file.name).exists()  # which this store was copied from
    if not (here.exists() or (_is_ours(path.parent) and (of_another or not path.exists()))):
        return recorded
    return here.as_uri()


def _paths(recorded: str, file: Path, above: int) -> tuple[Path, Path | None]:
    """A recorded path and the same beside the database, whose root is so far above it; None where it may stay."""
    local = get_local_path_or_none(recorded)
    path = Path(local or "")
    if local is None or len(path.parents) <= above:
        return path, None
    root = path.parents[above]
    # MLflow's own experiment "Default" is at mlruns/0
    now = artifacts_of(file) if _is_ours(root) else file.parent.resolve()
    with suppress(OSError):
        if root.samefile(now):
            return path, None
    return path, now / path.relative_to(root)


def _is_ours(root: Path) -> bool:
    """Whether that is the folder `artifacts` of a store."""
    return root.name == "artifacts"
