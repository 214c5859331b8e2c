"""bfloat16: what is rounded, on every processor alike, and what is not."""

import os
import sqlite3

import pytest
import torch
from torch import nn

import lottery_ticket
from lottery_ticket.config import load_preset, settings_then
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.layers import multiplies_bfloat16
from lottery_ticket.engine.stack import Stack, stack
from lottery_ticket.engine.training import train
from lottery_ticket.models.network import make_network
from lottery_ticket.randomness import forked
from lottery_ticket.reproduction.jobs import Job, find
from lottery_ticket.store import connection
from lottery_ticket.store.reading import read_run
from lottery_ticket.store.seal import seal

ULP = 2**-8  # of bfloat16, relative
with forked(0):  # smooth: rounding must not decide on which side of a kink a unit is
    LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(49, 10))
    CONVOLUTIONAL = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(100, 10))
    DEEP = nn.Sequential(nn.Flatten(), nn.Linear(49, 30, bias=False), nn.Tanh(), nn.Linear(30, 10))


@pytest.fixture(params=[True, False], ids=["products of bfloat16", "none"])
def processor(request, monkeypatch):
    """A processor that has products of bfloat16, or one that has none."""
    monkeypatch.setattr("lottery_ticket.engine.layers.multiplies_bfloat16", lambda device: request.param)


def rounded(value):
    return value.bfloat16().double()


def outcome(module, precision, training=True, members=2):
    """Scores and gradients of members with the same weights."""
    weights = stack([dict(module.state_dict())] * members, torch.device("cpu"))
    trained = [value.requires_grad_() for value in weights.values()]
    x = torch.randn(5, 1, 7, 7, generator=torch.Generator().manual_seed(0)).expand(members, -1, -1, -1, -1)
    scores = Stack(module, (1, 7, 7), precision)(weights, x, training=training)
    return [scores, *torch.autograd.grad(scores.float().square().sum(), trained)]


def apart(ours, theirs):
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("module", [LINEAR, CONVOLUTIONAL, DEEP], ids=["linear", "convolutional", "deep"])
def test_training_is_rounded_and_evaluation_is_not(module, processor):
    exact, low = outcome(module, "float32"), outcome(module, "bfloat16")
    for ours, theirs in zip(low, exact, strict=True):
        assert 5e-4 < apart(ours, theirs) < 4 * ULP
    for ours, theirs in zip(outcome(module, "bfloat16", False), outcome(module, "float32", False), strict=True):
        assert torch.equal(ours, theirs)


def test_factors_products_and_gradients_are_rounded(processor):
    """Of one layer, by hand: y = W·x + b, and for a loss of Σ y² the gradients 2 Σ y·x and 2 Σ y."""
    x = torch.randn(5, 1, 7, 7, generator=torch.Generator().manual_seed(0)).flatten(1)
    weight, bias = LINEAR[1].weight.detach(), LINEAR[1].bias.detach()
    y = rounded(rounded(x) @ rounded(weight).T + rounded(bias))
    expected = [y, rounded(rounded(2 * y).T @ rounded(x)), rounded(rounded(2 * y).sum(0))]
    for ours, theirs in zip(outcome(LINEAR, "bfloat16"), expected, strict=True):
        for member in ours:
            assert torch.equal(member.double(), rounded(member.double()))
            torch.testing.assert_close(member.double(), theirs, rtol=2 * ULP, atol=1e-3)
            assert apart(member, theirs) < ULP / 4


@pytest.mark.parametrize("model", ["fc1", "tests.help.networks:Residual"])
def test_a_training_does_not_depend_on_the_processor(settings, small, model, monkeypatch):
    settings = settings.model_copy(update={"precision": "bfloat16", "model": model, "iterations": 12, "lr": 1e-4})
    network = make_network(settings, small.input_shape, small.classes)
    one = Member("winning", 0, network.dense_mask(), network.draw(0, "init"))
    ends = []
    if not multiplies_bfloat16(torch.device("cpu")):
        pytest.skip("this processor has no products of bfloat16, or oneDNN may not use them")
    for there in (True, False):
        monkeypatch.setattr("lottery_ticket.engine.layers.multiplies_bfloat16", lambda device, there=there: there)
        ends.append(train(network, [one], small, settings, 0)[0])
    (exact,) = train(network, [one], small, settings.model_copy(update={"precision": "float32"}), 0)
    assert ends[0].curve[-1].test_loss == pytest.approx(ends[1].curve[-1].test_loss, rel=2e-3)
    assert ends[0].curve[-1].test_loss != pytest.approx(exact.curve[-1].test_loss, rel=1e-7)


def test_accuracies_are_those_of_the_network_in_float32(settings, small):
    settings = settings.model_copy(update={"precision": "bfloat16"})
    network = make_network(settings, small.input_shape, small.classes)
    (trained,) = train(
        network, [Member("winning", 0, network.dense_mask(), network.draw(0, "init"))], small, settings, 0
    )
    module = network.build()
    module.load_state_dict(trained.weights)
    with torch.no_grad():
        scores = module.double()(small.test.x.double())
    loss = nn.functional.cross_entropy(scores, small.test.y).item()
    assert trained.curve[-1].test_loss == pytest.approx(loss, rel=1e-5)
    assert ((scores.argmax(1) == small.test.y).numpy() == trained.correct).all()


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        ({"precision": "bfloat16"}, "medium"),
        ({"precision": "bfloat16", "rewind_steps": "remaining"}, "bfloat16"),
        ({"precision": "float32"}, "float32"),
        ({"precision": "tf32"}, "tf32"),
    ],
)
def test_what_bfloat16_was(told, precision):
    assert settings_then(told)["precision"] == precision


@pytest.mark.slow
def test_a_run_in_what_bfloat16_was_is_not_one_in_bfloat16(small_npz, tmp_path):
    """A reproduction does not take it for its own; it is read, and goes on, as what it was."""
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = load_preset(
        dataset=str(small_npz), validation_size=200, rounds=1, iterations=5, arms="winning", precision="medium"
    )
    run = lottery_ticket.run(settings, tracking_uri=store)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("DELETE FROM params WHERE key = 'rewind_steps'")
        assert database.execute("UPDATE params SET value = 'bfloat16' WHERE key = 'precision'").rowcount == 2
    told = settings.model_copy(update={"precision": "bfloat16"}).model_dump_json(exclude={"rewind_steps"})
    run.client.log_text(run.run_id, seal(told), "settings.json")
    assert read_run(run.client, run.run_id).settings == settings
    found = {}
    for precision in ("bfloat16", "medium"):
        job = Job(settings.model_copy(update={"precision": precision}), "quick", [])
        find(job, connection.connect(store), "lottery-ticket")
        found[precision] = [each.info.run_id for each, _ in job.runs]
    assert found == {"bfloat16": [], "medium": [run.run_id]}


def test_whether_this_processor_has_products_of_bfloat16():
    named = {"avx512_bf16", "amx_bf16"} & {name for name, has in torch.cpu.get_capabilities().items() if has}
    told_not_to = os.environ.get("ONEDNN_MAX_CPU_ISA") in ("SSE41", "AVX", "AVX2", "AVX2_VNNI")
    assert multiplies_bfloat16(torch.device("cpu")) == (bool(named) and not told_not_to)
    assert multiplies_bfloat16(torch.device("cuda"))
