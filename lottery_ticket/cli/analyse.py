"""`lt analyse`: what can be found in the masks and weights of a finished run."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lottery_ticket.cli.options import Json, TrackingUri, output
from lottery_ticket.cli.say import say


def analyse(
    run: Annotated[str, typer.Argument(help="The id of a run that `lt run` made.")],
    analysis: Annotated[str, typer.Argument(help="overlap, another of `lt plugins`, or your own as module:name.")],
    dest: Annotated[
        Path | None,
        typer.Argument(help="Folder for table and figures. Default: mlruns/analyses/RUN/NAME.", show_default=False),
    ] = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Analyse the rounds of a run; table and figures go into a folder and into the run in MLflow."""
    import lottery_ticket
    from lottery_ticket.runs.known import check_name
    from lottery_ticket.store import reach

    check_name("analyses", analysis, "ANALYSIS")
    reach.must_know(run, "RUN", tracking_uri)
    done = lottery_ticket.analyse(run, analysis, dest, tracking_uri=tracking_uri)
    if as_json:
        say(json.dumps(done.to_json()))
        return
    console = output()
    if done.finding.table:
        table = Table(*map(str, done.finding.table[0]))
        for row in done.finding.table:
            table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()))
        console.print(table)
    for sentence in [*done.finding.says, *(f"{path}" for path in done.files)]:
        console.print(sentence, soft_wrap=True)
