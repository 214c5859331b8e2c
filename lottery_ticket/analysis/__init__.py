"""What may be said of records and tickets: verdicts, comparisons, figures."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.analysis.stored_run import Analysis, Finding, StoredRun

__all__ = ["Analysis", "Finding", "StoredRun"]

__getattr__ = lazily(__name__, {"Analysis": "stored_run", "Finding": "stored_run", "StoredRun": "stored_run"})
