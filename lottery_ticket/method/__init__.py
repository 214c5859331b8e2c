"""The method of the papers: which weights go, where the survivors start again, and the loop around both."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.method.arms import Arm, Moment, Start
    from lottery_ticket.method.criteria import Criterion, Evidence
    from lottery_ticket.method.trajectory import Round

__all__ = ["Arm", "Criterion", "Evidence", "Moment", "Round", "Start"]

__getattr__ = lazily(
    __name__,
    {
        "Arm": "arms",
        "Criterion": "criteria",
        "Evidence": "criteria",
        "Moment": "arms",
        "Round": "trajectory",
        "Start": "arms",
    },
)
