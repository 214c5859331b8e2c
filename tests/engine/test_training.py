"""The engine against a plain PyTorch loop, and the independence of a stack's members."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.data.prepared import Split
from lottery_ticket.engine.device import arithmetic
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.optim import FROZEN_BELOW
from lottery_ticket.engine.stack import Stack
from lottery_ticket.engine.training import train
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.randomness import generator


def network_of(settings, data):
    return make_network(settings, data.input_shape, data.classes)


def member(network, seed=0, density=0.5, arm="winning"):
    mask = {
        name: torch.rand(kept.shape, generator=generator(seed, "test mask")) < density
        for name, kept in network.dense_mask().items()
    }
    return Member(arm, seed, mask, network.draw(seed, "init"))


def plain_loop(network, one, data, settings, round_):
    """One network trained the way a textbook does, with the mask applied after each step."""
    module = network.build()
    module.load_state_dict(one.weights)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, kept in one.mask.items():
            parameters[name].mul_(kept)
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(module.parameters(), settings.lr, weight_decay=settings.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            module.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
    done = epoch = 0
    while done < settings.iterations:
        order = torch.randperm(len(data.train), generator=generator(one.seed, "order", round_, epoch))
        for batch in order.split(settings.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(module(data.train.x[batch]), data.train.y[batch]).backward()
            with torch.no_grad():
                if settings.frozen == "non-positive":
                    for name in one.mask:
                        parameters[name].grad[parameters[name] < FROZEN_BELOW] = 0
                optimizer.step()
                for name, kept in one.mask.items():
                    parameters[name].mul_(kept)
            done += 1
            if done == settings.iterations:
                break
        epoch += 1
    return {name: value.detach() for name, value in module.state_dict().items()}


def apart(a, b, start):
    """The distance of two trained tensors as a part of the way that training went.

    Element by element Adam turns rounding errors of near-zero gradients into steps of the learning rate.
    """
    return ((a - b).norm() / (b - start).norm()).item()


@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "weight_decay": 1e-2},
        {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
        {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
        {"optimizer": "adam", "weight_decay": 1e-4, "frozen": "non-positive", "bias_init": "normal"},
    ],
    ids=str,
)
@pytest.mark.parametrize("members", [1, 3])
def test_training_equals_a_plain_loop(settings, small, how, members):
    settings = settings.model_copy(update=how | {"stack": members})
    network = network_of(settings, small)
    group = [member(network, seed) for seed in range(members)]
    for one, trained in zip(group, train(network, group, small, settings, 2), strict=True):
        expected = plain_loop(network, one, small, settings, 2)
        for name, value in expected.items():
            assert apart(trained.weights[name], value, one.weights[name]) < 2e-3
        for name, kept in one.mask.items():
            assert (trained.weights[name][~kept] == 0).all()
            assert (trained.weights[name][kept] != one.weights[name][kept]).any()


@pytest.mark.parametrize("optimizer", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"}])
def test_pruned_weights_are_zero_after_every_step(settings, small, optimizer):
    for iterations in range(1, 8):
        now = settings.model_copy(update=optimizer | {"weight_decay": 1e-2, "iterations": iterations, "lr": 0.01})
        network = network_of(now, small)
        one = member(network, density=0.2)
        (trained,) = train(network, [one], small, now, 0)
        for name, kept in one.mask.items():
            assert (trained.weights[name][~kept] == 0).all()


def test_non_positive_freezing_drives_negative_weights_towards_zero(settings, small):
    """As measured for the published code: weight decay moves frozen weights by up to lr a step, none without it."""
    shrunk = {}
    for decay in (0.0, 1e-4):
        now = settings.model_copy(update={"frozen": "non-positive", "weight_decay": decay})
        network = network_of(now, small)
        start = network.draw(0, "init")
        (trained,) = train(network, [Member("winning", 0, network.dense_mask(), start)], small, now, 0)
        negative = start["fc1.weight"] < -0.02
        shrunk[decay] = (trained.weights["fc1.weight"][negative] / start["fc1.weight"][negative]).mean().item()
    assert shrunk[0.0] == 1
    assert shrunk[1e-4] < 0.6


@pytest.fixture(params=["fc1", pytest.param("lenet5", marks=pytest.mark.slow), "residual"])
def architecture(request, settings):
    """Settings of a short training of each architecture, one of them with batch normalisation."""
    model = {"residual": "tests.help.networks:Residual"}.get(request.param, request.param)
    return settings.model_copy(update={"model": model, "iterations": 6, "batch_size": 20})


def test_a_member_does_not_depend_on_its_stack(architecture, small):
    network = network_of(architecture, small)
    group = [member(network, seed) for seed in range(3)]
    together = train(network, group, small, architecture.model_copy(update={"stack": 3}), 0)
    for one, shared in zip(group, together, strict=True):
        (alone,) = train(network, [one], small, architecture.model_copy(update={"stack": 1}), 0)
        for name, value in alone.weights.items():
            if value.is_floating_point():
                assert apart(shared.weights[name], value, one.weights[name]) < 5e-3
            else:
                assert torch.equal(shared.weights[name], value)
        assert shared.curve[-1].test_loss == pytest.approx(alone.curve[-1].test_loss, rel=1e-3)


def test_a_diverged_member_harms_no_other(architecture, small):
    settings = architecture.model_copy(update={"stack": 3})
    network = network_of(settings, small)
    group = [member(network, seed) for seed in range(3)]
    first = next(iter(network.kinds))
    ill = dataclasses.replace(
        group[1], weights=group[1].weights | {first: torch.full_like(group[1].weights[first], torch.nan)}
    )
    healthy = train(network, group, small, settings, 0)
    mixed = train(network, [group[0], ill, group[2]], small, settings, 0)
    assert [trained.diverged for trained in mixed] == [False, True, False]
    for k in (0, 2):
        assert all(torch.equal(mixed[k].weights[name], value) for name, value in healthy[k].weights.items())
        assert mixed[k].curve == healthy[k].curve


def test_each_member_has_its_own_rate_decay_and_schedule(settings, small):
    """As in a sweep, whose points are members of one stack."""
    network = network_of(settings, small)
    own = [{"lr": 3e-3}, {"lr": 1e-3, "weight_decay": 1e-2}, {"schedule": "cosine", "warmup_iterations": 5}]
    group = [
        dataclasses.replace(member(network, seed), settings=settings.model_copy(update=how))
        for seed, how in enumerate(own)
    ]
    together = train(network, group, small, settings.model_copy(update={"stack": 3}), 0)
    for one, shared in zip(group, together, strict=True):
        (alone,) = train(network, [dataclasses.replace(one, settings=None)], small, one.settings, 0)
        for name, value in alone.weights.items():
            assert apart(shared.weights[name], value, one.weights[name]) < 2e-3


def half_dropped():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, 10))


def test_dropout_does_not_depend_on_the_stack(settings, small):
    network = own_network(settings, half_dropped)
    group = [member(network, seed) for seed in range(3)]
    together = train(network, group, small, settings.model_copy(update={"stack": 3}), 0)
    (alone,) = train(network, group[1:2], small, settings, 0)
    for name, value in alone.weights.items():
        assert apart(together[1].weights[name], value, group[1].weights[name]) < 2e-3
    (again,) = train(network, group[1:2], small, settings, 1)
    assert not torch.equal(again.weights["1.weight"], alone.weights["1.weight"])


def test_the_order_of_the_data_comes_from_seed_round_and_epoch(settings, small):
    network = network_of(settings, small)
    one = member(network)
    first, again = (train(network, [one], small, settings, 0)[0] for _ in range(2))
    assert torch.equal(first.weights["fc1.weight"], again.weights["fc1.weight"])
    other_round = train(network, [one], small, settings, 1)[0]
    other_seed = train(network, [dataclasses.replace(one, seed=5)], small, settings, 0)[0]
    assert not torch.equal(first.weights["fc1.weight"], other_round.weights["fc1.weight"])
    assert not torch.equal(first.weights["fc1.weight"], other_seed.weights["fc1.weight"])


def test_evaluations_accuracy_and_early_stop(settings, small):
    settings = settings.model_copy(update={"iterations": 40, "evaluate_every": 7})
    network = network_of(settings, small)
    (trained,) = train(network, [member(network, density=1.1)], small, settings, 0)
    # 1,000 training images in batches of 60 make 17 iterations an epoch
    assert [point.iteration for point in trained.curve] == [7, 14, 17, 21, 28, 34, 35, 40]
    assert [point.epoch for point in trained.curve] == [None, None, 1, None, None, 2, None, 3]
    module = network.build()
    module.load_state_dict(trained.weights)
    right = module(small.test.x).argmax(1) == small.test.y
    assert np.array_equal(trained.correct, right.numpy())
    assert trained.curve[-1].test_accuracy == right.double().mean().item()
    with torch.no_grad():
        loss = F.cross_entropy(module(small.validation.x), small.validation.y).item()
    assert trained.curve[-1].validation_loss == pytest.approx(loss, rel=1e-5)


def test_schedule_and_warm_up_change_the_steps(settings, small):
    network = network_of(settings, small)
    one = member(network)
    now = settings.model_copy(update={"iterations": 1, "optimizer": "sgd", "lr": 1.0, "warmup_iterations": 10})
    moved = train(network, [one], small, now, 0)[0].weights["output.bias"] - one.weights["output.bias"]
    full = train(network, [one], small, now.model_copy(update={"warmup_iterations": 0}), 0)[0]
    torch.testing.assert_close(moved, (full.weights["output.bias"] - one.weights["output.bias"]) / 10)
    now = settings.model_copy(update={"iterations": 10, "lr": 0.01})
    constant = train(network, [one], small, now, 0)[0].weights["fc2.weight"]
    cosine = train(network, [one], small, now.model_copy(update={"schedule": "cosine"}), 0)[0].weights["fc2.weight"]
    start = one.weights["fc2.weight"] * one.mask["fc2.weight"]
    assert (cosine - start).abs().sum() < 0.9 * (constant - start).abs().sum()


def test_arithmetic_leaves_cudnn_on(settings):
    """`torch.backends.cudnn.flags` switches off what it is not told to keep."""
    with arithmetic(settings, torch.device("cpu")):
        assert torch.backends.cudnn.enabled
        assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize("flushed", [False, True])
def test_denormals_are_zero_in_training_alone(settings, flushed):
    denormal = torch.tensor(1e-40)
    torch.set_flush_denormal(flushed)
    try:
        with arithmetic(settings, torch.device("cpu")):
            assert float(denormal * 1) == 0
        assert (float(denormal * 1) == 0) is flushed
    finally:
        torch.set_flush_denormal(False)


def test_bfloat16_trains(settings, small):
    settings = settings.model_copy(update={"precision": "bfloat16", "stack": 2, "iterations": 60})
    network = network_of(settings, small)
    group = [member(network, seed, density=1.1) for seed in (0, 1)]
    trained = train(network, group, small, settings, 0)
    assert all(one.curve[-1].test_accuracy > 0.7 for one in trained)
    assert all(one.weights["fc1.weight"].dtype == torch.float32 for one in trained)


class Branching(nn.Module):
    """A network whose path depends on its data: it cannot be trained as one set of tensors."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, x):
        out = self.layer(x.flatten(1))
        return out if out.sum() > 0 else out * 1


