"""`lt train`: a ticket trained again ends where it did, and asks its question of other data."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.masks import under
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.runs.retrain import begin, retrain_settings
from lottery_ticket.store.find import find


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
    assert again.stored.name == f"ticket {ticket.name} iterations=10 lr=0.01"
    assert again.verdict.rounds == ()
    assert again.verdict.dense is None
    assert "dense_accuracy" not in again.client.get_run(again.run_id).data.metrics


def other_data(path, small_npz, classes=10, side=28):
    """The small data set with another number of classes or size of images."""
    with np.load(small_npz) as file:
        arrays = {key: file[key] for key in file}
    for part in ("train", "test"):
        arrays[f"x_{part}"] = arrays[f"x_{part}"][:, :side, :side]
        arrays[f"y_{part}"] = arrays[f"y_{part}"] % classes
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.slow
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


def beginning(ticket, seed=0, **overrides):
    settings = retrain_settings(ticket, {"seeds": f"{seed},", **overrides})
    return begin(ticket, settings, ticket.network(), ticket.network())[seed]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_control_starts_as_in_the_run_that_found_the_ticket(found, ticket, small):
    settings = found.stored.settings.model_copy(update={"arms": ("winning", "reinit", "random-mask")})
    there = [each for done in find_tickets(settings, ticket.network(), small) for each in done]
    rounds = {(each.record.arm, each.record.seed, each.record.round): each for each in there}
    start = beginning(ticket, arms="winning,reinit,random-mask")
    assert same(start.dense, rounds["winning", 0, 0].start)
    for member in start.members:
        one = rounds[member.arm, 0, 2]
        assert same(member.mask, one.mask)
        assert same(under(member.mask, member.weights), under(one.mask, one.start))
        assert (under(member.mask, member.weights)["fc1.weight"] != 0).sum() == one.mask["fc1.weight"].sum()


def test_the_dense_control_of_any_ticket_holds_the_tickets_values(found, store, ticket):
    pruned = Ticket.from_prune(ticket.to_prune(trained=True), ticket.settings)
    reinit = find(f"{found.run_id}:2:reinit-seed0", tracking_uri=store)
    for each in (pruned, reinit):
        dense = beginning(each, seed=5).dense
        assert same(under(each.mask, dense), each.weights)
        assert (dense["fc1.weight"] != 0).all()


def test_the_dense_control_is_read_where_the_store_has_it(ticket, tmp_path):
    network = ticket.network()
    other = replace(network, init="kaiming-normal")  # as after a change that nobody has noticed
    settings = retrain_settings(ticket, {})
    theta = network.draw(0, "init")
    assert same(begin(ticket, settings, network, other)[0].dense, theta)
    folder = Ticket.load(ticket.save(tmp_path / "folder"))
    assert same(begin(folder, settings, network, network)[0].dense, theta)


def test_a_dense_control_is_not_made_of_two_networks(ticket, tmp_path):
    """A folder holds no θ₀: where its network draws another one by now, its dense control cannot be had from it."""
    other = replace(ticket, weights={name: 1.01 * value for name, value in ticket.weights.items()})
    network, settings = ticket.network(), retrain_settings(ticket, {})
    for fine in (ticket, Ticket.load(ticket.save(tmp_path / "same"))):
        begin(fine, settings, network, network)
    with pytest.raises(InputError, match=r"starts from other values of fc1.weight .* allowed: its run, [0-9a-f]{32}"):
        begin(Ticket.load(other.save(tmp_path / "other")), settings, network, network)


def test_a_learning_rate_of_probabilities_is_not_taken_for_weights(ticket):
    learned = replace(
        ticket,
        settings=ticket.settings.model_copy(update={"lr": 100.0}),
        origin=ticket.origin.model_copy(update={"arm": "supermask"}),
    )
    with pytest.raises(InputError, match=r"--lr: 100.0 is that by which the supermask's probabilities were learned"):
        retrain_settings(learned, {})
    assert retrain_settings(learned, {"lr": 0.1}).lr == 0.1
    for other in ("edge-popup", "winning", "somebody:arm"):
        assert retrain_settings(replace(learned, origin=ticket.origin.model_copy(update={"arm": other})), {}).lr == 100


def test_a_ticket_is_not_its_own_control(found, store):
    reinit = find(f"{found.run_id}:2:reinit-seed3", tracking_uri=store)
    with pytest.raises(InputError, match="starts with seed 3 from the values of this ticket"):
        beginning(reinit, seed=3)
    assert len(beginning(reinit, seed=4).members) == 2


@pytest.mark.slow
def test_late_rewinding(store, settings, tmp_path):
    late = settings.model_copy(update={"rewind_iteration": 10, "rounds": 2})
    ticket = lottery_ticket.run(late, tracking_uri=store).ticket(1)
    start = beginning(ticket)
    theta = ticket.network().draw(0, "init")
    assert same(start.dense, theta)
    assert not torch.equal(ticket.weights["fc1.weight"], theta["fc1.weight"] * ticket.mask["fc1.weight"])
    with pytest.raises(InputError, match="--arms: 'random-mask' needs the values of all weights"):
        beginning(ticket, arms="winning,random-mask")
    again = lottery_ticket.train_ticket(ticket, tracking_uri=store, iterations=15, seeds=2)
    for seed in (0, 1):  # of the order of the data: it is one network
        kept = Ticket.load(f"runs:/{again.run_id}:1:winning-seed{seed}", tracking_uri=store)
        assert same(kept.weights, ticket.weights)
        assert same(beginning(kept).dense, theta)


def test_controls_of_a_training_can_be_pulled(found, store, ticket):
    again = lottery_ticket.train_ticket(ticket, arms="winning,random-mask", tracking_uri=store, iterations=5)
    control = find(f"{again.run_id}:2:random-mask-seed0", tracking_uri=store)
    there = beginning(ticket, arms="winning,random-mask").members[1]
    assert same(control.mask, there.mask)
    assert same(control.weights, under(there.mask, there.weights))


def test_the_output_layer_depends_on_the_seed(ticket):
    settings = retrain_settings(ticket, {"seeds": "1,2"})
    network = make_network(settings, ticket.data.input_shape, 4)
    one, other = begin(ticket, settings, network, ticket.network()).values()
    assert one.start["output.weight"].shape == (4, 100)
    assert not torch.equal(one.start["output.weight"], other.start["output.weight"])
    assert torch.equal(one.start["output.weight"], one.dense["output.weight"])
    assert one.mask["output.weight"].all()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"keep_dense": ("fc1.*",)}, "--keep-dense: 'fc1.*' is the ticket's own; allowed: none"),
        ({"prune_rate": 0.5}, "--prune-rate: '0.5' is the ticket's own; allowed: none"),
    ],
)
def test_what_a_ticket_brings_along_is_refused(ticket, overrides, told):
    with pytest.raises(InputError, match=re.escape(told)):
        retrain_settings(ticket, overrides)


def test_images_of_another_shape_are_refused(store, ticket, small_npz, tmp_path):
    data = other_data(tmp_path / "cut.npz", small_npz, side=20)
    with pytest.raises(InputError, match=re.escape("has images of shape (1, 20, 20); allowed: (1, 28, 28)")):
        lottery_ticket.train_ticket(ticket, dataset=data, tracking_uri=store)


@pytest.mark.slow
def test_lt_train_asks_in_one_command(lt, found, ticket, small_npz, tmp_path):
    other_data(tmp_path / "three.npz", small_npz, classes=3)
    arguments = ["--dataset", "three.npz", "--epochs", "1", "--seeds", "3", "--validation-size", "100"]
    done = lt("train", f"{found.run_id}:2", *arguments, MLFLOW_TRACKING_URI=found.client.tracking_uri)
    assert done.code == 0, done.err
    said = r"The ticket on three\.npz: matches dense: \w+; beats reinit: \w+; wins: (yes|no|undecided)\."
    assert re.search(said, done.out)
    assert "round  2/2" in done.err
    ticket.save(tmp_path / "folder")
    done = lt("train", "folder", "--iterations", "5", "--json")
    assert done.code == 0, done.err
    assert [r["round"] for r in done.json["rounds"]] == [0, 2, 2]


def test_how_a_ticket_was_judged_does_not_travel_with_it(ticket):
    judged = replace(
        ticket, settings=ticket.settings.model_copy(update={"verdict_tolerance": 0.9, "verdict_level": 0.6})
    )
    settings = retrain_settings(judged, {"verdict_level": 0.99})
    assert (settings.verdict_tolerance, settings.verdict_level) == (0.002, 0.99)
