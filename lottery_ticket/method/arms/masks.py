"""Arms with θ₀ (or θₖ, from which training goes on at iteration k) under another mask than the winning ticket's."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lottery_ticket.method.arms.contract import Moment, Start, Trajectory
from lottery_ticket.method.arms.values import permuted
from lottery_ticket.randomness import generator

TRADES = 50
"""How often all rows of a tensor trade, in random pairs, to forget the mask that `degree_preserving` begins with.

Of fc1's layers and of a convolution 64 × 64 × 3 × 3, with units of very different degrees, the mask had no more entries
in common with the one it began with than chance gives after 16 trades where a tenth was left, 32 where a half was.
Fifty take 0.2 to 0.9 s for fc1's first layer on one core of an AMD EPYC.
"""


def random_mask(at: Moment) -> Start:
    """θ₀ under the winning ticket's mask shuffled within each tensor: a random one with as many survivors there.

    Frankle & Carbin 2019, appendix; the layer-wise shuffle of Frankle, Dziugaite, Roy & Carbin 2021 (arXiv 2009.08576).
    """
    source = generator(at.seed, "random-mask", at.round)
    return Start({name: permuted(kept, source) for name, kept in at.winning.items()}, at.rewound, at.rewound_at)


def sparse_from_the_start(at: Moment) -> Start:
    """θ₀ under the mask of `random_mask`, whose weights go and grow elsewhere in training. (See `engine.changing`.)

    As `set` they grow at random: Mocanu et al. 2018 (arXiv 1707.04780). As `rigl` where the gradient is largest: Evci
    et al. 2020 (arXiv 1911.11134).
    """
    return Start(random_mask(at).mask, at.initial)


def dense_at_first(at: Moment) -> Start:
    """θ₀, of which weights go in training until as many of each tensor are left as in the winning ticket's mask.

    Gradual magnitude pruning: Zhu & Gupta 2017 (arXiv 1710.01878).
    """
    return Start(at.winning, at.initial)


def learned(at: Moment) -> Start:
    """θ₀, which is never trained, under a mask that is learned. (See `engine.supermasks`.)

    As `edge-popup` of as many weights of each tensor as the settings leave: Ramanujan et al. 2020 (arXiv 1911.13299).
    As `supermask` each weight with a probability of its own, which begins as that part: Zhou, Lan, Liu & Yosinski 2019
    (arXiv 1905.01067), section 5.
    """
    return Start(at.winning, at.initial)


def of_the_same_round(at: Moment) -> Start:
    """θ₀ under the mask that another arm made in this round, trained as any other.

    As `mask-gmp` that of gradual pruning, and as `reinit-gmp` new values under it: the experiments lottery and scratch
    of Evci, Ioannou, Keskin & Dauphin 2022 (arXiv 2010.03533). As `mask-edge-popup` whether the weights under a
    supermask can still be trained.
    """
    return Start(at.winning, at.initial)


def gradual(seed: int, seeds: Sequence[int]) -> Trajectory:
    """The trajectory that makes masks by gradual pruning."""
    return "gmp", seed


def popped_up(seed: int, seeds: Sequence[int]) -> Trajectory:
    """The trajectory that learns masks by edge-popup."""
    return "edge-popup", seed


def degree_preserving(at: Moment) -> Start:
    """θ₀ under a random mask in which every unit has as many weights in and out as in the winning ticket's.

    A tensor is taken as a matrix of 0 and 1, its first axis against all others: of a linear layer outputs × inputs; of
    a convolution filters × kernel entries, (input channel, row, column), so that the number of weights is kept of each
    filter, of each entry, and thereby of each input channel and each place of the kernel. (In a grouped convolution an
    input channel is one of each group, and their numbers are kept in sum.) Drawn uniformly from all such matrices by
    global curveball trades: rows are paired at random, and what only one of the two has is dealt out anew. Strona et
    al. 2014 (Nature Communications 5, 4114); Carstens, Hamann, Meyer, Penschuck, Tran & Wagner 2018 (arXiv 1804.08487).
    """
    source = generator(at.seed, "degree-preserving", at.round)
    return Start({name: rewired(kept, source) for name, kept in at.winning.items()}, at.rewound, at.rewound_at)


def of_another_seed(at: Moment) -> Start:
    """θ₀ of this seed under the winning ticket's mask of another one: whether a mask fits other values than its own.

    The seed before it in `--seeds`, of the first the second, so that seeds that are added later change nothing.
    """
    return Start(at.winning, at.rewound, at.rewound_at)


def neighbour(seed: int, seeds: Sequence[int]) -> Trajectory:
    """The trajectory whose masks `of_another_seed` borrows; its own where there is no other seed."""
    here = seeds.index(seed)
    return "winning", seeds[here - 1] if here else seeds[min(1, len(seeds) - 1)]


def of_another_training(at: Moment) -> Start:
    """θ₀ under a mask that another arm finds by training on altered data: how much of a mask is in the data.

    `mask-random-labels` borrows from `on-random-labels`, which trains from θ₀ on the training images with their labels
    in random order, `mask-half-data` from `on-half-data`, which trains on half of the images as long. Both prune and
    rewind as `winning` does, and are to be trained beside it: the mask costs what it takes to find, which is a
    trajectory of its own. Su et al. 2020 (arXiv 2009.11094), section 3.
    """
    return Start(at.winning, at.rewound, at.rewound_at)


def random_labels(seed: int, seeds: Sequence[int]) -> Trajectory:
    """The trajectory that finds masks on random labels."""
    return "on-random-labels", seed


def half_data(seed: int, seeds: Sequence[int]) -> Trajectory:
    """The trajectory that finds masks on half of the training images."""
    return "on-half-data", seed


def rewired(kept: Tensor, source: torch.Generator, trades: int = TRADES) -> Tensor:
    """A random mask with the row and column sums of this one, the first axis being the rows.

    Args:
        kept: bool, of two axes or more; of one axis it is only shuffled.
        source: of randomness.
        trades: how often every row trades with another.
    """
    if kept.ndim < 2:
        return permuted(kept, source)
    matrix = kept.flatten(1)
    few = matrix.sum() * 2 <= matrix.numel()  # the matrix of what is pruned has the same freedom
    rows, columns = (matrix if few else ~matrix).nonzero().unbind(1)
    for _ in range(trades):
        rows = _trade(rows, columns, matrix.shape, source)
    made = torch.full_like(matrix, not few)
    made[rows, columns] = bool(few)
    return made.view(kept.shape)


def _trade(rows: Tensor, columns: Tensor, shape: torch.Size, source: torch.Generator) -> Tensor:
    """The rows of the entries after all rows have traded once; the columns stay."""
    order = torch.randperm(shape[0], generator=source)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    pair, side = place[rows] // 2, place[rows] % 2
    where = pair * shape[1] + columns
    alone = (where.bincount()[where] == 1).nonzero().view(-1)  # the entries that the other row of the pair has not
    shuffled = alone[torch.randperm(len(alone), generator=source)]
    keys = pair[shuffled].numpy().astype(np.min_scalar_type(shape[0]))  # of 16 bits, which NumPy sorts in linear time
    dealt = shuffled[torch.from_numpy(keys.argsort(kind="stable"))]  # each pair's side by side, in random order
    sizes = pair[alone].bincount(minlength=shape[0])
    firsts = pair[alone[side[alone] == 0]].bincount(minlength=shape[0])
    rank = torch.arange(len(dealt)) - (sizes.cumsum(0) - sizes)[pair[dealt]]
    return rows.index_copy(0, dealt, order[2 * pair[dealt] + (rank >= firsts[pair[dealt]])])
