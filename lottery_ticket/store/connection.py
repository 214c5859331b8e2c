"""A client of the MLflow store, and the experiment in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from lottery_ticket.address import (
    artifact_root,
    artifacts_of,
    public,
    sqlite_file,
    tracking_uri,
)
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.store import reach
from lottery_ticket.store.beside import Client, must_take_runs, put_right
from lottery_ticket.store.chart_view import view_tags
from lottery_ticket.store.locks import made_once
from lottery_ticket.store.patience import set_limits

_MOST_PAGES = 200  # of up to a thousand runs


def connect(given: str | None = None, create: bool = True, experiment: str = reach.DEFAULT_EXPERIMENT) -> MlflowClient:
    """A client of the store; InputError within about 10 seconds if it cannot be reached.

    Args:
        given: a tracking URI; see `tracking_uri`.
        create: make a SQLite store that is not there yet.
        experiment: the name of the experiment that is meant; only checked.
    """
    set_limits()
    reach.must_be_usable(given, create, experiment)
    uri, option = tracking_uri(given), reach.option(given)
    file = sqlite_file(uri)
    try:
        if file and create:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "ab"):
                pass
    except OSError as error:
        raise reach.not_writable(option, uri, error) from None
    try:
        with made_once(file), _impatient(0, reach.REACHABLE_WITHIN):
            if file and file.stat().st_size == 0:
                _make(file, option)
            # MLflow keeps stores by their URI, wherever the process has gone since
            client = Client(reach.sqlite_uri(file, option) if file else uri)
            client.search_experiments(max_results=1)
            if file:
                put_right(file)
    except InputError:
        raise
    except Exception as error:
        raise InputError(option, public(uri), f"cannot be used ({one_line(error)}); {reach.ALLOWED}") from None
    return client


def _make(file: Path, option: str) -> None:
    """A new SQLite store, in one step: MLflow cannot go on with one that it was stopped making."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    SqlAlchemyStore(reach.sqlite_uri(new, option), artifacts_of(file).as_uri()).engine.dispose()
    new.rename(file)


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment, made if need be, with the chart view that `lt ui` opens."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise reach.deleted(name)
    if found is None:
        root = artifact_root(client.tracking_uri)
        folder = quote(name.replace("/", "%2F"), safe="")  # of which MLflow makes the text before again
        try:
            client.create_experiment(name, artifact_location=f"{root.as_uri()}/{folder}" if root else None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another process in between
                raise InputError("--experiment", name, f"is not allowed: {one_line(error)}") from None
        found = client.get_experiment_by_name(name)
    must_take_runs(found.artifact_location, client.tracking_uri)
    for key, value in view_tags().items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def search(client: MlflowClient, experiments: list[str], query: str, which: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """All runs that a query finds, newest first; without deleted ones unless told otherwise.

    LotteryTicketError where the store goes on giving pages.
    """
    runs: list[Run] = []
    token = None
    for _ in range(_MOST_PAGES):
        page = client.search_runs(experiments, query, which, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
    raise LotteryTicketError(
        f"{public(client.tracking_uri)} gives over {_MOST_PAGES} pages of runs; allowed: at most that"
    )


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
    with reach.environment(wanted):
        yield
