"""Runs: `lt run`, `lt train` and `lt sync`, put together from the rooms below."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.runs.listener import Listener

__all__ = ["Listener"]

__getattr__ = lazily(
    __name__,
    {
        "Listener": "listener",
    },
)