class Normed(nn.Sequential):
    """With buffers that training updates."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)
        )


def own_network(settings, factory):
    return make_network(settings.model_copy(update={"model": f"{__name__}:{factory.__name__}"}), (1, 28, 28), 10)


def test_a_network_that_cannot_be_stacked_trains_alone(settings, small):
    network = own_network(settings, Branching)
    assert Stack(network.module, small.input_shape).unknown
    rounds = list(find_tickets(settings.model_copy(update={"rounds": 2}), network, small))
    assert [len(done) for done in rounds] == [2, 2]
    assert rounds[1][0].record.test_accuracy > 0.5


def test_batch_norm_buffers_are_the_members_own(settings, small):
    network = own_network(settings, Normed)
    assert Stack(network.module, small.input_shape).unknown is None
    settings = settings.model_copy(update={"iterations": 5})
    group = [member(network, seed, density=1.1) for seed in range(2)]
    together = train(network, group, small, settings.model_copy(update={"stack": 2}), 0)
    for one, shared in zip(group, together, strict=True):
        (alone,) = train(network, [one], small, settings.model_copy(update={"stack": 1}), 0)
        assert shared.weights["1.num_batches_tracked"] == 5
        assert not torch.equal(shared.weights["1.running_mean"], one.weights["1.running_mean"])
        torch.testing.assert_close(
            shared.weights["1.running_mean"], alone.weights["1.running_mean"], rtol=1e-3, atol=1e-4
        )


class Partly(nn.Module):
    """With a frozen parameter and one that no output depends on."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.scale = nn.Parameter(torch.ones(784), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.layer(x.flatten(1) * self.scale)


@pytest.mark.parametrize("members", [1, 2])
def test_frozen_and_unused_parameters_stay(settings, small, members):
    network = own_network(settings, Partly)
    settings = settings.model_copy(update={"stack": members})
    for trained in train(network, [member(network, seed) for seed in range(members)], small, settings, 0):
        assert torch.equal(trained.weights["scale"], torch.ones(784))
        assert torch.equal(trained.weights["unused"], torch.ones(3))
        assert trained.curve[-1].test_accuracy > 0.6


def test_a_loss_that_is_not_finite_on_the_test_images_is_divergence(settings, small):
    """However finite the losses of the last epoch and the weights are."""
    network = make_network(settings, small.input_shape, small.classes)
    member = Member("reinit-own", 0, network.dense_mask(), network.draw(0, "init"))
    far = small.test.x.clone()
    far[0] = 1e38
    (trained,) = train(network, [member], dataclasses.replace(small, test=Split(far, small.test.y)), settings, 0)
    assert trained.diverged
    assert all(bool(value.isfinite().all()) for value in trained.weights.values())
