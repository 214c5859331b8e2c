"""Which tensors of a round are trained over survivors alone: by shapes, density and settings, never by a timing.

So the same command on the same number of threads gives the same bits. The numbers are from `bench/sparse.py`, on an AMD
EPYC (Zen 5, AVX-512, two cores) and an Intel Xeon (AVX-512, AMX, two cores): where the slower of the two gains from it.
docs/engine.md has the tables.
"""

from importlib.util import find_spec

import torch
from torch import nn

from lottery_ticket.config import Settings
from lottery_ticket.masks import Mask
from lottery_ticket.models.cost import MultiplyAdds
from lottery_ticket.models.network import Network

LINEAR_BELOW = {1: 0.4, 2: 0.2}
"""Threads → density of a linear layer's weights below which its survivors are multiplied alone; on more `_ON_MORE`.

One member's product is taken by one thread, while torch's dense one is taken by all.
"""

FEWEST = 10_000
"""Weights of a linear layer, pruned or not, from which on that is worth its calls."""

CONVOLUTIONS_BELOW = {1: 0.25, 2: 0.15}
"""Threads → the part of the multiply-adds of all convolutions that is left below which they are multiplied so, all of
them; on more `_ON_MORE`.

Not one by one: between a convolution of the one kind and one of the other the images would be rearranged.
"""

_ON_MORE = 0.1
"""Either, on more threads: not measured, on the safe side."""

KNOWN = (nn.Linear, nn.Conv2d)
"""The layers whose survivors can be multiplied alone."""


class Rule:
    """The tensors of a member of a round that are trained over survivors alone, from its mask.

    With `engine` dense none; with sparse all weights of linear and convolutional layers of which something is pruned;
    with auto those that the numbers above say, for as many threads as `engine_threads` says, which a run keeps, so that
    it goes on as it began. Only in float32 on a CPU, where numba is installed.
    """

    def __init__(self, network: Network, settings: Settings, device: torch.device) -> None:
        self._network, self._engine = network, settings.engine
        self._layers = {f"{path}.weight": layer for path, layer in network.module.named_modules()}
        self._threads = settings.engine_threads or torch.get_num_threads()
        self._possible = device.type == "cpu" and settings.precision == "float32" and available()

    def __call__(self, mask: Mask) -> tuple[str, ...]:
        """Names of tensors, in the mask's order."""
        known = [name for name in mask if type(self._layers.get(name)) in KNOWN]
        left = {name: int(mask[name].sum()) / mask[name].numel() for name in known}
        if self._engine == "dense" or not self._possible or min(left.values(), default=1) == 1:
            return ()
        if self._engine == "sparse":
            return tuple(name for name in known if left[name] < 1)
        cost = self._multiply_adds
        below, convolutions_below = (by.get(self._threads, _ON_MORE) for by in (LINEAR_BELOW, CONVOLUTIONS_BELOW))
        convolved = sum(left[name] * cost[name] for name in cost) < convolutions_below * sum(cost.values())
        large = [name for name in known if name not in cost and mask[name].numel() >= FEWEST]
        chosen = {name for name in large if left[name] < below}
        if chosen and chosen == set(large) and not cost:
            chosen = set(known)  # small ones too: a perceptron of survivors is taken as a whole
        chosen |= {name for name in cost if convolved and left[name] < 1}
        return tuple(name for name in known if name in chosen)

    @property
    def _multiply_adds(self) -> dict[str, int]:
        """Multiply-adds of each prunable convolution on one image, dense; 0 where they cannot be counted."""
        convolutions = [name for name in self._network.kinds if type(self._layers.get(name)) is nn.Conv2d]
        counted = self._network.multiply_adds if convolutions else None
        inference = counted.inference if isinstance(counted, MultiplyAdds) else {}
        return {name: inference.get(name, 0) for name in convolutions}


def available() -> bool:
    """Whether the kernels can be compiled here."""
    return find_spec("numba") is not None
