"""The end of a run: its verdict and figures, from what the store has."""

import math
from pathlib import Path

from mlflow import MlflowClient

from lottery_ticket.analysis.figures import draw_all
from lottery_ticket.analysis.verdict import Verdict, judge
from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.masks import Mask
from lottery_ticket.method.arms import colours_of
from lottery_ticket.runs.stopwatch import Stopwatch
from lottery_ticket.store import reading
from lottery_ticket.store.reading import Stored
from lottery_ticket.store.tracking import Tracker


def figure_folder(run_id: str) -> Path:
    """Where a run's figures are drawn unless told otherwise."""
    return Path("mlruns", "figures", run_id)


def conclude(tracker: Tracker, clock: Stopwatch | None = None) -> tuple[Verdict | None, list[Path]]:
    """The verdict on a trained run and, but for trials, its figures, kept with the final metrics; it is finished.

    `clock` is that of a run whose seconds are kept with it, if rounds were trained.

    LotteryTicketError where the store does not answer: all is kept, and `sync` concludes later.
    """
    tracker.outbox.close()
    timed = clock or Stopwatch()
    with timed.part("tracking"):
        tracker.wait()  # the figures are drawn from what MLflow has
    about = tracker.about
    with timed.part("figures"), tracker.needed():
        verdict = judge_stored(about)
        figures = [] if about.kind == "trial" else draw(tracker.client, about, figure_folder(about.run_id))
    at = max(record.finished_at for record in about.records)
    metrics = _final_metrics(verdict) | (_seconds(clock) if clock and clock.trained else {})
    with timed.part("tracking"):
        tracker.finish(verdict, figures, metrics, at)
    return verdict, figures


def draw(client: MlflowClient, stored: Stored, folder: Path) -> list[Path]:
    """The figures of a run; their titles say where its tickets were trained longer than the dense network.

    LotteryTicketError where they cannot be written, or no round is finished.
    """
    if not stored.records:
        raise LotteryTicketError(f"run {stored.run_id} has no finished round: there is nothing to draw")
    furthest = max((r for r in stored.records if r.arm == "winning"), key=lambda r: r.round, default=None)

    def mask(r: int) -> Mask:
        assert furthest is not None  # asked for only where the arm is there
        return reading.read_mask(client, stored.children["winning", furthest.seed], r)

    more = stored.settings.more_than_dense
    name = f"{stored.name} (tickets: {more} iterations more)" if more else stored.name
    shape = stored.data.image_shape if stored.data else None
    try:
        return draw_all(stored.records, name, folder, mask, shape, colours_of(stored.settings.arms), stored.controls)
    except OSError as error:
        raise LotteryTicketError(f"figures cannot be written in {folder}: {one_line(error)}") from error


def judge_stored(stored: Stored) -> Verdict | None:
    """The verdict on a run as the store has it; None without the arm `winning`."""
    settings, classes = stored.settings, stored.data.classes if stored.data else None
    level, tolerance = settings.verdict_level, settings.verdict_tolerance
    rounds = None if stored.origin else settings.rounds  # a ticket is trained in one round, whatever its number
    return judge(stored.records, tolerance, level, stored.controls, classes=classes, looks=stored.looks, rounds=rounds)


def _final_metrics(verdict: Verdict | None) -> dict[str, float]:
    if verdict is None:
        return {}
    dense = {} if verdict.dense is None else {"dense_accuracy": verdict.dense}
    return dense | {
        "smallest_winning_pct": verdict.smallest_winning_pct,
        "smallest_matching_pct": verdict.smallest_matching_pct,
    }


def _seconds(clock: Stopwatch) -> dict[str, float]:
    """Where the run's time has gone until now, as metrics."""
    parts = clock.seconds
    return {"seconds": math.fsum(parts.values())} | {f"seconds/{part}": each for part, each in parts.items()}
