"""The lottery-ticket lab: find winning tickets, prove that they win, and hand them on.

The names below are the public interface; each is imported when first used, so that `import lottery_ticket` is
instant. See the README for an example.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery_ticket.chain import load_compact
    from lottery_ticket.config import Settings, load_preset, preset_names
    from lottery_ticket.errors import InputError, LotteryTicketError
    from lottery_ticket.experiment import Result, resume, run
    from lottery_ticket.files import load_mask, load_weights
    from lottery_ticket.record import Record
    from lottery_ticket.retrain import train_ticket
    from lottery_ticket.ticket import Ticket
    from lottery_ticket.trajectory import Round, find_tickets
    from lottery_ticket.verdict import Verdict, judge

__version__ = "0.4.0"

_HOME = {
    "InputError": "errors",
    "LotteryTicketError": "errors",
    "Record": "record",
    "Result": "experiment",
    "Round": "trajectory",
    "Settings": "config",
    "Ticket": "ticket",
    "Verdict": "verdict",
    "find_tickets": "trajectory",
    "judge": "verdict",
    "load_compact": "chain",
    "load_mask": "files",
    "load_preset": "config",
    "load_weights": "files",
    "preset_names": "config",
    "resume": "experiment",
    "run": "experiment",
    "train_ticket": "retrain",
}

__all__ = [
    "InputError",
    "LotteryTicketError",
    "Record",
    "Result",
    "Round",
    "Settings",
    "Ticket",
    "Verdict",
    "find_tickets",
    "judge",
    "load_compact",
    "load_mask",
    "load_preset",
    "load_weights",
    "preset_names",
    "resume",
    "run",
    "train_ticket",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"lottery_ticket.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
