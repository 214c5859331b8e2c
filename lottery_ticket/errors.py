"""The two ways a command can end badly: wrong input (exit 2) and failed work (exit 1)."""

import difflib
from collections.abc import Iterable

from lottery_ticket.address import public


class LotteryTicketError(Exception):
    """Work failed; the message is one line fit for a person."""


class InputError(LotteryTicketError):
    """Wrong input: names the option, the value given and what is allowed, in one line."""

    def __init__(self, option: str, value: object, allowed: str):
        self.option, self.value, self.allowed = option, value, allowed
        super().__init__(f"{option}: {_short(value)} {allowed}")


def unknown(option: str, value: object, known: Iterable[str]) -> InputError:
    """An InputError for a name that is not in `known`, with the nearest known name first."""
    names = list(known)
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(option, value, f"is unknown; {hint}allowed: {', '.join(names)}")


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception as one line of at most `limit` characters, with its type and without passwords in URLs."""
    text = " ".join(public(word) for word in str(error).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:119] + "…"
