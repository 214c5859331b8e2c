"""Arms: how the survivors of a round's mask get their starting values. A new arm is one function here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.models import Network, Weights
from lottery_ticket.pruning import Mask
from lottery_ticket.randomness import generator


class Start(NamedTuple):
    """Where a training starts: what survives, and the values (pruned ones are zeroed by the training)."""

    mask: Mask
    weights: Weights


@dataclass(frozen=True)
class Moment:
    """What an arm may draw on at the start of one round of one seed.

    Attributes:
        own: the mask this arm's own trained weights led to (the dense mask in round 0).
        winning: the mask of the arm `winning` at this round and seed.
        rewound: θ₀, or θₖ with late rewinding, of this seed.
    """

    network: Network
    seed: int
    round: int
    own: Mask
    winning: Mask
    rewound: Weights

    def fresh(self) -> Weights:
        """New random weights for this seed and round, independent of θ₀."""
        return self.network.draw(self.seed, "reinit", self.round)


def winning(at: Moment) -> Start:
    """The trunk: θ₀ under the mask found so far. Frankle & Carbin 2019, section 1."""
    return Start(at.own, at.rewound)


def reinit(at: Moment) -> Start:
    """The winning ticket's mask with new random weights. Frankle & Carbin 2019, section 2."""
    return Start(at.winning, at.fresh())


def random_mask(at: Moment) -> Start:
    """θ₀ under a random mask with as many survivors in each tensor as the winning ticket's."""
    source = generator(at.seed, "random-mask", at.round)
    return Start({name: _shuffled(kept, source) for name, kept in at.winning.items()}, at.rewound)


def reinit_own(at: Moment) -> Start:
    """New random weights each round, under the mask found by this arm itself.

    What rahulvigneswaran/Lottery-Ticket-Hypothesis-in-Pytorch, the code behind Shu, Qi & Liang's report, calls
    reinit.
    """
    return Start(at.own, at.fresh())


class Arm(NamedTuple):
    """An arm.

    Attributes:
        start: the function that makes its starts.
        own_mask: its own trained weights make its next mask (else it borrows the winning ticket's).
        redraws: it starts from new random weights in each round (else from θ₀ or θₖ).
    """

    start: Callable[[Moment], Start]
    own_mask: bool
    redraws: bool


ARMS = {
    "winning": Arm(winning, own_mask=True, redraws=False),
    "reinit": Arm(reinit, own_mask=False, redraws=True),
    "random-mask": Arm(random_mask, own_mask=False, redraws=False),
    "reinit-own": Arm(reinit_own, own_mask=True, redraws=True),
}


def check_arms(settings: Settings) -> None:
    """InputError for an unknown arm, or one that borrows the mask of an arm that is not there."""
    for name in settings.arms:
        if name not in ARMS:
            raise unknown("--arms", name, ARMS)
        if not ARMS[name].own_mask and "winning" not in settings.arms:
            raise InputError("--arms", name, "takes its masks from winning; allowed: winning beside it")


def _shuffled(kept: Tensor, source: torch.Generator) -> Tensor:
    return kept.flatten()[torch.randperm(kept.numel(), generator=source)].view(kept.shape)
