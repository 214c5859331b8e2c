"""What a person sees of a run: progress while it trains, a table and the verdict at its end."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from lottery_ticket.address import public
from lottery_ticket.cli.options import output
from lottery_ticket.config import is_code
from lottery_ticket.experiment import Listener, Plan, Result
from lottery_ticket.record import Record
from lottery_ticket.summary import in_words
from lottery_ticket.training import Progress as TrainingProgress
from lottery_ticket.verdict import Difference, RoundVerdict, Verdict


class Display(Listener):
    """Progress on standard error: a live bar on a terminal, a plain line a round elsewhere."""

    def __init__(self) -> None:
        self.run_id = self.model = ""
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[accuracy]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            refresh_per_second=4,
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._rounds: Sequence[int] = ()
        self._first = 0
        self._per_round = 0
        self._begun = 0.0
        self._accuracy: dict[tuple[str, int], float] = {}

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def started(self, plan: Plan, run_id: str, done: int) -> None:
        """Say what is trained on what, and start the bar."""
        settings = plan.settings
        self.run_id, self.model = run_id, settings.model
        self._rounds, self._first = plan.rounds, done
        self._begun = time.monotonic()
        self._per_round = plan.members * plan.iterations
        self._console.print(
            f"{settings.model} on {settings.dataset}: {', '.join(settings.arms)} × {len(settings.seeds)} seed(s), "
            f"{len(plan.rounds)} rounds of {plan.iterations} iterations on {plan.resolved.device}, {_spread(plan)}; "
            f"MLflow run {run_id}"
        )
        weights = sum(mask.numel() for mask in plan.network.dense_mask().values())
        total = sum(parameter.numel() for parameter in plan.network.module.parameters())
        self._console.print(f"prunable: {', '.join(plan.network.kinds)}: {weights:,} of {total:,} parameters")
        if done:
            self._console.print(f"going on after {done} complete round(s)")
        for note in plan.notes:
            self._console.print(note)
        self._task = self._bar.add_task(
            self._title(plan.rounds[min(done, len(plan.rounds) - 1)]),
            total=len(plan.rounds) * self._per_round,
            completed=done * self._per_round,
            accuracy="",
        )
        self._bar.start()

    def warned(self, message: str) -> None:
        """Print it."""
        self._console.print(message)

    def progress(self, progress: TrainingProgress) -> None:
        """Move the bar."""
        if self._task is None or self._bar.disable:
            return
        done = self._rounds.index(progress.round) * self._per_round + progress.done
        self._bar.update(self._task, completed=done, description=self._title(progress.round))
        if progress.accuracy:
            self._accuracy |= progress.accuracy
            arms: dict[str, list[float]] = {}
            for (arm, _), accuracy in self._accuracy.items():
                arms.setdefault(arm, []).append(100 * accuracy)
            shown = "  ".join(f"{arm} {sum(each) / len(each):.2f} %" for arm, each in arms.items())
            self._bar.update(self._task, accuracy=shown)

    def rounds_finished(self, records: Sequence[Record]) -> None:
        """A line for the finished round."""
        r = records[0].round
        arms = dict.fromkeys(record.arm for record in records)
        means = []
        for arm in arms:
            mine = [record for record in records if record.arm == arm]
            mean = 100 * sum(record.test_accuracy for record in mine) / len(mine)
            diverged = sum(record.diverged for record in mine)
            means.append(f"{arm} {mean:.2f} %" + (f" ({diverged} of {len(mine)} diverged)" if diverged else ""))
        spent = time.monotonic() - self._begun
        done = self._rounds.index(r) + 1
        left = spent / (done - self._first) * (len(self._rounds) - done)
        line = f"{self._title(r)}  {records[0].weights_remaining_pct:6.4g} % left  {'  '.join(means)}"
        self._console.print(line + ("" if self._console.is_terminal else f"  ({clock(left)} to go)"))

    def _title(self, r: int) -> str:
        return f"round {r:>2}/{self._rounds[-1]}"


def _spread(plan: Plan) -> str:
    """How the networks of a round are trained, in words."""
    chosen = plan.allocation
    together = "one network" if plan.members == 1 else f"{chosen.stack} of {plan.members} networks at a time"
    return together if chosen.jobs == 1 else f"{together} in each of {chosen.jobs} processes"


def program() -> list[str]:
    """The words that start this command here: `lt` where it is on the PATH, else the way it was started."""
    if shutil.which("lt"):
        return ["lt"]
    started = Path(sys.argv[0])
    return [os.path.relpath(started)] if started.name == "lt" else ["python", "-m", "lottery_ticket"]


def resume_command(run_id: str, tracking_uri: str | None, model: str = "") -> str:
    """The sentence that says how to go on with a run of this model."""
    words = [*program(), "run", "--resume", run_id, *(["--model", model] if is_code(model) else [])]
    words += ["--tracking-uri", public(tracking_uri)] if tracking_uri else []
    return f"Go on with: {shlex.join(words)}"


def ui_command(experiment: str, tracking_uri: str | None) -> str:
    """The command that opens MLflow's UI on an experiment."""
    words = [*program(), "ui", *(["--experiment", experiment] if experiment != "lottery-ticket" else [])]
    return shlex.join([*words, *(["--tracking-uri", public(tracking_uri)] if tracking_uri else [])])


