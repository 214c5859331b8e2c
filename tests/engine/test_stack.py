"""A stack against the networks it is made of, layer by layer, and what the engine does not know."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from lottery_ticket.engine.stack import Stack, stack, unstack
from lottery_ticket.models.network import make_network
from tests.help.networks import Residual

SHAPE = (3, 12, 12)


class Shortcut(nn.Module):
    """A residual sum of a layer's own making, a mean over places and a flatten by view."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding="same", bias=False)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.output = nn.Linear(6, 10)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.avg_pool2d(x + self.second(x), kernel_size=2)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.output(x.view(x.size(0), -1))


class Broadcast(nn.Module):
    """A normalised value to which one number for each channel of an image is added."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 12)
        self.norm, self.output = nn.BatchNorm2d(6), nn.Linear(6, 10)

    def forward(self, x):
        return self.output(F.relu(self.norm(self.first(x)) + self.second(x)).mean((2, 3)))


class FlattensByName(nn.Module):
    """With torch's names for the arguments."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(432, 10)

    def forward(self, x):
        return self.layer(torch.flatten(x, start_dim=1))


KNOWN = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 20), nn.Tanh(), nn.Linear(20, 10, bias=False)),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, (1, 3), padding="valid"),
        nn.GELU(), nn.Flatten(), nn.Linear(4 * 6 * 4, 10),
    ),
    "batch norm": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 20), nn.BatchNorm1d(20),
        nn.ReLU(), nn.Linear(20, 10),
    ),
    "batch norm without statistics": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False, track_running_stats=False), nn.Flatten(),
        nn.Linear(400, 10),
    ),
    "group norm": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(400, 20), nn.GroupNorm(5, 20), nn.ReLU(),
        nn.Linear(20, 10),
    ),
    "pooling": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(3, 6, 3, padding=1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 10),
    ),
    "residual": Residual,
    "sum of values of different shapes": Broadcast,
    "flatten by name": FlattensByName,
    "residual of functions": Shortcut,
}  # fmt: skip


def members_of(module, count):
    """Different weights and buffers for each member."""
    return [
        {
            name: value + 0.1 * torch.rand(value.shape, generator=torch.Generator().manual_seed(k))
            if value.is_floating_point()
            else value.clone()
            for name, value in module.state_dict().items()
        }
        for k in range(count)
    ]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", KNOWN)
def test_scores_gradients_and_buffers_are_those_of_each_network(name, training):
    torch.manual_seed(0)
    module = KNOWN[name]()
    architecture = Stack(module, SHAPE)
    assert architecture.unknown is None
    members, x = members_of(module, 3), torch.randn(3, 5, *SHAPE)
    trained = [name for name, _ in module.named_parameters()]
    stacked = stack(members, x.device)
    leaves = [stacked[name].requires_grad_() for name in trained]
    scores = architecture(stacked, x, training=training)
    gradients = dict(zip(trained, torch.autograd.grad(scores.square().sum(), leaves), strict=True))
    module.train(training)
    for k, member in enumerate(members):
        own = [member[name].requires_grad_() for name in trained]
        expected = functional_call(module, member, (x[k],))
        torch.testing.assert_close(scores[k], expected, rtol=1e-4, atol=1e-5)
        for name, gradient in zip(trained, torch.autograd.grad(expected.square().sum(), own), strict=True):
            torch.testing.assert_close(gradients[name][k], gradient, rtol=1e-3, atol=1e-3)
        for name, value in module.named_buffers():
            torch.testing.assert_close(stacked[name][k], member[name], rtol=1e-4, atol=1e-5)
            assert training == (not torch.equal(member[name], members_of(module, 3)[k][name])), value


def test_weights_gradients_lie_as_the_weights_do():
    """So that the optimiser need not copy them."""
    module = KNOWN["linear"]()
    stacked = stack(members_of(module, 2), torch.device("cpu"))
    leaves = [value.requires_grad_() for value in stacked.values()]
    scores = Stack(module, SHAPE)(stacked, torch.randn(2, 5, *SHAPE), training=True)
    assert all(gradient.is_contiguous() for gradient in torch.autograd.grad(scores.sum(), leaves))


class Layouts(TorchDispatchMode):
    """Whether the channels lie last of what each ReLU is given, and of the gradient that each pooling is given."""

    def __init__(self):
        super().__init__()
        self.channels_last = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function in (torch.ops.aten.relu.default, torch.ops.aten.max_pool2d_with_indices_backward.default):
            self.channels_last.append(arguments[0].is_contiguous(memory_format=torch.channels_last))
        return function(*arguments, **options or {})


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_lie_last_from_the_first_convolution_on_and_back(channels):
    """Of grey images too, whose one channel lies last as they come: else each step reorders all that is between."""
    block = [nn.ReLU(), nn.MaxPool2d(2)]
    module = nn.Sequential(nn.Conv2d(channels, 4, 3), *block, nn.Conv2d(4, 4, 3), *block, nn.Flatten())
    shape = (channels, 14, 14)
    architecture, weights = Stack(module, shape, "bfloat16"), stack(members_of(module, 1), torch.device("cpu"))
    for value in weights.values():
        value.requires_grad_()
    with Layouts() as seen:
        architecture(weights, torch.randn(1, 5, *shape), training=True).sum().backward()
    assert seen.channels_last == [True] * 4


