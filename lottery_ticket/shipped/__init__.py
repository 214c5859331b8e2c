"""Files that come with the package: presets, sweeps and reports as TOML, and MNIST."""

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from lottery_ticket.errors import unknown

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
