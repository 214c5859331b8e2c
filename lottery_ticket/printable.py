"""Texts of strangers: a terminal or a page must not be told what to do by them."""

from collections.abc import Iterator
from typing import Any


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
