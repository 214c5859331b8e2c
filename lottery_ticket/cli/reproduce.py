"""`lt reproduce`: a report's experiments run again, and a verdict on every claim."""

import errno
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from lottery_ticket.cli.options import Json, TrackingUri
from lottery_ticket.errors import InputError, one_line, unknown
from lottery_ticket.reproduction.definition import REPORT_FILES


def reproduce(
    report: Annotated[str, typer.Argument(metavar="REPORT", help="shu, frankle-lenet, or a .toml file.")],
    scale: Annotated[str, typer.Option("--scale", help="quick, or report: as large as the source's own.")] = "quick",
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
    tracking_uri: TrackingUri = None,
    experiment: Annotated[str, typer.Option("--experiment", help="MLflow experiment.")] = "lottery-ticket",
    as_json: Json = False,
) -> None:
    """Run what a report's claims need, judge every claim, and write report.md and report.html.

    Runs that are in the store with the same settings are read, not trained again; the same command goes on after an
    interruption.
    """
    from lottery_ticket.reproduction.definition import SCALES
    from lottery_ticket.reproduction.parse import load_reproduction

    wanted = next((known for known in SCALES if known == scale), None)
    if wanted is None:
        raise unknown("--scale", scale, SCALES)
    told, name = load_reproduction(report)
    claims = () if only is None else tuple(part.strip() for part in only.split(","))
    told.only(claims)  # refuses those that are not there
    folder = dest or Path("mlruns", "reproductions", "-".join([name, scale, *claims]))
    _check_folder(folder)

    from lottery_ticket.cli.reproduce_display import Display, command_line, print_outcomes
    from lottery_ticket.reproduction.keep import keep_report
    from lottery_ticket.reproduction.reproduce import reproduce

    display = Display()
    try:
        with display:
            done = reproduce(
                told, name, wanted, claims, tracking_uri=tracking_uri, experiment=experiment, listener=display
            )
    except InputError:
        raise
    except (KeyboardInterrupt, Exception):
        if display.run_id:
            typer.echo(f"\nFinished rounds are kept. Go on with: {command_line()}", err=True)
        raise
    kept = keep_report(done, folder, command_line(), experiment)
    if as_json:
        typer.echo(json.dumps(kept.to_json()))
    else:
        print_outcomes(done, kept)


def _check_folder(folder: Path) -> None:
    """InputError where the report could not be written; what is made to see it is gone again."""
    new = [place for place in (folder / "figures", folder, *folder.parents) if not os.path.lexists(place)]
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), tempfile.TemporaryFile(dir=folder / "figures"):
            pass
        if taken := next((path for path in map(folder.joinpath, REPORT_FILES) if path.is_dir()), None):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(taken))
    except (OSError, ValueError) as error:
        why = f"cannot be written ({one_line(error)}); allowed: a folder that can"
        raise InputError("--dest", str(folder), why) from None
    finally:
        for place in new:
            with suppress(OSError, ValueError):
                place.rmdir()
