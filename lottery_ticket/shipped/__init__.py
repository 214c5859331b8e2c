"""Files that come with the package: presets, sweeps and reports as TOML, and MNIST."""

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from lottery_ticket.errors import unknown
from lottery_ticket.untrusted import read_toml

Folder = Literal["presets", "sweeps", "reports", "mnist"]


def folder(which: Folder) -> Traversable:
    """Where the files of one kind are."""
    return resources.files("lottery_ticket.shipped") / which


def names(which: Folder) -> list[str]:
    """The TOML files of one kind by name, without `.toml`, sorted."""
    return sorted(file.name[:-5] for file in folder(which).iterdir() if file.name.endswith(".toml"))


def text(which: Folder, name: str, option: str) -> str:
    """A TOML file as it is, comments included. InputError naming the option if there is none of that name."""
    if name not in names(which):
        raise unknown(option, name, names(which))
    return (folder(which) / f"{name}.toml").read_text(encoding="utf-8")


def named(which: Folder, source: str, option: str) -> tuple[str, dict[str, Any]]:
    """Name and values of a TOML file: of one that is here, or of the one at a path that ends in `.toml`.

    InputError naming the option where there is neither, or the file cannot be read.
    """
    if source in names(which):
        return source, tomllib.loads(text(which, source, option))
    if source.endswith(".toml"):
        return Path(source).stem, read_toml(source, option)
    raise unknown(option, source, [*names(which), "the path of a .toml file"])
