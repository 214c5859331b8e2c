"""A ticket: a mask, the values its survivors start from, and where it came from."""

from dataclasses import dataclass

from lottery_ticket.config import Settings
from lottery_ticket.models import Weights
from lottery_ticket.pruning import Mask, density


@dataclass(frozen=True)
class Ticket:
    """A subnetwork found by a run.

    Attributes:
        mask: prunable tensor → bool tensor, True where the weight survives.
        weights: the values training starts from (θ₀, or θₖ with late rewinding); pruned weights are zero.
        settings: of the run that found it: architecture, data set, method.
        run_id, seed, round: the MLflow run of the trajectory and the place in it.
        test_accuracy: what the ticket reached when trained there, 0–1.
    """

    mask: Mask
    weights: Weights
    settings: Settings
    run_id: str
    seed: int
    round: int
    test_accuracy: float

    @property
    def density(self) -> float:
        """Survivors / prunable weights, 0–1."""
        return density(self.mask)
