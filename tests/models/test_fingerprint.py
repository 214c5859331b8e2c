"""Another network than the one that was trained is refused, naming what differs, unless it is meant."""

import importlib.util
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lottery_ticket.models.fingerprint import fingerprint

CODE = """
import torch
import torch.nn.functional as F
from torch import nn

HIDDEN = 12

def activate(h):
    return F.relu(h)

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.drop = nn.Linear(784, HIDDEN), nn.Dropout(0.5)
        self.act, self.output = nn.ReLU(), nn.Linear(HIDDEN, classes)

    def forward(self, x):
        # what a comment says does not count
        return self.output(self.drop(self.act(activate(self.first(x.flatten(1))))))

def make(classes=10):
    return Net(classes)

def asks_for_values(classes=10):
    class Asking(Net):
        def forward(self, x):
            return super().forward(x) if x.sum() > -1e9 else x
    return Asking(classes)

def elsewhere():
    return 1
"""

CHANGES = {
    "another activation": ("nn.ReLU()", "nn.Tanh()", "layer act: ReLU(inplace=False) -> Tanh()"),
    "an option": ("nn.Dropout(0.5)", "nn.Dropout(0.1)", "layer drop: Dropout(inplace=False, p=0.5) -> Dropout(inplace"),
    "a width": ("HIDDEN = 12", "HIDDEN = 8", "tensor first.weight: 12x784 -> 8x784"),
    "a function": ("return F.relu(h)", "return torch.tanh(h)", "step 3: relu(first, inplace=False) -> tanh(first)"),
    "the order": ("self.drop(self.act(", "self.act(self.drop(", "step 4: act(relu) -> drop(relu)"),
    "no bias": ("nn.Linear(784, HIDDEN)", "nn.Linear(784, HIDDEN, bias=False)", "tensor first.bias: 12 -> none"),
}


def made(folder: Path, code: str, name: str = "make"):
    """The fingerprint of the factory in this code."""
    (folder / "own_network.py").write_text(code)
    spec = importlib.util.spec_from_file_location("own_network", folder / "own_network.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "own_network", module)
        spec.loader.exec_module(module)
        factory = getattr(module, name)
        return fingerprint(factory(), factory)


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_named(tmp_path, change):
    before, after, said = CHANGES[change]
    was = made(tmp_path, CODE)
    found = was.differences(made(tmp_path, CODE.replace(before, after)))
    assert any(each.startswith(said) for each in found), found
    assert was.differences(made(tmp_path, CODE)) == []
    assert type(was).model_validate_json(was.model_dump_json()) == was


@pytest.mark.parametrize(("before", "after", "said"), [
    ("# what a comment says does not count", "", None), ("return 1", "return 2", None),
    ("\n\nclass", "\n\n\n\nclass", None),
    ("return F.relu(h)", "return torch.tanh(h)", "the code of own_network.activate"),
    ("if x.sum() > -1e9 else x", "if x.sum() > -1e9 else 2 * x", "the code of own_network.asks_for_values"),
    ("HIDDEN = 12", "HIDDEN = 2 * 6", None),
])  # fmt: skip
def test_of_what_cannot_be_traced_the_code_counts(tmp_path, before, after, said):
    was, now = (made(tmp_path, code, "asks_for_values") for code in (CODE, CODE.replace(before, after)))
    assert was.graph == {}
    found = was.differences(now)
    assert any(each.startswith(said) for each in found) if said else found == []


def test_the_packages_own_networks():
    from lottery_ticket.models.lenet import fc1, lenet5

    one, other = (fingerprint(make((1, 28, 28), 10), make) for make in (fc1, lenet5))
    assert one.layers["relu1"] == "ReLU(inplace=False)"
    assert one.sources == {}
    assert one.differences(other)[0] == "tensor fc1.weight: 300x784 -> 256x12544"


@pytest.mark.slow
def test_a_run_and_its_tickets(lt, quick_flags, tmp_path):
    mine, model = tmp_path / "mine.py", ["--model", "mine:make"]
    mine.write_text(CODE)
    run_id = lt("run", *quick_flags, *model, "--json").json["run_id"]
    for ticket in ("kept", "later"):
        assert lt("pull", f"{run_id}:2", ticket, *model, "--trained").code == 0
    commands = [
        ["run", "--resume", run_id],
        ["train", f"{run_id}:2", "--iterations", "2"],
        ["train", "kept", "--iterations", "2"],
        ["export", f"{run_id}:2", "a.safetensors", "--format", "state-dict"],
        ["pull", f"{run_id}:2:reinit-seed0", "b"],
    ]
    mine.write_text(CODE.replace("nn.ReLU()", "nn.Tanh()"))
    for command in commands:
        done = lt(*command, *model)
        assert (done.code, done.out) == (2, ""), command
        assert (
            "--model: 'mine:make' is another network than the one that was trained: layer act: ReLU(inpla" in done.err
        )
        assert done.err.endswith("allowed: the network as it was, or --changed-model\n")
        assert done.err.count("\n") == 1
    for command in (commands[0], commands[2]):
        done = lt(*command, *model, "--changed-model")
        assert done.code == 0, done.err
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert client.get_run(run_id).data.tags["lt.changed_model"].startswith("layer act: ReLU(inplace=False) -> Tanh()")

    mine.write_text(CODE.replace("HIDDEN = 12", "HIDDEN = 8"))
    for flags in ([], ["--changed-model"]):
        for command in (commands[0], commands[2]):
            done = lt(*command, *model, *flags)
            assert done.code == 2
            assert "tensor first.weight: 12x784 -> 8x784" in done.err
    (kept,) = (tmp_path / "mlruns").rglob(f"{run_id}/artifacts/network.json")
    kept.unlink()  # as of a run of lt 0.3
    done = lt("run", "--resume", run_id, *model)
    assert done.code == 2
    assert "tensor first.weight: 12x784 -> 8x784" in done.err
    mine.write_text(CODE.replace("nn.ReLU()", "nn.Tanh()"))
    assert lt("run", "--resume", run_id, *model).code == 0

    done = lt("run", *quick_flags, *model, "--changed-model")
    assert done.code == 2
    assert "--changed-model: True is for going on with a run" in done.err


def test_a_study(lt, small_npz, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(CODE)
    (tmp_path / "study.toml").write_text(
        f'sampler = "qmc"\ntrials = 1\nobjective = "smallest-ticket"\n[settings]\ndataset = "{small_npz}"\n'
        "validation_size = 200\nrounds = 2\niterations = 5\n[space.lr]\nlow = 0.001\nhigh = 0.01\n"
    )
    command = ["sweep", "study.toml", "--model", "mine:make"]
    done = lt(*command)
    assert done.code == 0, done.err
    mine.write_text(CODE.replace("nn.ReLU()", "nn.Tanh()"))
    done = lt(*command)
    assert done.code == 2
    assert "layer act: ReLU(inplace=False) -> Tanh()" in done.err
    assert "or --fresh" in done.err
