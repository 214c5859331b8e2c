"""Tensors of any name: trained, logged, kept, pulled, exported, trained again."""

import json

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name
from safetensors.torch import load_file
from torch import nn

from lottery_ticket import InputError, LotteryTicketError, Ticket
from lottery_ticket.config import load_preset
from lottery_ticket.models.network import make_network
from lottery_ticket.names import escaped, is_name, shortened, unescaped
from lottery_ticket.tickets.files import load_mask, load_weights, save_mask, save_weights, write_tensors

AWKWARD = st.text(st.sampled_from(list(".,:/+x2ceé \n%$[]")) | st.characters(), max_size=12)
PARTS = st.lists(st.text(st.characters(exclude_characters="."), min_size=1, max_size=9), min_size=1, max_size=5)


@given(AWKWARD)
@example("..2c")
@example(",..2c")
@example("\ud800.é")
def test_every_name_comes_back(name):
    assert unescaped(escaped(name)) == name


@given(st.lists(AWKWARD | PARTS.map(".".join), min_size=2, max_size=2, unique=True))
def test_no_two_names_become_one(names):
    one, other = (shortened(escaped(name), 40) for name in names)
    assert one != other


@given(PARTS.map(".".join))
def test_mlflow_takes_every_name(name):
    for text in (name, 40 * name):
        _validate_metric_name(f"density/{shortened(escaped(text), 240)}")
        assert len(shortened(escaped(text), 240)) <= 240


@pytest.mark.slow
@given(st.lists(st.from_regex(r"[\w -]{1,30}", fullmatch=True), min_size=1, max_size=6).map(".".join))
def test_plain_names_stay_as_they_are(name):
    assert escaped(name) == name == unescaped(name) == shortened(name, 240)


NAMES = ["3x3,d2", "a:b", "a:d2", "p+q", "c/d", "[bold]$_$", "x:survivors", "ü " * 120]


def branches(input_shape, classes):
    """One layer after another, each with a name that MLflow, a path or a file's own notation might stumble over."""
    made = nn.ModuleDict({name: nn.Linear(16, 16) for name in NAMES})

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.inputs, self.branches = nn.Linear(input_shape[1] * input_shape[2], 16), made
            self.output = nn.Linear(16, classes)

        def forward(self, x):
            x = self.inputs(x.flatten(1)).relu()
            for layer in self.branches.values():
                x = layer(x).relu()
            return self.output(x)

    return Chain()


def odd(classes):
    """Replaced in the test that uses it."""


@pytest.mark.slow
def test_the_whole_way(lt, quick_flags, tmp_path):
    model = ["--model", f"{__name__}:branches"]
    done = lt(
        "run", *quick_flags, *model, "--rounds", "2", "--iterations", "5", "--arms", "winning,random-mask", "--json"
    )
    assert done.code == 0, done.err
    run_id = done.json["run_id"]
    logged = {name for record in done.json["rounds"] for name in record["densities"]}
    prunable = {"inputs.weight", "output.weight", *(f"branches.{name}.weight" for name in NAMES)}
    assert logged == prunable
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (child,) = (
        each
        for each in client.search_runs(["1"], "tags.`lt.arm` = 'winning'")
        if each.data.tags["lt.kind"] == "trajectory"
    )
    keys = {key.removeprefix("density/") for key in child.data.metrics if key.startswith("density/")}
    assert len(keys) == len(prunable)
    assert {"branches.3x3..2cd2.weight", "branches.a..3ab.weight"} < keys
    assert {unescaped(key) for key in keys if "..x" not in key} == {name for name in prunable if len(name) < 240}

    assert lt("pull", f"{run_id}:1", "mine", "--trained", *model).code == 0
    ticket = Ticket.load(tmp_path / "mine")
    assert ticket.mask.keys() == prunable
    assert Ticket.load(ticket.save(tmp_path / "again")).weights.keys() == ticket.weights.keys()
    assert json.loads((tmp_path / "mine/ticket.json").read_text())["architecture"]["tensors"].keys() > prunable
    assert lt("diff", "mine", "again", *model).code == 0
    done = lt("export", "mine", "made.safetensors", "--format", "state-dict", *model)
    assert done.code == 0, done.err
    assert load_file(tmp_path / "made.safetensors").keys() == ticket.weights.keys()
    done = lt("train", "mine", *model, "--iterations", "3")
    assert done.code == 0, done.err


def test_masks_and_weights_of_such_names(tmp_path):
    mask = {name: torch.tensor([True, False, True]) for name in NAMES}
    weights = {name: torch.tensor([1.0, 0.0, 2.0]) for name in NAMES} | {
        f"{name}:survivors": torch.ones(2) for name in NAMES
    }
    save_mask(mask, tmp_path / "mask.safetensors")
    save_weights(weights, tmp_path / "weights.safetensors", mask)
    assert all(torch.equal(mask[name], kept) for name, kept in load_mask(tmp_path / "mask.safetensors").items())
    found = load_weights(tmp_path / "weights.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(weights[name], value) for name, value in found.items())


def test_what_was_written_with_raw_names_is_read(tmp_path):
    """As 0.3.0 wrote them."""
    kept = torch.tensor([True, False])
    write_tensors(tmp_path / "mask.safetensors", {"a:d2,x.weight": kept})
    write_tensors(
        tmp_path / "weights.safetensors", {"a:d2,x.weight:survivors": torch.ones(1), "a/b.bias": torch.ones(3)}
    )
    assert load_mask(tmp_path / "mask.safetensors").keys() == {"a:d2,x.weight"}
    assert load_weights(tmp_path / "weights.safetensors").keys() == {"a:d2,x.weight", "a/b.bias"}


def test_a_key_that_is_no_name(tmp_path):
    write_tensors(tmp_path / "mask.safetensors", {"a..ff": torch.tensor([True])})
    with pytest.raises(LotteryTicketError, match=r"'a\.\.ff' is no name of a tensor"):
        load_mask(tmp_path / "mask.safetensors")


@pytest.mark.parametrize("name", ["a\nb", "\x1b]0;evil\x07", "a\u202eb", "x" * 5000])
def test_names_that_cannot_be_printed_are_refused_before_training(name, monkeypatch):
    def factory(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, classes), nn.ModuleDict({name: nn.Linear(2, 2)}))

    monkeypatch.setattr(f"{__name__}.odd", factory)
    with pytest.raises(InputError, match=r"^--model: .* has a tensor named '2\..*; allowed: names that can be printed"):
        make_network(load_preset(model=f"{__name__}:odd"), (1, 28, 28), 10)
    assert not is_name(name)
