"""Locks beside a store's files: things made once, and one writer a run."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient

from lottery_ticket.address import public, sqlite_file
from lottery_ticket.errors import InputError, LotteryTicketError, one_line


@contextmanager
def made_once(file: Path | None) -> Iterator[None]:
    """Within it, no other process of this user makes the tables of this SQLite store."""
    if file is None:
        yield
        return
    with _lock(str(file.resolve()), 60):
        yield


@contextmanager
def writing(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Within it, no other process writes the run; LotteryTicketError where one does. May be entered again within.

    The lock is a file beside that of a SQLite store, which goes with it; for others it holds on this machine alone.
    """
    file = sqlite_file(client.tracking_uri)
    lock = FileLock(file.parent / "locks" / f"{run_id}.lock", 0, is_singleton=True) if file else _lock(run_id, 0)
    try:
        Path(lock.lock_file).parent.mkdir(exist_ok=True)
        lock.acquire()
    except Timeout:
        raise LotteryTicketError(
            f"run {run_id} is being trained by another process: wait until that ends, or stop it"
        ) from None
    except OSError as error:
        why = f"cannot be written ({one_line(error)}); allowed: a store that can"
        raise InputError("--tracking-uri", public(client.tracking_uri), why) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # a process that waits for a file that is gone asks again
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lock(name: str, seconds: float) -> FileLock:
    """What one process of this user on this machine has at a time; it ends with the process, however that ends."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return FileLock(_own_folder() / f"{digest}.lock", timeout=seconds, is_singleton=True)


def _own_folder() -> Path:
    """A folder that no other user can reach, made if need be; InputError where there can be none.

    It is in the user's cache; in the folder for temporary files where that cannot be written, as without a home.
    """
    user = getattr(os, "getuid", int)()
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    tried = Path(caches, "lottery-ticket", "locks"), Path(tempfile.gettempdir(), f"lottery-ticket-{user}")
    for folder in tried:
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            there = folder.lstat()
            ours = stat.S_ISDIR(there.st_mode) and there.st_uid == user
            if ours and os.access(folder, os.W_OK):
                folder.chmod(0o700)
                return folder
    raise InputError("XDG_CACHE_HOME", str(caches), "holds no folder for locks; allowed: a folder of your own")
