"""Optuna's storage: which one, whether it can be used, and one that many processes may write to at once."""

import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from lottery_ticket.address import DEFAULT_STORAGE, has_options, public, sqlite_file
from lottery_ticket.errors import InputError, one_line
from lottery_ticket.store.locks import made_once

HEARTBEAT = 10
"""Seconds between two signs of life of a running trial."""
GRACE = 30
"""Seconds without one after which a trial is given up and queued again."""

_REACHABLE_WITHIN = 10  # seconds
_LOCKED_FOR = 60  # seconds to wait for others that write to a SQLite file
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_TABLES = {"studies", "trials", "version_info"}

_ALLOWED = "allowed: sqlite:///PATH, or postgresql://USER:PASSWORD@HOST:PORT/NAME of a server that answers"
_STUDIED = "allowed: a storage that `lt sweep` has written to"

Result = TypeVar("Result")


def open_storage(url: str | None = None, create: bool = True) -> RDBStorage:
    """Optuna's storage, whose trials have heartbeats and are queued again when their process has died.

    Args:
        url: an SQLAlchemy URL; default: SQLite at mlruns/optuna.db.
        create: make the storage, or its tables, if it is not there yet.

    Raises:
        InputError: it cannot be used or, without `create`, is not there; within about 10 seconds, and untouched.
    """
    given = DEFAULT_STORAGE if url is None else url
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address, file = _address(given)
    if file and not file.exists() and not create:
        raise _refused(given, f"does not exist; {_STUDIED}")
    options: dict[str, Any] = {"connect_args": {"timeout": _LOCKED_FOR}} if file else {"pool_pre_ping": True}
    try:
        if file and create:
            file.parent.mkdir(parents=True, exist_ok=True)
        with made_once(file):
            tables = _within(None if file else _REACHABLE_WITHIN, lambda: _tables(address, options))
            if not tables >= _TABLES and not create:
                raise _refused(given, f"is no Optuna storage; {_STUDIED}")
            if not tables >= _TABLES and "alembic_version" in tables:  # Optuna's own table of that name would clash
                raise _refused(given, "is the database of another program, such as MLflow; allowed: one of its own")
            storage = _storage(address, options)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        extra = "; pip install 'lottery-ticket-lab[postgresql]'" if error.name == "psycopg" else ""
        raise _refused(given, f"needs the package {error.name}{extra}; {_ALLOWED}") from None
    except Exception as error:
        why = one_line(getattr(error, "orig", None) or error, 200)
        raise _refused(given, f"cannot be used ({why}); {_ALLOWED}") from None
    if file and os.access(file, os.W_OK):
        # Optuna reads a trial's state, then writes it, and counts on SELECT … FOR UPDATE, which SQLite has not: 4
        # processes that shared 400 waiting trials took 18 of them twice. With the lock taken first they queue, and none
        # finds the database locked half-way. WAL would add speed that trials of seconds do not need, and end a
        # storage that is one file, may be in a read-only folder and on a network file system.
        sqlalchemy.event.listen(storage.engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def without_heartbeat(study: optuna.Study) -> list[int]:
    """The numbers of running trials that have not given a sign of life yet; Optuna itself never gives those up."""
    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    backend: Any = getattr(study._storage, "_backend", study._storage)  # below Optuna's cache of finished trials
    with backend.engine.connect() as connection:
        beating = set(connection.execute(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats")).scalars())
    return [trial.number for trial in running if trial._trial_id not in beating]


def _address(given: str) -> tuple[URL, Path | None]:
    """The URL with its driver and, for SQLite, its absolute path, which it keeps wherever the process goes."""
    try:
        address = sqlalchemy.make_url(given)
        address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
        address.get_dialect()
    except NoSuchModuleError:
        raise _refused(given, f"is of a kind that is unknown; {_ALLOWED}") from None
    except (ArgumentError, ValueError):  # whose text may hold the password
        raise _refused(given, f"is no URL; {_ALLOWED}") from None
    if address.get_backend_name() != "sqlite":
        return address, None
    if address.database in (None, "", ":memory:") or address.database.startswith("file:"):
        raise _refused(given, "names no file; allowed: sqlite:///PATH")
    if (named := sqlite_file(given)) and not has_options(given):
        address = URL.create(address.drivername, database=str(named))  # with a name like a%20b as it is
    file = Path(str(address.database)).absolute()
    return address.set(database=str(file)), file


def _tables(address: URL, options: dict[str, Any]) -> set[str]:
    engine = sqlalchemy.create_engine(address, **options)
    try:
        return set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _storage(address: URL, options: dict[str, Any]) -> RDBStorage:
    url = address.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
    tries = 5
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                )
        except DBAPIError:  # another process, perhaps on another machine, makes the same tables in the server
            tries -= 1
            if not tries:
                raise
            time.sleep(0.2)


def _within(seconds: float | None, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises; TimeoutError if it takes longer (drivers differ in the limits they know)."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer within {seconds} s")
    return done[0]


def _refused(url: str, why: str) -> InputError:
    return InputError("--storage", public(url), why)
