"""Networks that several tests use."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two convolutions with batch normalisation around which the input is added (He et al. 2016)."""

    def __init__(self, channels, wider, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(wider)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, wider, 1, stride, bias=False), nn.BatchNorm2d(wider))

    def forward(self, x):
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        inner += self.shortcut(x)
        return F.relu(inner)


class Residual(nn.Module):
    """A small residual network with batch normalisation."""

    def __init__(self, input_shape=(3, 12, 12), classes=10):
        super().__init__()
        self.blocks = nn.Sequential(Block(input_shape[0], 4, 2), Block(4, 8, 2))
        self.output = nn.Linear(8, classes)

    def forward(self, x):
        return self.output(self.blocks(x).mean((2, 3)))


class Scaled(nn.Module):
    """With a parameter outside of any layer, which the engine does not stack."""

    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(784, classes)
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x):
        return self.layer(x.flatten(1)) * self.scale


class DroppingItself(Scaled):
    """With dropout that it asks for itself, from torch's own generator."""

    def forward(self, x):
        return super().forward(F.dropout(x, 0.3, self.training))


def with_dropout(input_shape, classes):
    """A small chain with dropout, for grey images."""
    inputs = input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.ReLU(), nn.Dropout(0.3), nn.Linear(20, classes))
