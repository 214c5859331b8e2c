"""Finished rounds on their way to MLflow, in a local folder until the store has them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lottery_ticket.address import sqlite_file

TRAINED = "trained"
"""The file that says that no round follows."""


def outbox_root(uri: str) -> Path:
    """Where the rounds for the store with this tracking URI wait: `outbox` beside a SQLite store, else in `mlruns`."""
    file = sqlite_file(uri)
    return (file.parent if file else Path("mlruns")) / "outbox"


class Outbox:
    """The finished rounds of one run that MLflow does not have yet.

    A round is a folder named by its number, with one folder for each trajectory; it is there as a whole or not at all.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self.folder = outbox_root(uri) / run_id

    @contextmanager
    def putting(self, r: int) -> Iterator[Path]:
        """The empty folder of a round, which counts once the context ends well."""
        work = self.folder / f".{r:02}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            yield work
            work.rename(self.folder / f"{r:02}")
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def waiting(self) -> list[Path]:
        """The folders of the rounds that wait, first round first."""
        rounds = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in rounds if path.name.isdigit()), key=lambda path: int(path.name))

    def take(self, folder: Path) -> None:
        """Remove a round that the store has."""
        taken = folder.rename(folder.with_name(f".{folder.name}"))  # in one step: what waits is whole
        shutil.rmtree(taken, ignore_errors=True)

    @property
    def trained(self) -> bool:
        """Whether no round follows."""
        return (self.folder / TRAINED).exists()

    def close(self) -> None:
        """No round follows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / TRAINED).touch()

    def remove(self) -> None:
        """Nothing is left to be done with this run."""
        shutil.rmtree(self.folder, ignore_errors=True)
