"""`lt sweep`: studies that show where winning tickets appear and disappear."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lottery_ticket import memory
from lottery_ticket.cli.options import Json, TrackingUri, with_settings
from lottery_ticket.cli.say import say
from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError, one_line

Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Optuna storage, e.g. postgresql://…; default: SQLite at mlruns/optuna.db.",
        show_default=False,
    ),
]


class _StudiesAreCommands(TyperGroup):
    """`lt sweep lr` is `lt sweep run lr`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_StudiesAreCommands,
    no_args_is_help=True,
    help="Map where winning tickets appear and disappear: `lt sweep lr`, `lt sweep prune-rate`, `lt sweep map`.",
)


def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="lr, prune-rate, map, tuned, or a .toml file.")],
    trials: Annotated[int | None, typer.Option("--trials", help="Trials in all.", show_default=False)] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Trials trained side by side.", show_default=False)
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="grid, qmc, tpe, gp, boundary, another of `lt plugins`, or your own as module:name.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds after which no trial is begun.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes that work on the study on this machine.")] = 1,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[str, typer.Option("--experiment", help="MLflow experiment.")] = "lottery-ticket",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin another study, even if there is one.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Run a study, or go on with it. Each trial is a whole experiment: all arms, all seeds, all rounds."""
    from lottery_ticket.runs.known import check_name, check_settings
    from lottery_ticket.store import reach
    from lottery_ticket.study.parse import load_study

    options = {"trials": trials, "batch": batch, "sampler": sampler, "timeout": timeout}
    overrides = {name: value for name, value in options.items() if value is not None}
    if jobs < 1:
        raise InputError("--jobs", jobs, "is not allowed; allowed: a whole number ≥ 1")
    if jobs > (most := memory.processes()):
        why = f"takes more than the {memory.free() or 0:,} bytes of memory that are free, or makes too many processes"
        raise InputError("--jobs", jobs, f"{why}; allowed: 1 to {most}")
    if jobs > 1 or worker:
        settings["jobs"] = "1"
    if sampler is not None:
        check_name("samplers", sampler, "--sampler")
    check_settings(settings)
    reach.must_be_usable(tracking_uri, experiment=experiment)
    chosen = load_study(study, **overrides, **settings)

    from lottery_ticket.cli.companions import Companions, end_with_caller
    from lottery_ticket.cli.sweep_display import Display, continue_command, print_outcome
    from lottery_ticket.study.conclude import to_json
    from lottery_ticket.study.sweep import sweep

    if worker:
        end_with_caller()
    with Companions(jobs) as companions:
        display = Display(chosen, companions, quiet=worker)
        try:
            with display:
                outcome = sweep(
                    chosen,
                    storage=storage,
                    tracking_uri=tracking_uri,
                    experiment=experiment,
                    fresh=fresh,
                    concluding=not worker,
                    listener=display,
                )
        except InputError:
            raise
        except (KeyboardInterrupt, Exception) as error:
            if display.opened_study and not worker:
                word = "Interrupted; finished" if isinstance(error, KeyboardInterrupt) else "Finished"
                say(f"\n{word} trials are kept, those that were running will be tried again.", err=True)
                say(f"Go on with: {continue_command()}", err=True)
            raise
    if as_json:
        say(json.dumps(to_json(outcome.opened, outcome.trials, outcome.concluded)))
    elif not worker:
        print_outcome(outcome)


app.command("run", hidden=True)(
    with_settings(run, [name for name in Settings.model_fields if name != "jobs"], "the study's")
)


@app.command("show")
def show(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Its name in the storage.")] = None,
    storage: Storage = None,
    dest: Annotated[
        Path | None, typer.Option("--dest", help="Folder for figures and table.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a study's table and draw its figures again; without STUDY, list the studies in the storage."""
    from lottery_ticket.cli.sweep_display import print_studies, print_study
    from lottery_ticket.study.conclude import conclude, to_json
    from lottery_ticket.study.opened import read_study, study_folder
    from lottery_ticket.study.storage import open_storage
    from lottery_ticket.study.trials import finished, studies

    opened_storage = open_storage(storage, create=False)
    if study is None:
        if as_json:
            say(json.dumps(studies(opened_storage)))
        else:
            print_studies(studies(opened_storage))
        return
    opened = read_study(study, opened_storage)
    try:
        concluded = conclude(opened, None, dest)
    except OSError as error:
        folder = dest or study_folder(opened.name)
        raise InputError(
            "--dest", folder, f"cannot be written ({one_line(error)}); allowed: a writable folder"
        ) from None
    trials = finished(opened.optuna)
    if as_json:
        say(json.dumps(to_json(opened, trials, concluded)))
    else:
        print_study(opened, trials, concluded)
