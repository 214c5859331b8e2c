"""A folder that somebody else filled: nothing in it is run or taken for settings, but the module that is named."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from lottery_ticket import here, plugins
from lottery_ticket.cli.companions import Companions
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.workers import Workers
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.models.network import make_network
from tests.conftest import environment

RUN = "import os; open(os.environ['RAN'], 'a').write(__file__ + ' ')\nraise SystemExit('a stranger')\n"


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """What was run of the current folder, which has a module of every name that is installed or Python's own."""
    folder, told = tmp_path / "cloned", tmp_path / "ran"
    folder.mkdir()
    installed = {path.stem for path in Path(sysconfig.get_path("purelib")).iterdir() if path.stem.isidentifier()}
    for name in installed | sys.stdlib_module_names:
        (folder / f"{name}.py").write_text(RUN)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RAN", str(told))
    return lambda: told.read_text() if told.exists() else ""


def test_a_process_of_a_sweep_runs_nothing_of_the_folder(ran, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lt", "presets"])
    with Companions(2) as companions:
        companions.start()
        with pytest.raises(LotteryTicketError, match="No such option: --worker"):
            companions.wait()
    assert ran() == ""


@pytest.mark.slow
def test_workers_run_nothing_of_the_folder(ran, small, settings):
    settings = settings.model_copy(update={"jobs": 1, "stack": 1, "iterations": 1})
    network = make_network(settings, small.input_shape, small.classes)
    member = Member("winning", 0, network.dense_mask(), network.draw(0, "init"))
    with Workers(settings, 1, small.info) as workers:
        assert workers.train(network, [member], small, settings, 0)
    assert ran() == ""


def test_every_process_is_started_so():
    package = Path(here.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "sys.executable" in path.read_text()] == ["here.py"]


def test_python_m_runs_nothing_of_the_folder(ran):
    """But for what Python itself imports before it comes to the package."""
    for name in sys.stdlib_module_names:
        Path(f"{name}.py").unlink(missing_ok=True)
    command = [sys.executable, "-m", "lottery_ticket", "tickets"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing was run in this folder yet" in done.stderr
    assert ran() == ""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes modules into the current folder, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(**modules):
        for name, text in modules.items():
            path = Path(f"{name.replace('__', '/')}.py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_user_s_own_modules_are_found_after_all_others(own, tmp_path):
    own(of_mine="from beside_mine import f", beside_mine="def f(): return 1", torch="1 / 0")
    assert plugins.imported("of_mine:f", "--model")() == 1
    assert sys.path[-1] == str(tmp_path)
    assert str(tmp_path) not in sys.path[:-1]


def test_of_two_folders_the_current_one_is_meant(own, tmp_path, monkeypatch):
    own(a_mine="f = 1")
    assert plugins.imported("a_mine:f", "--model") == 1
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    own(b_mine="f = 2", a_mine="f = 3")
    assert plugins.imported("b_mine:f", "--model") == 2
    assert str(tmp_path) not in sys.path
    with pytest.raises(InputError, match="which is found before it"):  # as it is imported already
        plugins.imported("a_mine:f", "--model")


@pytest.mark.parametrize(
    ("name", "modules", "hidden"),
    [
        ("json:f", {"json": "f = 1"}, "json.py"),
        ("sys:f", {"sys": "f = 1"}, "sys.py has the name of Python's own sys"),
        ("rich.mine:f", {"rich__mine": "f = 1"}, "rich/mine.py"),
        ("of_mine:f", {"of_mine": "from typer import f", "typer": "f = 1"}, "typer.py"),
        (
            "in_mine.a:f",
            {"in_mine__a": "from .b import f", "in_mine__b": "def g(): import rich", "rich": ""},
            "rich.py",
        ),
    ],
)
def test_a_module_that_another_hides_is_refused_by_name(own, name, modules, hidden):
    own(**modules)
    with pytest.raises(InputError, match=r"cannot be told from another: .* found before it; allowed: ") as told:
        plugins.imported(name, "--model")
    assert hidden in str(told.value)


def test_a_folder_called_as_an_installed_package_is_in_nobody_s_way(own):
    own(of_mine="import rich\nf = 1", rich__notes="")
    assert plugins.imported("of_mine:f", "--model") == 1


def test_settings_that_libraries_would_take_from_the_folder_are_refused(lt, tmp_path):
    """Numba unpickles what it finds in the folder that its settings name; matplotlib stumbles over what is no text."""
    numba, file = tmp_path / ".numba_config.yaml", tmp_path / "matplotlibrc"
    numba.write_text("cache_dir: evil\n")
    done = lt("presets")
    assert done.code == 2
    assert done.err.startswith("lt: working folder: '.numba_config.yaml' would say from where numba reads")
    numba.unlink()
    for make in (
        lambda: file.write_bytes(b"\xff"),
        lambda: os.mkfifo(file),
        lambda: file.write_text("#" * 2_000_000),
    ):
        file.unlink(missing_ok=True)
        make()
        done = lt("presets")
        assert done.code == 2
        assert done.err.startswith("lt: working folder: 'matplotlibrc' cannot be read by matplotlib; allowed: ")
    file.unlink()
    file.write_text("lines.linewidth: 9\n")
    assert lt("presets").code == 0
