"""The two ways a command can end badly: wrong input (exit 2) and failed work (exit 1)."""

import difflib
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from lottery_ticket.address import public
from lottery_ticket.terminal import plain


class LotteryTicketError(Exception):
    """Work failed; the message is one line fit for a person.

    Example:
        >>> try:
        ...     lottery_ticket.load_mask("my.npz")
        ... except lottery_ticket.LotteryTicketError as error:
        ...     print(error)
        my.npz cannot be read: ...
    """

    def __init__(self, message: str = ""):
        super().__init__(plain(message))


class InputError(LotteryTicketError):
    """Wrong input: names the option, the value given without passwords, and what is allowed, in one line.

    Example:
        >>> try:
        ...     lottery_ticket.load_preset(lr=-1)
        ... except lottery_ticket.InputError as error:
        ...     print(error)
        --lr: -1 is not allowed; allowed: a number > 0
    """

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
    """An exception as one line of at most `limit` characters, with its type and without passwords in URLs.

    Of a server that was lost no more than that is said, whatever was made of it on the way.
    """
    if lost := _lost(error):
        return lost
    text = " ".join(public(word) for word in plain(str(error)[: 50 * limit]).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _lost(error: BaseException | None) -> str:
    """Which server does not answer, where that is what an exception comes from; else empty."""
    while error is not None:
        name, request = type(error).__name__, getattr(error, "request", None)
        if type(error).__module__.startswith("requests.") and isinstance(error, OSError) and name != "HTTPError":
            address = urlsplit(public(str(getattr(request, "url", None) or "")))
            refusal = re.search(r"too many (\d+) error responses", str(error))
            what = f"answers {refusal[1]}" if refusal else "does not answer"
            return f"{name}: {address.scheme}://{address.netloc} {what}" if address.netloc else ""
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ""


def _short(value: object) -> str:
    text = repr(public(value) if isinstance(value, str) else value)
    return text if len(text) <= 120 else text[:119] + "…"
