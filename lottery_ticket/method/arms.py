"""Arms: how the survivors of a round's mask get their starting values. A new arm is one function here."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lottery_ticket import plugins
from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.models.network import Network
from lottery_ticket.names import ARM
from lottery_ticket.randomness import generator


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
        winning: the mask of the arm `winning` at this round and seed; empty where that arm is not there any more.
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


def winning(at: Moment) -> Start:
    """The trunk: θ₀ under the mask found so far. Frankle & Carbin 2019, section 1.

    With late rewinding θₖ, whose training goes on at iteration k. Frankle, Dziugaite, Roy & Carbin 2020
    (arXiv 1912.05671), section 4.
    """
    return Start(at.own, at.rewound, at.rewound_at)


def reinit(at: Moment) -> Start:
    """The winning ticket's mask with new random weights. Frankle & Carbin 2019, section 2."""
    return Start(at.winning, at.fresh())


def random_mask(at: Moment) -> Start:
    """θ₀ under a random mask with as many survivors in each tensor as the winning ticket's."""
    source = generator(at.seed, "random-mask", at.round)
    return Start({name: _shuffled(kept, source) for name, kept in at.winning.items()}, at.rewound, at.rewound_at)


def reinit_own(at: Moment) -> Start:
    """New random weights each round, under the mask found by this arm itself.

    What rahulvigneswaran/Lottery-Ticket-Hypothesis-in-Pytorch, the code behind Shu, Qi & Liang's report, calls
    reinit.
    """
    return Start(at.own, at.fresh())


def lr_rewinding(at: Moment) -> Start:
    """What this arm trained last, under the mask it found; the learning rate begins again, or goes on at iteration k.

    Renda, Frankle & Carbin 2020 (arXiv 2003.02389), section 2.
    """
    return Start(at.own, at.trained, at.rewound_at) if at.trained else Start(at.own, at.initial)


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
        goes_on: it goes on at iteration k with other values than θₖ, and must not begin at 0 for lack of `winning`.
        draws: it draws values with the network, and so cannot be asked again where nobody has that.
    """

    start: Callable[[Moment], Start]
    own_mask: bool
    keep_start: bool = False
    control: bool = False
    colour: str | None = None
    draws: bool = False
    goes_on: bool = False


ARMS = {
    "winning": Arm(winning, own_mask=True, colour="#0072B2"),
    "reinit": Arm(reinit, own_mask=False, control=True, colour="#D55E00", draws=True),
    "random-mask": Arm(random_mask, own_mask=False, colour="#009E73"),
    "reinit-own": Arm(reinit_own, own_mask=True, control=True, colour="#CC79A7", draws=True),
    "lr-rewinding": Arm(lr_rewinding, own_mask=True, keep_start=True, colour="#E69F00", goes_on=True),
}

_FREE = ("#56B4E9", "#F0E442", "#000000", "#8C564B", "#7F7F7F")
"""Colours of arms that have none of their own (Okabe & Ito's, which colour-blind people tell apart, first)."""


def arm_named(name: str, option: str = "--arms") -> Arm:
    """The arm of that name, ours or a guest's; InputError where there is none."""
    found = plugins.named("arms", name, ARMS, option)
    if not isinstance(found, Arm):
        raise plugins.unfit(option, name, found, "a lottery_ticket.method.Arm")
    return found


def colours_of(arms: Iterable[str]) -> dict[str, str]:
    """The colours of these arms in figures: their own, or those that are left over, in order."""
    own = {name: arm_named(name).colour for name in arms}
    free = [colour for colour in _FREE if colour not in own.values()]
    return {name: colour or (free.pop(0) if free else "0.5") for name, colour in own.items()}


def in_order(arms: Iterable[str]) -> tuple[str, ...]:
    """These arms, each once, ours first and in one order."""
    given = dict.fromkeys(arms)
    return (*(name for name in ARMS if name in given), *(name for name in given if name not in ARMS))


def controls_among(arms: Iterable[str]) -> tuple[str, ...]:
    """Those of these arms that winning tickets have to beat, ours first."""
    return tuple(name for name in in_order(arms) if arm_named(name).control)


def check_arms(settings: Settings) -> None:
    """InputError for an unknown arm, one with a name that it must not have, or one whose masks nobody finds."""
    for name in settings.arms:
        arm = arm_named(name)
        if not re.fullmatch(ARM, name):
            allowed = "allowed: a small letter, then small letters, digits, _ and -, 50 in all, or module:name"
            raise InputError("--arms", name, f"is no name for an arm; {allowed}")
        if arm.goes_on and settings.rewind_iteration and "winning" not in settings.arms:
            raise InputError("--arms", name, "goes on at the iteration that winning keeps; allowed: winning beside it")
        if not arm.own_mask and "winning" not in settings.arms:
            raise InputError("--arms", name, "takes its masks from winning; allowed: winning beside it")


def _shuffled(kept: Tensor, source: torch.Generator) -> Tensor:
    return kept.flatten()[torch.randperm(kept.numel(), generator=source)].view(kept.shape)
