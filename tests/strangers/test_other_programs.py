"""What strangers wrote, on its way to other programs: spreadsheets, Markdown, and folders that are removed."""

import pytest
from markdown_it import MarkdownIt

from lottery_ticket.errors import InputError
from lottery_ticket.store.locks import made_once
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.tickets.ticket import Origin
from lottery_ticket.untrusted import in_csv, in_markdown, prose

SHOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
EVIL = (
    "<img src=x onerror=a()> ![a](http://evil.example/x.png) [b](http://evil.example)"
    "\n\n| a | b |\n|---|---|\n| c | d |"
)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+a", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "  =1"])
def test_no_table_has_a_formula(text):
    assert in_csv(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1.5, None, "", "lr", "-0.1 -2e-05", "-3", True])
def test_other_values_stand_in_tables_as_they_are(value):
    assert in_csv(value) == value


def test_a_ticket_s_origin_is_shown_as_it_stands():
    origin = Origin(tracking_uri=EVIL, run_id="a](http://evil.example) <b>", experiment_id=") [x](y", arm=EVIL)
    page = SHOWN.render(origin.as_tags()["mlflow.note.content"])
    assert page.count("<a ") == 1
    assert 'href="#/experiments/' in page
    assert not any(mark in page for mark in ("<img", "<b>", "<table"))
    assert SHOWN.renderInline(in_markdown("run_1 at http://me@host/a_b")) == "run_1 at http://me@host/a_b"


def test_a_definition_s_prose_makes_no_table_image_or_html():
    page = SHOWN.render(prose(EVIL))
    assert not any(mark in page for mark in ("<img", "<table"))
    assert SHOWN.render(prose("*A* `b` [c](d)")) == '<p><em>A</em> <code>b</code> <a href="d">c</a></p>\n'


@pytest.mark.parametrize("run_id", ["..", ".", "../x", "/tmp", "a/b", "", "x" * 65])
def test_what_is_no_run_has_no_folder_in_the_outbox(tmp_path, run_id):
    with pytest.raises(InputError, match="is no id of a run"):
        Outbox(f"sqlite:///{tmp_path}/mlflow.db", run_id)


def test_locks_lie_in_a_folder_of_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with made_once(tmp_path / "mlflow.db"):
        folder = tmp_path / "lottery-ticket" / "locks"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("told", [{"seed": 10**400}, {"seed": -1}, {"iteration": 10**400}])
def test_numbers_without_bounds_are_no_origin(told):
    with pytest.raises(ValueError, match=r"Input should be|Unable to parse"):
        Origin.model_validate(told)
