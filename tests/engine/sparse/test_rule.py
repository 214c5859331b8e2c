"""Which tensors are trained over survivors alone goes by what a run has kept, and a loss of numba's cache is none."""

import numba.core.caching
import numpy as np
import pytest
import torch

import lottery_ticket
from lottery_ticket.engine.sparse import kernels
from lottery_ticket.engine.sparse.rule import Rule
from lottery_ticket.engine.training import train
from lottery_ticket.models.network import make_network
from lottery_ticket.store.reading import read_run
from tests.engine.sparse.test_training import pruned


def chosen(settings, small, density, **how):
    settings = settings.model_copy(update=how)
    network = make_network(settings, small.input_shape, small.classes)
    return bool(Rule(network, settings, torch.device("cpu"))(pruned(network, 0, density).mask))


@pytest.mark.parametrize(("density", "below"), [(0.3, {1}), (0.15, {1, 2}), (0.05, {1, 2, 3, 16})])
def test_a_run_goes_by_the_threads_that_it_has_kept(settings, small, density, below):
    taken = {threads for threads in (1, 2, 3, 16) if chosen(settings, small, density, engine_threads=threads)}
    assert taken == below


@pytest.mark.slow
def test_they_are_kept_with_the_run_and_its_tickets(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = lottery_ticket.run(settings.model_copy(update={"rounds": 2, "iterations": 10}), tracking_uri="sqlite:///m.db")
    assert read_run(run.client, run.run_id).settings.engine_threads == torch.get_num_threads() == 1
    ticket = run.ticket(1)
    assert ticket.settings.engine_threads == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    again = lottery_ticket.train_ticket(ticket, tracking_uri="sqlite:///m.db")
    assert again.stored.settings.engine_threads == 1
    assert "engine_threads" not in again.stored.name


def test_where_nothing_can_be_kept_kernels_are_compiled_each_time(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])

    def doubled(values):
        for place in range(len(values)):
            values[place] *= 2

    values = np.ones(3, np.float32)
    kernels._compiled(doubled)(values)
    assert values.tolist() == [2, 2, 2]


class Unused(torch.nn.Module):
    """A perceptron with a layer that nothing goes through."""

    def __init__(self, input_shape, classes):
        super().__init__()
        self.flat, self.first, self.last = torch.nn.Flatten(), torch.nn.Linear(784, 60), torch.nn.Linear(60, classes)
        self.never = torch.nn.Linear(60, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(self.flat(x))))


def test_a_layer_that_nothing_goes_through_stays_as_it_is(settings, small):
    settings = settings.model_copy(update={"model": f"{__name__}:Unused", "iterations": 5})
    network = make_network(settings, small.input_shape, small.classes)
    member = pruned(network, 0, 0.1)
    sparse, dense = (
        train(network, [member], small, settings.model_copy(update={"engine": engine}), 1)[0]
        for engine in ("sparse", "dense")
    )
    assert sparse.sparse
    for name, value in dense.weights.items():
        torch.testing.assert_close(sparse.weights[name], value, rtol=1e-3, atol=1e-5)
