"""What an arm is: what it may draw on at the start of a round, and what it says of itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lottery_ticket.engine.job import CHANGING, FIXED, LEARNING, Training
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.models.network import Network


class Start(NamedTuple):
    """Where a training starts: what survives, and the values (pruned ones are zeroed by the training).

    Attributes:
        begins_at: the iteration that training goes on from; where the values are `Moment.rewound`, its `rewound_at`.
    """

    mask: Mask
    weights: Weights
    begins_at: int = 0


@dataclass(frozen=True)
class Moment:
    """What an arm may draw on at the start of one round of one seed.

    Attributes:
        make_network: gives the architecture; not called for arms that do not ask for it.
        own: the mask that this arm's own trained weights led to (the dense mask in round 0), or of an arm that borrows
            its masks, the same as `winning`.
        winning: the mask of the arm `winning` at this round and seed, or the one that an arm with a `lender` borrows;
            where a mask is learned, one of as many weights of each tensor as the settings leave. Empty where that is
            not there any more.
        initial: θ₀ of this seed.
        rewound: θ₀, or θₖ with late rewinding. When `lt train` trains a late-rewound ticket, which holds θₖ of its
            survivors alone, the other values are NaN, and an arm that needs them is refused.
        rewound_at: the iteration at which training goes on from `rewound`; 0 from θ₀.
        trained: the weights that this arm trained in the round before, pruned ones zero; only of an arm with
            `keep_start`, and empty in round 0 and where `lt train` trains a ticket.
    """

    make_network: Callable[[], Network]
    seed: int
    round: int
    own: Mask
    winning: Mask
    initial: Weights
    rewound: Weights
    rewound_at: int = 0
    trained: Weights = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """The architecture."""
        return self.make_network()

    def fresh(self) -> Weights:
        """New random weights for this seed and round, independent of θ₀."""
        return self.network.draw(self.seed, "reinit", self.round)


Trajectory = tuple[str, int]
"""(arm, seed)."""


class Arm(NamedTuple):
    """An arm.

    Attributes:
        start: the function that makes its starts.
        own_mask: its own trained weights make its next mask (else it borrows the winning ticket's).
        keep_start: the start values of each round are stored with it, for a start that the same moment would not give
            again. Else a ticket's values are made anew by asking the arm; of an arm with masks of its own the moment
            then has the stored mask as `own`.
        control: winning tickets have to beat it; of several that are trained the first counts, ours before guests'.
        colour: in figures, as matplotlib takes it; default: one that no other arm has.
        goes_on: it has masks of its own and goes on at iteration k of `winning`, without which it must not begin at 0.
        draws: it draws values with the network, and so cannot be asked again where nobody has that.
        inverted: of its own masks the weights with the highest scores go first, not those with the lowest.
        lender: from its seed and all seeds of the run, in their order, the trajectory whose masks it borrows; default:
            `winning` of its seed. Where each round of the lender makes a mask of its own, it is that of the same round:
            the borrower is trained after it.
        training: how its members are trained, where that differs from all others (see `Training`).
        size_alone: of the mask that it borrows it takes the number of weights alone, as near to it as its own mask can
            come, which nothing was spent on to find.
        dense: all of its weights stay: it has masks of its own, but none is made.
        unfit: tells why a network cannot have it, None where it can; default: every network can.
    """

    start: Callable[[Moment], Start]
    own_mask: bool
    keep_start: bool = False
    control: bool = False
    colour: str | None = None
    draws: bool = False
    goes_on: bool = False
    inverted: bool = False
    lender: Callable[[int, Sequence[int]], Trajectory] | None = None
    training: Training = "usual"
    size_alone: bool = False
    dense: bool = False
    unfit: Callable[[Network], str | None] | None = None

    @property
    def makes_mask(self) -> bool:
        """Whether each of its rounds makes a mask of its own, which changes or is learned while it is trained."""
        return self.training in (*CHANGING, *LEARNING)

    @property
    def fixed(self) -> bool:
        """Whether no weight of its members is trained."""
        return self.training in FIXED

    def finder(self, name: str, seed: int, seeds: Sequence[int]) -> Trajectory:
        """The trajectory whose training finds the masks of this arm, which goes by that name, for this seed."""
        if self.own_mask or self.training in LEARNING:
            return name, seed
        return self.lender(seed, seeds) if self.lender else ("winning", seed)
