"""`lt presets`: list the presets, or print one."""

import json
from typing import Annotated

import typer

from lottery_ticket.cli.options import Json
from lottery_ticket.cli.say import say
from lottery_ticket.config import load_preset, preset_names, preset_text

app = typer.Typer(help="List the presets; `lt presets show NAME` prints one.", invoke_without_command=True)


@app.callback()
def list_presets(context: typer.Context, as_json: Json = False) -> None:
    """List the presets with the first line of their remarks; `lt presets show NAME` prints one."""
    if context.invoked_subcommand is not None:
        return
    remarks = {name: preset_text(name).partition("\n")[0].removeprefix("# ") for name in preset_names()}
    if as_json:
        say(json.dumps([{"name": name, "remark": remark} for name, remark in remarks.items()]))
        return
    width = max(map(len, remarks))
    for name, remark in remarks.items():
        say(f"{name:<{width}}  {remark}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="The preset.")], as_json: Json = False) -> None:
    """Print a preset as TOML, ready to be saved, changed and given to `lt run --config`; with --json all settings."""
    text = preset_text(name, "NAME")
    say(json.dumps(load_preset(name).model_dump()) if as_json else text, nl=as_json)
