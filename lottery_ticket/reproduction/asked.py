"""What is asked of a reproduction, checked before anything is imported that takes seconds, or written."""

import errno
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lottery_ticket.errors import InputError, one_line, unknown
from lottery_ticket.reproduction.definition import REPORT_FILES, Reproduction, Scale
from lottery_ticket.reproduction.parse import load_reproduction

MOST = 1000
"""As many seeds as settings may have."""


class Asked(NamedTuple):
    """What is asked: claims of a reproduction (none named: all), at a scale, written into a folder."""

    reproduction: Reproduction
    name: str
    scale: Scale
    claims: tuple[str, ...]
    folder: Path


def asked(
    report: Path | str, scale: str, only: str | Sequence[str], dest: Path | str | None, max_seeds: int | None = None
) -> Asked:
    """What the arguments of `lottery_ticket.reproduce` ask; InputError where that cannot be."""
    if max_seeds is not None and not 0 <= max_seeds <= MOST:
        raise InputError("--max-seeds", max_seeds, f"is not allowed; allowed: 0 (train nothing) to {MOST}")
    told, name = load_reproduction(str(report))
    wanted = next((known for known in told.scales if known == scale), None)
    if wanted is None:
        raise unknown("--scale", scale, told.scales)
    claims = tuple(part.strip() for part in only.split(",")) if isinstance(only, str) else tuple(only)
    told.only(claims)  # refuses those that are not there
    folder = Path(dest) if dest else Path("mlruns", "reproductions", "-".join([name, scale, *claims]))
    _check_folder(folder)
    return Asked(told, name, wanted, claims, folder)


def _check_folder(folder: Path) -> None:
    """InputError where the report could not be written; what is made to see it is gone again."""
    new = [place for place in (folder / "figures", folder, *folder.parents) if not os.path.lexists(place)]
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), tempfile.TemporaryFile(dir=folder / "figures"):
            pass
        if taken := next((path for path in map(folder.joinpath, REPORT_FILES) if path.is_dir()), None):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(taken))
    except (OSError, ValueError) as error:
        why = f"cannot be written ({one_line(error)}); allowed: a folder that can"
        raise InputError("--dest", str(folder), why) from None
    finally:
        for place in new:
            with suppress(OSError, ValueError):
                place.rmdir()
