"""How a ticket is referred to: a run and round, a registered model, or a folder."""

import re

from lottery_ticket.names import ARM

RUN = re.compile(rf"(?:runs:/)?([0-9a-f]{{32}})(?::(\d{{1,9}}))?(?::({ARM})-seed(\d{{1,10}}))?")
"""`RUN[:ROUND][:ARM-seedN]`, with or without `runs:/` before it."""


def in_store(reference: str) -> bool:
    """Whether a reference names a ticket in a store (a run or a registered model) and no folder."""
    return bool(RUN.fullmatch(reference)) or reference.startswith(("runs:", "models:"))
