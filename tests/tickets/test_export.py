"""`lt export`: files that other programs read, checked on the test set."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import channels_first, describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.masks import under
from lottery_ticket.models.network import make_network
from lottery_ticket.tickets.export import export
from lottery_ticket.tickets.graph import load_compact
from lottery_ticket.tickets.ticket import Origin, Ticket
from tests.help.networks import Residual, Scaled


def make_ticket(images, model="fc1", density=0.02, dataset="mnist"):
    """A ticket with random values and a random mask; what counts is that its file predicts what it does."""
    settings, info = load_preset(model=model, bias_init="normal", dataset=dataset), describe(images, 0)
    network = make_network(settings, info.input_shape, info.classes)
    draw = torch.Generator().manual_seed(0)
    start, trained = network.draw(0, "init"), network.draw(1, "init")
    mask = {name: torch.rand(start[name].shape, generator=draw) < density for name in network.kinds}
    origin = Origin(run_id="0" * 32)
    return Ticket(mask, under(mask, start), settings, info, origin=origin, trained=under(mask, trained))


@pytest.fixture(scope="module")
def images(small_npz):
    return load_images(str(small_npz))


@pytest.fixture
def ticket(images, small_npz):
    return make_ticket(images, dataset=str(small_npz))


def scores_of(module, ticket, images):
    with torch.no_grad():
        return module.eval()(ticket.data.standardise(channels_first(images.x_test)))


# factories of a user
def convolutions(input_shape, classes):
    features = nn.Sequential(nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(8 * 7 * 7, 12), nn.ELU(0.5), nn.Linear(12, classes))


class Grouped(nn.Module):
    """A convolution of each channel by itself, joined to what it takes."""

    def __init__(self, classes):
        super().__init__()
        self.stem, self.own = nn.Conv2d(1, 16, 5, 4), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.output = nn.Linear(32, classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.output(torch.cat([x, torch.relu(self.own(x))], 1).mean((2, 3)))


def scaled(classes):
    return Scaled(classes)


def residual(classes):
    return Residual((1, 28, 28), classes)


class Noisy(nn.Module):
    """Never gives the same scores twice."""

    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(784, classes)

    def forward(self, x):
        return self.layer(x.flatten(1)) + 100 * torch.rand(len(x), self.layer.out_features)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "compact"), [("fc1", False), (f"{__name__}:convolutions", True), (f"{__name__}:residual", True)]
)
def test_onnx(images, model, compact, tmp_path, capfd):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the packages of the extra onnx")
    ticket = make_ticket(images, model, 0.2)
    done = export(ticket, tmp_path / "made.onnx", "onnx", compact, images, model)
    assert [path.name for path in tmp_path.iterdir()] == ["made.onnx"]
    assert (done.format, done.runtime, done.images, done.ties) == ("onnx", "onnxruntime", 400, 0)
    assert done.bytes == done.path.stat().st_size
    assert capfd.readouterr() == ("", "")

    session = onnxruntime.InferenceSession(done.path)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(float)", ["N", 1, 28, 28])
    assert (given.name, given.shape) == ("scores", ["N", 10])
    for count in (1, 400):
        raw = channels_first(images.x_test[:count])
        (scores,) = session.run(None, {"images": raw.numpy()})
        expected = scores_of(ticket.module(trained=True, model=model), ticket, images)[:count]
        torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=1e-4, atol=1e-4)
    assert done.accuracy == (scores.argmax(1) == images.y_test).mean()
    told = session.get_modelmeta().custom_metadata_map
    assert (told["run_id"], told["dataset"], told["classes"]) == ("0" * 32, "small", "10")
    assert float(told["density"]) == pytest.approx(ticket.density, rel=1e-5)
    content = done.path.read_bytes()
    assert b"site-packages" not in content
    assert b"File " not in content


@pytest.mark.slow
def test_onnx_of_vectors(images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the packages of the extra onnx")
    flat = replace(images, x_train=images.x_train.reshape(1200, -1), x_test=images.x_test.reshape(400, -1))
    done = export(make_ticket(flat), tmp_path / "made.onnx", compact=True, images=flat)
    assert onnxruntime.InferenceSession(done.path).get_inputs()[0].shape == ["N", 784]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_onnx_without_its_packages(ticket, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"^--format: 'onnx' needs the packages onnx, onnxruntime and onnxscript"):
        export(ticket, tmp_path / "made.onnx")
    export(ticket, tmp_path / "made.safetensors", "state-dict")


def test_state_dict(ticket, images, tmp_path):
    done = export(ticket, tmp_path / "made", "state-dict")
    module = ticket.module()
    module.load_state_dict(load_file(done.path))
    assert torch.equal(scores_of(module, ticket, images), scores_of(ticket.module(trained=True), ticket, images))
    assert (done.runtime, done.compact, done.ties) == ("torch", None, 0)
    with safe_open(done.path, "pt") as file:
        told = file.metadata()
    assert json.loads(told["mean"]) == list(ticket.data.mean)
    assert json.loads(told["std"]) == list(ticket.data.std)


def test_torch_prune(ticket, images, tmp_path):
    done = export(ticket, tmp_path / "made", "torch-prune")
    state = load_file(done.path)
    assert {"fc1.weight_orig", "fc1.weight_mask", "fc1.bias"} < state.keys()
    module = ticket.to_prune()
    module.load_state_dict(state)
    assert all(torch.equal(state[f"{name}_mask"].bool(), kept) for name, kept in ticket.mask.items())
    assert torch.equal(scores_of(module, ticket, images), scores_of(ticket.module(trained=True), ticket, images))


@pytest.mark.parametrize("format", ["state-dict", "torch-prune"])
@pytest.mark.parametrize("model", ["fc1", *(f"{__name__}:{each}" for each in ("convolutions", "residual", "Grouped"))])
def test_load_compact(images, model, format, tmp_path):
    small = model.endswith(("residual", "Grouped"))
    ticket = make_ticket(images, model, 0.1 if small else 0.01)
    done = export(ticket, tmp_path / "made", format, True, images, model)
    module = load_compact(done.path)
    expected = scores_of(ticket.module(trained=True, model=model), ticket, images)
    torch.testing.assert_close(scores_of(module, ticket, images), expected, rtol=1e-4, atol=1e-4)
    assert module.state_dict().keys() == load_file(done.path).keys()
    assert any(name.endswith("weight_mask") for name in module.state_dict()) == (format == "torch-prune")

    brought = done.compact
    assert brought.bytes[1] == done.bytes
    assert brought.bytes[1] < brought.bytes[0] or small  # of so small a network the layers' names are more
    assert 0 < brought.multiply_adds[1] < brought.multiply_adds[0]
    whole = ticket.module(model=model)
    assert brought.parameters[1] < brought.parameters[0] == sum(value.numel() for value in whole.parameters())
    assert done.times.batches == (1, 128)
    assert set(done.times.seconds) == {"dense", "compact", *([] if "Grouped" in model else ["sparse"])}
    assert all(seconds > 0 for own in done.times.seconds.values() for seconds in own)
    sizes = {size.layer: size for size in brought.layers}
    if model == "fc1":
        assert sizes["fc1"].units[1] == module.fc1.out_features < 300
        assert sizes["fc1"].inputs[1] == module.select_fc1.count <= 784


def rewritten(path, change):
    """The file with other layers in its metadata."""
    with safe_open(path, "pt") as file:
        told = file.metadata()
    layers = json.loads(told["layers"])
    change(layers)
    save_file(load_file(path), path, told | {"layers": json.dumps(layers)})
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: layers[0].__setitem__(1, "Bilinear"),
        lambda layers: layers[0].__setitem__(1, "__import__"),
        lambda layers: layers[-1][2].update(out_features=10**12),
        lambda layers: layers[-1][2].update(device="cuda"),
        lambda layers: layers[-1][2].pop("bias"),
        lambda layers: layers.pop(),
        lambda layers: layers.clear(),
        lambda layers: layers.insert(0, 3),
    ],
)
def test_load_compact_takes_no_other_layers(ticket, tmp_path, change):
    path = export(ticket, tmp_path / "made", "state-dict", True).path
    load_compact(path)
    with pytest.raises(LotteryTicketError, match="cannot be read as a compact network"):
        load_compact(rewritten(path, change))


def test_load_compact_of_other_files(ticket, tmp_path):
    (tmp_path / "text").write_text("no tensors")
    for path in (tmp_path / "nothing", tmp_path / "text", export(ticket, tmp_path / "whole", "state-dict").path):
        with pytest.raises(LotteryTicketError, match="cannot be read as a compact network"):
            load_compact(path)


def test_a_network_that_looks_at_images_is_not_made_small(images, tmp_path):
    model = f"{__name__}:scaled"
    ticket = make_ticket(images, model, 0.5)
    with pytest.raises(InputError, match=r"^--compact: 'Scaled' cannot be made small: .*; allowed: Linear, Conv2d"):
        export(
            replace(ticket, settings=ticket.settings.model_copy(update={"dataset": "gone.npz"})),
            tmp_path / "made",
            "state-dict",
            True,
            model=model,
        )  # before anything is read or evaluated
    export(ticket, tmp_path / "whole", "state-dict", False, images, model)


@pytest.mark.parametrize("format", ["onnx", "state-dict", "torch-prune"])
def test_nothing_is_written_when_the_check_fails(images, format, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the packages of the extra onnx")
    model = f"{__name__}:Noisy"
    with pytest.raises(LotteryTicketError, match="scores of the 400 test images differ from the ticket's by up to"):
        export(make_ticket(images, model), tmp_path / "made", format, images=images, model=model)
    assert not list(tmp_path.iterdir())


def test_wrong_input(ticket, images, tmp_path):
    dest = tmp_path / "made"
    with pytest.raises(InputError, match=r"^--format: 'onxx' is unknown; did you mean 'onnx'"):
        export(ticket, dest, "onxx")
    with pytest.raises(InputError, match=r"^TICKET: .* has no trained weights; .*lt pull --trained"):
        export(replace(ticket, trained=None), dest, "state-dict")
    other = replace(images, x_test=images.x_test[:9], y_test=images.y_test[:9])
    with pytest.raises(InputError, match=f"digest {images.digest}"):
        export(ticket, dest, "state-dict", images=other)
    assert not list(tmp_path.iterdir())
    dest.write_text("mine")
    with pytest.raises(InputError, match=r"^DEST: .* is there already"):
        export(ticket, dest, "state-dict")
    assert dest.read_text() == "mine"
    with pytest.raises(LotteryTicketError, match="cannot be written"):
        export(ticket, dest / "below", "state-dict")


def test_command(lt, quick_flags, tmp_path):
    done = lt("run", *quick_flags, "--arms", "winning", "--json")
    assert done.code == 0, done.err
    run = done.json["run_id"]

    done = lt("export", f"{run}:2", "--format", "state-dict", "--compact")
    assert done.code == 0, done.err
    assert not done.err
    (made,) = (tmp_path / "exports").iterdir()
    assert re.fullmatch(r"fc1-small-winning-seed0-round2-\w{8}-compact\.safetensors", made.name)
    assert f"exports/{made.name}: fc1 on small, 64 % of the weights left" in done.out
    assert "gives the ticket's scores on all 400 test images" in done.out
    assert f"fc1     inputs 784 → {load_compact(made).fc1.in_features}, units 300 → " in done.out
    for what in (
        "parameters: 266,610 → ",
        "multiply-adds of an image: 266,200 → ",
        "bytes: ",
        "128 at a time",
        "  sparse  ",
    ):
        assert what in done.out

    pytest.importorskip("onnxruntime", reason="needs the packages of the extra onnx")
    done = lt("export", f"{run}:2", "my.onnx", "--json")
    assert done.code == 0, done.err
    assert not done.err
    assert done.json["path"] == "my.onnx"
    assert done.json["bytes"] == (tmp_path / "my.onnx").stat().st_size
    assert done.json["compact"] is None
