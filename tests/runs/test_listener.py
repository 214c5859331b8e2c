"""What a person sees who runs experiments from Python, in a notebook or at a prompt."""

import io
import os
import re
import shutil
import sys
import types
from html.parser import HTMLParser

import pytest

import lottery_ticket
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.result import load_run

BARS = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A working folder that the tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        yield


def tiny(data, **more):
    """`quick`, but for a moment only."""
    more = {"rounds": 3, "iterations": 5, "validation_size": 200, "evaluate_every": 5} | more
    return lottery_ticket.load_preset("quick", dataset=str(data), **more)


@pytest.fixture(scope="module")
def result(here, small_npz, tmp_path_factory):
    """On a data set whose path is no HTML."""
    data = tmp_path_factory.mktemp("a<b>&c") / "<script>.npz"
    shutil.copy(small_npz, data)
    return lottery_ticket.run(tiny(data))


class Text(HTMLParser):
    """The cells of a page, and the names of its elements."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_a_notebook_shows_the_table(result):
    page = Text()
    page.feed(result._repr_html_())
    assert page.tags <= {"table", "caption", "br", "small", "thead", "tbody", "tr", "th", "td", "div"}
    assert any("a<b>&c" in text and "<script>.npz" in text for text in page.text)
    for record in result.rounds:
        assert f"{100 * record.test_accuracy:.2f}" in page.text
    assert any(text.startswith("Evidence: ") for text in page.text)
    assert f"Run {result.run_id}." in page.text


def test_what_python_shows_is_short(result, small_npz):
    plan = make_plan(tiny(small_npz))
    ticket = result.ticket(round=1)
    shown = [result, result.stored, result.verdict, result.rounds[0], ticket, ticket.images()]
    shown += next(lottery_ticket.find_tickets(plan.resolved, plan.network, plan.data))
    shown += [plan, plan.network, plan.data, plan.images, plan.allocation]
    assert {type(each).__name__: len(repr(each)) for each in shown if len(repr(each)) > 1000} == {}
    assert result.run_id in repr(result)


@pytest.mark.parametrize(("model", "told"), [("fc1", True), ("conv2", False)])
def test_a_rate_that_prunes_nothing_is_told(small_npz, model, told):
    plan = make_plan(tiny(small_npz, model=model, prune_rate_conv=0.1))
    assert ("prune_rate_conv 0.1 prunes nothing: no convolution is prunable" in plan.notes) is told
    assert not any("prunes nothing" in note for note in make_plan(tiny(small_npz, model=model)).notes)


def test_settings_know_their_preset(result, small_npz):
    assert result.stored.name.startswith("quick dataset=")
    assert load_run(result.run_id).stored.preset == "quick"
    settings = lottery_ticket.load_preset("shu-fc1", rounds=3)
    changed = settings.model_copy(update={"lr": 0.5})
    assert (settings.preset, changed.preset, lottery_ticket.Settings().preset) == ("shu-fc1", "shu-fc1", "")
    stored = lottery_ticket.Settings(**settings.model_dump())
    assert stored == settings  # equal is what does the same
    assert len({stored, settings, changed}) == 2


@pytest.mark.parametrize(
    ("preset", "name"), [(None, "quick dataset="), pytest.param("", "fc1 /", marks=pytest.mark.slow), ("mine", "mine")]
)
def test_a_run_is_named_after_its_preset_unless_told_otherwise(here, small_npz, preset, name):
    one_round = tiny(small_npz, rounds=1, arms="winning")
    done = lottery_ticket.run(one_round, **({} if preset is None else {"preset": preset}))
    assert done.stored.name.startswith(name)


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_progress_is_told_where_a_person_reads_it(here, small_npz, monkeypatch, where):
    monkeypatch.setattr(sys, "stderr", Terminal() if where == "terminal" else io.StringIO())
    if where == "notebook":
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    done = lottery_ticket.run(tiny(small_npz))
    told = sys.stderr.getvalue().splitlines()
    assert done.run_id in told[0]
    assert [line.split()[1] for line in told if line.startswith("round")] == ["0/2", "1/2", "2/2"]
    assert not [line for line in told if "Downloading" in line]


@pytest.mark.slow
def test_nothing_is_told_to_a_log_or_a_silent_listener(here, small_npz, monkeypatch, capfd):
    lottery_ticket.run(tiny(small_npz, rounds=1))
    monkeypatch.setattr(sys, "stderr", Terminal())
    lottery_ticket.run(tiny(small_npz, rounds=1), listener=Listener())
    assert sys.stderr.getvalue() == ""
    assert capfd.readouterr() == ("", "")


class Impatient(Listener):
    """Presses Ctrl-C, or stumbles, after a round."""

    def __init__(self, error):
        self.error = error

    def rounds_finished(self, records):
        if records[0].round == 1:
            raise self.error


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
def test_who_interrupts_a_run_is_told_how_to_go_on(here, small_npz, tmp_path, named):
    store = {"tracking_uri": f"sqlite:///{tmp_path}/x.db"} if named else {}
    with pytest.raises(KeyboardInterrupt, match="finished rounds are kept; go on with ") as caught:
        lottery_ticket.run(tiny(small_npz), listener=Impatient(KeyboardInterrupt()), **store)
    (call,) = re.findall(r"lottery_ticket\.resume\(.*\)", str(caught.value))
    resumed = eval(call, {"lottery_ticket": lottery_ticket})
    assert [record.round for record in resumed.rounds] == [0, 0, 1, 1, 2, 2]


def test_a_failure_says_how_to_go_on_too(here, small_npz):
    with pytest.raises(ZeroDivisionError) as caught:
        lottery_ticket.run(tiny(small_npz), listener=Impatient(ZeroDivisionError()))
    assert 'go on with lottery_ticket.resume("' in caught.value.__notes__[0]


@pytest.mark.parametrize("users", [None, "true"])
def test_no_bars_of_mlflow_nor_a_changed_environment(result, monkeypatch, capfd, users):
    monkeypatch.delenv(BARS, raising=False)
    if users:
        monkeypatch.setenv(BARS, users)
    load_run(result.run_id).ticket(round=1)
    assert os.environ.get(BARS) == users
    assert capfd.readouterr() == ("", "")
