"""`lt --help` comes at once: it imports no command, and says of each what that says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from lottery_ticket import cli
from lottery_ticket.cli.commands import COMMANDS, imported
from tests.conftest import environment

SCRIPT = """
import sys
{}
print(*sorted(sys.modules), file=sys.stderr)
"""
HELP = """
from lottery_ticket.cli import main
sys.argv = ["lt", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""


def loaded(what: str) -> set[str]:
    """The modules that a fresh process has after it."""
    where = environment(PYTHONPATH=str(Path(cli.__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(what)], capture_output=True, text=True, check=True, env=where
    )
    return set(done.stderr.split())


def test_help_imports_typer_and_next_to_nothing_else():
    needed, there = loaded("import typer.main, typer.rich_utils"), loaded(HELP)
    assert {name for name in there if name.startswith("lottery_ticket.")} == {
        *("lottery_ticket.address", "lottery_ticket.cli", "lottery_ticket.cli.commands", "lottery_ticket.errors"),
        *("lottery_ticket.lazy", "lottery_ticket.terminal", "lottery_ticket.version"),
    }
    libraries = [{name.split(".")[0] for name in names} - sys.stdlib_module_names for names in (needed, there)]
    assert libraries[1] - libraries[0] == {"lottery_ticket"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name):
    command = imported(name)
    assert command.name == name
    assert " ".join(command.help.split("\n\n")[0].split()) == COMMANDS[name]


def test_every_command_is_in_the_list():
    folder = Path(cli.__file__).parent
    commands = {file.stem for file in folder.glob("*.py") if file.read_text().startswith('"""`lt ')}
    assert commands - {"commands"} <= COMMANDS.keys()
