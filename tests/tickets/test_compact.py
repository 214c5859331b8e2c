"""Compaction: the same scores without what no surviving path reaches."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.config import load_preset
from lottery_ticket.errors import InputError
from lottery_ticket.models.lenet import fc1, lenet5
from lottery_ticket.models.network import make_network
from lottery_ticket.tickets.compact import compact
from tests.help.networks import Residual, Scaled


def pruned(module, density, seed=0):
    """Random values everywhere, biases and running statistics too, and a random mask over them."""
    draw = torch.Generator().manual_seed(seed)
    mask = {}
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.ndim > 1:
                mask[name] = torch.rand(value.shape, generator=draw) < density
                value.copy_(torch.randn(value.shape, generator=draw) * mask[name])
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
            elif value.is_floating_point():
                value.normal_(generator=draw)
    return mask


def prune(module, mask, name, index):
    """Take weights out of a mask by hand."""
    mask[name][index] = False
    with torch.no_grad():
        module.get_parameter(name)[index] = 0


def compacted(module, mask, shape):
    """The compact network, after checking that it gives the same scores, masks and sizes that fit."""
    before = copy.deepcopy(module.state_dict())
    result = compact(module, mask, shape)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    x = torch.randn(16, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = copy.deepcopy(module).double().eval()(x.double())
        exact, rounded = copy.deepcopy(result.module).double()(x.double()), result.module(x)
    # Sums of large terms: what rounding does to a score goes by the largest of them, not by the score itself, and in
    # float32 by the order in which instructions add. In float64 the folded biases' own rounding is left.
    assert (exact - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert (rounded - expected).abs().max() <= 1e-5 * expected.abs().max()
    state = result.module.state_dict()
    assert all(not state[name][~kept].any() and kept.shape == state[name].shape for name, kept in result.mask.items())
    assert result.parameters[1] == sum(value.numel() for value in result.module.parameters())
    for size in result.layers:
        groups = getattr(result.module.get_submodule(size.layer), "groups", 1)
        assert state[f"{size.layer}.weight"].shape[:2] == (size.units[1], size.inputs[1] // groups)
    return result


def left(result):
    """Layer → (inputs, units) that are left."""
    return {size.layer: (size.inputs[1], size.units[1]) for size in result.layers}


class Functional(nn.Module):
    """The layers of a small convolutional network as functions and methods."""

    def __init__(self, dropout=False):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.features = nn.Sequential(nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5))
        self.output = nn.Linear(5 * 3 * 3, 4)

    def forward(self, x):
        x = F.max_pool2d(F.leaky_relu(self.first(x), 0.2, inplace=True), 2)
        x = torch.tanh(self.features(x)).relu()
        x = F.avg_pool2d(F.dropout(x, training=self.training), 2, 1)
        return self.output(x.view(x.size(0), -1))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(3, 2, padding=1),
        nn.Conv2d(8, 6, 3),
        nn.BatchNorm2d(6),
        nn.Sigmoid(),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 12),
        nn.BatchNorm1d(12),
        nn.GELU(),
        nn.Linear(12, 5),
    )


class Joining(nn.Module):
    """Layers whose channels are joined to those that they take (Huang et al. 2017), with one rectifier for all."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.norm, self.act, self.output = nn.BatchNorm2d(11), nn.ReLU(inplace=True), nn.Linear(11, 4)

    def forward(self, x):
        x = torch.cat([x, self.act(self.first(x))], 1)
        x = torch.cat([x, self.act(self.second(x))], dim=1)
        return self.output(self.act(self.norm(x)).mean((2, 3)))


