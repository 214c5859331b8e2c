"""Stacks whose pruned weights are left out: scores, gradients and buffers of the dense stack, whatever the network."""

import pytest
import torch
from torch import nn

from lottery_ticket.engine.sparse.weights import SparseWeight, survivors
from lottery_ticket.engine.stack import Stack, stack
from tests.engine.test_stack import KNOWN, SHAPE, members_of

CPU = torch.device("cpu")


def outcome(architecture, weights, trained, x, training):
    """Scores, the gradients of all that is trained, and buffers."""
    leaves = {
        name: weights[name].values if isinstance(weights[name], SparseWeight) else weights[name] for name in trained
    }
    scores = architecture(weights, x, training=training)
    gradients = torch.autograd.grad(scores.square().mean(), list(leaves.values()))
    buffers = {name: value for name, value in weights.items() if name not in trained}
    return scores, dict(zip(leaves, gradients, strict=True)), buffers


@pytest.mark.parametrize("which", ["all", "every other"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", KNOWN)
def test_as_the_dense_stack(name, training, which):
    with torch.random.fork_rng():  # the same at each run: rounding decides on the kink of a ReLU
        torch.manual_seed(3)
        module = KNOWN[name]()
    architecture = Stack(module, SHAPE)
    weights = {key: value.detach().clone() for key, value in stack(members_of(module, 3), CPU).items()}
    trained = [key for key, _ in module.named_parameters()]
    layers = {f"{path}.weight": each for path, each in module.named_modules() if type(each) in (nn.Conv2d, nn.Linear)}
    draw = torch.Generator().manual_seed(0)
    masks = {
        key: torch.rand(weights[key].shape, generator=draw) < 0.4 for key in list(layers)[:: 2 if which != "all" else 1]
    }
    for key, mask in masks.items():
        weights[key].mul_(mask)
    dense = {key: value.double() if value.is_floating_point() else value.clone() for key, value in weights.items()}
    for each in (weights, dense):
        for key in trained:
            each[key].requires_grad_()
    sparse = weights | {key: survivors(layers[key], weights[key], mask) for key, mask in masks.items()}
    x = torch.randn(3, 8, *SHAPE, generator=draw)
    scores, gradients, buffers = outcome(architecture, sparse, trained, x, training)
    theirs = outcome(architecture, dense, trained, x.double(), training)
    assert torch.allclose(scores.double(), theirs[0], rtol=1e-4, atol=1e-5)
    for key, gradient in gradients.items():
        own = sparse[key]
        its = theirs[1][key].reshape(-1)[own._index] if isinstance(own, SparseWeight) else theirs[1][key]
        assert (gradient - its).norm() <= 1e-4 * its.norm() + 1e-6, key
    for key, value in buffers.items():
        assert torch.allclose(value.double(), theirs[2][key].double(), rtol=1e-5), key
