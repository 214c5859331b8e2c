"""`lt figures`: draw a run's figures again, from MLflow alone."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lottery_ticket.cli.options import Json, TrackingUri
from lottery_ticket.cli.say import say


def figures(
    run: Annotated[str, typer.Argument(help="The id of a run that `lt run` made.")],
    dest: Annotated[
        Path | None,
        typer.Argument(help="Folder to draw into. Default: mlruns/figures/RUN.", show_default=False),
    ] = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Draw the figures of a run again from what MLflow holds, and print its table."""
    from lottery_ticket.store import reach

    reach.must_know(run, "RUN", tracking_uri)

    from lottery_ticket.cli.display import print_result
    from lottery_ticket.runs.conclude import figure_folder
    from lottery_ticket.runs.result import load_run

    result = load_run(run, figures=dest or figure_folder(run), tracking_uri=tracking_uri)
    if as_json:
        say(json.dumps(result.to_json()))
    else:
        print_result(result)
