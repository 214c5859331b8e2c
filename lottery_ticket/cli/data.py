"""`lt data`: list the data sets and where they are, or fetch one into the cache."""

import json
from typing import Annotated, Any

import typer

from lottery_ticket.cli.options import Json
from lottery_ticket.cli.say import say

app = typer.Typer(
    help="List the data sets; `lt data fetch NAME` brings one into the cache.", invoke_without_command=True
)


@app.callback()
def list_data(context: typer.Context, as_json: Json = False) -> None:
    """List the data sets and where they are; `lt data fetch NAME` brings one into the cache."""
    if context.invoked_subcommand is not None:
        return

    from lottery_ticket.data.originals import PUBLISHED
    from lottery_ticket.data.sources import KNOWN, cached

    rows: list[dict[str, Any]] = []
    for name, known in KNOWN.items():
        file = cached(name) if name in PUBLISHED else None
        place = {"file": file and str(file), "there": file is None or file.exists()}
        rows.append({"name": name, "shape": known.shape, "classes": known.classes, **place})
    if as_json:
        say(json.dumps(rows))
        return
    for row in rows:
        state = "" if row["there"] else "  (not fetched yet)"
        shape = "×".join(map(str, row["shape"]))
        where = row["file"] or "packaged"
        say(f"{row['name']:<14} {shape:<8} {row['classes']:>3} classes  {where}{state}")
    say("Also: folder:PATH and hf:PATH of pictures (@64 scales them), my.npz, a folder of .npy files, module:name")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The data set.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", help="A folder or file with what its authors publish, or a mirror's address.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a data set into the cache (LT_DATA_DIR, else the user's cache folder): downloaded, or from your files."""
    from lottery_ticket.data.sources import KNOWN
    from lottery_ticket.data.sources import fetch as fetch_data
    from lottery_ticket.errors import unknown

    if name not in KNOWN:
        raise unknown("NAME", name, KNOWN)
    file = str(fetch_data(name, source))
    say(json.dumps({"name": name, "file": file}) if as_json else file)
