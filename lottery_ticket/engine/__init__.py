"""The engine: K networks trained side by side. It is given members and gives trained networks."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.engine.executors import Executor
    from lottery_ticket.engine.job import Member, Progress, Train, Trained

__all__ = ["Executor", "Member", "Progress", "Train", "Trained"]

__getattr__ = lazily(
    __name__,
    {
        "Executor": "executors",
        "Member": "job",
        "Progress": "job",
        "Train": "job",
        "Trained": "job",
    },
)
