"""Fully connected networks of any size, named by their hidden layers: `mlp:300-100`."""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from lottery_ticket.errors import InputError
from lottery_ticket.models.sizes import scaled

PREFIX = "mlp:"
_HIDDEN = re.compile(r"[1-9]\d{0,5}(-[1-9]\d{0,5}){0,63}")


def mlp(input_shape: tuple[int, ...], classes: int, width: float = 1.0, *, hidden: Sequence[int]) -> nn.Module:
    """Linear layers with ReLU between them.

    Args:
        input_shape: of one image, which is flattened.
        classes: units of the last layer.
        width: times the units of the hidden layers.
        hidden: their numbers of units.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(input_shape)
    for number, units in enumerate((scaled(each, width) for each in hidden), 1):
        layers[f"fc{number}"], layers[f"relu{number}"] = nn.Linear(inputs, units), nn.ReLU()
        inputs = units
    return nn.Sequential(layers | OrderedDict(output=nn.Linear(inputs, classes)))


def mlp_named(name: str, option: str = "--model") -> partial[nn.Module]:
    """What builds `mlp:300-100`; InputError where that names no layers."""
    hidden = name.removeprefix(PREFIX)
    if not _HIDDEN.fullmatch(hidden):
        why = "names no hidden layers; allowed: mlp: and units joined by dashes, as mlp:300-100, at most 64 layers"
        raise InputError(option, name, f"{why} of 1 to 999999")
    return partial(mlp, hidden=tuple(map(int, hidden.split("-"))))
