"""The wheel, built and installed for real: what it carries, and that it works away from the repository."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lottery_ticket.config import preset_names
from tests.conftest import environment

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "mlruns")


def python(*arguments, cwd, **variables):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(PYTHONDONTWRITEBYTECODE="1", **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel(tmp_path):
    source, target, empty = tmp_path / "source", tmp_path / "target", tmp_path / "empty"
    shutil.copytree(ROOT, source, ignore=IGNORED)
    empty.mkdir()
    packaged = {str(path.relative_to(source)) for path in (source / "lottery_ticket").rglob("*") if path.is_file()}
    python("-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, source, cwd=empty)
    (wheel,) = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points, metadata, licence, of_mnist = (
            archive.read(next(name for name in names if name.endswith(end))).decode()
            for end in (
                ".dist-info/entry_points.txt",
                ".dist-info/METADATA",
                ".dist-info/licenses/LICENSE",
                ".dist-info/licenses/lottery_ticket/shipped/mnist/LICENSE",
            )
        )
    assert {name for name in names if name.startswith("lottery_ticket/")} == packaged
    assert sum(name.startswith("lottery_ticket/shipped/mnist/") and name.endswith(".gz") for name in names) == 4
    assert {f"lottery_ticket/shipped/presets/{name}.toml" for name in preset_names()} <= names
    assert not any(name.startswith(("tests", "bench", "docs")) for name in names)
    assert "lt = lottery_ticket.cli:main" in entry_points
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "License-File: LICENSE\n" in metadata
    assert "License-File: lottery_ticket/shipped/mnist/LICENSE\n" in metadata
    assert licence == (ROOT / "LICENSE").read_text()
    assert "LeCun" in of_mnist

    python("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=empty)
    path = {"PYTHONPATH": str(target)}
    where = python("-c", "import lottery_ticket; print(lottery_ticket.__file__)", cwd=empty, **path)
    assert Path(where.strip()) == target / "lottery_ticket" / "__init__.py"
    listing = python("-m", "lottery_ticket", "presets", cwd=empty, **path)
    assert [line.split()[0] for line in listing.splitlines()] == preset_names()
    assert python(target / "bin" / "lt", "presets", cwd=empty, **path) == listing
    code = "from lottery_ticket.data.sources import load_images; print(len(load_images('mnist').x_train))"
    assert python("-c", code, cwd=empty, **path) == "60000\n"
    assert list(empty.iterdir()) == []
