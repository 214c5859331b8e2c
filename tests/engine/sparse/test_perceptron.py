"""A perceptron of survivors as one compiled call: its losses and gradients in float64, and which networks are one."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.engine.sparse.perceptron import Perceptron, linear_layers
from lottery_ticket.engine.sparse.weights import survivors
from lottery_ticket.models.lenet import fc1, lenet5
from tests.help.networks import Residual


def network(*sizes, bias=True):
    layers = [nn.Flatten()]
    for pair in pairwise(sizes):
        layers += [nn.Linear(*pair, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("images", [1, 7, 60])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(12, 5), (12, 9, 8, 5)])
@pytest.mark.parametrize("density", [1.0, 0.3, 0.02])
def test_losses_and_gradients(sizes, bias, density, images):
    torch.manual_seed(0)
    module = network(*sizes, bias=bias)
    paths = linear_layers(module)
    dense, weights, masks = {}, {}, {}
    for name, value in module.named_parameters():
        dense[name] = torch.randn(3, *value.shape)
        if name.endswith("weight"):
            masks[name] = torch.rand(dense[name].shape) < density
            dense[name] *= masks[name]
            weights[name] = survivors(module.get_submodule(name.rpartition(".")[0]), dense[name], masks[name])
        else:
            weights[name] = dense[name].clone()
    data, labels, batch = torch.randn(50, 3, 4), torch.randint(5, (50,)), torch.randint(50, (3, images))
    perceptron = Perceptron(paths, weights)
    for _ in range(2):  # what is used again must be as new
        losses, gradients = perceptron(data, labels, batch)
    for k in range(3):
        own = {name: value[k].double().requires_grad_() for name, value in dense.items()}
        scores = torch.func.functional_call(module, own, data[batch[k]].double())
        theirs = F.cross_entropy(scores, labels[batch[k]], reduction="none")
        torch.testing.assert_close(losses[k].double(), theirs.detach(), rtol=1e-5, atol=1e-6)
        exact = dict(zip(own, torch.autograd.grad(theirs.mean(), list(own.values())), strict=True))
        for name, gradient in exact.items():
            if name in masks:
                begin = weights[name].ends[k - 1] if k else 0
                mine, its = gradients[name][begin : weights[name].ends[k]], gradient[masks[name][k]]
            else:
                mine, its = gradients[name][k], gradient
            assert (mine.double() - its).norm() <= 1e-5 * its.norm() + 1e-7, name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_the_loss_of_its_image(value):
    module = network(12, 9, 5)
    weights = {name: each.detach()[None].clone() for name, each in module.named_parameters()}
    for path in linear_layers(module):
        whole = torch.ones_like(weights[f"{path}.weight"], dtype=torch.bool)
        weights[f"{path}.weight"] = survivors(module.get_submodule(path), weights[f"{path}.weight"], whole)
    data = torch.randn(3, 12)
    data[1, 4] = value
    losses, gradients = Perceptron(linear_layers(module), weights)(
        data, torch.zeros(3, dtype=torch.long), torch.arange(3)[None]
    )
    assert losses.isfinite().tolist() == [[True, False, True]]
    assert any(not each.isfinite().all() for each in gradients.values())


class Twice(nn.Module):
    """A linear layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.output = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.first(torch.flatten(x, 1)))
        return self.output(F.relu(self.again(F.relu(self.again(x)))))


def test_which_networks_are_perceptrons():
    assert linear_layers(fc1((1, 8, 8), 10)) == ["fc1", "fc2", "output"]
    for other in (
        lenet5((1, 8, 8), 10),
        Residual(),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Dropout(), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 4)),
        Twice(),  # whose gradients are sums
    ):
        assert linear_layers(other) is None
