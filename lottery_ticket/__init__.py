"""The lottery-ticket lab: find winning tickets, prove that they win, and hand them on.

The names below are the public interface; each is imported when first used, so that `import lottery_ticket` is
instant. See the README for an example.
"""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily
from lottery_ticket.version import __version__ as __version__

if TYPE_CHECKING:
    from lottery_ticket.analysis.compare import compare
    from lottery_ticket.analysis.verdict import Verdict, judge
    from lottery_ticket.config import Settings, load_preset, preset_names
    from lottery_ticket.errors import InputError, LotteryTicketError
    from lottery_ticket.method.trajectory import Round, find_tickets
    from lottery_ticket.record import Record
    from lottery_ticket.reproduction.reproduce import reproduce
    from lottery_ticket.runs.analyse import analyse
    from lottery_ticket.runs.compare import compare_runs
    from lottery_ticket.runs.find import find
    from lottery_ticket.runs.own_loop import Job
    from lottery_ticket.runs.result import Result, load_run
    from lottery_ticket.runs.retrain import train_ticket
    from lottery_ticket.runs.run import resume, run
    from lottery_ticket.study.parse import load_study
    from lottery_ticket.study.sweep import sweep
    from lottery_ticket.tickets.export import export
    from lottery_ticket.tickets.files import load_mask, load_weights
    from lottery_ticket.tickets.graph import load_compact
    from lottery_ticket.tickets.ticket import Ticket


_HOME = {
    "InputError": "errors",
    "Job": "runs.own_loop",
    "LotteryTicketError": "errors",
    "Record": "record",
    "Result": "runs.result",
    "Round": "method.trajectory",
    "Settings": "config",
    "Ticket": "tickets.ticket",
    "Verdict": "analysis.verdict",
    "analyse": "runs.analyse",
    "compare": "analysis.compare",
    "compare_runs": "runs.compare",
    "export": "tickets.export",
    "find": "runs.find",
    "find_tickets": "method.trajectory",
    "judge": "analysis.verdict",
    "load_compact": "tickets.graph",
    "load_mask": "tickets.files",
    "load_preset": "config",
    "load_run": "runs.result",
    "load_study": "study.parse",
    "load_weights": "tickets.files",
    "preset_names": "config",
    "reproduce": "reproduction.reproduce",
    "resume": "runs.run",
    "run": "runs.run",
    "sweep": "study.sweep",
    "train_ticket": "runs.retrain",
}

__all__ = [
    "InputError",
    "Job",
    "LotteryTicketError",
    "Record",
    "Result",
    "Round",
    "Settings",
    "Ticket",
    "Verdict",
    "analyse",
    "compare",
    "compare_runs",
    "export",
    "find",
    "find_tickets",
    "judge",
    "load_compact",
    "load_mask",
    "load_preset",
    "load_run",
    "load_study",
    "load_weights",
    "preset_names",
    "reproduce",
    "resume",
    "run",
    "sweep",
    "train_ticket",
]

__getattr__ = lazily(__name__, _HOME)
