"""Frankle & Carbin's Conv-2, Conv-4, Conv-6 and Zhou et al.'s Conv-8: small VGGs without normalisation."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from lottery_ticket.models.sizes import picture, scaled

DROPOUT = 0.5
"""Of the hidden fully connected layers, where there is dropout: Frankle & Carbin 2019, section 3."""


def conv(
    input_shape: tuple[int, ...], classes: int, width: float = 1.0, *, pairs: Sequence[int], dropout: float = 0.0
) -> nn.Module:
    """Pairs of 3×3 convolutions (padding 1), each with 2×2 max-pool, then fully connected 256, 256, classes.

    On images of 32×32×3 with ten classes 4,300,992 weights in Conv-2, 2,425,024 in Conv-4, 2,261,184 in Conv-6 and
    5,275,840 in Conv-8. Sources: Frankle & Carbin 2019 (arXiv 1803.03635), Figure 2; Zhou et al. 2019 (arXiv
    1905.01067) for Conv-8.

    Args:
        input_shape: C, H, W of one image.
        classes: units of the last layer.
        width: times the channels and the hidden units.
        pairs: channels of each pair of convolutions.
        dropout: the part of the values of each hidden fully connected layer that are dropped in training.
    """
    smallest = 2 ** len(pairs)
    inputs, *sides = picture(input_shape, smallest)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for pair, published in enumerate(pairs):
        channels = scaled(published, width)
        for number in (2 * pair + 1, 2 * pair + 2):
            layers[f"conv{number}"], layers[f"relu{number}"] = nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()
            inputs = channels
        layers["pool" if len(pairs) == 1 else f"pool{pair + 1}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    inputs, units = inputs * math.prod(side // smallest for side in sides), scaled(256, width)
    for number in (1, 2):
        layers[f"fc{number}"], layers[f"relu{2 * len(pairs) + number}"] = nn.Linear(inputs, units), nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        inputs = units
    return nn.Sequential(layers | OrderedDict(output=nn.Linear(inputs, classes)))


conv2 = partial(conv, pairs=(64,))
conv4 = partial(conv, pairs=(64, 128))
conv6 = partial(conv, pairs=(64, 128, 256))
conv8 = partial(conv, pairs=(64, 128, 256, 512))

CONVS: dict[str, partial[nn.Module]] = {"conv2": conv2, "conv4": conv4, "conv6": conv6, "conv8": conv8}
CONVS |= {f"{name}-dropout": partial(factory, dropout=DROPOUT) for name, factory in CONVS.items()}