class Inverted(nn.Module):
    """A residual block with a convolution of each channel by itself (Sandler et al. 2018), then other groups."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 12, 1, bias=False)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.norm1, self.norm2, self.narrow = nn.BatchNorm2d(12), nn.BatchNorm2d(12), nn.Conv2d(12, 6, 1)
        self.grouped, self.more = nn.Conv2d(6, 9, 3, groups=3), nn.Conv2d(9, 18, 1, groups=9)
        self.output = nn.Linear(18, 4)

    def forward(self, x):
        x = self.stem(x)
        y = F.relu6(self.norm2(self.depthwise(F.relu6(self.norm1(self.wide(x))))))
        x = torch.relu(self.grouped(x + self.narrow(y)))
        return self.output(F.adaptive_avg_pool2d(torch.tanh(self.more(x)), 1).flatten(1))


def built(model):
    return lambda: make_network(load_preset(model=model, width=0.25), (3, 12, 12), 4).build()


NETWORKS = {
    "fc1": (lambda: fc1((1, 12, 12), 10), (1, 12, 12)),
    "vectors": (lambda: fc1((30,), 3), (30,)),
    "lenet5": (lambda: lenet5((2, 8, 8), 10), (2, 8, 8)),
    "convolutions": (convolutions, (3, 12, 12)),
    "functional": (Functional, (2, 12, 12)),
    "residual": (Residual, (3, 12, 12)),
    "resnet20": (built("resnet20"), (3, 12, 12)),
    "wrn22-2": (built("wrn22-2"), (3, 12, 12)),
    "joining": (Joining, (2, 8, 8)),
    "inverted": (Inverted, (3, 12, 12)),
}


@pytest.mark.parametrize("density", [1.0, 0.3, 0.05, 0.01, 0.0])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_same_scores(network, density, seed):
    make, shape = NETWORKS[network]
    module = make()
    result = compacted(module, pruned(module, density, seed), shape)
    if density == 1:
        assert all(had == remain for size in result.layers for had, remain in (size.inputs, size.units))
        assert result.parameters[0] == result.parameters[1]
    if density == 0 and isinstance(result.module, nn.Sequential):
        assert {sum(pair) for pair in left(result).values()} == {2, 1 + result.layers[-1].units[0]}


def test_dead_inputs_and_units_are_counted():
    module = fc1((1, 5, 5), 4)
    mask = pruned(module, 1.0)
    prune(module, mask, "fc1.weight", (slice(None), [0, 7, 24]))  # three pixels that nothing takes
    prune(module, mask, "fc1.weight", [1, 2])  # two constant units
    prune(module, mask, "fc2.weight", (slice(None), [3, 4, 5, 6]))  # four units that nothing takes
    prune(module, mask, "output.weight", (slice(None), 9))
    result = compacted(module, mask, (1, 5, 5))
    assert left(result) == {"fc1": (22, 294), "fc2": (294, 99), "output": (99, 4)}
    assert result.module.select_fc1.index.tolist() == [i for i in range(25) if i not in (0, 7, 24)]
    assert result.parameters == (26 * 300 + 301 * 100 + 101 * 4, 23 * 294 + 295 * 99 + 100 * 4)


def test_what_dies_makes_more_die():
    module = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.ReLU())), nn.Linear(4, 2))
    mask = pruned(module, 1.0)
    prune(module, mask, "0.weight", 0)
    prune(module, mask, "2.weight", (0, [1, 2, 3]))  # takes but the constant: constant itself, and its taker's bias
    prune(module, mask, "6.weight", (slice(None), 3))
    prune(module, mask, "4.weight", ([0, 1, 2], 2))  # unit 2 goes to unit 3 only, which goes nowhere
    assert left(compacted(module, mask, (4,))) == {"0": (4, 3), "2": (3, 2), "4": (2, 3), "6": (3, 2)}


def test_a_constant_needs_a_bias():
    module = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2, bias=False))
    mask = pruned(module, 1.0)
    prune(module, mask, "0.weight", 1)
    result = compacted(module, mask, (4,))
    assert left(result) == {"0": (4, 2), "2": (2, 2)}
    assert result.module[2].bias is not None


@pytest.mark.parametrize(
    ("padding", "bias", "channels"),
    [(0, 0.7, 3), (1, 0.7, 4), (1, -0.7, 3), (1, 0.0, 3), ("same", 0.7, 4), ("valid", 0.7, 3)],
)
def test_a_constant_channel_before_padding(padding, bias, channels):
    """It is folded where the next convolution does not pad, or where ReLU makes it zero; otherwise it stays."""
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=padding), nn.Flatten(), nn.LazyLinear(5)
    )
    module(torch.zeros(1, 2, 8, 8))
    mask = pruned(module, 1.0)
    prune(module, mask, "0.weight", 2)
    with torch.no_grad():
        module[0].bias[2] = bias
    assert left(compacted(module, mask, (2, 8, 8)))["2"] == (channels, 3)


def test_other_padding_keeps_a_constant():
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), nn.Flatten())
    module.append(nn.Linear(3 * 6 * 6, 5))
    mask = pruned(module, 1.0)
    prune(module, mask, "0.weight", 2)
    assert left(compacted(module, mask, (2, 8, 8)))["1"] == (3, 3)


def test_pooling_over_padding_makes_a_constant_channel_differ():
    def network(counts):
        pool = nn.AvgPool2d(2, 2, padding=1, count_include_pad=counts)
        return nn.Sequential(nn.Conv2d(1, 3, 1), pool, nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 3))

    for counts, channels in ((True, 3), (False, 2)):
        module = network(counts)
        mask = pruned(module, 1.0)
        prune(module, mask, "0.weight", 1)
        assert left(compacted(module, mask, (1, 6, 6)))["2"] == (channels, 2)


def test_features_and_channels_of_a_flattened_map():
    module = lenet5((2, 8, 8), 5)
    mask = pruned(module, 1.0)
    features = torch.arange(64 * 16).view(64, 16)
    prune(module, mask, "fc1.weight", (slice(None), features[3].flatten()))
    prune(module, mask, "fc1.weight", (slice(None), features[4, :5]))
    prune(module, mask, "conv1.weight", (slice(None), 1))  # the second colour
    prune(module, mask, "conv2.weight", (slice(None), [0, 1]))
    result = compacted(module, mask, (2, 8, 8))
    assert left(result)["conv1"] == (1, 62)
    assert left(result)["conv2"] == (62, 63)
    assert left(result)["fc1"] == (63 * 16 - 5, 256)


def test_all_scores_stay():
    module = fc1((6,), 4)
    mask = pruned(module, 1.0)
    prune(module, mask, "output.weight", [0, 2])
    assert left(compacted(module, mask, (6,)))["output"] == (100, 4)


def test_what_is_added_goes_together():
    """Channels of both sides of a sum stay where one of them has a path; where none has on any side, all go."""
    module = Residual()
    mask = pruned(module, 1.0)
    with torch.no_grad():  # what is constant is zero after the rectifier
        for norm in (module.blocks[0].norm1, module.blocks[0].norm2, module.blocks[0].shortcut[1]):
            norm.bias.fill_(-1)
            norm.running_mean.zero_()
    prune(module, mask, "blocks.0.conv1.weight", 1)  # within the block: goes alone
    prune(module, mask, "blocks.0.conv2.weight", [0, 3])
    prune(module, mask, "blocks.0.shortcut.0.weight", [2, 3])  # channel 3 has nothing on either side
    sizes = left(compacted(module, mask, (3, 12, 12)))
    assert sizes["blocks_0_conv1"] == (3, 3)
    assert sizes["blocks_0_conv2"] == (3, 3)
    assert sizes["blocks_0_shortcut_0"] == (3, 3)
    assert sizes["blocks_1_conv1"] == sizes["blocks_1_shortcut_0"] == (3, 8)


def test_what_is_joined_goes_by_itself():
    module = Joining()
    mask = pruned(module, 1.0)
    prune(module, mask, "first.weight", 1)
    with torch.no_grad():
        module.first.bias[1] = -1  # zero after the rectifier, which padding does not change
    prune(module, mask, "output.weight", (slice(None), [0, 2, 3, 7]))  # an image's channel, two of first, one of second
    prune(module, mask, "second.weight", (slice(None), [0, 2]))  # so the first two of these go nowhere
    result = compacted(module, mask, (2, 8, 8))
    assert left(result) == {"first": (2, 2), "second": (3, 4), "output": (7, 4)}
    assert result.module.select_cat.count == 1  # of the image


def test_groups_stay_whole():
    module = Inverted()
    mask = pruned(module, 1.0)
    prune(module, mask, "depthwise.weight", [0, 5])  # constant channels, which a 1×1 convolution takes up
    prune(module, mask, "more.weight", [2, 3, 4])  # all units of the second channel and one of the third
    prune(module, mask, "output.weight", (slice(None), [10, 11]))  # the sixth's go nowhere
    prune(module, mask, "grouped.weight", [6, 7, 8])  # the last group's units are constant
    result = compacted(module, mask, (3, 12, 12))
    assert left(result) == {
        "stem": (3, 6),
        "wide": (6, 10),
        "depthwise": (10, 10),
        "narrow": (10, 4),  # the last group's two inputs go nowhere
        "grouped": (4, 6),
        "more": (4, 8),
        "output": (7, 4),
    }
    groups = [result.module.get_submodule(name).groups for name in ("depthwise", "grouped", "more")]
    assert groups == [10, 2, 4]


def test_a_layer_without_a_mask_is_whole():
    module = Residual()
    mask = pruned(module, 0.3)
    with torch.no_grad():
        module.output.weight.normal_()
    del mask["output.weight"]
    assert compacted(module, mask, (3, 12, 12)).mask["output.weight"].all()


class Shifted(nn.Module):
    """Adds something to the images."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(4, 2)

    def forward(self, x):
        return self.output(x + 1)


class Rearranged(nn.Module):
    """Joins images, not their channels."""

    def __init__(self):
        super().__init__()
        self.first, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.output(torch.cat([x, self.first(x)])[:4])


class Branching(nn.Module):
    """Takes another way for bright images."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(4, 2)

    def forward(self, x):
        return self.output(x) if x.sum() > 0 else self.output(-x)


class Twice(nn.Module):
    """Calls one layer twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.output(self.layer(self.layer(x)))


@pytest.mark.parametrize(
    ("module", "shape", "word"),
    [
        (Scaled(3), (1, 28, 28), "no layer"),
        (Branching(), (4,), "Trace"),
        (Twice(), (4,), "used twice"),
        (Shifted(), (4,), "adds something else"),
        (Rearranged(), (4,), "another axis"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2)), (2, 4, 4), "GroupNorm"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(24, 2)), (2, 4, 4), "over one axis"),
    ],
)
def test_other_networks_are_refused(module, shape, word):
    with pytest.raises(InputError, match=word) as refused:
        compact(module, pruned(module, 0.5), shape)
    assert refused.value.option == "--compact"
    assert "allowed: Linear, Conv2d" in str(refused.value)
    assert "\n" not in str(refused.value)
