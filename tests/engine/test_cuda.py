"""The engine on CUDA against itself on the CPU; skipped where there is no CUDA device."""

import dataclasses

import pytest
import torch

from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.stack import Stack
from lottery_ticket.engine.training import _Training, train
from lottery_ticket.models.network import make_network
from tests.engine.test_training import apart

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")


@pytest.fixture
def there(small_npz):
    return prepare(load_images(str(small_npz)), 200, CUDA)


def members_of(network, count):
    return [Member("winning", seed, network.dense_mask(), network.draw(seed, "init")) for seed in range(count)]


@pytest.mark.parametrize("model", ["fc1", "lenet5", "tests.help.networks:Residual"])
@pytest.mark.parametrize("how", [{}, {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05, "schedule": "cosine"}], ids=str)
def test_replayed_steps_are_the_cpus(settings, small, there, model, how):
    """40 iterations are three epochs with smaller last batches; most of them are replayed."""
    settings = settings.model_copy(update={"model": model, "iterations": 40, "batch_size": 60} | how)
    network = make_network(settings, small.input_shape, small.classes)
    group = members_of(network, 3)
    replayed = train(network, group, there, settings, 0)
    for one, other, start in zip(replayed, train(network, group, small, settings, 0), group, strict=True):
        assert one.curve[-1].test_loss == pytest.approx(other.curve[-1].test_loss, rel=0.05)
        for name, value in other.weights.items():
            if value.is_floating_point():
                assert apart(one.weights[name], value, start.weights[name]) < 0.05


def test_replayed_steps_are_those_that_are_not(settings, there, monkeypatch):
    """With dropout, whose generators must go on from replay to replay, and a rate of each member's own."""
    own = {"model": "tests.engine.test_training:half_dropped", "init": "module"}
    network = make_network(settings.model_copy(update=own), there.input_shape, there.classes)
    own = [{"lr": 3e-3, "schedule": "cosine"}, {"warmup_iterations": 9}, {"weight_decay": 0.01}]
    group = [
        dataclasses.replace(one, settings=settings.model_copy(update=how))
        for one, how in zip(members_of(network, 3), own, strict=True)
    ]
    replayed = train(network, group, there, settings, 0)
    monkeypatch.setattr(_Training, "_capturable", lambda self: False)
    eager = train(network, group, there, settings, 0)
    for one, other in zip(replayed, eager, strict=True):
        for name, value in other.weights.items():
            torch.testing.assert_close(one.weights[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("model", ["fc1", "lenet5"])
def test_lower_precisions_learn(settings, there, model, precision):
    settings = settings.model_copy(update={"model": model, "precision": precision, "iterations": 60})
    network = make_network(settings, there.input_shape, there.classes)
    trained = train(network, members_of(network, 2), there, settings, 0)
    assert all(one.curve[-1].test_accuracy > 0.7 for one in trained)
    assert Stack(network.module, there.input_shape, precision).unknown is None
