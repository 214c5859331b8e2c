"""How much of which tensor survives: by ERK, smart ratio, or as told."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from lottery_ticket.errors import InputError

LINEAR = 0.3
"""What smart ratio keeps of linear layers, in its authors' experiments."""

Shapes = Mapping[str, Sequence[int]]
"""Prunable tensor → its shape, in the network's order."""


def erk(shapes: Shapes, density: float) -> dict[str, float]:
    """Erdős–Rényi-Kernel: in proportion to (sum of the dimensions) / (their product), 1 at most.

    What a tensor would have beyond 1 the others share in the same proportion. Evci et al. 2020 (arXiv 1911.11134),
    section 3 (1); Mocanu et al. 2018.

    Args:
        shapes: of the tensors.
        density: survivors / weights over all tensors, 0–1.

    Returns:
        Tensor → its density; over all tensors they come to `density`.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    wanted = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    found: dict[str, float] = {}
    while True:
        sharing = [name for name in shapes if name not in found]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in found)
        scale = budget / sum(wanted[name] * sizes[name] for name in sharing) if sharing else 0.0
        if not (beyond := [name for name in sharing if scale * wanted[name] >= 1]):
            return {name: found.get(name, scale * wanted[name]) for name in shapes}
        found |= dict.fromkeys(beyond, 1.0)


def smart_ratio(shapes: Shapes, density: float) -> dict[str, float]:
    """Less the deeper: of convolution l of L in proportion to (L − l + 1)² + (L − l + 1), of linear layers 30 %.

    What a convolution would have beyond 1 goes to the next, and from the last to the linear layers. Su et al. 2020
    (arXiv 2009.11094).

    Args:
        shapes, density: as for `erk`; convolutions are those of more than two dimensions.

    Returns:
        Tensor → its density; ValueError, with the reason, where the linear layers alone come to more.
    """
    deep = [name for name in shapes if len(shapes[name]) > 2]
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    flat = sum(sizes[name] for name in shapes if name not in deep)
    budget = density * sum(sizes.values()) - LINEAR * flat
    if not deep:
        raise ValueError("needs convolutions")
    if budget <= 0:
        raise ValueError(f"keeps {LINEAR:.0%} of linear layers, more than that in all")
    places = {name: len(deep) - at for at, name in enumerate(deep)}
    wanted = {name: place**2 + place for name, place in places.items()}
    scale = budget / sum(wanted[name] * sizes[name] for name in deep)
    found, over = {}, 0.0
    for name in deep:
        own = scale * wanted[name] * sizes[name] + over
        found[name] = min(1.0, own / sizes[name])
        over = own - found[name] * sizes[name]
    linear = min(1.0, LINEAR + over / flat) if flat else 0.0
    return {name: found.get(name, linear) for name in shapes}


def as_told(shapes: Shapes, told: Sequence[str]) -> dict[str, float]:
    """Tensor → its density by the first `PATTERN=DENSITY` that fits; InputError where one fits none, or none fits."""
    parts = [(pattern.strip(), float(number)) for pattern, _, number in (each.rpartition("=") for each in told)]
    fits = {name: [k for k, (pattern, _) in enumerate(parts) if fnmatchcase(name, pattern)] for name in shapes}
    if without := [name for name, places in fits.items() if not places]:
        raise InputError(
            "--tensor-densities", ",".join(told), f"say nothing of {', '.join(without)}; allowed: all prunable ones"
        )
    if idle := sorted(set(range(len(parts))) - {place for places in fits.values() for place in places}):
        allowed = f"allowed: patterns of {', '.join(shapes)}"
        raise InputError("--tensor-densities", told[idle[0]], f"names no prunable tensor; {allowed}")
    return {name: parts[places[0]][1] for name, places in fits.items()}
