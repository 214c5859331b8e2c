"""A ticket in memory: as a torch module, under `torch.nn.utils.prune`, in one line."""

import re
from dataclasses import replace

import pytest
import torch
from torch.nn.utils import prune as torch_prune

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.data.prepared import channels_first
from lottery_ticket.record import pack_bits
from lottery_ticket.store.reading import read_run
from tests.help.tensors import same


def test_trained_weights_class_as_was_measured(found, store, ticket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = ticket.images()
    x = ticket.data.standardise(channels_first(images.x_test))
    record = next(r for r in found.rounds if (r.arm, r.seed, r.round) == ("winning", 0, 3))
    correct = ticket.module(trained=True)(x).argmax(1).numpy() == images.y_test
    assert (correct != record.correct_bits).sum() <= 2, "rounding to bfloat16 changes a class only at a margin"

    settings = found.stored.settings.model_copy(
        update={"checkpoint_precision": "float32", "arms": ("winning",), "seeds": (0,), "rounds": 2}
    )
    exact = lottery_ticket.run(settings, tracking_uri=store).ticket(1)
    exact = Ticket.load(f"runs:/{exact.origin.run_id}:1", tracking_uri=store)
    record = next(r for r in read_run(found.client, exact.origin.run_id).records if r.round == 1)
    correct = exact.module(trained=True)(x).argmax(1).numpy() == images.y_test
    assert pack_bits(correct) == record.correct


def test_making_a_module_leaves_the_callers_randomness_alone(ticket):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ticket.module()
    assert torch.equal(torch.rand(3), expected)


def test_to_and_from_torch_prune(ticket, small):
    module = ticket.to_prune()
    assert torch_prune.is_pruned(module)
    assert torch.equal(module(small.test.x), ticket.module()(small.test.x))
    again = Ticket.from_prune(module, ticket.settings)
    assert same(again.mask, ticket.mask)
    assert same(again.weights, ticket.weights)
    assert again.data == ticket.data

    plain = ticket.network().build()
    torch_prune.l1_unstructured(plain.fc1, "weight", amount=0.5)
    partly = Ticket.from_prune(plain, ticket.settings)
    assert partly.mask["fc1.weight"].float().mean() == pytest.approx(0.5)
    assert partly.mask["fc2.weight"].all()
    with pytest.raises(InputError, match="other tensors than fc1"):
        Ticket.from_prune(torch.nn.Linear(3, 4), ticket.settings)


def test_a_users_own_model_runs_only_when_it_is_named(ticket):
    strange = replace(ticket, settings=ticket.settings.model_copy(update={"model": "lottery_ticket.models:fc1"}))
    with pytest.raises(InputError, match=r"--model: None .* allowed: lottery_ticket\.models:fc1, which runs that code"):
        strange.module()
    assert same(dict(strange.module(model="lottery_ticket.models:fc1").state_dict()), ticket.weights)


def test_a_ticket_prints_in_one_line(ticket):
    assert re.fullmatch(
        r"<Ticket fc1-small-winning-seed0-round3-\w{8}: 51.2 % of the weights left, trained>", repr(ticket)
    )
