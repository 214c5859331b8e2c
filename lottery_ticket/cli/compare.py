"""`lt compare`: arms of runs side by side."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from lottery_ticket.cli.options import Json, TrackingUri, output
from lottery_ticket.cli.say import say

if TYPE_CHECKING:
    from lottery_ticket.analysis.runs_compared import Gap, RunsCompared
    from lottery_ticket.record import Counting


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Two or more: ids of runs, or RUN:ARM; default is the arm winning. The first is "
            "what the others are compared with.",
        ),
    ],
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", help="How much more of density or multiply-adds counts as equal, as a part."),
    ] = 0.1,
    level: Annotated[float, typer.Option("--level", help="Confidence level of the intervals.")] = 0.95,
    cost: Annotated[
        str,
        typer.Option(
            "--cost",
            help="Multiply-adds that count as cost: computed, as training was done, or sparse, over survivors alone.",
        ),
    ] = "computed",
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            help="Draw it there, as .png, .pdf or .svg. Default: mlruns/figures/compare-RUN-ARM-….png.",
            show_default=False,
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Compare arms of runs: settings that differ, accuracies at equal density and equal multiply-adds, cost."""
    from lottery_ticket.runs.sides import check_sides
    from lottery_ticket.store import reach
    from lottery_ticket.untrusted import must_be_new

    named = check_sides(runs, tolerance, level, cost, figure)
    if figure is not None:
        must_be_new(figure, "--figure")
    for run_id, _ in named:
        reach.must_know(run_id, "RUN", tracking_uri)

    from lottery_ticket.runs.compare import compare_runs

    sides = [f"{run_id[:8]}-{arm.replace(':', '.')}" for run_id, arm in named]
    counted = "" if cost == "computed" else f"-{cost}"
    path = figure or Path("mlruns/figures", f"compare-{'-'.join(sides)[:200]}{counted}.png")
    by = cast("Counting", cost)
    compared = compare_runs(*runs, tolerance=tolerance, level=level, cost=by, figure=path, tracking_uri=tracking_uri)
    if as_json:
        say(json.dumps(asdict(compared) | {"figure": str(path)}))
    else:
        _print(compared)
        say(f"Figure: {path}")


def _print(found: "RunsCompared") -> None:
    console = output()
    letters = [chr(ord("A") + index) for index in range(len(found.names))]
    for letter, name in zip(letters, found.names, strict=True):
        console.print(f"{letter}: {name}")
    if found.data is False:
        console.print("Not on the same images: accuracies are of other test sets.")
    if found.settings:
        table = Table("setting", *letters, title="Settings that differ")
        for name, values in found.settings.items():
            table.add_row(name, *map(_text, values))
        console.print(table)
    for letter, other in zip(letters[1:], found.others, strict=True):
        console.print(_gaps(found, other.by_density, letter, "density"))
        if other.unmatched:
            rounds = ", ".join(map(str, other.unmatched))
            console.print(
                f"{letter} has no round within {_percent(found.tolerance)} of A's density in A's round {rounds}."
            )
        if other.by_spent:
            console.print(_gaps(found, other.by_spent, letter, _counted(found)))
        elif all(any(point.spent is not None for point in found.points[name]) for name in (found.names[0], other.name)):
            near = _percent(found.tolerance)
            console.print(f"No rounds of A and {letter} took as many {_counted(found)} within {near}.")
        else:
            console.print(f"What A and {letter} took in {_counted(found)} is not known of both.")
    console.print(_cost(found, letters))


def _gaps(found: "RunsCompared", gaps: "Sequence[Gap]", letter: str, equal: str) -> Table:
    from lottery_ticket.analysis.cost import in_short

    tests = {"paired": "over the seeds that both have", "welch": "Welch's, of other seeds"}
    how = "; ".join(f"{by}: {tests[by]}" for by in dict.fromkeys(gap.by for gap in gaps))
    table = Table(
        title=f"{letter} minus A at equal {equal}, within {_percent(found.tolerance)}",
        caption=f"accuracies in %, means over seeds; difference in points with its {_percent(found.level)} interval, "
        f"each round's own; {how}",
    )
    for column in ("A's round", f"{letter}'s", "A's % left" if equal == "density" else "A's", f"{letter}'s", "A"):
        table.add_column(column, justify="right")
    for column in (letter, "difference", "interval", "by", "seeds"):
        table.add_column(column, justify="right")
    for gap in gaps:
        at = [f"{100 * each:.4g}" if equal == "density" else in_short(each) for each in gap.at]
        ends = "–" if gap.interval is None else " to ".join(f"{100 * end:+.2f}" for end in gap.interval)
        table.add_row(
            *map(str, gap.rounds),
            *at,
            *(f"{100 * each:.2f}" for each in gap.accuracies),
            f"{100 * gap.difference:+.2f}",
            ends,
            gap.by,
            ", ".join(map(str, gap.seeds)) + (f" (not {', '.join(map(str, gap.left_out))})" if gap.left_out else ""),
        )
    return table


def _cost(found: "RunsCompared", letters: "Sequence[str]") -> Table:
    from lottery_ticket.analysis.cost import in_short

    table = Table(
        title="Cost",
        caption=f"means over seeds; {_counted(found)}, that led to the last round's network, with those of finding "
        "its mask; seconds of all rounds",
    )
    for column in ("", "rounds", "multiply-adds", "seconds", "diverged"):
        table.add_column(column, justify="right")
    for letter, name in zip(letters, found.names, strict=True):
        points = found.points[name]
        spent = points[-1].spent
        table.add_row(
            letter,
            str(len(points)),
            "–" if spent is None else in_short(spent),
            f"{found.seconds[name]:.1f}",
            str(len(found.diverged[name])),
        )
    return table


def _counted(found: "RunsCompared") -> str:
    """Which multiply-adds are compared, in words."""
    from lottery_ticket.analysis.runs_compared import COUNTED

    return f"multiply-adds {COUNTED[found.cost]}"


def _percent(part: float) -> str:
    return f"{100 * part:.10g}%"


def _text(value: object) -> str:
    from lottery_ticket.config import as_text

    return "–" if value is None else as_text(value)
