"""Which tensors of a round are trained over survivors alone: by shape, density and settings, never by a timing."""

from importlib.util import find_spec

import torch
from torch import nn

from lottery_ticket.config import Settings
from lottery_ticket.masks import Mask
from lottery_ticket.models.network import Network

LINEAR_BELOW = 0.3
"""Density of a linear layer's weights below which its survivors are multiplied alone (bench/sparse.py)."""

FEWEST = 10_000
"""Weights of a tensor, pruned or not, from which on that is worth its calls (bench/sparse.py)."""


def sparse_tensors(network: Network, mask: Mask, settings: Settings, device: torch.device) -> tuple[str, ...]:
    """The tensors of a member with this mask that are trained over survivors alone, in the network's order.

    With `engine` dense none; with sparse all weights of linear layers of which something is pruned; with auto those
    that `LINEAR_BELOW` says. Only in float32 on a CPU, where numba is installed.
    """
    if settings.engine == "dense" or device.type != "cpu" or settings.precision != "float32" or not available():
        return ()
    linear = {f"{path}.weight" for path, layer in network.module.named_modules() if type(layer) is nn.Linear}
    chosen = []
    for name, kept in mask.items():
        left = int(kept.sum()) / kept.numel()
        wanted = left < 1 if settings.engine == "sparse" else left < LINEAR_BELOW and kept.numel() >= FEWEST
        if name in linear and wanted:
            chosen.append(name)
    return tuple(chosen)


def available() -> bool:
    """Whether the kernels can be compiled here."""
    return find_spec("numba") is not None
