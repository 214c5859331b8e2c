"""How members are spread over stacks and processes, and what is done when they do not fit."""

import pytest
import torch

from lottery_ticket.engine.allocation import PROCESS_BYTES, activation_bytes, allocate, member_bytes
from lottery_ticket.engine.device import free_memory
from lottery_ticket.engine.executors import trainer
from lottery_ticket.engine.stack import Stack
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network

PLENTY = 2**40


@pytest.fixture
def cores(monkeypatch):
    """Sets how many threads torch has."""
    return lambda count: monkeypatch.setattr(torch, "get_num_threads", lambda: count)


def chosen(settings, data, available=PLENTY, **how):
    settings = settings.model_copy(update=how)
    network = make_network(settings, data.input_shape, data.classes)
    return allocate(settings, network, data, available)


@pytest.mark.parametrize(
    ("how", "threads", "stack", "jobs"),
    [
        ({"seeds": (0,)}, 2, 2, 1),
        ({"seeds": tuple(range(5))}, 2, 5, 2),
        ({"seeds": tuple(range(5))}, 1, 8, 1),
        ({"seeds": tuple(range(50))}, 2, 8, 2),
        ({"seeds": tuple(range(50))}, 16, 7, 16),
        ({"seeds": tuple(range(5)), "model": "lenet5"}, 2, 1, 1),
        ({"seeds": tuple(range(5)), "stack": 3}, 2, 3, 2),
        ({"seeds": tuple(range(5)), "jobs": 1}, 2, 8, 1),
        ({"seeds": tuple(range(5)), "jobs": 3, "stack": 64}, 2, 4, 3),
        ({"seeds": (0, 1)}, 2, 2, 2),
        ({"seeds": tuple(range(5)), "executor": "here"}, 2, 8, 1),
        ({"seeds": (0,), "jobs": 8}, 2, 1, 2),
        ({"seeds": tuple(range(5)), "model": "lenet5", "jobs": 2, "stack": 2}, 2, 2, 2),
    ],
    ids=str,
)
def test_what_auto_stands_for(settings, small, cores, how, threads, stack, jobs):
    cores(threads)
    found = chosen(settings, small, **how)
    assert (found.stack, found.jobs, found.notes) == (stack, jobs, ())
    assert found.threads == max(1, threads // jobs)


def test_a_stack_that_does_not_fit_is_split(settings, small):
    settings = settings.model_copy(update={"seeds": tuple(range(50)), "stack": 100, "jobs": 1})
    network = make_network(settings, small.input_shape, small.classes)
    each = member_bytes(network, Stack(network.module, small.input_shape), small, settings)
    found = chosen(settings, small, available=20 * each)
    assert 10 <= found.stack <= 20
    (note,) = found.notes
    assert note.startswith("a stack of 100 does not fit into the ")
    assert chosen(settings, small, available=0).stack == 1


def test_late_rounds_hold_larger_stacks(settings, small):
    settings = settings.model_copy(
        update={"seeds": tuple(range(6)), "jobs": 1, "arms": ("winning",), "rounds": 3, "prune_rate": 0.9}
    )
    network = make_network(settings, small.input_shape, small.classes)
    each = member_bytes(network, Stack(network.module, small.input_shape), small, settings)
    found = allocate(settings, network, small, int(3.8 * each))
    assert found.stack == 3
    assert found.notes == (f"{found.notes[0].partition(':')[0]}: 3 at a time, 6 where 1 % of the weights is left",)
    resolved = settings.model_copy(update={"stack": found.stack})
    evaluated: dict[int, set[int]] = {}

    def note(progress):
        if progress.accuracy:
            evaluated.setdefault(progress.round, set()).add(len(progress.accuracy))

    with trainer(resolved, found, small.info) as train:
        assert len(list(find_tickets(resolved, network, small, None, note, train))) == 3
    assert (evaluated[0], evaluated[2]) == ({3}, {6})


@pytest.mark.parametrize("arm", ["gmp", "freeze"])
def test_networks_whose_pruned_weights_are_multiplied_are_as_large_in_late_rounds(settings, small, arm):
    """Their masks say what is left, not what is trained: they take what dense ones do."""
    more = {"seeds": tuple(range(6)), "jobs": 1, "arms": ("winning", arm), "rounds": 3, "prune_rate": 0.9}
    settings = settings.model_copy(update=more)
    network = make_network(settings, small.input_shape, small.classes)
    each = member_bytes(network, Stack(network.module, small.input_shape), small, settings)
    found = allocate(settings, network, small, int(3.8 * each))
    resolved = settings.model_copy(update={"stack": found.stack})
    evaluated = set()

    def note(progress):
        if progress.accuracy:
            evaluated.add((progress.round, len(progress.accuracy)))

    with trainer(resolved, found, small.info) as train:
        list(find_tickets(resolved, network, small, None, note, train))
    assert evaluated == {(r, 3) for r in range(3)}


def test_processes_that_do_not_fit_are_not_started(settings, small, cores):
    cores(8)
    found = chosen(settings, small, available=4 * PROCESS_BYTES, seeds=tuple(range(20)))
    assert 1 < found.jobs < 5
    assert found.notes[0].startswith("8 processes do not fit")


def test_a_network_that_cannot_be_stacked_is_named(settings, small):
    found = chosen(settings, small, model="tests.help.networks:Scaled")
    assert found.stack == 1
    assert found.notes == (
        "networks are trained one at a time: the engine cannot stack the use of scale outside of a layer",
    )


def test_memory_is_predicted_from_what_training_keeps(settings, small):
    network = make_network(settings, small.input_shape, small.classes)
    architecture = Stack(network.module, small.input_shape)
    kept = activation_bytes(network, architecture, small.input_shape, 60)
    units = 784 + 300 + 100  # what goes into each layer
    assert 60 * 4 * units <= kept <= 3 * 60 * 4 * units
    adam, sgd = (
        member_bytes(network, architecture, small, settings.model_copy(update={"optimizer": name}))
        for name in ("adam", "sgd")
    )
    assert adam - sgd == 4 * 266_610
    assert adam > 5 * 4 * 266_610


def test_weights_in_bfloat16_are_kept_once_not_for_each_image(settings, small):
    network = make_network(settings, small.input_shape, small.classes)
    kept = {
        precision: activation_bytes(network, Stack(network.module, small.input_shape, precision), small.input_shape, 60)
        for precision in ("float32", "bfloat16")
    }
    assert kept["bfloat16"] <= kept["float32"] + 2 * 266_200


def test_free_memory_is_told():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50
