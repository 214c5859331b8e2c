"""The LeNets: fc1 (LeNet-300-100) and lenet5."""

from collections import OrderedDict

from torch import nn


def fc1(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """LeNet-300-100: fully connected 300, 100, classes (266,200 weights on MNIST).

    Source: Frankle & Carbin 2019, Figure 2 "Lenet"; called fc1 by Shu, Qi & Liang.
    """
    inputs = 1
    for size in input_shape:
        inputs *= size
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(inputs, 300),
            relu1=nn.ReLU(),
            fc2=nn.Linear(300, 100),
            relu2=nn.ReLU(),
            output=nn.Linear(100, classes),
        )
    )


def lenet5(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Convolutions 64, 64 (3×3, padding 1), 2×2 max-pool, fully connected 256, 256, classes.

    On MNIST 37,440 convolutional and 3,279,360 fully connected weights. Source: Shu, Qi & Liang, Figure 1;
    the layers are Frankle & Carbin's Conv-2.
    """
    channels, height, width = input_shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(64, 64, 3, padding=1),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * (height // 2) * (width // 2), 256),
            relu3=nn.ReLU(),
            fc2=nn.Linear(256, 256),
            relu4=nn.ReLU(),
            output=nn.Linear(256, classes),
        )
    )
