"""The Python of README and docs, and what a user writes after it, under a type checker with the package's types."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

ROOT = Path(__file__).parents[2]
PAPERS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCKS = [
    block
    for paper in PAPERS
    for block in re.findall(r"```python\n(.*?)```", paper.read_text(encoding="utf-8"), re.DOTALL)
]

OTHERS = """
from pathlib import Path
from lottery_ticket import Record, Result, Ticket, judge, load_preset, resume, train_ticket

def smallest(result: Result) -> float:
    return result.verdict.smallest_winning_pct if result.verdict else 100.0

def accuracies(records: list[Record]) -> list[float]:
    return [record.test_accuracy for record in records]

result = resume("0" * 32, tracking_uri=None)
best: Ticket | None = result.smallest_winning_ticket()
folder: Path = result.ticket(round=1).save("mine")
again: Result = train_ticket(Ticket.load(folder), lr=0.1)
found = judge(again.rounds)
preset: str = load_preset("quick").preset
"""

# What others' packages say of types is not asked, which takes most of the time.
SETTINGS = """
[mypy]
strict = True
disallow_untyped_defs = False
disallow_untyped_calls = False
disallow_untyped_decorators = False
disallow_subclassing_any = False
follow_imports = silent
ignore_missing_imports = True
[mypy-torch.*,torchvision.*,numpy.*,scipy.*,sklearn.*,mlflow.*,optuna.*,matplotlib.*,safetensors.*,pandas.*]
follow_imports = skip
follow_imports_for_stubs = True
"""


@pytest.mark.slow
def test_the_examples_and_others_hold_under_mypy(tmp_path):
    assert len(BLOCKS) >= 3
    files = []
    for index, block in enumerate([*BLOCKS, OTHERS, "from lottery_ticket import run\nrun(3)\n"]):
        files.append(f"block{index}.py")
        (tmp_path / files[-1]).write_text(block, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *files],
        cwd=tmp_path,
        env=environment(MYPYPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    (refused,) = done.stdout.splitlines()
    assert refused.startswith(f'{files[-1]}:2: error: Argument 1 to "run" has incompatible type "int"')
