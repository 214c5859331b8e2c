"""What strangers hand in, TOML, texts and paths, read within limits: it must not tell us what to do."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lottery_ticket.errors import InputError, one_line


def unprintable(told: Any, allowed: str = "") -> str | None:
    """The first text in plain data – a JSON or TOML document – with characters that do not print, nor are allowed."""
    kept = str.maketrans("", "", allowed)
    return next((text for text in _texts(told) if not text.translate(kept).isprintable()), None)


def in_csv(value: Any) -> Any:
    """A value as a table of other programs may have it: a text that they would run as a formula begins with `'`."""
    if not isinstance(value, str) or _NUMBERS.fullmatch(value):
        return value
    return f"'{value}" if value[:1] in ("\t", "\r") or value.lstrip()[:1] in tuple("=+-@") else value


def _texts(told: Any) -> Iterator[str]:
    if isinstance(told, str):
        yield told
    elif isinstance(told, dict):
        yield from told
        yield from _texts(list(told.values()))
    elif isinstance(told, list):
        for each in told:
            yield from _texts(each)


def must_be_new(path: Path, option: str = "DEST") -> None:
    """InputError if something is at the path, or nothing can be."""
    try:
        there = path.exists() or path.is_symlink()
    except OSError as error:  # a name that is too long
        raise InputError(
            option, str(path), f"is no path ({error.strerror}); allowed: a path where nothing is"
        ) from None
    if there:
        raise InputError(option, str(path), "is there already; allowed: a path where nothing is yet")


MOST_BYTES = 2**20

_NUMBERS = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?(?: [+-]?[\d.]+(?:e[+-]?\d+)?)*", re.ASCII)
"""Numbers with spaces between them, as the values of seeds stand in tables."""

_DEEPEST = 16
"""Parts of a dotted key: for each of them tomllib keeps all that stand before it."""

_TOKEN = re.compile(
    r'''#[^\n]*+|"""(?:[^\\"]|\\.|"(?!""))*+(?:""")?|'{3}(?:[^']|'(?!''))*+(?:'{3})?'''
    r"""|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|[\w+-]++|[^\s]""",
    re.DOTALL,
)
"""A comment, string, bare word or other sign of TOML; each character is looked at once."""


def read_toml(path: str | Path, option: str) -> dict[str, Any]:
    """The values in a file; InputError naming the option where it cannot be read or is too large."""

    def refuse(why: str) -> InputError:
        return InputError(option, str(path), why)

    try:
        if not Path(path).is_file():  # a pipe would wait for ever, a device may never end
            raise refuse(f"{'is no file' if Path(path).exists() else 'does not exist'}; allowed: a TOML file")
        if (size := Path(path).stat().st_size) > MOST_BYTES:
            raise refuse(f"has {size:,} bytes; allowed: a TOML file of at most {MOST_BYTES:,}")
        text = Path(path).read_text(encoding="utf-8-sig")
        if _deep(text):
            raise refuse(f"has a key of over {_DEEPEST} parts; allowed: keys like lr")
        told = tomllib.loads(text)
        if odd := unprintable(told, allowed="\n\t"):
            raise refuse(f"has characters that do not print, in {odd!a}; allowed: plain text")
        return told
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise refuse(f"is not valid TOML ({error}); allowed: lines like lr = 0.1") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {one_line(error)}; allowed: a TOML file") from None


def _deep(text: str) -> bool:
    """Whether a TOML file has a dotted key of more parts than it may."""
    dots, before = 0, ""
    for found in _TOKEN.finditer(text):
        token = found[0]
        dots = dots + 1 if token == "." else dots if before == "." else 0
        before = token
        if dots >= _DEEPEST:
            return True
    return False


def in_markdown(text: str) -> str:
    """A text that Markdown shows as it stands: no HTML, image, link, table or emphasis comes of it."""
    return re.sub(r"([\\`*\[\]<>#!|~&]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def prose(text: str) -> str:
    """A text with the simple Markdown that it may have, in one line: no HTML, image or table comes of it."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.split())).replace("![", "!\\[")
