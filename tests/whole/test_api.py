"""The Python interface: the README's example runs as it stands there, and config layers as documented."""

import ast
import re
from pathlib import Path

import pytest
import torch

import lottery_ticket
from lottery_ticket.config import Settings, load_settings, preset_names
from lottery_ticket.engine.job import in_iterations, iterations_per_round
from lottery_ticket.errors import InputError
from lottery_ticket.study.definition import Study

README = Path(__file__).parents[2] / "README.md"


def test_public_names():
    """Those that are promised are those that are there; type checkers see the same as Python."""
    for name in lottery_ticket.__all__:
        assert getattr(lottery_ticket, name).__module__.startswith("lottery_ticket.")
    (typed,) = (node for node in ast.parse(Path(lottery_ticket.__file__).read_text()).body if isinstance(node, ast.If))
    assert {alias.name for line in typed.body for alias in line.names} == set(lottery_ticket.__all__)
    assert lottery_ticket._HOME.keys() == set(lottery_ticket.__all__)


def test_the_readmes_example(tmp_path, monkeypatch, capsys, small_npz):
    (example,) = re.findall(r"```python\n(import lottery_ticket.*?)```", README.read_text(), re.DOTALL)
    assert 'load_preset("quick"' in example
    monkeypatch.chdir(tmp_path)
    small = f'load_preset("quick", dataset={str(small_npz)!r}, validation_size=200, iterations=30'
    exec(compile(example.replace('load_preset("quick"', small), "README.md", "exec"), {})
    told = capsys.readouterr().out
    assert "winning" in told
    assert (tmp_path / "mlruns/mlflow.db").exists()