@pytest.mark.parametrize("layers", ["images", "vectors"])
def test_dropout_draws_are_the_members_own(layers):
    """They do not depend on who else is in the stack, differ between members, and leave the mean as it is."""
    dropout = nn.Dropout(0.25)
    if layers == "images":
        module = nn.Sequential(nn.Conv2d(3, 4, 1), dropout, nn.Flatten(), nn.Linear(576, 10))
    else:
        module = nn.Sequential(nn.Flatten(), dropout, nn.Linear(432, 10))
    architecture = Stack(module, SHAPE)
    own = {name: value.detach() for name, value in module.state_dict().items()}
    x = torch.randn(1, 5, *SHAPE)

    def scores(seeds, training=True):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        stacked = stack([own] * len(seeds), x.device)
        with torch.no_grad():
            return architecture(stacked, x.expand(len(seeds), -1, -1, -1, -1), training=training, generators=generators)

    together = scores([1, 2, 3])
    for k, seed in enumerate([1, 2, 3]):
        torch.testing.assert_close(scores([seed])[0], together[k])
    assert (together[0] - together[1]).abs().max() > 0.01
    plain = scores([0], training=False)[0]
    assert (scores(range(400)).mean(0) - plain).abs().max() < 0.2 * (scores([5])[0] - plain).abs().max()


def test_stack_and_unstack_are_inverse(settings):
    network = make_network(settings.model_copy(update={"model": "lenet5"}), (1, 28, 28), 10)
    members = [network.draw(k, "init") for k in range(3)]
    for one, again in zip(members, unstack(stack(members, torch.device("cpu"))), strict=True):
        assert one.keys() == again.keys()
        assert all(torch.equal(one[name], again[name]) for name in one)


class Uses(nn.Module):
    """One linear layer and something else that `then` does with its scores."""

    def __init__(self, then):
        super().__init__()
        self.layer, self.scale, self.then = nn.Linear(432, 10), nn.Parameter(torch.ones(10)), then

    def forward(self, x):
        return self.then(self, self.layer(x.flatten(1)))


def hooked():
    module = nn.Sequential(nn.Flatten(), nn.Linear(432, 10))
    module[1].register_forward_hook(lambda layer, inputs, scores: scores * 2)
    return module


def hooked_relu():
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)
    layers[2].register_full_backward_hook(lambda layer, inner, outer: None)
    return nn.Sequential(*layers)


def hooked_weight():
    module = nn.Sequential(nn.Flatten(), nn.Linear(432, 10))
    module[1].weight.register_hook(lambda gradient: gradient * 2)
    return module


def without_gradient(self, x):
    with torch.no_grad():  # which a graph does not record
        half = torch.relu(x)
    return x + half


class Asleep(nn.Sequential):
    """Its batch normalisation never trains."""

    def __init__(self):
        super().__init__(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(432, 10))

    def train(self, mode=True):
        super().train(mode)
        self[0].eval()
        return self


class Shared(nn.Sequential):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(432, 432), nn.ReLU(), nn.Linear(432, 432), nn.Linear(432, 10))
        self[3].weight = self[1].weight


UNKNOWN = {
    "LayerNorm": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(432), nn.Linear(432, 10)),
    "ParametrizedLinear": lambda: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(432, 10))
    ),
    "scale": lambda: Uses(lambda self, x: x * self.scale),
    "control flow": lambda: Uses(lambda self, x: x if x.sum() > 0 else x * 2),
    "in training": lambda: Uses(lambda self, x: F.dropout(x, 0.1, self.training)),
    "type Linear": hooked,
    "type ReLU": hooked_relu,
    "stays out of training": Asleep,
    "hook on a parameter": hooked_weight,
    "does not say": lambda: Uses(without_gradient),
    "cumulative": lambda: nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Flatten(), nn.Linear(432, 10)),
    "reflect": lambda: nn.Sequential(
        nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(288, 10)
    ),
    "flatten": lambda: nn.Sequential(nn.Flatten(2), nn.Flatten(), nn.Linear(432, 10)),
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_what_is_not_known_is_named(words):
    module = UNKNOWN[words]()
    architecture = Stack(module, SHAPE)
    assert words in architecture.unknown
    own = {name: value.detach().unsqueeze(0) for name, value in module.state_dict().items()}
    x = torch.randn(1, 5, *SHAPE)
    torch.testing.assert_close(architecture(own, x, training=False)[0], module.eval()(x[0]))


def test_shared_parameters_are_not_known():
    assert "shared" in Stack(Shared(), SHAPE).unknown
