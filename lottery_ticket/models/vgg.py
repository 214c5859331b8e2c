"""VGGs with batch normalisation for small images, as those who study tickets on CIFAR-10 train them."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from lottery_ticket.models.sizes import picture, scaled

_CHANNELS = (64, 128, 256, 512, 512)


def vgg(input_shape: tuple[int, ...], classes: int, width: float = 1.0, *, depths: Sequence[int]) -> nn.Module:
    """Five groups of 3×3 convolutions (padding 1), max-pool after the first four, the mean of the last, one linear.

    Batch normalisation and a rectifier after each convolution, which has biases. On images of 32×32×3 with ten classes
    9,222,848 weights in VGG-11, 14,715,584 in VGG-16 and 20,024,000 in VGG-19. Source: Simonyan & Zisserman 2015 as
    open_lth has it (models/cifar_vgg.py); there the last pooling takes 2×2 values, which in 32×32 pixels are all.

    Args:
        input_shape: C, H, W of one image.
        classes: units of the last layer.
        width: times the channels.
        depths: convolutions of each group.
    """
    inputs, *_ = picture(input_shape, 16)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for group, (published, depth) in enumerate(zip(_CHANNELS, depths, strict=True), 1):
        channels = scaled(published, width)
        for _ in range(depth):
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(inputs, channels, 3, padding=1)
            layers[f"bn{number}"], layers[f"relu{number}"] = nn.BatchNorm2d(channels), nn.ReLU()
            inputs = channels
        layers[f"pool{group}"] = nn.MaxPool2d(2) if group < len(_CHANNELS) else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(layers | OrderedDict(flatten=nn.Flatten(), output=nn.Linear(inputs, classes)))


VGGS: dict[str, partial[nn.Module]] = {
    "vgg11": partial(vgg, depths=(1, 1, 2, 2, 2)),
    "vgg16": partial(vgg, depths=(2, 2, 3, 3, 3)),
    "vgg19": partial(vgg, depths=(2, 2, 4, 4, 4)),
}
