"""Runs of a store compared: their arms side by side."""

from pathlib import Path

from lottery_ticket.analysis.runs_compared import RunsCompared, Side, compare_sides
from lottery_ticket.analysis.runs_compared_figure import draw_runs
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.method.found import spent_over_survivors
from lottery_ticket.record import Counting
from lottery_ticket.runs.sides import check_sides
from lottery_ticket.store import connection, reach, reading
from lottery_ticket.store.reading import Stored


@reach.quietly()
def compare_runs(
    *sides: str,
    tolerance: float = 0.1,
    level: float = 0.95,
    cost: Counting = "computed",
    figure: Path | str | None = None,
    tracking_uri: str | None = None,
) -> RunsCompared:
    """Compare arms of runs with the first of them: at equal density, and at equal multiply-adds.

    Args:
        sides: two or more, `RUN` (its arm `winning`) or `RUN:ARM`, where RUN is the id of a run.
        tolerance, level, cost: see `lottery_ticket.analysis.runs_compared.compare_sides`.
        figure: where to draw it, as .png, .pdf or .svg; None: not at all.
        tracking_uri: of the MLflow store, as for `run`.

    Raises:
        InputError: fewer than two sides or more than 26, a run or an arm that is not there, runs judged by other
            scores, a tolerance, level, cost or figure that is not allowed.
        LotteryTicketError: what the store has is damaged, or the figure cannot be written.

    Example:
        >>> compared = lottery_ticket.compare_runs(run_id, f"{run_id}:reinit")
        >>> [(gap.rounds, gap.by, gap.seeds) for gap in compared.others[0].by_density]
        [((0, 0), 'paired', (2, 2)), ((1, 1), 'paired', (2, 2))]
    """
    named = check_sides(sides, tolerance, level, cost, figure)
    client = connection.connect(tracking_uri, create=False)
    stored = {run_id: reading.read_run(client, run_id) for run_id in dict.fromkeys(run_id for run_id, _ in named)}
    for run_id, arm in named:
        if any(whose == arm for whose, _ in stored[run_id].lost):
            stored[run_id].must_be_whole(client.tracking_uri)
    made = [_side(stored[run_id], arm, cost) for run_id, arm in named]
    scores = {run_id: each.score for run_id, each in stored.items()}
    if other := next((run_id for run_id, score in scores.items() if score != scores[named[0][0]]), None):
        raise InputError("RUN", other, "is judged by another score than the first; allowed: runs of one score")
    compared = compare_sides(made, tolerance, level, cost)
    if figure is not None:
        try:
            draw_runs(compared, Path(figure))
        except OSError as error:
            raise LotteryTicketError(f"{figure} cannot be written: {one_line(error)}") from None
    return compared


def _side(stored: Stored, arm: str, cost: Counting) -> Side:
    records = [record for record in stored.records if record.arm == arm]
    if not records:
        there = ", ".join(dict.fromkeys(record.arm for record in stored.records)) or "none, no round is finished"
        raise InputError("RUN", f"{stored.run_id}:{arm}", f"has no finished round of that arm; allowed: {there}")
    if all(record.diverged for record in records):
        raise InputError("RUN", f"{stored.run_id}:{arm}", "has diverged with all seeds; allowed: one that has not")
    name = f"{stored.run_id[:8]} {arm} ({stored.name if len(stored.name) <= 60 else f'{stored.name[:59]}…'})"
    spent = spent_over_survivors(stored.settings, stored.records) if cost == "sparse" else {}
    sparse = {(seed, r): each for (whose, seed, r), each in spent.items() if whose == arm}
    return Side(name, stored.settings, records, stored.data.digest if stored.data else "", sparse)
