"""What commands say: whatever strangers wrote into it, a run's name say, moves no cursor and sets no colour."""

from collections.abc import Iterable
from typing import Any

import rich.console
import typer
from rich.segment import Segment

from lottery_ticket.terminal import plain


def say(text: str, err: bool = False, nl: bool = True) -> None:
    """A text on standard output or error, with a line feed after it or not."""
    typer.echo(plain(text), err=err, nl=nl)


class Console(rich.console.Console):
    """Rich's, of which only its own control characters reach the terminal, none of a text."""

    def render(self, renderable: Any, options: rich.console.ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))
