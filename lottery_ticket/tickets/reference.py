"""How a ticket is referred to: a run and round, a registered model, or a folder."""

import re
from pathlib import Path

from lottery_ticket.errors import InputError
from lottery_ticket.names import ARM

RUN = re.compile(rf"(?:runs:/)?([0-9a-f]{{32}})(?::(\d{{1,9}}))?(?::({ARM})-seed(\d{{1,10}}))?")
"""`RUN[:ROUND][:ARM-seedN]`, with or without `runs:/` before it."""


TENSORS, CARD = "ticket.safetensors", "ticket.json"
"""The files of a ticket's folder."""


def in_store(reference: str) -> bool:
    """Whether a reference names a ticket in a store (a run or a registered model) and no folder."""
    return bool(RUN.fullmatch(reference)) or reference.startswith(("runs:", "models:"))


def must_be_folder(folder: Path, option: str = "TICKET") -> None:
    """InputError where a folder has not a ticket's files."""
    for file in (folder / CARD, folder / TENSORS):
        try:
            there = file.is_file() and not file.is_symlink()
        except OSError as error:  # a name that is too long
            raise no_folder(folder, option, f"is no path ({error.strerror})") from None
        if not there:
            raise no_folder(folder, option, f"has no file {file.name}" if folder.is_dir() else "is no folder")


def no_folder(folder: Path, option: str, why: str) -> InputError:
    """What is said of a folder that has no ticket."""
    other = ", RUN[:ROUND][:ARM-seedN] or models:/NAME@ALIAS" if option == "TICKET" else ""
    return InputError(option, str(folder), f"{why}; allowed: a folder that `lt pull` wrote{other}")
