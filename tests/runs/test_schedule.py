"""Whole runs by other schedules than round by round: interrupted, gone on with, trained again; loops of one's own."""

import pytest
import torch

import lottery_ticket
from lottery_ticket import Ticket
from lottery_ticket.errors import InputError
from lottery_ticket.runs.listener import Listener
from tests.runs.test_recipe import Interrupted, figures

SCHEDULES = {
    "one-shot": {"pruning": "one-shot", "arms": "winning,reinit,lr-rewinding"},
    "init": {"criterion": "snip", "prune_steps": 3, "density": 0.05, "scope": "erk", "arms": "winning,reinit-own"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one-shot", pytest.param("init", marks=pytest.mark.slow)])
def test_a_run_that_is_gone_on_with_ends_in_the_same_bits(name, small_npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = {"model": "mlp:12", "dataset": str(small_npz), "validation_size": 200, "iterations": 12, "rounds": 4}
    settings = lottery_ticket.load_preset(device="cpu", **how, **SCHEDULES[name])
    whole = lottery_ticket.run(settings, listener=Listener())
    cut = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket.run(settings, listener=cut)
    again = lottery_ticket.resume(cut.run_id, listener=Listener())
    assert figures(again) == figures(whole)
    assert [r.cost for r in again.rounds] == [r.cost for r in whole.rounds]
    if name == "one-shot":
        return
    assert whole.rounds[-1].survivors == {"fc1.weight": 464, "output.weight": 13}  # 796 : 22, together 5 %
    ticket = Ticket.load(f"runs:/{whole.run_id}:2")
    trained = lottery_ticket.train_ticket(ticket, listener=Listener())
    found = next(r for r in whole.rounds if (r.arm, r.round) == ("winning", 2))
    as_dense = lottery_ticket.load_preset(
        device="cpu",
        **how | {"rounds": 2, "iterations": 1},
        criterion="random",
        tensor_densities=f"runs:/{whole.run_id}:2",
    )
    other = lottery_ticket.run(as_dense, listener=Listener())
    assert other.rounds[-1].survivors == found.survivors
    assert other.stored.settings.tensor_densities[0].startswith("fc1.weight=0.")
    assert next(r for r in trained.rounds if r.round == 2).test_loss == pytest.approx(found.test_loss, rel=1e-4)


def train(module, job):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.eye(6)).square().sum().backward()
        optimizer.step()


def test_in_a_loop_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = {"train": train, "evaluate": lambda module: 0.5, "listener": Listener()}
    found = lottery_ticket.find(lambda: torch.nn.Linear(6, 5), rounds=3, density=0.2, pruning="one-shot", **how)
    assert [r.survivors["weight"] for r in found.rounds if r.arm == "winning"] == [30, 13, 6]
    for criterion, asks in (("snip", "gradients"), ("synflow", "the shape of an image")):
        with pytest.raises(InputError, match=rf"--criterion: '{criterion}' asks for {asks}, which a training of one's"):
            lottery_ticket.find(lambda: torch.nn.Linear(6, 5), rounds=3, criterion=criterion, **how)
    assert len(found.client.search_runs([found.stored.experiment_id], "tags.lt.kind = 'own-loop'")) <= 1
