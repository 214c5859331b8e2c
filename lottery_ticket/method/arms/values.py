"""Arms with the winning ticket's mask that keep a part of what its start values are: their signs, sizes or order.

Zhou, Lan, Liu & Yosinski 2019 (arXiv 1905.01067), section 4 and its code. With late rewinding it is θₖ whose signs,
sizes or order are kept, and training goes on at iteration k. What no mask has, such as biases, is as in `winning`.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lottery_ticket.method.arms.contract import Moment, Start
from lottery_ticket.randomness import generator


def sign_only(at: Moment) -> Start:
    """The signs alone: every survivor of a tensor is ± the standard deviation of that tensor's θ₀."""
    size = {name: at.initial[name].double().std(correction=0) for name in at.winning}
    return _changed(at, lambda name, values: (values.sign() * size[name]).to(values.dtype))


def untrained_signs(at: Moment) -> Start:
    """The values of `sign_only` as drawn, whatever is rewound to: not trained. Zhou et al. 2019, section 5."""
    return sign_only(replace(at, rewound=at.initial, rewound_at=0))


def signs_random(at: Moment) -> Start:
    """The sizes alone: each survivor keeps its absolute value and gets a random sign."""
    source = generator(at.seed, "signs-random", at.round)
    return _changed(at, lambda name, values: values.abs() * _signs(len(values), source).to(values.dtype))


def shuffle(at: Moment) -> Start:
    """The survivors' values in random order among the survivors of their tensor, which Zhou et al. call reshuffle."""
    source = generator(at.seed, "shuffle", at.round)
    return _changed(at, lambda name, values: values[torch.randperm(len(values), generator=source)])


def shuffle_all(at: Moment) -> Start:
    """The values of a whole tensor in random order, the pruned ones' among them, which Zhou et al.'s code calls reinit.

    So survivors have values as they are drawn, and not, as with `shuffle`, those of the weights that survived.
    """
    source = generator(at.seed, "shuffle-all", at.round)
    shuffled = {name: permuted(at.rewound[name], source) for name in at.winning}
    return Start(at.winning, at.rewound | shuffled, at.rewound_at)


def permuted(values: Tensor, source: torch.Generator) -> Tensor:
    """All values of a tensor in random order."""
    return values.flatten()[torch.randperm(values.numel(), generator=source)].view(values.shape)


def _changed(at: Moment, change: Callable[[str, Tensor], Tensor]) -> Start:
    """The winning ticket's start with other values of its survivors, which are changed tensor by tensor."""
    values = dict(at.rewound)
    for name, kept in at.winning.items():
        values[name] = values[name].clone()
        values[name][kept] = change(name, values[name][kept])
    return Start(at.winning, values, at.rewound_at)


def _signs(count: int, source: torch.Generator) -> Tensor:
    return torch.randint(2, (count,), generator=source) * 2 - 1
