"""Runs of arms whose weights are never trained: gone on with to the same bits, and their tickets."""

from pathlib import Path

import pytest
import torch

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.masks import under
from lottery_ticket.runs.listener import Listener
from tests.runs.test_treatments import Interrupted, bits

ARMS = ("untrained", "untrained-signs", "edge-popup", "supermask")


@pytest.fixture(scope="module")
def settings(small_npz):
    return lottery_ticket.load_preset(
        dataset=str(small_npz),
        model="mlp:20",
        validation_size=200,
        rounds=3,
        iterations=15,
        prune_rate=0.5,
        arms=("winning", "reinit", *ARMS),
        jobs=1,
    )


@pytest.fixture(scope="module")
def kept(settings, tmp_path_factory):
    """A whole run in a store of its own, whose trained weights are kept in bfloat16."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("supermasks"))
        yield lottery_ticket.run(settings, listener=Listener(), tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db")


def loaded(run, arm, r=2):
    return Ticket.load(f"{run.run_id}:{r}:{arm}-seed0", tracking_uri=run.client.tracking_uri)


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_bits(settings, kept):
    cut, store = Interrupted(), kept.client.tracking_uri
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket.run(settings, listener=cut, tracking_uri=store)
    resumed = lottery_ticket.resume(cut.run_id, listener=Listener(), tracking_uri=store)
    assert bits(resumed) == bits(kept)
    for arm in ARMS:
        one, other = loaded(kept, arm), loaded(resumed, arm)
        assert all(torch.equal(mask, other.mask[name]) for name, mask in one.mask.items())


@pytest.mark.parametrize("arm", ARMS)
def test_a_ticket_is_the_mask_that_was_evaluated_and_the_values_that_it_began_with(kept, arm):
    """To the bit, though trained weights of other arms are kept in bfloat16; `load` checks the accuracy."""
    ticket, winning = loaded(kept, arm), loaded(kept, "winning")
    for name, value in under(ticket.mask, ticket.weights).items():
        assert torch.equal(ticket.trained[name], value)
        if arm != "untrained-signs":
            assert torch.equal(value, under(ticket.mask, winning.initial)[name])
    assert any((value != 0).any() for value in ticket.trained.values())


def test_what_is_known_of_them(kept):
    """The verdict is that of a run without them; every number that there is stands in the store."""
    assert [judged.round for judged in kept.verdict.rounds] == [1, 2]
    assert kept.verdict.control == "reinit"
    by = {(record.arm, record.round): record for record in kept.rounds}
    client, child = kept.client, kept.stored.children["untrained", 0]
    metrics = client.get_run(child).data.metrics
    assert metrics["test_accuracy"] == by["untrained", 2].test_accuracy
    assert "train_loss" not in metrics
    assert "early_stop_iteration" not in metrics
    assert metrics["multiply_adds/training_dense"] == 0
    drawn = by["supermask", 2]
    told = {point.step: point.value for point in client.get_metric_history(kept.run_id, "weights_remaining_pct")}
    assert told[2] == pytest.approx(by["winning", 2].weights_remaining_pct)
    assert drawn.survivors != by["winning", 2].survivors
    (own,) = [
        point
        for point in client.get_metric_history(kept.run_id, "accuracy_by_compression/supermask")
        if point.step == round(1e6 / drawn.weights_remaining_pct)
    ]
    assert own.value == drawn.test_accuracy


@pytest.mark.slow
def test_without_the_trunk(settings, kept):
    """No arm but one that learns its mask: a run, its ticket and nothing to judge."""
    alone = settings.model_copy(update={"arms": ("edge-popup",), "rounds": 2})
    run = lottery_ticket.run(alone, listener=Listener(), tracking_uri=kept.client.tracking_uri)
    beside = {record.round: record for record in kept.rounds if record.arm == "edge-popup"}
    assert [record.test_loss for record in run.rounds] == [beside[r].test_loss for r in (0, 1)]
    assert run.verdict is None
    ticket = loaded(run, "edge-popup", 1)
    assert all(
        torch.equal(ticket.weights[name], value) for name, value in loaded(kept, "edge-popup", 1).weights.items()
    )
    again = lottery_ticket.train_ticket(ticket, tracking_uri=kept.client.tracking_uri, listener=Listener(), dense=False)
    assert {record.survivors["fc1.weight"] for record in again.rounds} == {int(ticket.mask["fc1.weight"].sum())}
    with pytest.raises(InputError, match=r"allowed: winning \(the ticket\), and with it reinit, random-mask, degree"):
        lottery_ticket.train_ticket(ticket, arms=("winning", "untrained"), tracking_uri=kept.client.tracking_uri)


@pytest.mark.slow
def test_the_command(lt, quick_flags):
    told = ["run", "--arms", "edge-popup", "--density", 0.3, "--pruning", "init", "--init", "signed-constant"]
    told += ["--model", "mlp:12", "--json"]
    refused = lt(*told, *quick_flags, "--scope", "global")
    assert (refused.code, refused.out) == (2, "")
    assert "--scope: 'global' leaves it to trained weights" in refused.err
    done = lt(*told, *quick_flags, "--optimizer", "sgd", "--lr", "0.1", "--momentum", "0.9", "--schedule", "cosine")
    assert done.code == 0, done.err
    last = done.json["rounds"][-1]
    assert last["density"] == pytest.approx(0.3, abs=1e-3)
    pulled = lt("pull", f"{done.json['run_id']}:2", "mine", "--trained")
    assert pulled.code == 0, pulled.err
    resumed = lt("run", "--resume", done.json["run_id"], "--json")
    assert (resumed.code, resumed.json["rounds"]) == (0, done.json["rounds"])
