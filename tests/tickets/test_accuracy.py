"""A trained network that is handed over has the accuracy that was logged of it, up to rounding."""

import random
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from lottery_ticket import LotteryTicketError, Ticket
from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.prepared import describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.models.lenet import fc1
from lottery_ticket.tickets.accuracy import _ROUNDING, accuracy, check_accuracy, inputs_of, scores_of

SETTINGS = load_preset()


@pytest.fixture(scope="module")
def images(small_npz):
    return load_images(str(small_npz))


class Drawn(nn.Module):
    """A network that takes the pixels in an order drawn when it is built, or hides some of them."""

    def __init__(self, draw):
        super().__init__()
        self.layers = fc1((784,), 10)
        self.draw = draw()

    def forward(self, x):
        x = x.flatten(1)
        return self.layers(x * self.draw if self.draw.is_floating_point() else x[:, self.draw])


DRAWS = {
    "torch.randperm": lambda: torch.randperm(784),
    "random.sample": lambda: torch.tensor(random.sample(range(784), 784)),
    "numpy": lambda: torch.from_numpy(np.random.permutation(784)),
    "a random buffer": lambda: torch.randn(784),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kept", ["bfloat16", "float32"])
def test_a_network_that_is_built_otherwise_is_not_the_one_that_was_measured(images, draw, kept):
    settings, info = SETTINGS.model_copy(update={"checkpoint_precision": kept}), describe(images, 0)
    measured, built_anew = Drawn(DRAWS[draw]).eval(), Drawn(DRAWS[draw]).eval()
    built_anew.load_state_dict(measured.state_dict())
    right = scores_of(measured, inputs_of(images, info)).argmax(1).numpy()
    images = replace(images, y_test=right)
    assert check_accuracy(measured, 1.0, settings, info, images) == 1
    before = {name: value.clone() for name, value in built_anew.state_dict().items()}
    with pytest.raises(LotteryTicketError) as told:
        check_accuracy(built_anew, 1.0, settings, info, images)
    found = accuracy(scores_of(built_anew, inputs_of(images, info)), images)
    assert f"has a test accuracy of {100 * found:.2f} %, logged was 100.00 %" in str(told.value)
    assert all(torch.equal(value, before[name]) for name, value in built_anew.state_dict().items())


def test_what_rounding_explains_is_no_difference(images):
    """Of the logged weights those in the file differ by their rounding; a network at chance has many close calls."""
    info, module = describe(images, 0), fc1((1, 28, 28), 10).eval()
    scores = scores_of(module, inputs_of(images, info))
    logged = accuracy(scores, images)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(value.bfloat16())
    found = check_accuracy(module, logged, SETTINGS, info, images)
    assert found == accuracy(scores_of(module, inputs_of(images, info)), images)
    for wrong in (logged + 0.1, logged - 0.1):
        with pytest.raises(LotteryTicketError, match="rounding explains"):
            check_accuracy(module, wrong, SETTINGS, info, images)


@pytest.mark.slow
def test_every_way_out_compares_with_what_was_logged(lt, quick_flags, tmp_path):
    done = lt("run", *quick_flags, "--arms", "winning", "--json")
    assert done.code == 0, done.err
    run_id, uri = done.json["run_id"], f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    logged = next(record["test_accuracy"] for record in done.json["rounds"] if record["round"] == 2)
    assert lt("pull", f"{run_id}:2", "right", "--trained").err == ""

    (key,) = (key for key in MlflowClient(uri).get_run(run_id).data.tags if key.startswith("lt.rounds/"))
    tag = MlflowClient(uri).get_run(run_id).data.tags[key]
    MlflowClient(uri).set_tag(run_id, key, re.sub(rf"{logged:g}\]\]", f"{logged - 0.2:g}]]", tag))
    told = rf"accuracy of {100 * logged:.2f} %, logged was {100 * logged - 20:.2f} %; rounding explains \d+ of 400"
    for command in (
        ["pull", f"{run_id}:2", "wrong", "--trained"],
        ["export", f"{run_id}:2", "wrong", "--format", "state-dict"],
        ["register", f"{run_id}:2", "--name", "wrong"],
    ):
        done = lt(*command)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1), done.err
        assert re.search(told, done.err)
    assert not (tmp_path / "wrong").exists()
    assert not MlflowClient(uri).search_registered_models()
    with pytest.raises(LotteryTicketError, match=told):
        Ticket.load(f"runs:/{run_id}:2", tracking_uri=uri)
    assert lt("pull", f"{run_id}:2", "untrained").code == 0

    done = lt("export", "right", "exported", "--format", "torch-prune")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_where_nothing_can_be_compared_it_is_said(lt, quick_flags, small_npz, tmp_path):
    moved = tmp_path / "mine.npz"
    moved.write_bytes(small_npz.read_bytes())
    done = lt("run", *quick_flags, "--dataset", moved, "--rounds", 2, "--arms", "winning", "--json")
    moved.unlink()
    done = lt("pull", f"{done.json['run_id']}:1", "mine", "--trained")
    assert done.code == 0
    assert done.err == f"lt: not compared with the logged accuracy: the data set {moved} is not here\n"
    assert Ticket.load(tmp_path / "mine").trained is not None


def test_every_precision_has_a_rounding():
    assert set(_ROUNDING) == set(get_args(Settings.model_fields["precision"].annotation))
