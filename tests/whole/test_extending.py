"""Every block of docs/extending.md runs as it stands there, checks included."""

import importlib
import re
from pathlib import Path

import pytest

BLOCKS = re.findall(
    r"```python\n(.*?)```", Path(__file__).parents[2].joinpath("docs/extending.md").read_text(), re.DOTALL
)
NAMES = [re.findall(r"^(?:def|class) (\w+)", block, re.MULTILINE)[-1] for block in BLOCKS]


def test_there_is_one_of_each_kind():
    assert len(BLOCKS) == 9


@pytest.mark.parametrize(("name", "block"), zip(NAMES, BLOCKS, strict=True), ids=NAMES)
def test_block(name, block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"guest_of_{name}.py").write_text(block)
    importlib.import_module(f"guest_of_{name}")
