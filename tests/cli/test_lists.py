"""Presets and data sets as JSON documents, for programs."""

from pathlib import Path

import pytest

import lottery_ticket
from lottery_ticket.config import preset_names


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
