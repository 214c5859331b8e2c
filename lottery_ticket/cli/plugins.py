"""`lt plugins`: what can be named, and which package it comes from."""

import json
from typing import Annotated

import typer
from rich.table import Table

from lottery_ticket.cli.options import Json, output
from lottery_ticket.cli.say import say
from lottery_ticket.errors import unknown
from lottery_ticket.plugins import KINDS


def plugins(
    kind: Annotated[str | None, typer.Argument(help="One kind, e.g. arms.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List models, arms, criteria, data sets and whatever else goes by a name: ours and installed packages'."""
    if kind is not None and kind not in KINDS:
        raise unknown("KIND", kind, KINDS)

    from lottery_ticket.runs.plugged import plugged

    there = plugged([each for each in KINDS if kind in (None, each)])
    if as_json:
        say(json.dumps([each._asdict() for each in there]))
        return
    table = Table("kind", "name", "from", "fault" if any(each.fault for each in there) else "")
    for each in there:
        table.add_row(each.kind, each.name, each.package, each.fault)
    output().print(table)
