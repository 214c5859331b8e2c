"""`lt run`: find winning tickets and keep every round in MLflow."""

import json
from typing import Annotated, Any

import typer

import lottery_ticket
from lottery_ticket import process
from lottery_ticket.cli.options import Config, Json, Listeners, Preset, TrackingUri, with_settings
from lottery_ticket.cli.say import say
from lottery_ticket.cli.tickets import ChangedModel
from lottery_ticket.config import MAY_BE_CODE, flag, load_settings
from lottery_ticket.errors import InputError
from lottery_ticket.plugins import is_code
from lottery_ticket.runs.seeds import MOST_SEEDS, check_most


@with_settings
def run(
    preset: Preset = None,
    config: Config = None,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", help="MLflow experiment. Default: lottery-ticket.", show_default=False),
    ] = None,
    tracking_uri: TrackingUri = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", help="Go on with this run after its last complete round.", show_default=False),
    ] = None,
    changed_model: ChangedModel = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Add seeds until the verdict on every round is decided, at most --max-seeds; three to begin with.",
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option("--max-seeds", help=f"Seeds to stop at; default: {MOST_SEEDS}.", show_default=False),
    ] = None,
    listener: Listeners = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Find winning tickets: train, prune, rewind, train again, next to the control arms.

    Every round's accuracy, density, mask and weights go to MLflow; a table, figures and a verdict end the run.
    """
    from lottery_ticket.runs.known import check_name, check_settings
    from lottery_ticket.store import reach

    shown = experiment or reach.DEFAULT_EXPERIMENT
    listeners = listener.split(",") if listener else []
    for each in listeners:
        check_name("listeners", each, "--listener")
    if resume is not None:
        code_options = {flag(field) for field in MAY_BE_CODE}
        given = {"--preset": preset, "--config": config, "--experiment": experiment} | {
            flag(name): value for name, value in settings.items()
        }
        for option, value in given.items():
            if value is not None and (option not in code_options or not is_code(str(value))):
                raise InputError(option, str(value), "cannot change with --resume; allowed: the run's own settings")
        if until_decided or max_seeds is not None:
            why = "is not for --resume; allowed: a run that began so goes on so"
            raise InputError("--max-seeds" if max_seeds is not None else "--until-decided", max_seeds or True, why)
        reach.must_know(resume, "--resume", tracking_uri)
    elif changed_model:
        raise InputError("--changed-model", True, "is for going on with a run; allowed: --resume RUN with it")
    else:
        chosen, base = load_settings(preset, config, settings)
        check_settings(chosen.model_dump())
        if max_seeds is not None and not until_decided:
            raise InputError("--max-seeds", max_seeds, "bounds how many seeds are added; allowed: with --until-decided")
        if until_decided:
            max_seeds = MOST_SEEDS if max_seeds is None else max_seeds
            check_most(chosen, max_seeds)
        reach.must_be_usable(tracking_uri, experiment=shown)

    with process.importing():
        from lottery_ticket.cli.display import Display, print_result, resume_command, ui_command
        from lottery_ticket.runs.listener import Several, listeners_named
        from lottery_ticket.store import connection

    display = Display()
    listening = Several([display, *listeners_named(listeners)])
    try:
        with display:
            if resume is not None:
                result = lottery_ticket.resume(
                    resume,
                    code=[name for value in settings.values() for name in str(value).split(",") if is_code(name)],
                    changed_model=changed_model,
                    tracking_uri=tracking_uri,
                    listener=listening,
                    begun=process.began(),
                )
            else:
                result = lottery_ticket.run(
                    chosen,
                    preset=base,
                    tracking_uri=tracking_uri,
                    experiment=shown,
                    max_seeds=max_seeds,
                    listener=listening,
                    begun=process.began(),
                )
    except KeyboardInterrupt:
        if display.run_id:
            go_on = resume_command(display.run_id, tracking_uri, display.code)
            say(f"\nInterrupted; finished rounds are kept. {go_on}", err=True)
        raise
    except InputError:
        raise
    except Exception:
        if display.run_id:
            go_on = resume_command(display.run_id, tracking_uri, display.code)
            say(f"Finished rounds are kept. {go_on}", err=True)
        raise
    if as_json:
        say(json.dumps(result.to_json()))
    else:
        if resume is not None:
            client = connection.connect(tracking_uri, create=False)
            with connection.telling(f"reading run {resume}"):
                shown = client.get_experiment(result.stored.experiment_id).name
        print_result(result, ui_command(shown, tracking_uri))
