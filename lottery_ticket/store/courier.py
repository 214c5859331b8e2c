"""The courier: delivers what waits in an outbox beside the training, again where the store did not take it."""

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lottery_ticket.address import public
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.store.outbox import Outbox


class Courier:
    """A thread that lives as long as there is something to deliver.

    Args:
        uri: the store's address, for what is told.
        outbox: gives the outbox.
        send: delivers one of its folders.
        warn: told once when the store stops taking rounds, and when it takes them again.
    """

    def __init__(
        self, uri: str, outbox: Callable[[], Outbox], send: Callable[[Path], None], warn: Callable[[str], None]
    ) -> None:
        self._uri, self._outbox, self._send, self._warn = uri, outbox, send, warn
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._called = False
        self._trouble: Exception | None = None

    def call(self) -> None:
        """Have what waits delivered."""
        with self._lock:
            self._called = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._deliver, name="tracking", daemon=True)
                self._thread.start()

    def wait(self, patience: float) -> None:
        """Until everything is delivered; what the store said last if it takes nothing for `patience` seconds."""
        left, until = math.inf, time.monotonic() + patience
        while True:
            self.call()
            if thread := self._thread:
                thread.join()  # requests have time-outs of their own
            now = len(self._outbox().waiting())
            if now == 0:
                return
            if isinstance(self._trouble, LotteryTicketError):  # the rounds' fault, not the store's
                raise self._trouble
            if now < left:
                left, until = now, time.monotonic() + patience
            elif self._trouble and time.monotonic() >= until:
                raise self._trouble
            time.sleep(min(1.0, patience))

    def leave(self, within: float) -> None:
        """Deliver what can be delivered in so many seconds; the rest waits."""
        self.call()
        if thread := self._thread:
            thread.join(within)

    def _deliver(self) -> None:
        while True:
            with self._lock:
                if not self._called:
                    self._thread = None
                    return
                self._called = False
            try:
                self._send_all()
            except Exception as error:
                if self._trouble is None:
                    why = str(error) if isinstance(error, LotteryTicketError) else one_line(error)
                    self._warn(
                        f"{public(self._uri)} does not take finished rounds ({why}); training goes on, "
                        f"they are kept in {self._outbox().folder}"
                    )
                self._trouble = error
            else:
                if self._trouble is not None:
                    self._warn(f"{public(self._uri)} takes finished rounds again")
                self._trouble = None

    def _send_all(self) -> None:
        """Deliver each round that waits; one that is at fault itself holds up no other."""
        faults = []
        for folder in self._outbox().waiting():
            try:
                self._send(folder)
                self._outbox().take(folder)
            except LotteryTicketError as fault:
                faults.append(fault)
        if faults:
            raise faults[0]


def patience() -> float:
    """Seconds that a run waits at its end for a store that does not answer: LT_TRACKING_PATIENCE, else 60."""
    given = os.environ.get("LT_TRACKING_PATIENCE", "60")
    try:
        return max(0.0, float(given))
    except ValueError:
        raise InputError("LT_TRACKING_PATIENCE", given, "is no number; allowed: seconds") from None
