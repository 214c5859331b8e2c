"""The LeNets: fc1 (LeNet-300-100), lenet5 as Shu, Qi & Liang call it, and LeCun's own."""

import math
from collections import OrderedDict

from torch import nn

from lottery_ticket.models.conv import conv2
from lottery_ticket.models.mlp import mlp
from lottery_ticket.models.sizes import picture, scaled


def fc1(input_shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Module:
    """LeNet-300-100: fully connected 300, 100, classes (266,200 weights on MNIST).

    Source: Frankle & Carbin 2019, Figure 2 "Lenet"; called fc1 by Shu, Qi & Liang.
    """
    return mlp(input_shape, classes, width, hidden=(300, 100))


def lenet5(input_shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Module:
    """Convolutions 64, 64 (3×3, padding 1), 2×2 max-pool, fully connected 256, 256, classes.

    On MNIST 37,440 convolutional and 3,279,360 fully connected weights. Source: Shu, Qi & Liang, Figure 1;
    the layers are Frankle & Carbin's Conv-2.
    """
    return conv2(input_shape, classes, width)


def lenet5_lecun(input_shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Module:
    """Convolutions 6, 16 (5×5, no padding), each with 2×2 max-pool, fully connected 120, 84, classes.

    44,190 weights on MNIST. Source: LeCun et al. 1998 as Evci et al. 2022 (arXiv 2010.03533) train it: rectifiers,
    max-pooling, every channel joined with every other.
    """
    channels, *sides = picture(input_shape, 16)
    places = math.prod(((side - 4) // 2 - 4) // 2 for side in sides)
    first, second, third, fourth = (scaled(count, width) for count in (6, 16, 120, 84))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, 5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * places, third),
            relu3=nn.ReLU(),
            fc2=nn.Linear(third, fourth),
            relu4=nn.ReLU(),
            output=nn.Linear(fourth, classes),
        )
    )
