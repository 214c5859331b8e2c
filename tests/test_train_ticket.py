"""`lt train`: a ticket trained again ends where it did, and asks its question of other data."""

import re

import numpy as np
import pytest
import torch

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.models import make_network
from lottery_ticket.retrain import begin, retrain_settings


@pytest.fixture(scope="module")
def found(tmp_path_factory, small_npz):
    """A run with seeds 0 and 3."""
    settings = lottery_ticket.load_preset(
        dataset=str(small_npz), validation_size=200, rounds=3, iterations=30, seeds="0,3", jobs=1
    )
    folder = tmp_path_factory.mktemp("train")
    return lottery_ticket.run(settings, tracking_uri=f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def store(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the figures go
    return found.client.tracking_uri


@pytest.fixture
def ticket(found, store):
    return Ticket.load(f"runs:/{found.run_id}:2", tracking_uri=store)


def test_a_ticket_trained_as_it_was_found_ends_in_the_same_numbers(found, store, ticket):
    again = lottery_ticket.train_ticket(ticket, tracking_uri=store, stack=4)
    was = {(r.arm, r.seed, r.round): r for r in found.rounds}
    assert [(r.arm, r.seed, r.round) for r in again.rounds] == [("winning", 0, 0), ("winning", 0, 2), ("reinit", 0, 2)]
    for record in again.rounds:
        before = was[record.arm, record.seed, record.round]
        assert record.test_accuracy == pytest.approx(before.test_accuracy, abs=0.006)  # other stacks, other rounding
        assert record.densities == before.densities
    assert [judged.round for judged in again.verdict.rounds] == [2]

    tags = found.client.get_run(again.run_id).data.tags
    assert (tags["lt.origin_run_id"], tags["lt.origin_round"]) == (found.run_id, "2")
    assert tags["lt.origin_trajectory"] == found.stored.children["winning", 0]
    assert f"#/experiments/1/runs/{found.run_id}" in tags["mlflow.note.content"]

    kept = Ticket.load(f"runs:/{again.run_id}", tracking_uri=store)  # the only round
    assert all(torch.equal(kept.weights[name], value) for name, value in ticket.weights.items())
    assert all(torch.equal(kept.mask[name], value) for name, value in ticket.mask.items())
    with pytest.raises(InputError, match=r"--resume: .* is one training of a ticket"):
        lottery_ticket.resume(again.run_id, tracking_uri=store)


def test_changed_settings_and_other_controls(store, ticket):
    again = lottery_ticket.train_ticket(
        ticket, dense=False, tracking_uri=store, lr=0.01, seeds=2, arms="winning,random-mask", iterations=10
    )
    assert {(r.arm, r.seed, r.round) for r in again.rounds} == {
        (arm, seed, 2) for arm in ("winning", "random-mask") for seed in (0, 1)
    }
    assert again.stored.settings.lr == 0.01
    assert all(r.iterations == 10 for r in again.rounds)
    assert again.stored.name.endswith("lr=0.01 iterations=10 epochs=None") or "lr=0.01" in again.stored.name
    assert again.verdict.rounds == ()


def other_data(path, small_npz, classes=10, side=28):
    """The small data set with another number of classes or size of images."""
    with np.load(small_npz) as file:
        arrays = {key: file[key] for key in file}
    for part in ("train", "test"):
        arrays[f"x_{part}"] = arrays[f"x_{part}"][:, :side, :side]
        arrays[f"y_{part}"] = arrays[f"y_{part}"] % classes
    np.savez(path, **arrays)
    return str(path)


def test_transfer_to_other_classes_draws_the_output_layer_anew(store, ticket, small_npz, tmp_path):
    data = other_data(tmp_path / "seven.npz", small_npz, classes=7)
    again = lottery_ticket.train_ticket(ticket, dataset=data, seeds="5,", tracking_uri=store)
    dense, kept, reinit = again.rounds
    assert (dense.round, kept.arm, reinit.arm) == (0, "winning", "reinit")
    assert kept.densities["output.weight"] == 1
    assert kept.densities["fc1.weight"] == pytest.approx(0.64, abs=0.001)
    moved = Ticket.load(f"runs:/{again.run_id}:2", tracking_uri=store)
    assert moved.weights["output.weight"].shape == (7, 100)
    assert torch.equal(moved.weights["fc1.weight"], ticket.weights["fc1.weight"])
    assert moved.data.classes == 7


def test_the_dense_control_starts_where_the_ticket_comes_from(ticket):
    network = ticket.network()
    start = begin(ticket, network, network, seed=9)
    for name, kept in ticket.mask.items():
        assert torch.equal(start.dense[name] * kept, ticket.weights[name])
        assert (start.dense[name] != 0).all()


def test_the_output_layer_depends_on_the_seed(ticket):
    settings = retrain_settings(ticket, {})
    network = make_network(settings, ticket.data.input_shape, 4)
    one, other = (begin(ticket, network, ticket.network(), seed) for seed in (1, 2))
    assert one.ticket["output.weight"].shape == (4, 100)
    assert not torch.equal(one.ticket["output.weight"], other.ticket["output.weight"])
    assert torch.equal(one.ticket["output.weight"], one.dense["output.weight"])
    assert one.mask["output.weight"].all()


def test_images_of_another_shape_are_refused(store, ticket, small_npz, tmp_path):
    data = other_data(tmp_path / "cut.npz", small_npz, side=20)
    with pytest.raises(InputError, match=re.escape("has images of shape (1, 20, 20); allowed: (1, 28, 28)")):
        lottery_ticket.train_ticket(ticket, dataset=data, tracking_uri=store)


def test_lt_train_asks_in_one_command(lt, found, ticket, small_npz, tmp_path):
    other_data(tmp_path / "three.npz", small_npz, classes=3)
    arguments = ["--dataset", "three.npz", "--epochs", "1", "--seeds", "3", "--validation-size", "100"]
    done = lt("train", f"{found.run_id}:2", *arguments, MLFLOW_TRACKING_URI=found.client.tracking_uri)
    assert done.code == 0, done.err
    assert re.search(r"The ticket on three\.npz: (wins|matches|does not win|undecided)", done.out)
    assert "round  2/2" in done.err
    ticket.save(tmp_path / "folder")
    done = lt("train", "folder", "--iterations", "5", "--json")
    assert done.code == 0, done.err
    assert [r["round"] for r in done.json["rounds"]] == [0, 2, 2]
