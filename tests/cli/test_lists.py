"""Presets and data sets as JSON documents, for programs."""

from pathlib import Path

import pytest

import lottery_ticket
from lottery_ticket.config import preset_names
from lottery_ticket.runs import catalogue
from lottery_ticket.runs.plugged import plugged


def test_presets(lt):
    listed = lt("presets", "--json").json
    assert [each["name"] for each in listed] == preset_names()
    assert all(each["remark"] for each in listed)


@pytest.mark.parametrize("name", ["shu-lenet5", "frankle-lenet", "quick"])
def test_a_preset(lt, name):
    assert lottery_ticket.Settings(**lt("presets", "show", name, "--json").json) == lottery_ticket.load_preset(name)


def test_data_sets(lt, tmp_path):
    def listed():
        return {each.pop("name"): each for each in lt("data", "--json", LT_DATA_DIR=str(tmp_path)).json}

    assert listed()["mnist"] == {"shape": [28, 28], "classes": 10, "file": None, "there": True}
    file = tmp_path / "cifar10.npz"
    assert listed()["cifar10"] == {"shape": [32, 32, 3], "classes": 10, "file": str(file), "there": False}
    file.touch()
    assert listed()["cifar10"]["there"]
    assert not listed()["fashion-mnist"]["there"]
    assert Path(listed()["fashion-mnist"]["file"]).parent == tmp_path


def test_models(lt):
    listed = lt("models", "resnet20", "--json").json
    known = {"weights": 270_896, "parameters": 272_474, "multiply_adds": 40_813_184, "stackable": True}
    assert [each["name"] for each in listed] == ["resnet20"]
    assert known.items() <= listed[0].items()
    refused = lt("models", "x*")
    assert refused.code == 2
    assert "GLOB: 'x*' names no network" in refused.err


def test_models_and_plugins_agree():
    ours = {each.name for each in plugged() if each.kind == "models" and "*" not in each.name}
    assert ours == set(catalogue.names())
    patterns = {each.name for each in plugged() if each.kind == "models"} - ours
    assert patterns - {"timm:*"} == {"mlp:*", "torchvision:*"}
    assert "torchvision:resnet18" in catalogue.names("torchvision:*18")


def test_a_network_that_takes_no_such_images():
    (told,) = catalogue.catalogue(["vgg16"], (3, 8, 8), 10)
    assert told.weights is None
    assert "16×16" in told.why
