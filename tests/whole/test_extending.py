"""Every block of docs/extending.md runs as it stands there, checks included."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

BLOCKS = re.findall(
    r"```python\n(.*?)```", Path(__file__).parents[2].joinpath("docs/extending.md").read_text(), re.DOTALL
)


def test_there_is_one_of_each_kind():
    assert len(BLOCKS) == 9


@pytest.mark.parametrize(
    "block", BLOCKS, ids=[re.findall(r"^(?:def|class) (\w+)", block, re.M)[-1] for block in BLOCKS]
)
def test_block(block, tmp_path):
    (tmp_path / "guest.py").write_text(block)
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, ''); import guest"]
    where = ":".join(each or "." for each in sys.path)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(PYTHONPATH=where), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
