"""Arms that start from θ₀, new values or the weights trained last, under masks as they were found."""

import torch

from lottery_ticket.method.arms.contract import Moment, Start


def winning(at: Moment) -> Start:
    """The trunk: θ₀ under the mask found so far. Frankle & Carbin 2019, section 1.

    With late rewinding θₖ, whose training goes on at iteration k. Frankle, Dziugaite, Roy & Carbin 2020
    (arXiv 1912.05671), section 4.
    """
    return Start(at.own, at.rewound, at.rewound_at)


def untrained(at: Moment) -> Start:
    """θ₀ under the winning ticket's mask, which is not trained. Zhou, Lan, Liu & Yosinski 2019, section 5."""
    return Start(at.winning, at.initial)


def reinit(at: Moment) -> Start:
    """The winning ticket's mask with new random weights. Frankle & Carbin 2019, section 2."""
    return Start(at.winning, at.fresh())


def reinit_own(at: Moment) -> Start:
    """New random weights each round, under the mask found by this arm itself.

    What rahulvigneswaran/Lottery-Ticket-Hypothesis-in-Pytorch, the code behind Shu, Qi & Liang's report, calls
    reinit.
    """
    return Start(at.own, at.fresh())


def trained_last(at: Moment) -> Start:
    """What this arm trained last, under the mask it found. Renda, Frankle & Carbin 2020 (arXiv 2003.02389), section 2.

    As `lr-rewinding` the learning rate begins again, or goes on at iteration k. As `finetune` it stays what it is at
    the end of the schedule, for as many iterations.
    """
    return Start(at.own, at.trained, at.rewound_at) if at.trained else Start(at.own, at.initial)


def dense_as_long(at: Moment) -> Start:
    """The dense network, trained on from what was trained last: in a round as long as finding its ticket has taken.

    As long in iterations, in cycles of the same schedule. Since all weights compute, that is more multiply-adds than
    the ticket took: `lt compare` sets equal ones side by side. That repeated cycles are much of what iterative pruning
    gains is the claim of "Cyclic Sparse Training: Is it Enough?" (2024, arXiv 2406.02773).
    """
    dense = {name: torch.ones_like(kept) for name, kept in at.own.items()}
    return trained_last(at)._replace(mask=dense)


def freeze(at: Moment) -> Start:
    """θ₀, of which the pruned weights are frozen and not set to zero, under the mask found by this arm itself.

    The mask-0 action `freeze` of Zhou, Lan, Liu & Yosinski 2019 (arXiv 1905.01067), section 3.
    """
    return Start(at.own, at.rewound, at.rewound_at)


def freeze_towards_zero(at: Moment) -> Start:
    """As `freeze`, but those pruned weights are zero that came nearer to zero in the training after which they went.

    Zhou et al. 2019, section 3, where that is as good as setting all of them to zero, or better.
    """
    values = dict(at.rewound)
    for name, kept in at.own.items() if at.trained else ():
        nearer = at.trained[name].abs() < at.rewound[name].abs()  # of those pruned before: whether they are zero
        values[name] = values[name].masked_fill(nearer & ~kept, 0)
    return Start(at.own, values, at.rewound_at)
