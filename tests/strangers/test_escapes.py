"""Escapes to terminals in what strangers wrote, names of runs and experiments say, come out as text."""

import io
import re
import sys
from pathlib import Path

import pytest
from matplotlib.text import Text
from mlflow.entities import Param
from rich.progress import Progress, TextColumn
from rich.table import Table

from lottery_ticket import cli
from lottery_ticket.analysis import plots
from lottery_ticket.cli.say import Console, say
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.store import connection
from lottery_ticket.terminal import plain

EVIL = "\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b]8;;http://evil.example\x1b\\link\x9b2K\r\x08\u202ebidi\ufeff"
SEEN = plain(EVIL)


def test_what_is_seen():
    assert SEEN == "�[2J�]0;title��[31mred�]8;;http://evil.example�\\link�2K���bidi�"
    fine = "Übung ✓ θ₀ − ± ×\n\tनमस्ते می‌خواهم 👩‍🔬"
    assert plain(fine) == fine


def test_no_error_has_an_escape():
    for error in (LotteryTicketError(EVIL), InputError(EVIL, EVIL, EVIL)):
        assert plain(str(error)) == str(error)
    assert plain(one_line(OSError(EVIL))) == one_line(OSError(EVIL))


def test_a_console_keeps_its_own_escapes_and_no_others():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", markup=False, width=200)
    table = Table(EVIL, title=EVIL, caption=EVIL)
    table.add_row(EVIL, style="bold")
    console.print(table)
    console.print(EVIL, soft_wrap=True)
    with Progress(TextColumn("{task.description}"), console=console, auto_refresh=False) as bar:
        bar.add_task(EVIL)
    shown = written.getvalue()
    assert "\x1b[1m" in shown  # bold
    for piece in ("\x1b[2J", "\x1b]0;", "\x1b[31m", "\x1b]8", "\x9b", "\x07", "\u202e"):
        assert piece not in shown
    assert shown.count("title") >= 5


def test_no_figure_has_an_escape(tmp_path):
    figure, axes = plots.subplots(figsize=(2, 2))
    axes.set(title=EVIL, xlabel=EVIL)
    plots.save(figure, tmp_path / "a.svg")
    assert SEEN in {text.get_text() for text in figure.findobj(Text)}
    assert not any("\x1b" in text.get_text() for text in figure.findobj(Text))


def test_all_that_commands_say_goes_through_it(capsys):
    for file in Path(cli.__file__).parent.glob("*.py"):
        found = re.findall(
            r"typer\.echo\(|(?<![\w.])print\(|rich\.console import.* Console|savefig|Column\([^)]*\}\"\)",
            file.read_text(),
        )
        assert len(found) == {"__init__.py": 2, "say.py": 1}.get(file.name, 0), file
    say(EVIL)
    assert capsys.readouterr().out == f"{SEEN}\n"


@pytest.fixture
def strange(store, found):
    """A store with a run, of which a stranger edited name, params and tags."""
    client = connection.connect(store)
    run = client.get_run(found.run_id)
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    made = client.create_run(run.info.experiment_id, run_name=EVIL, tags=tags)
    client.log_batch(made.info.run_id, params=[Param("dataset", EVIL), Param("model", EVIL)])
    return client, made.info.run_id


def test_commands_show_what_a_stranger_wrote_as_text(strange, store, capsys, monkeypatch):
    client, run_id = strange
    client.create_experiment(EVIL.replace("\x08", ""), artifact_location=client.get_experiment("1").artifact_location)
    for words in (["tickets"], ["pull", f"{run_id}:1"], ["figures", run_id], ["ui", "--experiment", "x"]):
        monkeypatch.setattr(sys, "argv", ["lt", *words, "--tracking-uri", store])
        cli._run()
        said = capsys.readouterr()
        told = said.out + said.err
        assert told
        assert plain(told) == told, words
    client.delete_run(run_id)
