"""Networks: sizes, kinds, how weights are drawn, and a user's own factory."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from lottery_ticket.config import load_preset
from lottery_ticket.models.network import make_network
from lottery_ticket.models.tensors import give, tensors_of
from lottery_ticket.randomness import derive

MNIST = (1, 28, 28)


def network(model="fc1", shape=MNIST, classes=10, **settings):
    return make_network(load_preset(model=model, **settings), shape, classes)


def weights_of(net, *kinds):
    state = net.module.state_dict()
    return sum(state[name].numel() for name, kind in net.kinds.items() if kind in kinds)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# the factories of a user
def no_arguments():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def shape_only(input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), 10))


def both(classes, input_shape, width=7):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.Linear(width, classes))


class Own(nn.Module):
    """A class as factory, with normalisation, and the output layer a convolution."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.group = nn.GroupNorm(2, 4)
        self.middle = nn.Linear(26, 5)
        self.last = nn.Conv2d(4, classes, (26, 5))

    def forward(self, x):
        return self.last(self.middle(self.group(self.norm(self.first(x))))).flatten(1)


def seeds_itself(classes):
    """As many a training script does."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))


def puts_a_state_back(classes):
    """As a library does that draws from a state of its own."""
    torch.random.set_rng_state(torch.Generator().manual_seed(1).get_state())
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))


def seeds_for_one_layer(classes):
    """Leaves torch's generator as it found it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))


def draws_elsewhere(classes):
    """From NumPy's global generator and Python's."""
    module = both(classes, MNIST)
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor(np.random.standard_normal(module[1].weight.shape)))
        for weight in module[2].weight:
            weight.fill_(random.random())
    return module


def test_sizes():
    assert weights_of(network(), "fc") == 266_200
    assert weights_of(network("lenet5"), "conv") == 37_440
    assert weights_of(network("lenet5"), "fc") == 3_279_360


def test_kinds():
    assert network().kinds == {"fc1.weight": "fc", "fc2.weight": "fc", "output.weight": "fc"}
    assert network().output == ("output.weight",)
    assert network("lenet5").kinds == {
        "conv1.weight": "conv",
        "conv2.weight": "conv",
        "fc1.weight": "fc",
        "fc2.weight": "fc",
        "output.weight": "fc",
    }
    assert network("lenet5", (3, 32, 32), 100).module.output.out_features == 100
    assert network(shape=(5,), classes=3).module.fc1.in_features == 5


def test_draw_depends_on_seed_purpose_and_place_alone():
    net = network()
    drawn = net.draw(3, "init")
    torch.manual_seed(99)
    assert same(net.draw(3, "init"), drawn)
    assert same(network().draw(3, "init"), drawn)
    for other in (net.draw(4, "init"), net.draw(3, "reinit"), net.draw(3, "init", 1)):
        assert not any(torch.equal(other[name], drawn[name]) for name in net.kinds)


def test_draw_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    network().draw(0, "init")
    network(f"{__name__}:both", init="module").draw(0, "init")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("factory", ["seeds_itself", "puts_a_state_back", "seeds_for_one_layer", "draws_elsewhere"])
def test_a_factory_that_seeds_generators_changes_nothing(factory):
    net = network(f"{__name__}:{factory}", init="module" if factory == "draws_elsewhere" else "xavier-normal")
    drawn = net.draw(3, "init")
    assert same(net.draw(3, "init"), drawn)
    for other in (net.draw(4, "init"), net.draw(3, "reinit"), net.draw(3, "init", 1)):
        assert not any(torch.equal(other[name], drawn[name]) for name in net.kinds)


def test_drawing_leaves_numpys_and_pythons_generators_alone():
    before = np.random.get_state()[1].tolist(), random.getstate()
    network(f"{__name__}:draws_elsewhere").draw(0, "init")
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize(
    ("model", "name", "fan_in", "fan_out"),
    [
        ("fc1", "fc1.weight", 784, 300),
        ("fc1", "fc2.weight", 300, 100),
        ("lenet5", "conv2.weight", 64 * 9, 64 * 9),
        ("lenet5", "fc1.weight", 64 * 14 * 14, 256),
    ],
)
@pytest.mark.parametrize("init", ["xavier-normal", "xavier-uniform", "kaiming-normal", "kaiming-uniform"])
def test_spread_of_weights(model, name, fan_in, fan_out, init):
    weight = network(model, init=init).draw(0, "init")[name]
    std = math.sqrt(2 / (fan_in + fan_out) if init.startswith("xavier") else 2 / fan_in)
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=0.02 * std)
    if init.endswith("uniform"):
        assert 0.99 * std * math.sqrt(3) < weight.abs().max().item() <= std * math.sqrt(3) * (1 + 1e-6)
    else:
        assert weight.abs().max().item() > 3 * std


@pytest.mark.parametrize(("model", "name", "fan_in"), [("fc1", "fc2.weight", 300), ("lenet5", "conv2.weight", 64 * 9)])
def test_signed_constants(model, name, fan_in):
    first, other = (network(model, init="signed-constant").draw(seed, "init")[name] for seed in (0, 1))
    assert first.abs().unique().tolist() == [pytest.approx(math.sqrt(2 / fan_in))]
    assert (first > 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (first == other).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("model", ["fc1", "lenet5"])
def test_biases(model):
    zero, normal = (network(model, bias_init=kind).draw(0, "init") for kind in ("zero", "normal"))
    names = [name for name in zero if name.endswith("bias")]
    assert len(names) == len(network(model).kinds)
    assert not any(zero[name].any() for name in names)
    biases = torch.cat([normal[name] for name in names])
    assert biases.mean().item() == pytest.approx(0, abs=0.15)
    assert biases.std().item() == pytest.approx(1, abs=0.1)


def test_init_module_keeps_the_modules_own():
    drawn = network(f"{__name__}:Own", init="module", bias_init="normal").draw(5, "init")
    torch.manual_seed(derive(5, "init"))
    assert same(drawn, Own(10).state_dict())


@pytest.mark.parametrize(("factory", "sizes"), [("no_arguments", [7840]), ("shape_only", [7840]), ("both", [5488, 70])])
def test_factory_is_given_what_it_names(factory, sizes):
    net = network(f"{__name__}:{factory}")
    assert [weight.numel() for weight in net.dense_mask().values()] == sizes
    assert net.output == (list(net.kinds)[-1],)


def test_factory_may_be_a_class_and_normalisation_is_never_prunable():
    net = network(f"{__name__}:Own")
    assert net.kinds == {"first.weight": "conv", "middle.weight": "fc", "last.weight": "conv"}
    assert net.output == ("last.weight",)
    drawn = net.draw(0, "init")
    assert torch.equal(drawn["norm.weight"], torch.ones(4))
    assert torch.equal(drawn["group.bias"], torch.zeros(4))
    assert torch.equal(drawn["norm.running_var"], torch.ones(4))
    assert set(drawn) == set(net.module.state_dict())
    assert "norm.weight" in net.trainable
    assert "norm.running_mean" not in net.trainable


class Versioned(nn.Linear):
    """Asks for the version of the layer whose values it is given, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, local_metadata, *rest):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, local_metadata, *rest)


@pytest.mark.parametrize("wrap", [lambda layer: layer, nn.Sequential, lambda layer: nn.Sequential(layer, layer)])
def test_values_are_given_with_the_versions_of_their_layers(wrap):
    one, other = wrap(Versioned(3, 3)), wrap(Versioned(3, 3))
    give(one, tensors_of(other))
    assert same(tensors_of(one), tensors_of(other))
