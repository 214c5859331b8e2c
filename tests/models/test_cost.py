"""Multiply-adds against torch's own counter of operations, and by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lottery_ticket.config import load_preset
from lottery_ticket.models.cost import ACTIVATIONS, Uncounted, multiply_adds
from lottery_ticket.models.network import make_network, outline
from lottery_ticket.record import Both
from tests.models import test_prunable as networks

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)


def of_torch(module, shape):
    """One image's multiply-adds by FlopCounterMode: of the forward pass in evaluation, and of training."""

    def operations(images, training):
        module.train(training)
        with FlopCounterMode(display=False) as counter:
            scores = module(torch.randn(images, *shape))
            if training:
                scores.sum().backward()
        return counter.get_total_flops()

    return tuple((operations(3, training) - operations(2, training)) // 2 for training in (False, True))


def counted(module, shape):
    found = multiply_adds(module, shape)
    return sum(found.inference.values()), sum(found.training.values())


@pytest.mark.parametrize(
    ("model", "shape", "width"),
    [
        ("fc1", MNIST, None),
        ("lenet5", MNIST, 0.25),
        ("conv2", CIFAR, 0.25),
        ("resnet20", CIFAR, 0.25),
        ("vgg16", CIFAR, 0.125),
    ],
)
def test_both_ways_as_torch_counts_them(model, shape, width):
    module = make_network(load_preset(model=model, width=width), shape, 10).build()
    assert counted(module, shape) == of_torch(module, shape)


@pytest.mark.parametrize("make", [networks.lstm, networks.gru, networks.projected, networks.Apart, networks.OfRows])
def test_recurrent_layers_and_attention(make):
    """Attention's way back is counted as what is asked for, without what torch computes a second time there."""
    shape = MNIST if make is networks.OfRows else networks.SHAPE
    module = make(4)
    forward, _ = counted(module, shape)
    with torch.backends.mkldnn.flags(enabled=False):
        assert forward == of_torch(module, shape)[0]


@pytest.mark.parametrize("model", ["torchvision:vit_b_16", "torchvision:resnext50_32x4d", "torchvision:mobilenet_v2"])
def test_libraries_networks_forwards(model):
    module = outline(load_preset(model=model), CIFAR, 10).to("meta")
    with FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, *CIFAR, device="meta"))
    assert multiply_adds(module, CIFAR).image == counter.get_total_flops() // 2


def test_by_hand():
    """Groups, an even depth of them, and a layer whose bias alone is trained."""
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, bias=False),  # 4 × 6 × 6 values of 1 × 3 × 3 each
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),  # 4 × 3 × 3 values of 9
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.Linear(5, 3),
    )
    module[3].weight.requires_grad_(False)
    found = multiply_adds(module, (2, 8, 8))
    forward = {"0.weight": 4 * 36 * 9, "1.weight": 4 * 9 * 9, "3.weight": 180, "4.weight": 15}
    assert found.inference == forward
    # the images need no gradient, and the frozen weight has none
    assert found.training == {"0.weight": 2 * 1296, "1.weight": 3 * 324, "3.weight": 2 * 180, "4.weight": 3 * 15}


def test_a_groups_weights_have_their_own_gradient_alone():
    """Torch's counter takes a grouped convolution's weight gradient for that of an ungrouped one."""
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4))
    forward, both = of_torch(module, (3, 6, 6))
    one_way = multiply_adds(module, (3, 6, 6)).inference["1.weight"]
    assert counted(module, (3, 6, 6)) == (forward, both - 3 * one_way)


def test_pruned():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 5))
    mask = {name: torch.ones_like(module.get_parameter(name), dtype=torch.bool) for name in ("0.weight", "2.weight")}
    mask["0.weight"][0] = False  # 9 of 18 are left
    mask["2.weight"][:, :20] = False  # 60 of 160
    cost = multiply_adds(module, (1, 6, 6)).cost(mask, 50, sparse=("2.weight",), to_find=7)
    assert cost.inference == {"0.weight": Both(18 * 16, 9 * 16), "2.weight": Both(160, 60)}
    assert cost.training == {"0.weight": Both(2 * 288, 2 * 144), "2.weight": Both(480, 180)}
    assert cost.an_image == (448, 204)
    assert cost.round == (50 * 1056, 50 * 468)
    assert (cost.computed, cost.to_find) == (50 * (576 + 180), 7)


class Shared(nn.Module):
    """A layer that is applied twice, and a product that no weight has a part in."""

    def __init__(self):
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4, bias=False), nn.Linear(4, 2)

    def forward(self, x):
        return self.output(self.layer(self.layer(x)) @ (x.mT @ x))


def test_a_layer_applied_twice_and_what_has_no_weight():
    found = multiply_adds(Shared(), (6, 4))
    assert found.inference == {"layer.weight": 2 * 6 * 16, ACTIVATIONS: 2 * 6 * 16, "output.weight": 6 * 8}
    assert found.training == {
        "layer.weight": 2 * 96 + 2 * 96 + 96,  # the first of them takes the images
        ACTIVATIONS: 192 + 96,  # the product with the images' own, on one side
        "output.weight": 3 * 48,
    }


class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def forward(self, x):
        return self.one(x) if x.sum() > 0 else self.two(x)


@pytest.mark.parametrize(
    ("module", "shape", "why"),
    [
        (Choosing(), (4,), "values of an image"),
        (networks.Words(4), networks.SHAPE, "aten::_trilinear"),
        (networks.Attention(4), networks.SHAPE, "in_proj_weight are multiplied more often than others"),
        (nn.Linear(4, 2), (5,), "cannot be multiplied"),
    ],
)
def test_what_cannot_be_counted_is_said(module, shape, why):
    with pytest.raises(Uncounted, match=why) as said:
        multiply_adds(module, shape)
    assert "\n" not in str(said.value)


def test_a_network_counts_itself_once_and_stays_as_it_is():
    network = make_network(load_preset(model="resnet20", width=0.25), CIFAR, 10)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    assert network.multiply_adds is network.multiply_adds
    assert network.multiply_adds.image == sum(network.multiply_adds.inference.values()) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())