def print_result(result: Result, ui: str | None = None) -> None:
    """The table of rounds, the verdict in words, the figures and the command that opens the UI."""
    console = output()
    console.print(_table(result))
    verdict = result.verdict
    if verdict is not None:
        if result.stored.origin:
            for judged in verdict.rounds:
                control = verdict.control or "a control"
                parts = (
                    f"matches dense: {judged.matching}; beats {control}: {judged.beats_control}; wins: {judged.wins}"
                )
                console.print(f"The ticket on {result.stored.settings.dataset}: {parts}.", soft_wrap=True)
        else:
            _print_smallest(console, verdict)
        console.print(f"Evidence: {verdict.evidence}.", soft_wrap=True)
        if verdict.control is None:
            console.print("No control arm: whether a ticket wins stays undecided (add reinit to --arms).")
        if verdict.diverged:
            console.print(f"Diverged: {', '.join(verdict.diverged)}.", soft_wrap=True)
    console.print("Figures:")
    for path in result.figures:
        console.print(f"  {path}", soft_wrap=True)
    console.print(f"{result.seconds:.0f} s, of which MLflow {result.tracking_seconds:.1f} s. Run {result.run_id}.")
    if ui:
        console.print(f"See it in MLflow: {ui}", soft_wrap=True)


def _print_smallest(console: Console, verdict: Verdict) -> None:
    won, matched = verdict.smallest_winning_pct, verdict.smallest_matching_pct
    console.print(f"Smallest winning ticket: {won:.3g} % of the weights." if won < 100 else "No winning ticket found.")
    if matched < 100:
        console.print(f"Smallest matching ticket: {matched:.3g} % of the weights.")


def _table(result: Result) -> Table:
    arms = list(dict.fromkeys(record.arm for record in result.rounds))
    table = Table(title=result.stored.name, caption="test accuracy in %, mean over seeds; ± is the interval's half")
    for name in ("round", "% left", "dense", *arms):
        table.add_column(name, justify="right")
    judged = {r.round: r for r in result.verdict.rounds} if result.verdict else {}
    if judged:
        table.add_column("− dense", justify="right")
        table.add_column(f"− {result.verdict.control or 'control'}", justify="right")  # type: ignore[union-attr]
        table.add_column("verdict")
    dense = _mean([r for r in result.rounds if r.round == 0 and r.arm == arms[0]])
    for index in sorted({record.round for record in result.rounds}):
        here = [record for record in result.rounds if record.round == index]
        left = sum(r.weights_remaining_pct for r in here) / len(here)
        row = [str(index), f"{left:.4g}", dense]
        for arm in arms:
            mine = [record for record in here if record.arm == arm]
            row.append("diverged" if any(r.diverged for r in mine) else _mean(mine))
        if judged:
            row += _judged(judged.get(index))
        table.add_row(*row, style="bold" if index in judged and judged[index].wins == "yes" else None)
    return table


def _judged(verdict: RoundVerdict | None) -> list[str]:
    if verdict is None:
        return ["", "", ""]
    word = in_words(verdict.matching, verdict.wins)
    return [_points(verdict.against_dense), _points(verdict.against_control), word]


def _points(difference: Difference | None) -> str:
    """A difference in percentage points with half its interval."""
    if difference is None:
        return "–"
    return f"{100 * difference.mean:+.2f} ± {50 * (difference.high - difference.low):.2f}"


def _mean(records: Sequence[Record]) -> str:
    return f"{100 * sum(r.test_accuracy for r in records) / len(records):.2f}" if records else "–"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
