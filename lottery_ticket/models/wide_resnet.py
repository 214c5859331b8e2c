"""Wide residual networks: convolutions after normalisation, and more channels instead of more layers."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from lottery_ticket.models.sizes import picture, scaled


class WideBlock(nn.Module):
    """Two 3×3 convolutions, each after normalisation and a rectifier, added to the input or to a projection of it.

    Source: Zagoruyko & Komodakis 2016 (arXiv 1605.07146), Figure 1; where channels change, the projection takes what
    the first rectifier gives, as in their code.
    """

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.projects = stride != 1 or inputs != channels
        self.shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False) if self.projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """B×C×H×W → the block's channels, height and width divided by its stride."""
        out = F.relu(self.bn1(x))
        added = self.shortcut(out if self.projects else x)
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + added


class WideResNet(nn.Module):
    """A 3×3 convolution, three stages of blocks, normalisation, the mean over all places, one linear layer.

    Args:
        inputs: channels of the images.
        classes: units of the last layer.
        first: channels of the first convolution.
        stages: channels of each stage.
        blocks: of each stage.
    """

    def __init__(self, inputs: int, classes: int, first: int, stages: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, first, 3, 1, 1, bias=False)
        self.stages = nn.Sequential()
        inputs = first
        for stage, channels in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                self.stages.add_module(f"{stage + 1}-{block + 1}", WideBlock(inputs, channels, stride))
                inputs = channels
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.output = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images B×C×H×W → scores B×classes."""
        return self.output(self.flatten(self.pool(F.relu(self.bn1(self.stages(self.conv1(x)))))))


def wide_resnet(
    input_shape: tuple[int, ...], classes: int, width: float = 1.0, *, blocks: int, factor: int
) -> nn.Module:
    """WRN-(6 × blocks + 4)-factor without dropout; 1,076,912 weights in WRN-22-2 on images of 32×32×3, ten classes.

    Args:
        input_shape: C, H, W of one image.
        classes: units of the last layer.
        width: times the channels, those of the first convolution too.
        blocks: of each stage.
        factor: how many times the 16, 32 and 64 channels of a ResNet the stages have.
    """
    stages = [scaled(factor * each, width) for each in (16, 32, 64)]
    inputs, *_ = picture(input_shape)
    return WideResNet(inputs, classes, scaled(16, width), stages, blocks)


WIDE_RESNETS: dict[str, partial[nn.Module]] = {"wrn22-2": partial(wide_resnet, blocks=3, factor=2)}
