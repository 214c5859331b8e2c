"""Studies: `lt sweep`."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.study.definition import Study
    from lottery_ticket.study.samplers import PerTrial

__all__ = ["PerTrial", "Study"]

__getattr__ = lazily(
    __name__,
    {
        "PerTrial": "samplers",
        "Study": "definition",
    },
)
