"""Waiting for what others may never finish: until it is done, until a deadline, or until the command ends."""

import threading
from collections.abc import Callable
from typing import TypeVar

Made = TypeVar("Made")

_LOOK = 0.2
"""Seconds between looks at whether the command ends."""

_ends = threading.Event()


def end() -> None:
    """Nobody waits any longer, on any thread: the command was interrupted."""
    _ends.set()


def until(deadline: Callable[[], bool], make: Callable[[], Made]) -> Made:
    """What `make` gives, on a thread of its own, so that a signal is heard meanwhile; its exceptions are raised here.

    TimeoutError once `deadline` says that it is over. The thread is left to itself then; `make` must come to an end of
    its own accord, and does not keep the process.
    """
    made: list[Made] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    while not done.wait(_LOOK):
        if deadline() or _ends.is_set():
            raise TimeoutError("is waited for no longer")
    if failed:
        raise failed[0]
    return made[0]
