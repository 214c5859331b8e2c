"""The arrays of a data set as .npy files in a folder, of which what is needed is read when it is needed."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lottery_ticket.data.images import KEYS, Images
from lottery_ticket.data.meaning import understand
from lottery_ticket.errors import InputError, one_line

ABOUT = "about.json"
"""Beside arrays that this package made: their digest, and the notes of the data set."""


def is_there(folder: Path) -> bool:
    """Whether a folder holds arrays."""
    return (folder / f"{KEYS[0]}.npy").is_file()


def read(folder: Path, name: str, option: str) -> Images:
    """The data set in a folder, its images on disk; InputError naming the option where it is none, or is damaged."""

    def refuse(why: str) -> InputError:
        return InputError(option, str(folder), why)

    if odd := [f"{key}.npy" for key in ("x_val", "y_val") if (folder / f"{key}.npy").exists()]:
        raise refuse(f"has {', '.join(odd)}; allowed: {', '.join(KEYS)}, the validation images among the training ones")
    arrays: dict[str, Any] = {}
    for key in KEYS:
        path = folder / f"{key}.npy"
        try:
            arrays[key] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise refuse(
                f"has no {path.name} that can be read ({one_line(error)}); allowed: a folder with "
                f"{', '.join(f'{each}.npy' for each in KEYS)}; pictures as folder:{folder}"
            ) from None
    if not (folder / ABOUT).exists():
        return understand(arrays, {key: key for key in KEYS}, name, str(folder), refuse)
    try:
        told = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        images = Images(name, str(told["source"]), **arrays, notes=tuple(map(str, told["notes"])))
        kept = str(told["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise refuse(f"is damaged: {ABOUT} ({one_line(error)}); allowed: what was kept (delete the folder)") from None
    if kept != images.digest:
        raise refuse(f"is damaged: its digest is {images.digest}; allowed: {kept} (delete the folder)")
    return images


def keep(folder: Path, name: str, source: str, write: Callable[[Path], tuple[str, ...]]) -> None:
    """Make a folder of arrays; it appears whole or not at all, and where another process was sooner its one stays.

    Args:
        folder: where it will be.
        name, source: of the data set.
        write: writes the four arrays into a folder, and tells the notes of the data set.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        whole = Path(work, "whole")
        whole.mkdir()
        notes = write(whole)
        arrays = [np.load(whole / f"{key}.npy", mmap_mode="r") for key in KEYS]
        told = {"digest": Images(name, source, *arrays).digest, "source": source, "notes": notes}
        (whole / ABOUT).write_text(json.dumps(told), encoding="utf-8")
        try:
            os.rename(whole, folder)
        except OSError:
            if not is_there(folder):
                raise


def forget(folders: list[Path]) -> None:
    """Delete folders of arrays that nobody will ask for again."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
