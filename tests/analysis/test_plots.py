"""The user's matplotlib is left as it was, and leaves our figures as they are. In a process of a user's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lottery_ticket.analysis import figures
from tests.conftest import environment

USERS = """\
text.usetex: True
lines.linewidth: 9
figure.facecolor: red
figure.autolayout: True
font.family: cursive
savefig.format: svg
axes.prop_cycle: cycler('color', ['k'])
"""

SCRIPT = """
import sys
import matplotlib

def state():
    return {key: dict.__getitem__(matplotlib.rcParams, key) for key in matplotlib.rcParams}

before = state()
import lottery_ticket
from lottery_ticket.analysis import compare_figure
from lottery_ticket.reproduction import figures as reproduction_figures
from lottery_ticket.runs.result import load_run
from lottery_ticket.study import figures as study_figures
assert state() == before, "the import"

settings = lottery_ticket.load_preset(dataset=sys.argv[1], validation_size=200, rounds=3, iterations=5)
result = lottery_ticket.run(settings)
assert state() == before, "the run"
assert "matplotlib.pyplot" not in sys.modules

drawn = [path.read_bytes() for path in result.figures]
matplotlib.rcdefaults()
again = load_run(result.run_id, figures="again").figures
assert [path.read_bytes() for path in again] == drawn, "matplotlibrc"
assert all(each.startswith(b"\\x89PNG") for each in drawn)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["svg", ""])
def test_importing_and_drawing_leaves_matplotlib_alone(small_npz, tmp_path, backend):
    """Nor does a matplotlibrc in the working folder change our figures; with "" pyplot would choose the backend."""
    (tmp_path / "matplotlibrc").write_text(USERS)
    (tmp_path / "script.py").write_text(SCRIPT)
    chosen = {"MPLBACKEND": backend} if backend else {}
    where = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "script.py", small_npz],
        cwd=tmp_path,
        env=environment(PYTHONPATH=where, **chosen),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_module_asks_for_pyplot():
    """The one part of matplotlib that chooses a backend and keeps figures for `show`."""
    for path in Path(figures.__file__).parent.rglob("*.py"):
        assert not re.search(r"import .*pyplot|matplotlib\.use\(", path.read_text(encoding="utf-8")), path
