"""`lt models`: the networks that go by a name, with their weights and what can be done with them."""

import json
import re
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from lottery_ticket.cli.options import Json, output
from lottery_ticket.cli.say import say
from lottery_ticket.errors import InputError


def models(
    glob: Annotated[str | None, typer.Argument(help="A name or pattern, e.g. 'resnet*'.", show_default=False)] = None,
    images: Annotated[str, typer.Option("--images", help="Channels, height and width of an image.")] = "3x32x32",
    classes: Annotated[int, typer.Option("--classes", help="How many classes.", min=1)] = 10,
    width: Annotated[
        float | None, typer.Option("--width", help="Times the published channels and units.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List networks: weights, multiply-adds of an image, whether they stack and can be made small.

    Without a pattern the package's own and those of installed packages; torchvision's and timm's as 'torchvision:*'.
    """
    shape = _shape(images)
    if width is not None and not 0 < width <= 1000:
        raise InputError("--width", width, "is not allowed; allowed: a number > 0 and ≤ 1000")

    from lottery_ticket.models.libraries import LIBRARIES, library_of, networks_of
    from lottery_ticket.runs.catalogue import catalogue, names

    found = list(catalogue(names(glob), shape, classes, width))
    if as_json:
        say(json.dumps([asdict(each) for each in found]))
        return
    table = Table("name", "weights", "multiply-adds", "stackable", "compactable", "")
    for column in table.columns[1:3]:
        column.justify = "right"
    for each in found:
        numbers = (_thousands(each.weights), _thousands(each.multiply_adds))
        table.add_row(each.name, *numbers, _answer(each.stackable), _answer(each.compactable), each.why)
    console = output()
    console.print(table)
    if glob is None:
        console.print("mlp:300-100 and the like: fully connected networks of any size")
        for library in LIBRARIES:
            there = networks_of(library)
            told = f"{len(there)} of {library_of(there[0])}" if there else "not installed"
            console.print(f"{library}:*: {told}")


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){2}|[1-9]\d{0,6}", text):
        raise InputError("--images", text, "is no shape; allowed: CxHxW as 3x32x32, or the columns of a table as 20")
    return tuple(map(int, text.split("x")))


def _thousands(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _answer(known: bool | None) -> str:
    return "" if known is None else "yes" if known else "no"
