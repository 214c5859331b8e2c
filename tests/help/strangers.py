"""Networks as other people publish them, written after their papers and the best-known public code, for 3×32×32."""

from itertools import pairwise

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


def rows(x: Tensor) -> Tensor:
    """Images N×C×H×W as sequences of their rows, N×H×(C·W)."""
    return x.transpose(1, 2).flatten(2)


def vit_b_16_at_32(num_classes):
    return torchvision.models.vit_b_16(image_size=32, num_classes=num_classes)


def googlenet_without_aux(num_classes):
    return torchvision.models.googlenet(num_classes=num_classes, aux_logits=False, init_weights=False)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class BasicBlock(nn.Module):
    """He et al. 2016, section 4.2; shortcuts of option A: subsampled, padded with zero channels."""

    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != planes:
            more = planes // 4
            self.shortcut = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more)))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet20(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, inputs = [], 16
        for planes, stride in ((16, 1), (32, 2), (64, 2)):
            blocks = []
            for each in (stride, 1, 1):
                blocks.append(BasicBlock(inputs, planes, each))
                inputs = planes
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


class PreActBlock(nn.Module):
    """He et al. 2016b (identity mappings); also the block of Zagoruyko & Komodakis 2016, with dropout inside."""

    def __init__(self, inputs, planes, stride, dropout=0.0):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.dropout = dropout
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False))

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = F.relu(self.bn2(self.conv1(out)))
        if self.dropout:
            out = F.dropout(out, p=self.dropout, training=self.training)
        return self.conv2(out) + shortcut


class PreActResNet18(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        blocks, inputs = [], 64
        for planes, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
            for stride in (first, 1):
                blocks.append(PreActBlock(inputs, planes, stride))
                inputs = planes
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x):
        out = F.avg_pool2d(self.blocks(self.conv1(x)), 4)
        return self.linear(out.view(out.size(0), -1))


class WideResNet16x4(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        blocks, inputs = [], 16
        for planes, first in ((64, 1), (128, 2), (256, 2)):
            for stride in (first, 1):
                blocks.append(PreActBlock(inputs, planes, stride, dropout=0.3))
                inputs = planes
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(256)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        out = F.relu(self.bn(self.blocks(self.conv1(x))))
        return self.fc(F.avg_pool2d(out, 8).flatten(1))


class Bottleneck(nn.Module):
    """Huang et al. 2017, DenseNet-BC."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        out = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([self.conv2(F.relu(self.bn2(out))), x], 1)


class Transition(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNetBC40(nn.Module):
    def __init__(self, num_classes=10, growth=12):
        super().__init__()
        channels = 2 * growth
        layers = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for stage in range(3):
            for _ in range(6):
                layers.append(Bottleneck(channels, growth))
                channels += growth
            if stage < 2:
                layers.append(Transition(channels, channels // 2))
                channels //= 2
        self.features = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.linear(F.relu(self.bn(self.features(x))).mean((2, 3)))


class MixerBlock(nn.Module):
    """Tolstikhin et al. 2021, figure 1."""

    def __init__(self, tokens, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class MLPMixer(nn.Module):
    def __init__(self, num_classes=10, width=64):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(*[MixerBlock(64, width) for _ in range(4)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.blocks(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


class EncoderOverRows(nn.Module):
    """Vaswani et al. 2017, encoder; a class token and learned positions as in Dosovitskiy et al. 2021."""

    def __init__(self, num_classes=10, width=64):
        super().__init__()
        self.head = nn.Linear(width, num_classes)  # registered first, used last
        self.embed = nn.Linear(96, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 33, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 128, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        x = torch.cat([self.class_token.expand(len(x), -1, -1), self.embed(rows(x))], 1)
        return self.head(self.encoder(x + self.positions)[:, 0])


class RecurrentOverRows(nn.Module):
    def __init__(self, recurrent, outputs, num_classes):
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(outputs, num_classes)

    def forward(self, x):
        return self.head(self.recurrent(rows(x))[0][:, -1])


def lstm_over_rows(num_classes):
    return RecurrentOverRows(nn.LSTM(96, 64, 2, batch_first=True, bidirectional=True), 128, num_classes)


def gru_over_rows(num_classes):
    return RecurrentOverRows(nn.GRU(96, 64, batch_first=True), 64, num_classes)


class Conv1dOverRows(nn.Module):
    """A causal, dilated one (van den Oord et al. 2016), without gates."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(inputs, 48, 3, dilation=2**i) for i, inputs in enumerate((96, 48, 48)))
        self.head = nn.Linear(48, num_classes)

    def forward(self, x):
        x = rows(x).transpose(1, 2)
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(F.pad(x, (2 * 2**i, 0))))
        return self.head(x[:, :, -1])


class AttentionPooling(nn.Module):
    """A learned query that attends to the rows (Lee et al. 2019, pooling by multihead attention)."""

    def __init__(self, num_classes=10, width=64):
        super().__init__()
        self.embed = nn.Linear(96, width)
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = torch.tanh(self.embed(rows(x)))
        pooled, _ = self.attention(self.query.expand(len(x), -1, -1), x, x, need_weights=False)
        return self.head(pooled[:, 0])


def weight_normed(num_classes):
    """Salimans & Kingma 2016."""
    return nn.Sequential(
        weight_norm(nn.Conv2d(3, 16, 3, stride=2)),
        nn.ReLU(),
        weight_norm(nn.Conv2d(16, 32, 3, stride=2)),
        nn.ReLU(),
        nn.Flatten(),
        weight_norm(nn.Linear(32 * 49, num_classes)),
    )


def spectrally_normed(num_classes):
    """Miyato et al. 2018."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(3, 16, 4, 4)), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(16 * 64, num_classes)
    )


class ParameterLists(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        sizes = (3072, 100, 100, num_classes)
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.randn(inputs, outputs) / inputs**0.5 for inputs, outputs in pairs)
        self.biases = nn.ParameterList(torch.zeros(outputs) for _, outputs in pairs)

    def forward(self, x):
        x = x.flatten(1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            x = x if i == 2 else torch.relu(x)
        return x


def lambda_layers(num_classes):
    return nn.Sequential(
        Lambda(lambda x: x.mean(1, keepdim=True)),
        nn.Conv2d(1, 16, 3, 2, 1),
        Lambda(F.relu),
        Lambda(lambda x: F.avg_pool2d(x, 4)),
        Lambda(lambda x: x.reshape(x.size(0), -1)),
        nn.Linear(256, num_classes),
    )


class FunctionalDropout(nn.Module):
    def __init__(self, num_classes=10, told=True):
        super().__init__()
        self.fc1 = nn.Linear(3072, 100)
        self.fc2 = nn.Linear(100, num_classes)
        self.told = told

    def forward(self, x):
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.dropout(x, 0.5, training=self.training) if self.told else F.dropout(x, 0.5)
        return self.fc2(x)


def dropout_that_never_stops(num_classes):
    return FunctionalDropout(num_classes, told=False)


class SqueezeAndExcitation(nn.Module):
    """Hu et al. 2018, figure 3."""

    def __init__(self, num_classes=10, channels=32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, 2, 1)
        self.squeeze = nn.Linear(channels, channels // 4)
        self.excite = nn.Linear(channels // 4, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 2, 1, groups=4)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        x = F.relu(self.conv2(x * gate[:, :, None, None]))
        return self.fc(x.mean((2, 3)))
