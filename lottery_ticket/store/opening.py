"""A store opened by a thread while something else is done: MLflow is imported there, and a new store made."""

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from lottery_ticket import process

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Opening:
    """A store that is being opened; a context manager, which ends when the thread has.

    Args:
        tracking_uri, experiment: as for `connection.connect`.
    """

    def __init__(self, tracking_uri: str | None, experiment: str) -> None:
        self._opened: Future[MlflowClient] = Future()
        self._thread = threading.Thread(target=self._open, args=(tracking_uri, experiment), name="store", daemon=True)

    def __enter__(self) -> "Opening":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    @property
    def ready(self) -> bool:
        """Whether `client` would not wait."""
        return self._opened.done()

    def client(self) -> "MlflowClient":
        """Its client, as soon as there is one; raises what `connection.connect` raised."""
        return self._opened.result()

    def _open(self, tracking_uri: str | None, experiment: str) -> None:
        try:
            with process.importing():
                from lottery_ticket.store import connection, tracking  # noqa: F401, the second for what follows

            self._opened.set_result(connection.connect(tracking_uri, experiment=experiment))
        except BaseException as error:
            self._opened.set_exception(error)
