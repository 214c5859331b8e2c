"""Where a run's time goes: every second of it counts as one of a few parts."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

from lottery_ticket.record import Record

Part = Literal["start", "data", "training", "evaluation", "tracking", "figures"]
PARTS: tuple[Part, ...] = get_args(Part)


class Stopwatch:
    """Counts wall time as "start", and within `part` as that part.

    Args:
        begun: since when, on the clock of `time.perf_counter`; default: now.

    Attributes:
        trained: whether any round was trained.
    """

    def __init__(self, begun: float | None = None) -> None:
        self._since = time.perf_counter() if begun is None else begun
        self.trained = False
        self._part: Part = "start"
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._split = 0.0  # seconds of training that have been told from evaluations

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """Within it, time counts as this part; a further one within takes its own out of it."""
        outer = self._turn(name)
        try:
            yield
        finally:
            self._turn(outer)

    def evaluated(self, records: Sequence[Record]) -> None:
        """Of the time of training since the last call, what went into evaluations, by the records of its rounds."""
        self.trained = bool(records)
        whole = math.fsum(record.seconds for record in records)
        part = math.fsum(record.evaluation_seconds or 0.0 for record in records)
        if whole:
            moved = (self._seconds["training"] - self._split) * part / whole
            self._seconds["training"] -= moved
            self._seconds["evaluation"] += moved
            self._split = self._seconds["training"]

    @property
    def seconds(self) -> dict[Part, float]:
        """The seconds of each part up to now; together all that has passed."""
        self._turn(self._part)
        return dict(self._seconds)

    def _turn(self, part: Part) -> Part:
        """Count as this part from now on; the one until now."""
        before, now = self._part, time.perf_counter()
        self._seconds[before] += now - self._since
        self._part, self._since = part, now
        return before
