"""`lt presets`: list the presets, or print one."""

from typing import Annotated

import typer

from lottery_ticket.config import preset_names, preset_text

app = typer.Typer(help="List the presets; `lt presets show NAME` prints one.", invoke_without_command=True)


@app.callback()
def list_presets(context: typer.Context) -> None:
    """List the presets with the first line of their remarks; `lt presets show NAME` prints one."""
    if context.invoked_subcommand is None:
        width = max(map(len, preset_names()))
        for name in preset_names():
            remark = preset_text(name).partition("\n")[0].removeprefix("# ")
            typer.echo(f"{name:<{width}}  {remark}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="The preset.")]) -> None:
    """Print a preset as TOML, ready to be saved, changed and given to `lt run --config`."""
    typer.echo(preset_text(name, "NAME"), nl=False)
