"""What a person sees of a run: progress while it trains, a table and the verdict at its end."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from lottery_ticket.address import public
from lottery_ticket.cli.options import output
from lottery_ticket.cli.say import Console
from lottery_ticket.config import code_flags
from lottery_ticket.engine.job import Progress as TrainingProgress
from lottery_ticket.runs.listener import Lines

if TYPE_CHECKING:
    from lottery_ticket.runs.plan import Undertaking
    from lottery_ticket.runs.result import Result


class Display(Lines):
    """Progress on standard error: a live bar on a terminal, and a line a round."""

    def __init__(self) -> None:
        self.run_id = ""
        self.code: dict[str, str] = {}
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        super().__init__(self._console.print, to_go=not self._console.is_terminal)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[accuracy]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("left"),
            refresh_per_second=4,
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._accuracy: dict[tuple[str, int], float] = {}

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def started(self, plan: "Undertaking", run_id: str, done: int) -> None:
        """Say what is trained on what, and start the bar."""
        super().started(plan, run_id, done)
        self.run_id, self.code = run_id, code_flags(plan.settings)
        if self._task is not None:  # of seeds before
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(
            self.title(plan.rounds[min(done, len(plan.rounds) - 1)]),
            total=float(len(plan.rounds)),
            completed=done,
            accuracy="",
        )
        self._bar.start()

    def progress(self, progress: TrainingProgress) -> None:
        """Move the bar."""
        if self._task is None or self._bar.disable:
            return
        done = self._rounds.index(progress.round) + progress.done / progress.total
        self._bar.update(self._task, completed=done, description=self.title(progress.round))
        if progress.accuracy:
            self._accuracy |= progress.accuracy
            arms: dict[str, list[float]] = {}
            for (arm, _), accuracy in self._accuracy.items():
                arms.setdefault(arm, []).append(100 * accuracy)
            shown = "  ".join(f"{arm} {sum(each) / len(each):.2f} %" for arm, each in arms.items())
            self._bar.update(self._task, accuracy=shown)


def program() -> list[str]:
    """The words that start this command here: `lt` where it is on the PATH, else the way it was started."""
    if shutil.which("lt"):
        return ["lt"]
    started = Path(sys.argv[0])
    return [os.path.relpath(started)] if started.name == "lt" else ["python", "-P", "-m", "lottery_ticket"]


def resume_command(run_id: str, tracking_uri: str | None, code: Mapping[str, str]) -> str:
    """The sentence that says how to go on with a run; `code`: flags that name what of its settings is code."""
    words = [*program(), "run", "--resume", run_id, *(word for each in code.items() for word in each)]
    words += ["--tracking-uri", public(tracking_uri)] if tracking_uri else []
    return f"Go on with: {shlex.join(words)}"


def ui_command(experiment: str, tracking_uri: str | None) -> str:
    """The command that opens MLflow's UI on an experiment."""
    words = [*program(), "ui", *(["--experiment", experiment] if experiment != "lottery-ticket" else [])]
    return shlex.join([*words, *(["--tracking-uri", public(tracking_uri)] if tracking_uri else [])])


def print_result(result: "Result", ui: str | None = None) -> None:
    """The table of rounds, the verdict in words, the figures, where the time went, the command that opens the UI."""
    from lottery_ticket.runs.rounds_table import conclusions, rounds_table
    from lottery_ticket.store.reading import restoring

    console = output()
    told = rounds_table(result.stored, result.verdict)
    table = Table(title=told.title, caption=told.caption)
    for name in told.columns:
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for row in told.rows:
        table.add_row(*row.cells, style="bold" if row.wins else None)
    console.print(table)
    for sentence in conclusions(result.stored, result.verdict):
        console.print(sentence, soft_wrap=True)
    if lost := result.stored.lost:
        names = ", ".join(f"{arm}-seed{seed}" for arm, seed in lost)
        how = restoring(lost.values(), result.client.tracking_uri)
        console.print(f"Missing here and in the figures: {names}, deleted in MLflow; {how}.", soft_wrap=True)
    console.print("Figures:")
    for path in result.figures:
        console.print(f"  {path}", soft_wrap=True)
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in result.times.items())
    console.print(f"{result.seconds:.0f} s: {parts}. Run {result.run_id}.", soft_wrap=True)
    if ui:
        console.print(f"See it in MLflow: {ui}", soft_wrap=True)
