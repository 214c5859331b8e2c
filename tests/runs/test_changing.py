"""Runs of arms whose masks change in training: gone on with to the same bits, and what is kept of them."""

import pytest
import torch

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.runs.listener import Listener
from tests.runs.test_treatments import Interrupted, bits

ARMS = ("gmp", "set", "rigl")


@pytest.fixture(scope="module")
def settings(small_npz):
    return lottery_ticket.load_preset(
        dataset=str(small_npz),
        model="mlp:20",
        validation_size=200,
        rounds=3,
        iterations=15,
        prune_rate=0.5,
        mask_every=3,
        arms=("winning", "reinit", *ARMS),
        checkpoint_precision="float32",
        jobs=1,
    )


@pytest.fixture(scope="module")
def kept(settings, tmp_path_factory):
    """A whole run in a store of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("changing"))
        return lottery_ticket.run(settings, listener=Listener())


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_bits(settings, kept):
    cut, store = Interrupted(), kept.client.tracking_uri
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket.run(settings, listener=cut, tracking_uri=store)
    resumed = lottery_ticket.resume(cut.run_id, listener=Listener(), tracking_uri=store)
    assert bits(resumed) == bits(kept)
    for arm in ARMS:
        one, other = (Ticket.load(f"{r.run_id}:2:{arm}-seed0", tracking_uri=store) for r in (kept, resumed))
        for name, value in one.trained.items():
            assert torch.equal(value, other.trained[name])
        assert all(torch.equal(kept, other.mask[name]) for name, kept in one.mask.items())


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_kept_is_the_mask_at_the_end(kept, arm, tmp_path):
    """Its trained network has the accuracy that was logged, which `load` checks; it starts from θ₀."""
    store = kept.client.tracking_uri
    ticket = Ticket.load(f"{kept.run_id}:2:{arm}-seed0", tracking_uri=store)
    winning = Ticket.load(f"{kept.run_id}:2:winning-seed0", tracking_uri=store)
    for name, mask in ticket.mask.items():
        assert int(mask.sum()) == int(winning.mask[name].sum())
        assert not ticket.trained[name][~mask].any()
        assert torch.equal(ticket.weights[name], winning.initial[name].where(mask, 0))
    assert any(not torch.equal(mask, winning.mask[name]) for name, mask in ticket.mask.items())
    ticket.save(tmp_path / arm)
    again = Ticket.load(tmp_path / arm)
    assert all(torch.equal(value, again.trained[name]) for name, value in ticket.trained.items())


def test_tickets_are_trained_under_one_mask(kept):
    store = kept.client.tracking_uri
    winning = Ticket.load(f"{kept.run_id}:2:winning-seed0", tracking_uri=store)
    with pytest.raises(InputError, match=r"allowed: winning \(the ticket\), and with it reinit, random-mask, degree"):
        lottery_ticket.train_ticket(winning, arms=("winning", "rigl"), tracking_uri=store)
    ticket = Ticket.load(f"{kept.run_id}:2:rigl-seed0", tracking_uri=store)
    again = lottery_ticket.train_ticket(ticket, tracking_uri=store, listener=Listener(), dense=False)
    assert {record.survivors["fc1.weight"] for record in again.rounds} == {int(ticket.mask["fc1.weight"].sum())}


def test_the_sparse_engine_leaves_them_alone(kept):
    """By its rule winning's last round may go over survivors; these never do, and lengths are told in iterations."""
    assert all(record.sparse == () for record in kept.rounds if record.arm in ARMS)
    assert kept.stored.settings.mask_every == 3


@pytest.mark.slow
def test_the_command(lt, quick_flags):
    arms = ["--arms", "winning,gmp,set,rigl", "--model", "mlp:12"]
    refused = lt("run", *quick_flags, *arms)
    assert (refused.code, refused.out) == (2, "")
    assert "--mask-every: 100 leaves set no change before iteration 15, where masks stop changing" in refused.err
    done = lt("run", *quick_flags, *arms, "--mask-every", "5it", "--mask-until", "0.6", "--json")
    assert done.code == 0, done.err
    left = {(each["arm"], each["round"]): each["survivors"] for each in done.json["rounds"]}
    assert len(left) == 12
    assert all(survivors == left["winning", r] for (_, r), survivors in left.items())
