"""Flags made from the settings: one field, one flag."""

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lottery_ticket.cli.say import Console
from lottery_ticket.config import Settings, allowed, flag

TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow store; default: MLFLOW_TRACKING_URI, else SQLite at mlruns/mlflow.db.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="Settings to start from; see `lt presets`. Default: quick.", show_default=False),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings, over those of the preset.", show_default=False),
]
Listeners = Annotated[
    str | None,
    typer.Option(
        "--listener",
        help="Who is told of progress as well, separated by commas: of `lt plugins`, or your own as module:name.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def with_settings(
    command: Callable[..., Any], fields: Sequence[str] = tuple(Settings.model_fields), defaults: str = "the preset's"
) -> Callable[..., Any]:
    """Give a command that takes `**settings` one option per field; those not given are left out."""

    def wrapper(**values: Any) -> Any:
        given = {name: values.pop(name) for name in fields if values.get(name) is not None or values.pop(name, None)}
        return command(**values, **given)

    fixed = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    made = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    flag(name),
                    help=f"{field.description} [{allowed(field)}]".replace("[", "\\["),
                    metavar=name.rsplit("_", 1)[-1].upper(),
                    show_default=False,
                    rich_help_panel=f"Settings (defaults are {defaults})",
                ),
            ],
        )
        for name in fields
        for field in [Settings.model_fields[name]]
    ]
    wrapper.__signature__ = inspect.Signature([*fixed, *made])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*fixed, *made]}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


def output() -> Console:
    """Standard output, wide enough for tables where it is no terminal, unless COLUMNS says how wide."""
    console = Console(highlight=False, markup=False)
    given = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return console if given else Console(highlight=False, markup=False, width=140)
