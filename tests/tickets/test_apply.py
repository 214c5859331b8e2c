"""Pruned weights stay zero in a module that something else trains."""

import gc

import pytest
import torch
from torch.optim.optimizer import _global_optimizer_post_hooks

from lottery_ticket import InputError

OPTIMIZERS = {
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "muon": lambda p: torch.optim.Muon([each for each in p if each.ndim == 2], lr=1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_zero_under_any_optimizer(ticket, small, optimizer):
    module = ticket.module()
    held = ticket.apply_to(module)
    stepper = OPTIMIZERS[optimizer](list(module.parameters()))

    def step():
        stepper.zero_grad()
        torch.nn.functional.cross_entropy(module(small.train.x[:200]), small.train.y[:200]).backward()
        stepper.step()

    for _ in range(10):
        step()
        for name, kept in ticket.mask.items():
            assert (module.get_parameter(name)[~kept] == 0).all()
    for name, kept in ticket.mask.items():
        moved = module.get_parameter(name)[kept] != ticket.weights[name][kept]
        assert moved.float().mean() > 0.5
    assert module.state_dict().keys() == ticket.weights.keys()

    held.remove()
    step()
    step()
    assert any((module.get_parameter(name)[~kept] != 0).any() for name, kept in ticket.mask.items())


def test_two_held_modules_do_not_touch_each_other(ticket):
    one, other = ticket.module(), ticket.module()
    ticket.apply_to(one)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(1.0)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    optimizer.step()
    assert all((parameter == 1).all() for parameter in other.parameters())


def test_a_held_module_is_not_kept_alive(ticket):
    before = len(_global_optimizer_post_hooks)
    module = ticket.module()
    ticket.apply_to(module)
    assert len(_global_optimizer_post_hooks) == before + 1
    del module
    gc.collect()
    assert len(_global_optimizer_post_hooks) == before


def test_frozen_layers_are_held_too(ticket):
    module = ticket.module()
    module.fc2.weight.requires_grad_(False)
    ticket.apply_to(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, 1, 28, 28)).sum().backward()
    optimizer.step()
    assert torch.equal(module.fc2.weight, ticket.weights["fc2.weight"])
    assert (module.fc1.weight[~ticket.mask["fc1.weight"]] == 0).all()


def test_apply_to_refuses_another_network(ticket):
    with pytest.raises(InputError, match="module: 'Linear' does not take the ticket"):
        ticket.apply_to(torch.nn.Linear(3, 4))
