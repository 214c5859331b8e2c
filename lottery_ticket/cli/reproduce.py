"""`lt reproduce`: a report's experiments run again, and a verdict on every claim."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lottery_ticket.cli.options import Json, TrackingUri
from lottery_ticket.cli.say import say
from lottery_ticket.errors import InputError
from lottery_ticket.runs.seeds import MOST_SEEDS


def reproduce(
    report: Annotated[
        str,
        typer.Argument(
            metavar="REPORT", help="One of docs/reproduce.md (shu, frankle-lenet, zhou, …), or a .toml file."
        ),
    ],
    scale: Annotated[
        str, typer.Option("--scale", help="quick, report (as large as the source's own) or, in some, long.")
    ] = "quick",
    only: Annotated[
        str | None, typer.Option("--only", help="Claims, separated by commas; default: all.", show_default=False)
    ] = None,
    dest: Annotated[
        Path | None,
        typer.Option(
            "--dest",
            help="Folder for the report; default: mlruns/reproductions/REPORT-SCALE, with --only also its claims.",
            show_default=False,
        ),
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Add seeds until each claim is decided, at most --max-seeds."),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            "--max-seeds",
            help=f"Seeds to stop at; default: {MOST_SEEDS}. 0: train nothing, judge what is there.",
            show_default=False,
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            help="Folder of small files that finished trajectories are read from and written to, beside the store.",
            show_default=False,
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[str, typer.Option("--experiment", help="MLflow experiment.")] = "lottery-ticket",
    as_json: Json = False,
) -> None:
    """Run what a report's claims need, judge every claim, and write report.md and report.html.

    Trajectories that are in the store or in --records with the same settings are read, not trained again; the same
    command goes on after an interruption.
    """
    from lottery_ticket.reproduction.asked import asked
    from lottery_ticket.store import reach

    claims = () if only is None else only
    if max_seeds and not until_decided:
        raise InputError(
            "--max-seeds", max_seeds, "bounds how many seeds are added; allowed: with --until-decided, or 0"
        )
    if until_decided and max_seeds is None:
        max_seeds = MOST_SEEDS
    asked(report, scale, claims, dest, max_seeds)  # what is wrong is told at once
    reach.must_be_usable(tracking_uri, experiment=experiment)

    from lottery_ticket.cli.reproduce_display import Display, command_line, print_outcomes
    from lottery_ticket.reproduction.reproduce import reproduce

    display = Display()
    try:
        with display:
            kept = reproduce(
                report,
                scale,
                claims,
                dest,
                max_seeds=max_seeds,
                records=records,
                tracking_uri=tracking_uri,
                experiment=experiment,
                command=command_line(),
                listener=display,
            )
    except InputError:
        raise
    except (KeyboardInterrupt, Exception):
        if display.run_id:
            say(f"\nFinished rounds are kept. Go on with: {command_line()}", err=True)
        raise
    if as_json:
        say(json.dumps(kept.to_json()))
    else:
        print_outcomes(kept)
