"""`lt diff`: whether two tickets are the same."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lottery_ticket.cli.early import check_ticket
from lottery_ticket.cli.options import Json, TrackingUri, output
from lottery_ticket.cli.say import say
from lottery_ticket.cli.tickets import ModelCode, TicketReference
from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.plugins import is_code

if TYPE_CHECKING:
    from lottery_ticket.analysis.compare import Comparison, Overlap, Range
    from lottery_ticket.tickets.ticket import Ticket


def diff(
    first: TicketReference,
    second: TicketReference,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            help="Draw it there, as .png, .pdf or .svg. Default: mlruns/figures/diff-A-B.png.",
            show_default=False,
        ),
    ] = None,
    model: ModelCode = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Say whether two tickets are the same: overlap of masks against chance, shared signs, distance of values."""
    from lottery_ticket.runs.sides import check_figure
    from lottery_ticket.untrusted import must_be_new

    check_figure(figure)

    if figure is not None:
        must_be_new(figure, "--figure")
    for reference in (first, second):
        check_ticket(reference, tracking_uri)

    from lottery_ticket.analysis.compare import compare
    from lottery_ticket.analysis.compare_figure import draw_comparison
    from lottery_ticket.models.paths import NO_PATH
    from lottery_ticket.tickets.ticket import Ticket

    one, other = (Ticket.load(reference, tracking_uri=tracking_uri, model=model) for reference in (first, second))
    comparison = compare(one, other)
    connected = [_connected(each, model) for each in (one, other)]
    path = figure or Path("mlruns/figures", f"diff-{one.name[:80]}-{other.name[:80]}.png")
    try:
        draw_comparison(comparison, path)
    except OSError as error:
        raise LotteryTicketError(f"{path} cannot be written: {one_line(error)}") from None
    if as_json:
        told = {"answer": answer(comparison), "figure": str(path), "connected": connected}
        say(json.dumps(asdict(comparison) | told))
    else:
        _print(comparison)
        for letter, joined in zip("AB", connected, strict=True):
            if joined is False:
                say(f"Of {letter} {NO_PATH}.")
        say(f"Figure: {path}")


def _connected(ticket: "Ticket", model: str | None) -> bool | None:
    """Whether its images and scores are joined; None where its code is unknown or may not be run."""
    unknown = ticket.found_on is None or (is_code(ticket.settings.model) and model != ticket.settings.model)
    return None if unknown else ticket.connected(model)


def answer(found: "Comparison") -> str:
    """Whether it is the same ticket, and the numbers that say so, in a few sentences."""
    overall, start = found.overall, found.overall.start
    same_values = start.distance == 0
    if found.nested == "equal":
        other = "other biases or buffers" if same_values else "other start values"
        said = ["The same ticket." if found.same_start else f"Two tickets: the same mask with {other}."]
    elif found.nested:
        inner, outer = ("A", "B") if found.nested == "first in second" else ("B", "A")
        said = [
            f"Two tickets: {inner} lies within {outer}, with {'the same' if same_values else 'other'} start values."
        ]
    else:
        iou, (low, high) = overall.iou or 0, overall.iou_range or (0, 1)
        than = "more than" if iou > high else "less than" if iou < low else "no more than"
        said = [f"Two tickets, whose masks share {than} chance gives."]
    at_most = overall.iou_at_most is not None and overall.iou_at_most < 1
    bound = f" (at most {_percent(overall.iou_at_most)} % at these densities)" if at_most else ""
    said.append(
        f"Of the weights that survive in either, {_percent(overall.iou)} % survive in both{bound}; chance gives "
        f"{_percent(overall.iou_by_chance)} % ({_range(overall.iou_range)})."
    )
    if start.same_sign is not None and start.relative_distance is not None:
        differ = f"differ by {start.relative_distance:.2f} times their size (independent values: 1.41)"
        said.append(
            f"Of the {overall.shared:,} shared ones, {_percent(start.same_sign)} % start with the same sign (chance "
            f"gives {_percent(start.same_sign_by_chance)} %, {_range(start.same_sign_range)}), and their start values "
            f"{'are equal' if same_values else differ}."
        )
        if found.nested is None and start.relative_distance > 1:
            said.append(
                "Weights are compared by their place: tickets that differ only in the order of their hidden units "
                "count as different."
            )
    return " ".join(said)


def _print(found: "Comparison") -> None:
    console = output()
    for letter, label in zip("AB", found.labels, strict=True):
        console.print(f"{letter}: {label}")
    rows = found.tensors | {"all": found.overall}
    console.print(_masks(rows))
    console.print(_values(rows))
    console.print(answer(found))


def _masks(rows: "Mapping[str, Overlap]") -> Table:
    table = Table(
        title="Masks",
        caption="A, B: % of the weights left; IoU: survivors in both / in either; chance: independent random masks "
        "with as many survivors, central 95 %; σ: standard deviations by which the overlap exceeds chance",
    )
    table.add_column("tensor", overflow="fold")
    for name in ("A %", "B %", "in both", "IoU %", "by chance %", "σ"):
        table.add_column(name, justify="right")
    for name, each in rows.items():
        table.add_row(
            name,
            *map(_percent, each.densities),
            f"{each.shared:,}",
            _percent(each.iou),
            f"{_percent(each.iou_by_chance)} ({_range(each.iou_range)})",
            _number(each.z, "+.1f"),
        )
    return table


def _values(rows: "Mapping[str, Overlap]") -> Table:
    table = Table(
        title="Weights that survive in both",
        caption="chance: signs in random order; distance: r.m.s. of the difference / r.m.s. of the values, 0 = equal, "
        "1.41 = independent",
    )
    table.add_column("tensor", overflow="fold")
    table.add_column("values")
    for name in ("same sign %", "by chance %", "distance", "correlation"):
        table.add_column(name, justify="right")
    for name, each in rows.items():
        kinds = {"start": each.start} | ({"trained": each.trained} if each.trained else {})
        for kind, values in kinds.items():
            table.add_row(
                name if kind == "start" else "",
                kind,
                _percent(values.same_sign),
                f"{_percent(values.same_sign_by_chance)} ({_range(values.same_sign_range)})",
                _number(values.relative_distance, ".2f"),
                _number(values.correlation, "+.2f"),
            )
    return table


def _percent(fraction: float | None) -> str:
    if fraction is None:
        return "–"
    return f"{100 * fraction:.2f}" if fraction >= 0.01 or fraction == 0 else f"{100 * fraction:.3g}"


def _range(ends: "Range | None") -> str:
    return "–".join(map(_percent, ends)) if ends else "–"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
