"""Residual networks for small images: ResNet-20 and its longer siblings, and ResNet-18 with a stem for CIFAR."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from lottery_ticket.models.sizes import picture, scaled


class Block(nn.Module):
    """Two 3×3 convolutions with batch normalisation and what is added to them: the input, or a 1×1 convolution of it.

    Source: He et al. 2016 (arXiv 1512.03385), Figure 2, with the projection of option B.
    """

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """B×C×H×W → the block's channels, height and width divided by its stride."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3×3 convolution, stages of blocks, the mean over all places, one linear layer.

    The first block of each stage but the first halves height and width.

    Args:
        inputs: channels of the images.
        classes: units of the last layer.
        stages: channels and number of blocks of each stage.
    """

    def __init__(self, inputs: int, classes: int, stages: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        first = stages[0][0]
        self.conv1, self.bn1 = nn.Conv2d(inputs, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first)
        inputs = first
        self.stages = nn.Sequential()
        for stage, (channels, blocks) in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                self.stages.add_module(f"{stage + 1}-{block + 1}", Block(inputs, channels, stride))
                inputs = channels
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.output = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images B×C×H×W → scores B×classes."""
        return self.output(self.flatten(self.pool(self.stages(F.relu(self.bn1(self.conv1(x)))))))


def resnet(
    input_shape: tuple[int, ...],
    classes: int,
    width: float = 1.0,
    *,
    channels: Sequence[int] = (16, 32, 64),
    blocks: int,
) -> nn.Module:
    """A residual network of 2 × stages × blocks + 2 layers.

    With three stages and ten classes 270,896 weights in ResNet-20; ResNet-18 has four of two blocks and 11,164,352.
    Sources: He et al. 2016, section 4.2, as open_lth has it (models/cifar_resnet.py): 1×1 convolutions where channels
    change; kuangliu/pytorch-cifar for ResNet-18.

    Args:
        input_shape: C, H, W of one image.
        classes: units of the last layer.
        width: times the channels.
        channels: of each stage.
        blocks: of each stage.
    """
    inputs, *_ = picture(input_shape)
    return ResNet(inputs, classes, [(scaled(each, width), blocks) for each in channels])


RESNETS: dict[str, partial[nn.Module]] = {
    f"resnet{6 * blocks + 2}": partial(resnet, blocks=blocks) for blocks in (3, 5, 9, 18)
}
RESNETS["resnet18"] = partial(resnet, channels=(64, 128, 256, 512), blocks=2)
