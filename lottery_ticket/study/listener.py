"""Who listens to a study."""

from collections.abc import Sequence
from typing import Any

from lottery_ticket.engine.job import Progress
from lottery_ticket.record import Record
from lottery_ticket.runs.plan import Plan
from lottery_ticket.study.opened import Opened
from lottery_ticket.study.trials import Trial


class StudyListener:
    """What a study tells whoever listens; every method may be left out."""

    def opened(self, opened: Opened, trials: int) -> None:
        """The study is there; it is to have so many trials."""

    def begun(self, number: int, params: dict[str, Any], rounds: int, plan: Plan) -> None:
        """A trial is about to be trained."""

    def progress(self, numbers: Sequence[int], progress: Progress) -> None:
        """Every few iterations of a round."""

    def warned(self, message: str) -> None:
        """Something is not as it should be, but training goes on; may come from another thread."""

    def round_finished(self, number: int, records: Sequence[Record]) -> None:
        """A round of a trial is finished and kept."""

    def trial_finished(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """A trial is finished, as are `trials`, this one among them."""

    def refused(self, number: int, why: str) -> None:
        """A trial's settings cannot be run."""

    def lost(self, number: int) -> None:
        """Another process has taken a trial over, because this one had not been heard of."""

    def waiting(self, trials: int) -> None:
        """Nothing is left to begin; so many trials are still trained by other processes."""

    def ended(self) -> None:
        """Nothing is left to do here; the study is about to be concluded."""
