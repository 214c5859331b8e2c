"""Trainings over survivors alone: the numbers of the dense path up to rounding, and the same bits again."""

from functools import partial

import pytest
import torch

from lottery_ticket.engine.job import Member
from lottery_ticket.engine.sparse.rule import CONVOLUTIONS_BELOW, LINEAR_BELOW, Rule
from lottery_ticket.engine.training import train
from lottery_ticket.method.pruning import prune
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network

CPU = torch.device("cpu")


def pruned(network, seed, density):
    start, dense = network.draw(seed, "init"), network.dense_mask()
    mask = prune({name: start[name].abs() for name in dense}, dense, dict.fromkeys(dense, 1 - density))
    return Member("winning", seed, mask, start)


@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "sgd", "lr": 0.1},
        {"optimizer": "sgd-nesterov", "momentum": 0.9, "lr": 0.05, "weight_decay": 1e-3},
        {"optimizer": "adam", "schedule": "cosine", "warmup_iterations": 3},
        {"optimizer": "adamw", "weight_decay": 0.01},
        {"optimizer": "adam", "frozen": "non-positive"},
        pytest.param({"optimizer": "sgd", "lr": 0.1, "model": "lenet5"}, marks=pytest.mark.slow),
        {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "model": "tests.help.networks:Residual"},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_as_the_dense_path_up_to_rounding(settings, small, how):
    chosen = settings.model_copy(update=how | {"iterations": 12, "stack": 3})
    network = make_network(chosen, small.input_shape, small.classes)
    members = [pruned(network, seed, density) for seed, density in ((0, 0.1), (1, 0.1), (2, 0.02))]
    dense, sparse = (
        train(network, members, small, chosen.model_copy(update={"engine": engine}), 1)
        for engine in ("dense", "sparse")
    )
    for one, other, member in zip(dense, sparse, members, strict=True):
        assert (one.sparse, set(other.sparse)) == ((), set(member.mask))
        for name, value in one.weights.items():
            kept = member.mask.get(name)
            assert torch.allclose(value, other.weights[name], rtol=2e-3, atol=2e-4), name
            assert kept is None or not other.weights[name][~kept].any()
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-3)
        assert other.curve[-1].test_accuracy == pytest.approx(one.curve[-1].test_accuracy, abs=0.0101)


def test_the_same_bits_again_and_the_same_numbers_in_any_stack(settings, small):
    chosen = settings.model_copy(update={"engine": "sparse", "iterations": 8})
    network = make_network(chosen, small.input_shape, small.classes)
    members = [pruned(network, seed, 0.05) for seed in range(4)]
    results = [
        train(network, order, small, chosen.model_copy(update={"stack": size}), 1)
        for order, size in ((members, 4), (members, 4), (members[::-1], 2), (members, 1))
    ]
    results[2] = results[2][::-1]
    for other in results[1:]:
        for one, again in zip(results[0], other, strict=True):
            assert one.sparse == ("fc1.weight", "fc2.weight", "output.weight")
            same = torch.equal if other is results[1] else partial(torch.allclose, rtol=1e-4, atol=1e-5)
            assert all(same(one.weights[name], again.weights[name]) for name in one.weights)


def tensors(network, density, settings, data):
    mask = pruned(network, 0, density).mask if density < 1 else network.dense_mask()
    return Rule(network, settings, CPU)(mask)


def test_the_rule_goes_by_shape_density_and_threads_alone(settings, small):
    settings = settings.model_copy(update={"engine": "auto"})
    network = make_network(settings, small.input_shape, small.classes)
    before = torch.get_num_threads()
    try:
        for threads, below in LINEAR_BELOW.items():
            torch.set_num_threads(threads)
            assert tensors(network, 1.0, settings, small) == ()
            assert tensors(network, below + 0.02, settings, small) == ()
            assert tensors(network, below - 0.02, settings, small) == tuple(network.kinds)  # the small one too
    finally:
        torch.set_num_threads(before)
    for aside in ({"engine": "dense"}, {"precision": "bfloat16"}):
        assert tensors(network, 0.1, settings.model_copy(update=aside), small) == ()
    everything = tensors(network, 0.5, settings.model_copy(update={"engine": "sparse"}), small)
    assert everything == ("fc1.weight", "fc2.weight", "output.weight")


def test_convolutions_are_chosen_together_by_their_multiply_adds(settings, small):
    settings = settings.model_copy(update={"engine": "auto", "model": "lenet5"})
    network = make_network(settings, small.input_shape, small.classes)
    convolutions = {name for name, kind in network.kinds.items() if kind == "conv"}
    assert len(convolutions) == 2
    for threads, below in CONVOLUTIONS_BELOW.items():
        settings = settings.model_copy(update={"engine_threads": threads})
        assert not convolutions & set(tensors(network, below + 0.02, settings, small))
        assert convolutions <= set(tensors(network, below - 0.02, settings, small))
    mask = network.dense_mask()
    mask["conv2.weight"][:] = False  # most weights, and multiply-adds: the others are left
    cost = Rule(network, settings, CPU)._multiply_adds
    left = cost["conv1.weight"] / sum(cost.values())
    chosen = Rule(network, settings, CPU)(mask)
    assert ("conv2.weight" in chosen) is (left < CONVOLUTIONS_BELOW[2])
    assert "conv1.weight" not in chosen


def test_a_run_tells_which_rounds_were_sparse(settings, small):
    chosen = settings.model_copy(update={"engine": "auto", "prune_rate": 0.5, "rounds": 4, "iterations": 4})
    network = make_network(chosen, small.input_shape, small.classes)
    rounds = list(find_tickets(chosen, network, small))
    told = [done[0].record.sparse for done in rounds]
    assert told == [(), (), tuple(network.kinds), tuple(network.kinds)]
