"""What a person sees of a study: progress while it runs, tables at its end."""

import shlex
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from lottery_ticket import process
from lottery_ticket.address import public
from lottery_ticket.cli.companions import Companions
from lottery_ticket.cli.display import program
from lottery_ticket.cli.options import output
from lottery_ticket.cli.say import Console, say
from lottery_ticket.cli.tuned_display import accuracy_in_words, print_tuned, table_by_accuracy
from lottery_ticket.engine.job import Progress as TrainingProgress
from lottery_ticket.record import Record
from lottery_ticket.runs.listener import clock
from lottery_ticket.runs.plan import Plan
from lottery_ticket.study.axes import in_words
from lottery_ticket.study.boundary import crossings
from lottery_ticket.study.conclude import Concluded
from lottery_ticket.study.definition import Study
from lottery_ticket.study.importance import FEWEST
from lottery_ticket.study.listener import StudyListener
from lottery_ticket.study.names import LEFT
from lottery_ticket.study.opened import Opened
from lottery_ticket.study.space import Space, from_unit, ranges
from lottery_ticket.study.sweep import Outcome
from lottery_ticket.study.trials import Trial, finished, margins, running


class Display(StudyListener):
    """Progress on standard error: live on a terminal, a line for each finished trial elsewhere.

    Args:
        study: what is done.
        companions: further processes, started once the study is there.
        quiet: tell nothing.
    """

    def __init__(self, study: Study, companions: Companions, quiet: bool) -> None:
        self.opened_study: Opened | None = None
        self._study, self._companions = study, companions
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}", markup=False),
        )
        self._whole: TaskID | None = None
        self._tasks: dict[int, TaskID] = {}
        self._rounds: dict[int, tuple[int, int]] = {}
        self._head = Text()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._trials, self._done, self._running = 0, 0, 0
        self._done_at_start = 0
        self._begun = 0.0
        self._waited = False
        self._drawn = 0.0

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def opened(self, opened: Opened, trials: int) -> None:
        """Say what is studied."""
        self.opened_study, self._trials = opened, trials
        there = finished(opened.optuna)
        self._done = self._done_at_start = len(there)
        self._begun = time.monotonic()
        space = ", ".join(f"{name} {_range(searched)}" for name, searched in opened.study.space.items())
        again = f"; going on after {len(there)} trial(s)" if opened.continued else ""
        self._console.print(
            f"study {opened.name}: {space}; {opened.study.sampler}, {trials} trials; MLflow run {opened.run_id}{again}"
        )
        if self._console.is_terminal and not self._console.quiet:
            self._whole = self._bars.add_task("trials", total=trials, completed=self._done, told="")
            self._live.start()
            self._tell(there)
        self._companions.start()

    def begun(self, number: int, params: dict[str, Any], rounds: int, plan: Plan) -> None:
        """A bar for the trial."""
        self._rounds[number] = (0, rounds)
        if self._whole is not None:
            self._count_running()
            self._tasks[number] = self._bars.add_task(_name(number, params), total=float(rounds), told="")

    def warned(self, message: str) -> None:
        """Print it."""
        self._console.print(message)

    def progress(self, numbers: Sequence[int], progress: TrainingProgress) -> None:
        """Move the bars."""
        if self._whole is None or time.monotonic() - self._drawn < 0.25:
            return
        for number in numbers:
            if number in self._tasks:
                self._bars.update(self._tasks[number], completed=progress.round + progress.done / progress.total)
        self._draw()

    def round_finished(self, number: int, records: Sequence[Record]) -> None:
        """What the round came to."""
        r = records[0].round
        self._rounds[number] = (r + 1, self._rounds[number][1])
        if number in self._tasks:
            means = []
            for arm in dict.fromkeys(record.arm for record in records):
                mine = [record.test_accuracy for record in records if record.arm == arm]
                means.append(f"{arm} {100 * sum(mine) / len(mine):.2f} %")
            told = f"{records[0].weights_remaining_pct:.3g} % left  {'  '.join(means)}"
            self._bars.update(self._tasks[number], completed=r + 1, told=told)
            self._draw()

    def trial_finished(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """A line for the trial, and what the study shows so far."""
        self._forget(trial.number)
        self._done = len(trials)
        line = f"{_name(trial.number, trial.params)}: {_outcome(trial)}"
        if self._whole is None:
            line += f"  ({len(trials)}/{self._trials}, {self._left()} to go)"
        self._console.print(line)
        self._tell(trials)

    def refused(self, number: int, why: str) -> None:
        """Say so."""
        self._console.print(f"trial {number} cannot be run: {why}")

    def lost(self, number: int) -> None:
        """Say so."""
        self._forget(number)
        self._console.print(f"trial {number} was taken over by another process, which had not heard of this one")

    def waiting(self, trials: int) -> None:
        """Say so, once."""
        if not self._waited:
            self._console.print(f"waiting for {trials} trial(s) that other processes train, or left")
        self._waited = True

    def ended(self) -> None:
        """The other processes of this command end as well."""
        self._companions.wait()

    def _forget(self, number: int) -> None:
        self._rounds.pop(number, None)
        if number in self._tasks:
            self._bars.remove_task(self._tasks.pop(number))

    def _tell(self, trials: Sequence[Trial]) -> None:
        """The head of the live display: best so far and the boundary's estimate."""
        if self._whole is None:
            return
        told = []
        if best := _best(self._study, trials):
            told.append(f"best so far: {_name(best.number, best.params)}, {_outcome(best)}")
        if self._study.judged:
            told.append(f"boundary: {boundary_in_words(self._study, trials)}")
        self._head = Text("\n".join(told))
        self._count_running()
        self._bars.update(self._whole, completed=len(trials))
        self._draw()

    def _count_running(self) -> None:
        """Trials that are running, here and in other processes."""
        assert self.opened_study is not None
        self._running = running(self.opened_study.optuna)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        assert self._whole is not None
        told = f"{self._done}/{self._trials} done, {self._running} running, {self._left()} left"
        self._bars.update(self._whole, told=told)
        self._live.update(Group(self._head, self._bars), refresh=True)

    def _left(self) -> str:
        """The time to go, by the trials and rounds done here."""
        done = self._done - self._done_at_start + sum(r / rounds for r, rounds in self._rounds.values())
        left = max(0.0, self._trials - self._done_at_start - done)
        return clock((time.monotonic() - self._begun) / done * left) if done else "?"


def boundary_in_words(study: Study, trials: Sequence[Trial]) -> str:
    """Where winning turns into not winning, as far as the trials tell, and where tickets were seen to win.

    Of two settings, whichever stands first in the study's file: along the first by name, at three places of the other,
    or along the other where there is nothing to be found.
    """
    space = ranges(study)
    if not space or len(space) < len(study.space):
        return "none: what is searched has no order"
    names = sorted(space)
    told = []
    if len(names) == 1:
        told = [f"{names[0]} {value:.3g}" for value in crossings(space, margins(trials), names[0])]
    elif len(names) == 2:
        told = next(filter(None, (_across(space, trials, *pair) for pair in (names, names[::-1]))), [])
    won = [trial.params for trial in trials if trial.phase == "winning"]
    seen = [f"{name} {_extent([params[name] for params in won])}" for name in names] if won else []
    where = f"tickets win in {len(won)} of {len(trials)} trials, at {', '.join(seen)}" if won else ""
    return "; ".join([*(told or ["not seen yet"]), *([where] if where else [])])


def _across(space: Space, trials: Sequence[Trial], along: str, other: str) -> list[str]:
    """Where winning turns along one setting, at a quarter, half and three quarters of the other's range."""
    told = []
    for part in (0.25, 0.5, 0.75):
        at = from_unit(space[other], part)
        if found := crossings(space, margins(trials), along, **{other: at}):
            told.append(f"{along} {', '.join(f'{value:.3g}' for value in found)} at {other} {at:.3g}")
    return told


def _extent(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def continue_command() -> str:
    """The command that goes on with the study, passwords hidden."""
    return shlex.join([*program(), *(public(argument) for argument in sys.argv[1:] if argument != "--fresh")])


def print_outcome(outcome: Outcome) -> None:
    """The study's table and findings, and what it took."""
    print_study(outcome.opened, outcome.trials, outcome.concluded)
    seconds, look = time.perf_counter() - process.began(), shlex.join([*program(), "ui"])
    say(f"{seconds:.0f} s. Run {outcome.opened.run_id}. See it in MLflow: {look}")


def print_study(opened: Opened, trials: Sequence[Trial], concluded: Concluded) -> None:
    """The table of trials, the boundary, importances, seconds saved, and where figures and table are."""
    console = output()
    console.print(_table(opened, trials))
    if opened.study.judged:
        told = boundary_in_words(opened.study, trials)
        console.print(f"Winning turns into not winning, or back, at: {told}.", soft_wrap=True)
    if concluded.importance:
        parts = ", ".join(
            f"{name} {100 * share.part:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"
            for name, share in concluded.importance.items()
        )
        console.print(
            f"Variance of {in_words(opened.study.measures[0])} over the trials (fANOVA, out of bag; in brackets what "
            f"four fifths of the trials say): {parts}.",
            soft_wrap=True,
        )
    elif len(opened.study.space) > 1:
        needed = FEWEST * len(opened.study.space)
        why = f"{len(trials)} of {needed} trials" if len(trials) < needed else "all trials say the same"
        console.print(f"Which setting matters most is not said: {why}.", soft_wrap=True)
    early = [trial for trial in trials if trial.ended_early]
    if early:
        saved = sum(trial.seconds_saved for trial in early)
        console.print(f"{len(early)} trial(s) ended early, which saved about {saved:.0f} s of training.")
        for trial in early:
            console.print(f"  trial {trial.number}: {trial.ended_early}", soft_wrap=True)
    if opened.study.tune:
        print_tuned(console, opened.study, concluded.tuned)
    console.print("Figures and table:")
    for path in [*concluded.figures, concluded.table, *([concluded.tuned_table] if concluded.tuned_table else [])]:
        console.print(f"  {path}", soft_wrap=True)


def print_studies(told: Sequence[dict[str, Any]]) -> None:
    """The studies in a storage, as `trials.studies` tells of them."""
    table = Table(title="studies")
    for name in ("study", "trials", "running", "waiting", "begun"):
        table.add_column(name, justify="left" if name == "study" else "right")
    for each in told:
        table.add_row(*map(str, each.values()))
    output().print(table)


def _table(opened: Opened, trials: Sequence[Trial]) -> Table:
    params = list(opened.study.space)
    trials = sorted(trials, key=lambda each: tuple(map(_sortable, each.params.values())))
    if not opened.study.judged:
        return table_by_accuracy(opened.name, opened.study, trials)
    caption = "accuracies and weights left in %; gaps in points; * = on the Pareto front"
    table = Table(title=f"study {opened.name}", caption=caption)
    middle = f"{sorted(opened.study.densities)[len(opened.study.densities) // 2 - 1]:g}"
    for name in ("trial", *params, "phase", "smallest winning", "matching", "dense"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for name in (f"nearest to {middle} %", "− reinit there", "− dense there"):
        table.add_column(name, justify="right")
    for trial in trials:
        told = trial.measures
        gaps = [told.get(f"winning_minus_{other}/{middle}pct") for other in ("reinit", "dense")]
        left = told.get(f"{LEFT}/{middle}pct")
        table.add_row(
            f"{trial.number}{'*' if trial.best else ''}",
            *(_short(trial.params.get(name)) for name in params),
            trial.phase,
            _percent(told["smallest_winning_pct"]),
            _percent(told["smallest_matching_pct"]),
            f"{100 * told['dense_accuracy']:.2f}",
            "" if left is None else f"{left:.3g}",
            *("" if gap is None else f"{100 * gap:+.2f}" for gap in gaps),
            style="bold" if trial.phase == "winning" else None,
        )
    return table


def _best(study: Study, trials: Sequence[Trial]) -> Trial | None:
    """The trial with the smallest winning ticket, if one wins; of a study that is not judged the best one."""
    if not study.judged:
        return next((trial for trial in trials if trial.best), None)
    won = [trial for trial in trials if trial.measures["smallest_winning_pct"] < 100]
    return min(won, key=lambda trial: trial.measures["smallest_winning_pct"], default=None)


def _outcome(trial: Trial) -> str:
    if not trial.phase:
        return accuracy_in_words(trial)
    smallest = trial.measures["smallest_winning_pct"]
    word = f"smallest winning ticket {smallest:.3g} %" if smallest < 100 else "no winning ticket"
    return f"{trial.phase}, {word}, dense {100 * trial.measures['dense_accuracy']:.2f} %" + (
        f"; ended early: {trial.ended_early}" if trial.ended_early else ""
    )


def _name(number: int, params: dict[str, Any]) -> str:
    return f"trial {number} " + " ".join(f"{key}={_short(value)}" for key, value in params.items())


def _range(searched: Any) -> str:
    if hasattr(searched, "choices"):
        return "in " + ", ".join(map(str, searched.choices))
    return f"{searched.low:g} to {searched.high:g}" + (" (log)" if searched.log else "")


def _percent(value: float) -> str:
    return f"{value:.3g} %" if value < 100 else "none"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _sortable(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))
