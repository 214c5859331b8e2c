"""`lt figures`: draw a run's figures again, from MLflow alone."""

from pathlib import Path
from typing import Annotated

import typer

from lottery_ticket.cli.options import TrackingUri


def figures(
    run: Annotated[str, typer.Argument(help="The id of a run that `lt run` made.")],
    dest: Annotated[
        Path | None,
        typer.Argument(help="Folder to draw into. Default: mlruns/figures/RUN.", show_default=False),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Draw the figures of a run again from what MLflow holds, and print its table."""
    from lottery_ticket.cli.display import print_result
    from lottery_ticket.experiment import read_result

    print_result(read_result(run, tracking_uri, dest))
