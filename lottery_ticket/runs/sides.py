"""What names an arm of a run, in the words of `lt compare`."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from lottery_ticket.errors import InputError
from lottery_ticket.names import ARM
from lottery_ticket.record import Counting

_SIDE = re.compile(rf"([0-9a-f]{{32}})(?::({ARM}))?")
"""What names a side: RUN or RUN:ARM."""

_FORMATS = (".png", ".pdf", ".svg")

MOST = 26
"""Sides: each has a letter."""


def check_sides(
    sides: Sequence[str], tolerance: float, level: float, cost: str, figure: Path | str | None
) -> list[tuple[str, str]]:
    """(run id, arm) of each side; InputError for what cannot be compared, or not so.

    That is too few sides or too many, one that is named twice or is no reference, and a number, cost or figure that is
    not allowed.
    """
    if not 0 < tolerance < math.inf:
        raise InputError("--tolerance", tolerance, "is not allowed; allowed: more than 0, as 0.1 for a tenth")
    if not 0.5 < level < 1:
        raise InputError("--level", level, "is not allowed; allowed: more than 0.5, less than 1")
    if cost not in get_args(Counting):
        raise InputError("--cost", cost, f"is not allowed; allowed: {', '.join(get_args(Counting))}")
    check_figure(figure)
    named = [_parsed(side) for side in sides]
    if len(sides) < 2:
        raise InputError("RUN", ", ".join(sides), "is nothing to compare with; allowed: two or more, RUN or RUN:ARM")
    if len(sides) > MOST:
        raise InputError("RUN", len(sides), f"are too many to tell apart; allowed: 2 to {MOST}")
    if twice := next((side for side, each in zip(sides, named, strict=True) if named.count(each) > 1), None):
        raise InputError("RUN", twice, "is named twice; allowed: each run and arm once")
    return named


def check_figure(figure: Path | str | None) -> None:
    """InputError for a path whose name is not that of a picture."""
    if figure is not None and Path(figure).suffix.lower() not in _FORMATS:
        raise InputError("--figure", str(figure), f"is no picture; allowed: a path that ends in {', '.join(_FORMATS)}")


def _parsed(side: str) -> tuple[str, str]:
    """Run id and arm; InputError where it names none."""
    if not (matched := _SIDE.fullmatch(side)):
        raise InputError("RUN", side, "names no run; allowed: RUN or RUN:ARM, RUN being the id of a run")
    return matched[1], matched[2] or "winning"
