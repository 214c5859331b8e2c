"""Tickets found in a store: those of the method, and none that a store lies about."""

import json

import pytest
import torch

import lottery_ticket
from lottery_ticket import InputError, LotteryTicketError, Ticket
from lottery_ticket.method.arms import ARMS
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.store.find import find
from lottery_ticket.store.listing import list_tickets
from lottery_ticket.tickets.files import load_weights, save_weights
from tests.conftest import FOUND_ARMS
from tests.help.tensors import same


@pytest.fixture(scope="module")
def rounds(found, small):
    """What the method yields for that run's settings: (arm, seed, round) → Round."""
    settings = found.stored.settings
    network = make_network(settings, small.input_shape, small.classes)
    done = [each for rounds in find_tickets(settings, network, small) for each in rounds]
    return {(each.record.arm, each.record.seed, each.record.round): each for each in done}


@pytest.mark.parametrize("arm", [each for each in FOUND_ARMS if not ARMS[each].keep_start and each != "freeze"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_ticket_is_the_mask_and_the_values_its_round_started_from(found, store, rounds, arm, seed):
    ticket = find(f"{found.run_id}:2:{arm}-seed{seed}", tracking_uri=store, trained=True)
    there = rounds[arm, seed, 2]
    assert same(ticket.mask, there.mask)
    start = {name: value * there.mask.get(name, 1) for name, value in there.start.items()}
    assert same(ticket.weights, start)
    assert same(ticket.trained, {name: value.bfloat16().float() for name, value in there.weights.items()})
    assert (ticket.origin.arm, ticket.origin.seed, ticket.origin.round) == (arm, seed, 2)
    assert ticket.metrics.test_accuracy == pytest.approx(there.record.test_accuracy)
    assert ticket.metrics.dense_accuracy == pytest.approx(rounds["winning", seed, 0].record.test_accuracy)
    child = found.stored.children[arm, seed]
    assert same(Ticket.load(f"runs:/{child}:2", tracking_uri=store).weights, start)


def test_a_ticket_of_learning_rate_rewinding_starts_from_what_was_trained_before(found, store):
    places = [f"{found.run_id}:{round}:lr-rewinding-seed3" for round in (1, 2)]
    before, ticket = (find(place, tracking_uri=store, trained=True) for place in places)
    assert same(ticket.weights, {name: value * ticket.mask.get(name, 1) for name, value in before.trained.items()})


@pytest.mark.parametrize("arm", ["freeze", "freeze-towards-zero"])
def test_a_network_whose_pruned_weights_are_not_zero_is_no_ticket(found, store, arm):
    with pytest.raises(
        InputError, match=f"is of the arm {arm}, whose pruned weights are not zero.*allowed: tickets of"
    ):
        find(f"{found.run_id}:2:{arm}-seed3", tracking_uri=store)


@pytest.mark.parametrize("arm", ["reinit", "random-mask", "sign-only", "other-seed"])
def test_a_mask_that_is_borrowed_has_to_be_there(found, store, arm):
    """A run that was stopped while a round was kept may list the borrower's round and not the lender's."""
    tags = found.client.get_run(found.run_id).data.tags
    kept = {key: told for key, told in tags.items() if key.startswith("lt.rounds/winning-seed")}
    assert len(kept) == 2
    own = find(f"{found.run_id}:2:mask-inverted-seed0", tracking_uri=store)
    try:
        for key, told in kept.items():
            short = json.loads(told)
            short["rounds"] = [each for each in short["rounds"] if each[0] != 2]
            found.client.set_tag(found.run_id, key, json.dumps(short))
        lender = "winning-seed3" if arm == "other-seed" else "winning-seed0"
        with pytest.raises(LotteryTicketError, match=f"takes its mask from round 2 of {lender}, which run .* not list"):
            find(f"{found.run_id}:2:{arm}-seed0", tracking_uri=store)
        assert same(find(f"{found.run_id}:2:mask-inverted-seed0", tracking_uri=store).weights, own.weights)
    finally:
        for key, told in kept.items():
            found.client.set_tag(found.run_id, key, told)


def test_the_default_is_the_smallest_winning_ticket(found, store):
    won = [each.round for each in found.verdict.rounds if each.wins == "yes"]
    assert won, "the settings of this test make some win"
    ticket = Ticket.load(f"runs:/{found.run_id}", tracking_uri=store)
    assert (ticket.origin.round, ticket.metrics.winning) == (max(won), "yes")
    assert same(ticket.mask, found.smallest_winning_ticket().mask)


def test_tags_that_somebody_edited_do_not_hide_other_runs(found, store):
    other = found.client.create_run("1", tags={"lt.kind": "run", "lt.rounds/winning-seed0/0": "[1"}).info.run_id
    listed = {each.run_id for each in list_tickets(store)}
    assert found.run_id in listed
    assert other not in listed
    with pytest.raises(LotteryTicketError, match="its artifacts are not at"):
        Ticket.load(f"runs:/{other}:1", tracking_uri=store)
    kept = found.client.download_artifacts(found.run_id, "settings.json")
    found.client.log_artifact(other, kept)
    with pytest.raises(InputError, match="lists no round after round 0"):
        Ticket.load(f"runs:/{other}:1", tracking_uri=store)


def test_a_run_of_another_version_is_named_so(found, store, tmp_path):
    (tmp_path / "settings.json").write_text('{"learning_rate": 1}')
    tags = {key: value for key, value in found.client.get_run(found.run_id).data.tags.items() if key[:3] == "lt."}
    other = found.client.create_run("1", tags=tags | {"lt.version": "9.9"}).info.run_id
    found.client.log_artifact(other, str(tmp_path / "settings.json"))
    for call in (
        lambda: Ticket.load(f"runs:/{other}:1", tracking_uri=store),
        lambda: lottery_ticket.resume(other, tracking_uri=store),
    ):
        with pytest.raises(LotteryTicketError, match=r"cannot be read: .* made by another version \(lt 9\.9; "):
            call()
    found.client.delete_run(other)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda init: init["fc1.bias"].fill_(torch.nan), "not finite"),
        (lambda init: init.update({"fc1.weight": torch.ones(1)}), "do not fit its mask"),
        (lambda init: init.pop("fc2.weight"), "do not fit its mask"),
        (lambda init: init.update({"../../evil": torch.ones(1)}), r"a tensor named '\.\./\.\./evil'"),
    ],
)
def test_a_store_that_lies_is_not_believed(tmp_path, monkeypatch, settings, change, why):
    monkeypatch.chdir(tmp_path)
    short = settings.model_copy(update={"rounds": 2, "arms": ("winning",)})
    run = lottery_ticket.run(short, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (init,) = tmp_path.glob("artifacts/**/init.safetensors")
    values = load_weights(init)
    change(values)
    save_weights(values, init)
    with pytest.raises(LotteryTicketError, match=why):
        run.ticket(1)
