"""Who listens to a run: nobody, somebody who reads lines, or what else is made of `Listener`."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lottery_ticket import plugins
from lottery_ticket.analysis.comparable import comparable, mean_accuracy
from lottery_ticket.engine.job import Progress
from lottery_ticket.models.paths import NO_PATH
from lottery_ticket.record import Record
from lottery_ticket.terminal import plain

if TYPE_CHECKING:
    from lottery_ticket.analysis.verdict import Verdict
    from lottery_ticket.runs.plan import Undertaking


class Listener:
    """What a run tells whoever listens; every method may be left out."""

    def started(self, plan: "Undertaking", run_id: str, done: int) -> None:
        """The run is there and can be resumed by its id; training begins, or has, after `done` finished rounds."""

    def progress(self, progress: Progress) -> None:
        """Every few iterations and at each evaluation."""

    def rounds_finished(self, records: Sequence[Record]) -> None:
        """A round of every trajectory is finished and kept."""

    def undecided(self, verdict: "Verdict", seeds: int) -> None:
        """Not every round is decided, and training goes on until there are so many seeds."""

    def warned(self, message: str) -> None:
        """Something is not as it should be, but training goes on; may come from another thread."""


class Several(Listener):
    """Listeners side by side, each told of everything."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def started(self, plan: "Undertaking", run_id: str, done: int) -> None:
        """Tell them."""
        for each in self._listeners:
            each.started(plan, run_id, done)

    def progress(self, progress: Progress) -> None:
        """Tell them."""
        for each in self._listeners:
            each.progress(progress)

    def rounds_finished(self, records: Sequence[Record]) -> None:
        """Tell them."""
        for each in self._listeners:
            each.rounds_finished(records)

    def undecided(self, verdict: "Verdict", seeds: int) -> None:
        """Tell them."""
        for each in self._listeners:
            each.undecided(verdict, seeds)

    def warned(self, message: str) -> None:
        """Tell them."""
        for each in self._listeners:
            each.warned(message)


def listeners_named(names: Sequence[str]) -> list[Listener]:
    """A listener of each of these names, made anew; InputError where there is none."""
    made = []
    for name in names:
        make = plugins.named("listeners", name, {}, "--listener")
        listener = make() if callable(make) else make
        if not isinstance(listener, Listener):
            raise plugins.unfit("--listener", name, listener, "what makes a lottery_ticket.runs.Listener")
        made.append(listener)
    return made


class Lines(Listener):
    """Lines for a person: what is trained on what, then one for each finished round.

    Args:
        say: takes a line.
        to_go: whether a round's line ends with the time that is left.
    """

    def __init__(self, say: Callable[[str], None], to_go: bool = True) -> None:
        self._say, self._to_go = say, to_go
        self._rounds: Sequence[int] = ()
        self._first = 0
        self._sparse = False
        self._controls: tuple[str, ...] = ()
        self._begun = 0.0
        self._run_id = ""

    def started(self, plan: "Undertaking", run_id: str, done: int) -> None:
        """Say what is trained on what."""
        settings = plan.settings
        self._rounds, self._first, self._controls = plan.rounds, done, plan.controls
        self._begun, again = time.monotonic(), self._run_id == run_id
        self._run_id = run_id
        self._say(
            f"{settings.model} on {settings.dataset}: {', '.join(settings.arms)} × {len(settings.seeds)} seed(s), "
            f"{plan.length}; MLflow run {run_id}"
        )
        if done:
            self._say(f"going on after {done} complete round(s)")
        for line in () if again else (*plan.network.inventory.in_words(), *plan.notes):
            self._say(line)

    def warned(self, message: str) -> None:
        """Say it."""
        self._say(message)

    def undecided(self, verdict: "Verdict", seeds: int) -> None:
        """Say which rounds are open."""
        rounds = ", ".join(str(judged.round) for judged in verdict.open)
        self._say(f"undecided with {verdict.seeds} seeds: round(s) {rounds}; going on to {seeds} seeds")

    def rounds_finished(self, records: Sequence[Record]) -> None:
        """A line for the finished round."""
        r, counted = records[0].round, comparable(records, self._controls)
        means = []
        for arm in dict.fromkeys(record.arm for record in records):
            mine = [record for record in records if record.arm == arm]
            diverged = sum(record.diverged for record in mine)
            mean = mean_accuracy([record for record in counted if record.arm == arm])
            means.append(f"{arm} {mean} %" + (f" ({diverged} of {len(mine)} diverged)" if diverged else ""))
        spent = time.monotonic() - self._begun
        done = self._rounds.index(r) + 1
        left = spent / (done - self._first) * (len(self._rounds) - done)
        line = f"{self.title(r)}  {records[0].weights_remaining_pct:6.4g} % left  {'  '.join(means)}"
        self._say(f"{line}  ({clock(left)} to go)" if self._to_go else line)
        if records[0].sparse and not self._sparse:
            self._sparse = True
            told = f"sparse from round {r}, {records[0].weights_remaining_pct:.3g} % left"
            self._say(f"{told}: {', '.join(records[0].sparse)} over survivors alone")
        for record in records:
            if record.connected is False:
                self._say(f"{self.title(r)}  {record.arm}-seed{record.seed}: {NO_PATH}")

    def title(self, r: int) -> str:
        """Which round of how many."""
        return f"round {r:>2}/{self._rounds[-1]}"


def whoever_is_here() -> Listener:
    """Lines on standard error where a person reads them, in a notebook or a terminal; else nobody listens."""
    if "ipykernel" in sys.modules or sys.stderr.isatty():
        return Lines(lambda line: print(plain(line), file=sys.stderr, flush=True))
    return Listener()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
