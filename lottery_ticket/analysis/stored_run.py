"""A finished run as analyses see it, and what they give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lottery_ticket.config import Settings
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StoredRun:
    """A run of `lt run` as its store has it; masks and weights are read when they are asked for.

    Attributes:
        run_id, name: in MLflow.
        settings: that it was trained with.
        records: the numbers of every finished round of every arm and seed, in order of round.
        mask: (arm, seed, round) → the survivors of that round.
        trained: (arm, seed, round) → its trained parameters and buffers, rounded as they are kept, pruned ones zero.
        initial: seed → θ₀ of the arm `winning`.
    """

    run_id: str
    name: str
    settings: Settings = field(repr=False)
    records: Sequence[Record] = field(repr=False)
    mask: Callable[[str, int, int], Mask] = field(repr=False)
    trained: Callable[[str, int, int], Weights] = field(repr=False)
    initial: Callable[[int], Weights] = field(repr=False)

    def rounds(self, arm: str, seed: int) -> list[int]:
        """The rounds that a trajectory has finished, in order."""
        return sorted(record.round for record in self.records if (record.arm, record.seed) == (arm, seed))


@dataclass(frozen=True)
class Finding:
    """What an analysis found.

    Attributes:
        says: sentences, the most important first.
        table: rows of plain values, all with the same columns.
        figures: name → figure, drawn without pyplot (`lottery_ticket.analysis.plots.subplots`).
    """

    says: Sequence[str]
    table: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, "Figure"] = field(default_factory=dict)


class Analysis(NamedTuple):
    """An analysis.

    Attributes:
        of: from a run to what is found. InputError or LotteryTicketError where the run has not what it needs.
    """

    of: Callable[[StoredRun], Finding]
