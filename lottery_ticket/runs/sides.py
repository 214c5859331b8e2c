"""What names an arm of a run, in the words of `lt compare`."""

import re
from collections.abc import Sequence

from lottery_ticket.errors import InputError
from lottery_ticket.names import ARM

_SIDE = re.compile(rf"([0-9a-f]{{32}})(?::({ARM}))?")
"""What names a side: RUN or RUN:ARM."""


def check_sides(sides: Sequence[str]) -> list[tuple[str, str]]:
    """(run id, arm) of each side; InputError where they are too few, name one twice, or are no references."""
    named = [_parsed(side) for side in sides]
    if len(sides) < 2:
        raise InputError("RUN", ", ".join(sides), "is nothing to compare with; allowed: two or more, RUN or RUN:ARM")
    if twice := next((side for side, each in zip(sides, named, strict=True) if named.count(each) > 1), None):
        raise InputError("RUN", twice, "is named twice; allowed: each run and arm once")
    return named


def _parsed(side: str) -> tuple[str, str]:
    """Run id and arm; InputError where it names none."""
    if not (matched := _SIDE.fullmatch(side)):
        raise InputError("RUN", side, "names no run; allowed: RUN or RUN:ARM, RUN being the id of a run")
    return matched[1], matched[2] or "winning"
