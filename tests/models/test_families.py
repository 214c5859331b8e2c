"""The package's own networks by their published weights and multiply-adds, and those of libraries by name."""

import pytest
import torch

from lottery_ticket.config import load_preset
from lottery_ticket.engine.stack import Stack
from lottery_ticket.errors import InputError
from lottery_ticket.models.cost import multiply_adds
from lottery_ticket.models.libraries import library_factory, made_for_channels, networks_of
from lottery_ticket.models.network import MODELS, make_network, outline
from lottery_ticket.plugins import is_code

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)

PUBLISHED = {
    "fc1": (MNIST, 266_200, 266_200),  # Frankle & Carbin 2019, Figure 2
    "mlp:300-100": (MNIST, 266_200, 266_200),
    "lenet5": (MNIST, 3_316_800, 32_632_320),  # 784 × 37,440 + 3,279,360
    "lenet5-lecun": (MNIST, 44_190, 281_640),  # 44,426 parameters, of which 236 are biases
    "conv2": (CIFAR, 4_300_992, 43_780_608),  # Frankle & Carbin print 4.3 M,
    "conv4": (CIFAR, 2_425_024, 98_306_560),  # 2.4 M
    "conv6": (CIFAR, 2_261_184, 153_881_088),  # and 1.7 M, which these layers have not
    "conv8": (CIFAR, 5_275_840, 209_979_904),
    "resnet20": (CIFAR, 270_896, 40_813_184),
    "resnet32": (CIFAR, 464_432, 69_124_736),
    "resnet56": (CIFAR, 851_504, 125_747_840),
    "resnet18": (CIFAR, 11_164_352, 555_422_720),  # kuangliu/pytorch-cifar: 11,173,962 with 9,610 others
    "vgg11": (CIFAR, 9_222_848, 152_769_536),
    "vgg16": (CIFAR, 14_715_584, 313_201_664),
    "vgg19": (CIFAR, 20_024_000, 398_136_320),
    "wrn22-2": (CIFAR, 1_076_912, 157_730_048),
}


def settings(model, **more):
    return load_preset(model=model, **more)


def weights(module):
    return sum(value.numel() for value in module.parameters() if value.ndim > 1)


@pytest.mark.parametrize("model", PUBLISHED)
def test_weights_and_multiply_adds_are_the_published_ones(model):
    shape, expected, products = PUBLISHED[model]
    module = outline(settings(model), shape, 10)
    assert (weights(module), multiply_adds(module, shape).image) == (expected, products)


@pytest.mark.parametrize("model", [*MODELS, "mlp:300-100"])
def test_ours_are_stacked_whatever_their_width(model):
    network = make_network(settings(model, width=0.125), (3, 16, 16), 4)
    assert Stack(network.module, (3, 16, 16)).unknown is None
    assert network.output == ("output.weight",)


@pytest.mark.parametrize("model", ["conv4-dropout", "conv8-dropout"])
def test_dropout_adds_no_weights(model):
    module = outline(settings(model), CIFAR, 10)
    assert weights(module) == PUBLISHED[model.removesuffix("-dropout")][1]
    assert [layer.p for layer in module.modules() if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5]


def test_width_is_times_the_published_channels():
    def convolutions(width):
        module = outline(settings("resnet20", width=width), CIFAR, 10)
        return [layer.out_channels for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]

    assert sorted(set(convolutions(None))) == sorted(set(convolutions(1))) == [16, 32, 64]
    assert sorted(set(convolutions(0.5))) == [8, 16, 32]
    assert convolutions(0.5)[0] == 8
    hidden = outline(settings("mlp:300-100", width=0.001), MNIST, 10)
    assert [layer.out_features for layer in hidden.modules() if isinstance(layer, torch.nn.Linear)] == [1, 1, 10]


class Wide(torch.nn.Module):
    """A factory of a user's that has a width of its own."""

    def __init__(self, width=7, classes=10):
        super().__init__()
        self.first, self.last = torch.nn.Linear(784, width), torch.nn.Linear(width, classes)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)))


def test_a_users_factory_has_its_own_width_unless_it_is_set():
    name = f"{__name__}:Wide"
    assert make_network(settings(name), MNIST, 10).module.first.out_features == 7
    assert make_network(settings(name, width=3.0), MNIST, 10).module.first.out_features == 3


@pytest.mark.parametrize(
    ("model", "more", "shape", "said"),
    [
        ("mlp:", {}, CIFAR, "--model: 'mlp:' names no hidden layers"),
        ("mlp:300-0", {}, CIFAR, "names no hidden layers"),
        ("vgg16", {}, (3, 8, 8), "pictures of at least 16×16 pixels"),
        ("conv8", {}, (3, 8, 32), "pictures of at least 16×16 pixels"),
        ("resnet20", {}, (20,), "it takes pictures"),
        ("torchvision:resnt18", {}, CIFAR, "did you mean torchvision:resnet18?"),
        ("torchvision:", {}, CIFAR, "names no network"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, CIFAR, "is unknown"),
        ("torchvision:vit_b_16", {}, (3, 32, 48), "square pictures"),
        ("torchvision:resnet18", {"width": 0.5}, CIFAR, "--width: 0.5 has no meaning for torchvision:resnet18"),
        ("resnt20", {}, CIFAR, "did you mean 'resnet20'? allowed: fc1"),
    ],
)
def test_what_cannot_be_built_is_one_line(model, more, shape, said):
    with pytest.raises(InputError) as refused:
        make_network(settings(model, **more), shape, 10)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_stands_in_files_is_no_code():
    assert not any(
        map(is_code, ["mlp:300-100", "mlp:", "torchvision:resnet18", "timm:vit_tiny_patch16_224", "a:b.npz"])
    )
    assert all(map(is_code, ["mlp:net", "torchvision.models:resnet18", "my_models:net", "__main__:net"]))


def test_torchvision_by_name():
    assert {"torchvision:resnet18", "torchvision:vit_b_16"} < set(networks_of("torchvision"))
    network = make_network(settings("torchvision:resnet18"), (1, 28, 28), 7)
    assert network.module.conv1.in_channels == 1
    assert network.module.fc.out_features == 7
    assert network.fingerprint.library.startswith("torchvision ")
    assert "1 channel(s)" in made_for_channels("torchvision:resnet18", MNIST)
    assert made_for_channels("torchvision:resnet18", CIFAR) is None
    vit = library_factory("torchvision:vit_b_16")
    with torch.device("meta"):
        assert vit(input_shape=CIFAR, classes=5).image_size == 32
        scores = library_factory("torchvision:googlenet")(input_shape=CIFAR, classes=5)(torch.zeros(2, *CIFAR))
    assert scores.shape == (2, 5)


def test_timm_by_name():
    pytest.importorskip("timm")
    network = make_network(settings("timm:vit_tiny_patch16_224"), (1, 32, 32), 5)
    assert network.module.patch_embed.img_size == (32, 32)
    assert network.module.patch_embed.proj.in_channels == 1
    assert network.output == ("head.weight",)
    assert network.fingerprint.library.startswith("timm ")
    assert make_network(settings("timm:resnet10t"), CIFAR, 5).output == ("fc.weight",)
