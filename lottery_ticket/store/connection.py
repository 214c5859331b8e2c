"""The MLflow store: which one, whether it can be reached, and the experiment in it."""

import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from lottery_ticket.address import (
    DEFAULT_STORE,
    SQLITE,
    artifact_root,
    artifacts_of,
    has_options,
    public,
    sqlite_file,
    tracking_uri,
)
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.store.beside import Client, put_right
from lottery_ticket.store.chart_view import view_tags
from lottery_ticket.store.locks import made_once
from lottery_ticket.store.outbox import check_working_folder

DEFAULT_EXPERIMENT = "lottery-ticket"
_ALLOWED = "allowed: a tracking server's or database's address that answers"
_LONGEST_NAME = 500  # characters; MLflow's own limit
_REACHABLE_WITHIN = 3  # seconds to connect, and as many to answer
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def connect(given: str | None = None, create: bool = True, experiment: str = DEFAULT_EXPERIMENT) -> MlflowClient:
    """A client of the store; InputError within about 10 seconds if it cannot be reached.

    Args:
        given: a tracking URI; see `tracking_uri`.
        create: make a SQLite store that is not there yet.
        experiment: the name of the experiment that is meant; only checked.
    """
    check(given, experiment)
    uri, option = tracking_uri(given), _option(given)
    if file := sqlite_file(uri):
        if not create and not file.exists():
            here = "is not there: nothing was run in this folder yet" if given is None else "does not exist"
            raise InputError(option, public(uri), f"{here}; allowed: a store that `lt run` has written to")
        if not create and not _is_store(file):  # MLflow would make its tables in it
            raise InputError(option, public(uri), "is no MLflow store; allowed: a store that `lt run` has written to")
        if create:
            _check_writable(file, option, uri)
    if create and not (file and file.parent.resolve() == Path("mlruns").resolve()):
        check_working_folder()
    try:
        with made_once(file), _impatient(0, _REACHABLE_WITHIN):
            if file and file.stat().st_size == 0:
                _make(file, option)
            # MLflow keeps stores by their URI, wherever the process has gone since
            client = Client(sqlite_uri(file, option)) if file else MlflowClient(uri)
            client.search_experiments(max_results=1)
            if file:
                put_right(file)
    except InputError:
        raise
    except Exception as error:
        raise InputError(option, public(uri), f"cannot be used ({one_line(error)}); {_ALLOWED}") from None
    return client


def _check_writable(file: Path, option: str, uri: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab"):
            pass
    except OSError as error:
        raise InputError(
            option, public(uri), f"cannot be written ({one_line(error)}); allowed: a writable path"
        ) from None


def _make(file: Path, option: str) -> None:
    """A new SQLite store, in one step: MLflow cannot go on with one that it was stopped making."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    SqlAlchemyStore(sqlite_uri(new, option), artifacts_of(file).as_uri()).engine.dispose()
    new.rename(file)


def sqlite_uri(file: Path, option: str) -> str:
    """The URI from which SQLAlchemy reads a SQLite file's absolute path; InputError where there is none.

    It takes what looks like an escape for one, and what follows a `?` for options. A path that has these is written as
    one name, so that the URI has no folder that MLflow, which does not read escapes, would make.
    """
    path = str(file.absolute())
    with suppress(ArgumentError, UnicodeEncodeError):
        path.encode()  # a name that is no text
        for written in (path, "/" + quote(path.removeprefix("/"), safe="")):
            if make_url(SQLITE + written).database == path:
                return SQLITE + written
    raise InputError(option, path, "is a path that a database cannot be opened by; allowed: another folder or name")


def _option(given: str | None) -> str:
    """What named the store."""
    return "--tracking-uri" if given or tracking_uri(given) == DEFAULT_STORE else "MLFLOW_TRACKING_URI"


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment, made if need be, with the chart view that `lt ui` opens."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise InputError("--experiment", name, "is deleted in this store; allowed: another, or restore it")
    if found is None:
        root = artifact_root(client.tracking_uri)
        folder = quote(name.replace("/", "%2F"), safe="")  # of which MLflow makes the text before again
        try:
            client.create_experiment(name, artifact_location=f"{root.as_uri()}/{folder}" if root else None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another process in between
                raise InputError("--experiment", name, f"is not allowed: {one_line(error)}") from None
        found = client.get_experiment_by_name(name)
    for key, value in view_tags().items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def _is_store(file: Path) -> bool:
    """Whether a SQLite file has MLflow's tables."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, timeout=20)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return False
    return {"runs", "experiments", "alembic_version"} <= names


def search(client: MlflowClient, experiments: list[str], query: str, which: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """All runs that a query finds, newest first; without deleted ones unless told otherwise."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(experiments, query, which, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


@contextmanager
def telling(doing: str) -> Iterator[None]:
    """Within it, a store that fails is said so in one line, soon."""
    with _impatient(2, 20):
        try:
            yield
        except LotteryTicketError:
            raise
        except (MlflowException, OSError) as error:
            raise LotteryTicketError(f"{doing} failed: {one_line(error)}") from error


@contextmanager
def _impatient(retries: int, seconds: int) -> Iterator[None]:
    """Within it, a request to a tracking server is not tried more often nor waited for longer, and no bar is drawn."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    with _environment(wanted):
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """Within it, MLflow draws no bars."""
    with _environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
        yield


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
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


def check(given: str | None, experiment: str) -> None:
    """InputError if the experiment has no such name, or within about 10 seconds if no server answers; makes nothing."""
    if set(experiment) <= {"."} or len(experiment) > _LONGEST_NAME:
        allowed = f"allowed: text other than dots, of at most {_LONGEST_NAME} characters"
        raise InputError("--experiment", experiment, f"is no name; {allowed}")
    uri, option = tracking_uri(given), _option(given)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(option, public(uri), f"is no address ({error}); {_ALLOWED}") from None
    if parts.scheme == "sqlite" and (not (file := sqlite_file(uri)) or file.name in ("", ":memory:")):
        raise InputError(option, public(uri), "is no file; allowed: sqlite:///FILE")
    if has_options(uri):
        why = "has options, or a name with a ? in it that is not there; allowed: sqlite:///FILE, with %3F for a ?"
        raise InputError(option, public(uri), why)
    if file := sqlite_file(uri):
        sqlite_uri(file, option)
    port = port or _PORTS.get(parts.scheme.split("+")[0])
    if parts.scheme in ("http", "https") and host is None:
        raise InputError(option, public(uri), f"names no host; {_ALLOWED}")
    if host is None or port is None:
        return
    try:
        with socket.create_connection((host, port), timeout=_REACHABLE_WITHIN):
            pass
        if parts.scheme in ("http", "https"):
            import requests

            requests.get(f"{uri.rstrip('/')}/health", timeout=_REACHABLE_WITHIN)
    except (OSError, UnicodeError) as error:  # of the first requests' exceptions are a kind; the second is of odd names
        raise InputError(option, public(uri), f"cannot be reached ({one_line(error, 120)}); {_ALLOWED}") from None
