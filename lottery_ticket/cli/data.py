"""`lt data`: list the data sets and where they are, or fetch one into the cache."""

from typing import Annotated

import typer

app = typer.Typer(
    help="List the data sets; `lt data fetch NAME` brings one into the cache.", invoke_without_command=True
)


@app.callback()
def list_data(context: typer.Context) -> None:
    """List the data sets and where they are; `lt data fetch NAME` brings one into the cache."""
    if context.invoked_subcommand is None:
        from lottery_ticket.sources import KNOWN, cached

        for name, known in KNOWN.items():
            where = "packaged" if known.torchvision is None else str(cached(name))
            state = "" if known.torchvision is None or cached(name).exists() else "  (not fetched yet)"
            shape = "×".join(map(str, known.shape))
            typer.echo(f"{name:<14} {shape:<8} {known.classes:>3} classes  {where}{state}")


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="The data set.")]) -> None:
    """Download a data set through torchvision into the cache (LT_DATA_DIR, else the user's cache folder)."""
    from lottery_ticket.errors import unknown
    from lottery_ticket.sources import KNOWN
    from lottery_ticket.sources import fetch as fetch_data

    if name not in KNOWN:
        raise unknown("NAME", name, KNOWN)
    typer.echo(str(fetch_data(name)))
