"""Finished rounds on their way to MLflow, in a local folder until the store has them."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from lottery_ticket.address import sqlite_file
from lottery_ticket.errors import InputError, LotteryTicketError, one_line

TRAINED = "trained"
"""The file that says that no round follows."""

_RUN = re.compile(r"[\w-]{1,64}", re.ASCII)
"""An id as MLflow makes them, 32 hexadecimal digits, or as another store may."""

_REFUSED, _REASONS, _DELETED = "refused", "reasons.json", "deleted"


def outbox_root(uri: str) -> Path:
    """Where the rounds for the store with this tracking URI wait: `outbox` beside a SQLite store, else in `mlruns`."""
    file = sqlite_file(uri)
    return (file.parent if file else Path("mlruns")) / "outbox"


def is_run(name: str) -> bool:
    """Whether a run may have this id."""
    return _RUN.fullmatch(name) is not None


class Outbox:
    """The finished rounds of one run that MLflow does not have yet.

    A round is a folder named by its number, with one folder for each trajectory; it is there as a whole or not at all.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        if not is_run(run_id):  # it becomes a folder, which is removed in the end
            raise InputError("RUN", run_id, "is no id of a run; allowed: letters, digits, _ and -")
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

    def set_aside(self, what: str, why: str, files: Path | None = None) -> bool:
        """Keep what the store will never take, with the reason; whether that is news."""
        self.aside.mkdir(parents=True, exist_ok=True)
        if files:
            kept = self.aside / files.relative_to(self.folder)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(files, kept, dirs_exist_ok=True) if files.is_dir() else shutil.copy(files, kept)
        reasons = self.refused
        if what in reasons:
            return False
        new = self.aside / f".{_REASONS}"
        new.write_text(json.dumps(reasons | {what: why}, indent=2), encoding="utf-8")
        new.rename(self.aside / _REASONS)
        return True

    @property
    def aside(self) -> Path:
        """Where that is."""
        return self.folder / _REFUSED

    @property
    def refused(self) -> dict[str, str]:
        """What the store will never take → why."""
        reasons = self.aside / _REASONS
        if not reasons.exists():
            return {}
        try:
            told = json.loads(reasons.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise LotteryTicketError(f"{reasons} cannot be read: {one_line(error)}") from None
        if not (isinstance(told, dict) and all(isinstance(why, str) for why in told.values())):
            raise LotteryTicketError(f"{reasons} cannot be read: it holds no reasons")
        return told

    @property
    def settled(self) -> bool:
        """Whether all that is left was refused."""
        return {path.name for path in self.folder.iterdir()} == {_REFUSED}

    def tell_deleted(self) -> bool:
        """Note that somebody was told that the run is deleted; whether that is news."""
        told = self.folder / _DELETED
        news = not told.exists()
        told.touch()
        return news

    def remove(self) -> None:
        """Nothing is left to be done with this run, but for files that the store will never take."""
        if self.aside.is_dir() and any(path.is_dir() for path in self.aside.iterdir()):
            for folder in self.waiting():
                self.take(folder)
            for name in (TRAINED, _DELETED):
                (self.folder / name).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def check_working_folder() -> None:
    """InputError where the working folder does not take what a run leaves there: figures, and rounds on their way."""
    for folder in (Path("mlruns", "outbox"), Path("mlruns", "figures")):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with TemporaryFile(dir=there):
                pass
        except OSError as error:
            why = f"cannot be written ({error.strerror}), where a run keeps finished rounds and figures"
            raise InputError("working folder", str(there.absolute()), f"{why}; allowed: one that can") from None
