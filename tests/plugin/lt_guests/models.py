"""A network."""

from torch import nn


def tiny_conv(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """One convolution and one linear layer."""
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * height * width, classes)
    )
