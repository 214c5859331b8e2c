"""What a person sees of a reproduction: progress while it runs, the claims at its end."""

import shlex
import sys
import time
from collections.abc import Sequence

from rich.table import Table

from lottery_ticket import process
from lottery_ticket.address import public
from lottery_ticket.cli import display
from lottery_ticket.cli.display import program
from lottery_ticket.cli.options import output
from lottery_ticket.record import Record
from lottery_ticket.reproduction.jobs import Job, ReproductionListener
from lottery_ticket.reproduction.keep import Kept
from lottery_ticket.reproduction.report import in_numbers
from lottery_ticket.runs.listener import clock
from lottery_ticket.runs.plan import Undertaking


class Display(display.Display, ReproductionListener):
    """Progress on standard error: of the run that trains, and the time left of all."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: Sequence[Job] = ()
        self._at: Job | None = None
        self._trained = 0.0  # network-iterations in this call
        self._since = 0.0
        self._per_round = 0
        self._here = 0

    def planned(self, jobs: Sequence[Job]) -> None:
        """Say what is needed."""
        self._jobs, self._since = jobs, time.monotonic()
        there = sum(job.finished for job in jobs)
        begun = sum(job.begun and not job.finished for job in jobs)
        self._console.print(f"{len(jobs)} run(s) needed: {there} there, {begun} begun")

    def going_on(self, claims: Sequence[str]) -> None:
        """Say what is open."""
        self._console.print(f"undecided: {', '.join(claims)}; seeds are added")

    def turned_to(self, job: Job) -> None:
        """Say which run it is."""
        self._at = job
        place = f"run {self._jobs.index(job) + 1}/{len(self._jobs)}"
        names = ", ".join(f"{setup} {variant}" for setup, variant in job.experiments)
        how = "there" if job.finished else "resumed" if job.begun else "trained"
        seeds = f", {len(job.seeds)} seeds" if job.looks else ""
        self._console.print(f"{place}: {names}{seeds} ({how})")
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def started(self, plan: Undertaking, run_id: str, done: int) -> None:
        """As of a run; how much of it is left is known now."""
        super().started(plan, run_id, done)
        assert self._at is not None
        self._per_round = plan.work
        self._here = self._per_round * (len(plan.rounds) - done)

    def rounds_finished(self, records: Sequence[Record]) -> None:
        """As of a run, and the time left of all."""
        super().rounds_finished(records)
        assert self._at is not None
        self._trained += self._per_round
        self._here -= self._per_round
        if self._here <= 0:
            left = sum(job.left for job in self._jobs[self._jobs.index(self._at) + 1 :])
            spent = time.monotonic() - self._since
            self._console.print(f"about {clock(spent / self._trained * left)} to go in all")


def command_line() -> str:
    """The command that was given here."""
    return shlex.join([*program(), *map(public, sys.argv[1:])])


def print_outcomes(kept: Kept) -> None:
    """The table of claims, part by part, and where the report lies."""
    console, done = output(), kept.done
    table = Table(title=f"{done.reproduction.title}, scale {done.scale}", show_lines=True)
    for name in ("claim", "variant", "outcome", "measured"):
        table.add_column(name)
    for outcome in done.outcomes:
        parts = [f"{finding.part.says}: {in_numbers(finding)} – {finding.answer}" for finding in outcome.findings]
        table.add_row(outcome.claim.id, outcome.variant, outcome.word, "\n".join(parts))
    console.print(table)
    for path in (kept.files["report.html"], kept.files["report.md"], kept.files["claims.csv"]):
        console.print(f"  {path}", soft_wrap=True)
    console.print(f"{time.perf_counter() - process.began():.0f} s. MLflow run {kept.run_id}.")
