"""The optimiser over a stack against `torch.optim`, step by step."""

import math

import pytest
import torch

from lottery_ticket.config import load_preset
from lottery_ticket.engine.optim import GATHERED_BELOW, Optimizer

STEPS = 12
SHAPES = {"weight": (7, 5), "bias": (7,)}

HOW = [
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "sgd-nesterov", "lr": 0.1, "momentum": 0.9},
    {"optimizer": "sgd-nesterov", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "adam", "lr": 0.01},
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
    {"optimizer": "adamw", "lr": 0.01},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    {"optimizer": "adam", "lr": 0.01, "schedule": "cosine"},
    {"optimizer": "sgd", "lr": 0.1, "warmup_iterations": 4},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "schedule": "cosine", "warmup_iterations": 4},
]


def reference(settings, parameters):
    """torch's own optimiser and schedule for one network."""
    options = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer.startswith("sgd"):
        nesterov = settings.optimizer == "sgd-nesterov"
        optimizer = torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=nesterov, **options)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer](parameters, **options)

    def factor(iteration):
        cosine = (1 + math.cos(math.pi * iteration / STEPS)) / 2 if settings.schedule == "cosine" else 1
        return cosine * min(1, (iteration + 1) / settings.warmup_iterations if settings.warmup_iterations else 1)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def compare(hows, density):
    """Members of these settings in one stack, each step against torch's own optimiser on each member alone."""
    torch.manual_seed(0)
    settings = [load_preset(**how) for how in hows]
    members = len(settings)
    masks = [torch.rand(members, *SHAPES["weight"]) < density, None]
    stacked = [torch.randn(members, *shape) for shape in SHAPES.values()]
    stacked[0] *= masks[0]
    alone = [[value[k].clone().requires_grad_() for value in stacked] for k in range(members)]
    references = [reference(own, parameters) for own, parameters in zip(settings, alone, strict=True)]
    optimizer = Optimizer(settings, stacked, masks, STEPS)
    for _ in range(STEPS):
        gradients = [torch.randn(members, *shape) for shape in SHAPES.values()]
        optimizer.step(gradients)
        for k, (own, schedule) in enumerate(references):
            for parameter, gradient in zip(alone[k], gradients, strict=True):
                parameter.grad = gradient[k].clone()
            own.step()
            schedule.step()
            with torch.no_grad():
                alone[k][0].mul_(masks[0][k])
            for value, parameter in zip(stacked, alone[k], strict=True):
                torch.testing.assert_close(value[k], parameter.detach(), rtol=2e-6, atol=2e-6)
            assert (stacked[0][k][~masks[0][k]] == 0).all()


@pytest.mark.parametrize("density", [1.1, 0.6, GATHERED_BELOW / 2], ids=["dense", "masked", "gathered"])
@pytest.mark.parametrize("how", HOW, ids=str)
def test_every_step_is_that_of_torch(how, density):
    compare([how], density)


@pytest.mark.parametrize("density", [1.1, 0.6, GATHERED_BELOW / 2], ids=["dense", "masked", "gathered"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_member_goes_at_its_own_pace(optimizer, density):
    own = [
        {"lr": 0.01},
        {"lr": 0.03, "weight_decay": 0.1},
        {"schedule": "cosine"},
        {"lr": 0.01, "warmup_iterations": 3},
    ]
    compare([{"optimizer": optimizer} | each for each in [*own, own[0]]], density)


def rates(settings):
    """The learning rate of each iteration, read off what plain descent makes of a gradient of 1."""
    weight = torch.zeros(1, 1)
    optimizer = Optimizer([settings], [weight], [None], STEPS)
    before, found = 0.0, []
    for _ in range(STEPS):
        optimizer.step([torch.ones(1, 1)])
        found.append(before - weight.item())
        before = weight.item()
    return found


def test_the_step_schedule_lowers_the_rate_from_each_milestone_on():
    """As open_lth's: gamma to the number of milestones that are reached."""
    settings = load_preset(optimizer="sgd", lr=1.0, schedule="step", milestones=(4, 8), gamma=0.5, warmup_iterations=2)
    expected = [0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert rates(settings) == pytest.approx(expected, rel=1e-5)