@pytest.mark.slow
def test_the_readmes_example_of_a_ticket(tmp_path, monkeypatch, capsys, settings):
    pattern = r"```python\n(import torch\nfrom lottery_ticket import Ticket.*?)```"
    (example,) = re.findall(pattern, README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    lottery_ticket.run(settings).ticket(round=3).save("tickets/mine")
    there = {}
    exec(compile(example, "README.md", "exec"), there)
    assert re.search(r"136,\d\d\d weights are not zero; the mask keeps 51.2%", capsys.readouterr().out)
    assert all(torch.equal(kept, there["again"].mask[name]) for name, kept in there["ticket"].mask.items())


@pytest.mark.slow
def test_result_ticket_is_mask_and_theta_0(tmp_path, monkeypatch, settings, small):
    monkeypatch.chdir(tmp_path)
    result = lottery_ticket.run(settings)
    ticket = result.ticket(round=2)
    assert ticket.density == pytest.approx(0.64, abs=1e-3)
    from lottery_ticket.models.network import make_network

    theta = make_network(settings, small.input_shape, small.classes).draw(0, "init")
    for name, kept in ticket.mask.items():
        assert torch.equal(ticket.weights[name], theta[name] * kept)
    assert torch.equal(ticket.weights["fc1.bias"], theta["fc1.bias"])
    with pytest.raises(InputError, match="no ticket of round 9; allowed: 1 to 3"):
        result.ticket(round=9)


def test_default_settings_are_those_of_quick():
    assert lottery_ticket.load_preset("quick") == Settings(evaluate_every=300)


def test_presets_hold_what_the_sources_say():
    mnist = {"quick", "shu-fc1", "shu-fc1-lr0.1", "shu-lenet5", "frankle-lenet", "openlth-lenet", "zhou-fc"}
    mnist |= {"evci-lenet5", "evci-mlp", "ramanujan-fc"}
    lmc = {f"lmc-{net}{how}" for net in ("resnet20", "vgg16") for how in ("", "-low", "-warmup")}
    cifar = {"quick-cifar", "frankle-conv2", "frankle-conv4", "frankle-conv6"}
    cifar |= {"openlth-resnet20", "renda-resnet20", "stabilizing-resnet20", "ma-resnet20", "ramanujan-conv2"}
    assert set(preset_names()) == mnist | lmc | cifar
    for name in ("shu-fc1", "shu-fc1-lr0.1", "shu-lenet5"):
        preset = lottery_ticket.load_preset(name)
        assert (preset.rounds, preset.prune_rate, preset.batch_size, preset.optimizer) == (35, 0.1, 60, "adam")
        assert preset.lr == (0.1 if name.endswith("0.1") else 1.2e-3)
    frankle = lottery_ticket.load_preset("frankle-lenet")
    assert (frankle.iterations, frankle.epochs, len(frankle.seeds)) == (50_000, None, 5)
    assert (frankle.prune_rate, frankle.prune_rate_output, frankle.validation_size) == (0.2, 0.1, 5000)


def test_presets_of_other_masks_hold_what_the_sources_say():
    for name, lr, decay, density in (("evci-lenet5", 0.05, 5e-4, 0.05), ("evci-mlp", 0.2, 1e-4, 0.02)):
        evci = in_iterations(lottery_ticket.load_preset(name), 60_000)
        assert (evci.lr, evci.weight_decay, evci.weight_decay_on) == (lr, 2 * decay, "weights")  # Keras' L2
        assert (evci.density, evci.rounds, evci.iterations) == (density, 2, 11_719)
        assert (evci.mask_from, evci.mask_until, evci.mask_every) == (3000, 7000, 100)
        assert (evci.optimizer, evci.momentum, evci.schedule, evci.batch_size) == ("sgd", 0.9, "cosine", 128)
    for name in ("ramanujan-fc", "ramanujan-conv2"):
        ramanujan = lottery_ticket.load_preset(name)
        assert (ramanujan.arms, ramanujan.density, ramanujan.epochs) == (("edge-popup",), 0.5, 100)
        assert (ramanujan.init, ramanujan.bias_init) == ("signed-constant", "zero")
        assert (ramanujan.optimizer, ramanujan.lr, ramanujan.momentum) == ("sgd", 0.1, 0.9)
        assert (ramanujan.weight_decay, ramanujan.schedule, ramanujan.batch_size) == (1e-4, "cosine", 128)


def test_presets_for_cifar_hold_what_the_sources_say():
    for name, lr, iterations, conv in (
        ("frankle-conv2", 2e-4, 20_000, 0.1),
        ("frankle-conv4", 3e-4, 25_000, 0.1),
        ("frankle-conv6", 3e-4, 30_000, 0.15),
    ):
        preset = lottery_ticket.load_preset(name)
        assert (preset.lr, preset.iterations, preset.prune_rate_conv) == (lr, iterations, conv)
        assert (preset.optimizer, preset.batch_size, preset.validation_size) == ("adam", 60, 5000)
    for net, how, lr, warmup in (
        ("resnet20", "", 0.1, 0),
        ("resnet20", "-low", 0.01, 0),
        ("resnet20", "-warmup", 0.03, 30_000),
        ("vgg16", "", 0.1, 0),
        ("vgg16", "-low", 0.01, 0),
        ("vgg16", "-warmup", 0.1, 30_000),
    ):
        preset = lottery_ticket.load_preset(f"lmc-{net}{how}")
        assert (preset.model, preset.lr, preset.warmup_iterations, preset.iterations) == (net, lr, warmup, 62_500)
        assert (preset.milestones, preset.gamma, preset.momentum, preset.batch_size) == (
            (32_000, 48_000),
            0.1,
            0.9,
            128,
        )
        assert preset.keep_dense == (("output.*",) if net == "vgg16" else None)
    images = 50_000
    openlth = in_iterations(lottery_ticket.load_preset("openlth-resnet20"), images)
    assert (openlth.milestones, iterations_per_round(openlth, images)) == ((80 * 391, 120 * 391), 62_560)
    renda = in_iterations(lottery_ticket.load_preset("renda-resnet20"), images)
    assert (renda.milestones, renda.rewind_iteration, renda.weight_decay) == ((91 * 391, 136 * 391), 12 * 391, 2e-4)
    stabilizing = in_iterations(lottery_ticket.load_preset("stabilizing-resnet20"), 45_000)
    assert (stabilizing.milestones, stabilizing.keep_dense) == ((20_001, 24_999), ("output.*", "*.shortcut.*"))
    ma = in_iterations(lottery_ticket.load_preset("ma-resnet20"), images)
    assert (ma.milestones, ma.keep_dense, ma.rounds) == ((80 * 782, 120 * 782), ("conv1.*", "output.*"), 12)
    assert (ma.batch_size, ma.momentum, ma.weight_decay, ma.scope) == (64, 0.9, 1e-4, "global")
    quick = lottery_ticket.load_preset("quick-cifar")
    assert (quick.model, quick.width, quick.rounds, quick.iterations) == ("conv2", 0.25, 6, 1000)


def test_layers_flags_over_file_over_preset(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text('preset = "shu-fc1"\nlr = 0.5\nrounds = 4\n')
    settings, preset = load_settings(None, file, {"rounds": "7"})
    assert (preset, settings.lr, settings.rounds, settings.prune_rate) == ("shu-fc1", 0.5, 7, 0.1)
    assert load_settings("quick", file, {})[1] == "quick"
    settings, _ = load_settings("frankle-lenet", None, {"epochs": "3"})
    assert (settings.epochs, settings.iterations) == (3, None)


def test_params_round_trip_through_flags():
    settings = lottery_ticket.load_preset("frankle-lenet", seeds="7,", arms="winning")
    given = {name: value for name, value in settings.as_params().items() if value != "None"}
    assert load_settings("frankle-lenet", None, given)[0] == settings


def test_unknown_keys_are_refused_by_name(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("learning_rate = 0.1\nlr = 1\n")
    with pytest.raises(InputError, match=r"my.toml.*learning_rate"):
        load_settings(None, file, {})
    with pytest.raises(InputError, match="did you mean 'rounds'"):
        lottery_ticket.load_preset(round=3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: lottery_ticket.load_run("no-such-run"), "--tracking-uri: 'sqlite:///mlruns/mlflow.db' is not there"),
        (lambda: lottery_ticket.load_study("lrr"), "STUDY: 'lrr' is unknown; did you mean 'lr'?"),
        (lambda: lottery_ticket.load_study("lr", trails=3), "--trails: 'trails' is unknown; did you mean 'trials'?"),
        (lambda: lottery_ticket.load_study("lr", lr=0.1), "--lr: 0.1 is what this study searches"),
        (
            lambda: lottery_ticket.load_study("lr", space={"lrr": {"low": 1}}),
            "lr: space key: 'lrr' is unknown; did you",
        ),
        (lambda: lottery_ticket.load_study("lr", settings=3), "lr: settings: 3 is not allowed; allowed: a table"),
        (lambda: lottery_ticket.load_study("lr", trials=0), "--trials: 0 is not allowed; allowed: a whole number ≥ 1"),
        (lambda: lottery_ticket.sweep(Study(space={"lr": {"choices": [0.1]}})), "name: '' is missing"),
        (lambda: lottery_ticket.reproduce("shuu"), "REPORT: 'shuu' is unknown; did you mean 'shu'?"),
        (
            lambda: lottery_ticket.reproduce("shu", scale="huge"),
            "--scale: 'huge' is unknown; allowed: quick, long, report",
        ),
        (lambda: lottery_ticket.reproduce("shu", only="nothing"), "--only: 'nothing' is unknown"),
        (lambda: lottery_ticket.analyse("no-such-run", "overlapp"), "ANALYSIS: 'overlapp' is unknown"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(wrong, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError) as error:
        wrong()
    assert str(error.value).startswith(told)
    assert list(tmp_path.iterdir()) == []
