"""Runs of arms that borrow a mask which is made in the same round: gone on with, and their tickets."""

from pathlib import Path

import pytest
import torch

import lottery_ticket
from lottery_ticket import Ticket
from lottery_ticket.masks import under
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.plan import make_plan
from tests.runs.test_treatments import Interrupted, bits

LENDERS = {"mask-gmp": "gmp", "reinit-gmp": "gmp", "mask-edge-popup": "edge-popup"}


@pytest.fixture(scope="module")
def settings(small_npz):
    return lottery_ticket.load_preset(
        dataset=str(small_npz),
        model="mlp:20",
        validation_size=200,
        rounds=3,
        iterations=12,
        prune_rate=0.5,
        mask_every=3,
        arms=("winning", "gmp", "edge-popup", "untrained", *LENDERS),
        checkpoint_precision="float32",
        jobs=1,
    )


@pytest.fixture(scope="module")
def kept(settings, tmp_path_factory):
    """A whole run in a store of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("borrowers"))
        yield lottery_ticket.run(settings, listener=Listener(), tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db")


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_bits(settings, kept):
    cut, store = Interrupted(), kept.client.tracking_uri
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket.run(settings, listener=cut, tracking_uri=store)
    assert bits(lottery_ticket.resume(cut.run_id, listener=Listener(), tracking_uri=store)) == bits(kept)


@pytest.mark.parametrize("arm", LENDERS)
def test_a_ticket_has_the_lenders_mask_and_the_values_it_began_with(kept, arm):
    """The accuracy that `load` checks is that of its own training."""
    mine, lender = (
        Ticket.load(f"{kept.run_id}:2:{each}-seed0", tracking_uri=kept.client.tracking_uri)
        for each in (arm, LENDERS[arm])
    )
    drawn = mine.network().draw(0, "reinit", 2) if arm == "reinit-gmp" else lender.weights
    for name, value in under(mine.mask, drawn).items():
        assert torch.equal(mine.weights[name], value)
        assert not torch.equal(mine.trained[name], value) or name not in mine.mask
    assert all(torch.equal(mask, lender.mask[name]) for name, mask in mine.mask.items())


def test_a_round_is_as_much_work_as_its_progress_says(settings):
    seen = []
    plan = make_plan(settings)
    list(lottery_ticket.find_tickets(plan.resolved, plan.network, plan.data, watch=seen.append))
    assert {progress.total for progress in seen if progress.round} == {plan.work} == {6 * 12}
