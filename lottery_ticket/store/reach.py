"""Whether a store can be reached and written, as far as that shows without MLflow: it is said at once.

MLflow takes seconds to be imported and knows more: what it alone can tell, `connection.connect` says.
"""

import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import quote, urlsplit

from lottery_ticket.address import DEFAULT_STORE, SQLITE, has_options, public, sqlite_file, tracking_uri
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.store.outbox import check_working_folder

DEFAULT_EXPERIMENT = "lottery-ticket"
ALLOWED = "allowed: a tracking server's or database's address that answers"
RUNS = "allowed: the id of a run that `lt run` or `lt train` made"
REACHABLE_WITHIN = 3
"""Seconds to connect, and as many to answer."""

_LONGEST_NAME = 500  # characters; MLflow's own limit
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def must_be_usable(given: str | None = None, create: bool = True, experiment: str = DEFAULT_EXPERIMENT) -> None:
    """InputError within about 10 seconds if the store cannot be read or, with `create`, written; makes nothing.

    Args:
        given: a tracking URI; see `tracking_uri`.
        create: a SQLite store may be made that is not there yet.
        experiment: the name of the experiment that is meant.
    """
    check(given, experiment)
    uri, named_by = tracking_uri(given), option(given)
    file = sqlite_file(uri)
    if file and not create:
        if not file.exists():
            here = "is not there: nothing was run in this folder yet" if given is None else "does not exist"
            raise InputError(named_by, public(uri), f"{here}; allowed: a store that `lt run` has written to")
        if not _is_store(file):  # MLflow would make its tables in it
            raise InputError(named_by, public(uri), "is no MLflow store; allowed: a store that `lt run` has written to")
    if file and create:
        _check_writable(file, named_by, uri)
        gone = "SELECT 1 FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'"
        if _is_store(file) and _has(file, gone, experiment):
            raise deleted(experiment)
    if create and not (file and file.parent.resolve() == Path("mlruns").resolve()):
        check_working_folder()


def deleted(experiment: str) -> InputError:
    """What is said of an experiment that was deleted in MLflow."""
    return InputError("--experiment", experiment, "is deleted in this store; allowed: another, or restore it")


def must_know(run_id: str, option: str, given: str | None = None) -> None:
    """InputError where the store cannot be read or has no such run; of one that is no SQLite file MLflow says that."""
    must_be_usable(given, create=False)
    file = sqlite_file(tracking_uri(given))
    if file and not _has(file, "SELECT 1 FROM runs WHERE run_uuid = ?", run_id):
        raise no_run(option, run_id, sqlite_uri(file, option))


def no_run(option: str, run_id: str, uri: str) -> InputError:
    """What is said where the store with this address has no run of that id."""
    return InputError(option, run_id, f"is no run in {public(uri)}; {RUNS}")


def check(given: str | None, experiment: str) -> None:
    """InputError if the experiment has no such name, or within about 10 seconds if no server answers; makes nothing."""
    if set(experiment) <= {"."} or len(experiment) > _LONGEST_NAME:
        allowed = f"allowed: text other than dots, of at most {_LONGEST_NAME} characters"
        raise InputError("--experiment", experiment, f"is no name; {allowed}")
    uri, named_by = tracking_uri(given), option(given)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:  # which may tell a part of a password
        raise InputError(named_by, public(uri), f"is no address; {ALLOWED}") from None
    if parts.scheme == "sqlite" and (not (file := sqlite_file(uri)) or file.name in ("", ":memory:")):
        raise InputError(named_by, public(uri), "is no file; allowed: sqlite:///FILE")
    if has_options(uri):
        why = "has options, or a name with a ? in it that is not there; allowed: sqlite:///FILE, with %3F for a ?"
        raise InputError(named_by, public(uri), why)
    if file := sqlite_file(uri):
        sqlite_uri(file, named_by)
    port = port or _PORTS.get(parts.scheme.split("+")[0])
    if parts.scheme in ("http", "https") and host is None:
        raise InputError(named_by, public(uri), f"names no host; {ALLOWED}")
    if host is None or port is None:
        return
    try:
        with socket.create_connection((host, port), timeout=REACHABLE_WITHIN):
            pass
        if parts.scheme in ("http", "https"):
            from lottery_ticket.store.patience import session

            with session() as asking:
                asking.get(f"{uri.rstrip('/')}/health", timeout=REACHABLE_WITHIN)
    except (
        OSError,
        UnicodeError,
        LotteryTicketError,
    ) as error:  # of the first requests' exceptions are a kind; the second is of odd names
        raise InputError(named_by, public(uri), f"cannot be reached ({one_line(error, 120)}); {ALLOWED}") from None


def _check_writable(file: Path, option: str, uri: str) -> None:
    try:
        if file.exists():
            with open(file, "ab"):
                return
        with TemporaryFile(dir=next(path for path in file.absolute().parents if path.exists())):
            return
    except OSError as error:
        raise not_writable(option, uri, error) from None


def not_writable(option: str, uri: str, error: OSError) -> InputError:
    """What is said of a SQLite store that cannot be written."""
    return InputError(option, public(uri), f"cannot be written ({one_line(error)}); allowed: a writable path")


def _is_store(file: Path) -> bool:
    """Whether a SQLite file has MLflow's tables."""
    try:
        names = {name for (name,) in _rows(file, "SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return False
    return {"runs", "experiments", "alembic_version"} <= names


def _has(file: Path, query: str, value: str) -> bool:
    """Whether a query finds anything in a store; also where it cannot be asked, which is for MLflow to say."""
    try:
        return bool(_rows(file, query, value))
    except sqlite3.Error:
        return True


def _rows(file: Path, query: str, *values: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, timeout=20)) as database:
        return database.execute(query, values).fetchall()


def sqlite_uri(file: Path, option: str) -> str:
    """The URI from which SQLAlchemy reads a SQLite file's absolute path; InputError where there is none.

    It takes what looks like an escape for one, and what follows a `?` for options. A path that has these is written as
    one name, so that the URI has no folder that MLflow, which does not read escapes, would make.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    path = str(file.absolute())
    with suppress(ArgumentError, UnicodeEncodeError):
        path.encode()  # a name that is no text
        for written in (path, "/" + quote(path.removeprefix("/"), safe="")):
            if make_url(SQLITE + written).database == path:
                return SQLITE + written
    raise InputError(option, path, "is a path that a database cannot be opened by; allowed: another folder or name")


def option(given: str | None) -> str:
    """What named the store."""
    return "--tracking-uri" if given or tracking_uri(given) == DEFAULT_STORE else "MLFLOW_TRACKING_URI"


@contextmanager
def quietly() -> Iterator[None]:
    """Within it, MLflow draws no bars."""
    with environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
        yield


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Within it, these variables are set; they are as before afterwards."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
