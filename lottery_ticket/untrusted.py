"""What strangers hand in, TOML, texts and paths, read within limits: it must not tell us what to do."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lottery_ticket.errors import InputError, one_line


def unprintable(told: Any, allowed: str = "") -> str | None:
    """The first text in plain data – a JSON or TOML document – with characters that do not print, nor are allowed."""
    kept = str.maketrans("", "", allowed)
    return next((text for text in _texts(told) if not text.translate(kept).isprintable()), None)


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


def read_toml(path: str | Path, option: str) -> dict[str, Any]:
    """The values in a file; InputError naming the option where it cannot be read or is too large."""

    def refuse(why: str) -> InputError:
        return InputError(option, str(path), why)

    try:
        if not Path(path).is_file():  # a pipe would wait for ever, a device may never end
            raise refuse(f"{'is no file' if Path(path).exists() else 'does not exist'}; allowed: a TOML file")
        if (size := Path(path).stat().st_size) > MOST_BYTES:
            raise refuse(f"has {size:,} bytes; allowed: a TOML file of at most {MOST_BYTES:,}")
        told = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        if odd := unprintable(told, allowed="\n\t"):
            raise refuse(f"has characters that do not print, in {odd!a}; allowed: plain text")
        return told
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise refuse(f"is not valid TOML ({error}); allowed: lines like lr = 0.1") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {one_line(error)}; allowed: a TOML file") from None
