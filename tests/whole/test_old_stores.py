"""Stores that earlier versions left are read, gone on with, pulled from, trained from, served and shown as they were.

tests/old_stores/make.py says what is in them and makes such a one of any version. On a machine like the one they were
made on, training goes on to the same bits; on any other, to masks of the same sizes and nearly the same accuracies.
"""

import json
import shutil
import sys
import tarfile
from pathlib import Path

import mlflow
import numpy as np
import pytest

from lottery_ticket import Ticket
from tests.help.outcomes import VARYING
from tests.old_stores.make import digest, kept, machine

ARCHIVES = {path.name.removesuffix(".tar.xz"): path for path in Path(__file__).parents[1].glob("old_stores/*.tar.xz")}
MORE_THAN_DENSE = {"0.3.0": 10}
"""Version → iterations that its rewound ticket was trained more than the dense network (docs/rewinding.md)."""


TINY = ["--model", "tiny:net"]


@pytest.fixture(scope="module", params=sorted(ARCHIVES))
def unpacked(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVES[request.param]) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def shown(unpacked, tmp_path, monkeypatch):
    """What the old version said of the project, which now lies in the test's own folder."""
    shutil.copytree(unpacked, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "tiny", raising=False)  # that of another copy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    return json.loads((tmp_path / "shown.json").read_text())


@pytest.fixture
def told(lt):
    """What `lt` prints as JSON."""

    def run(*arguments):
        done = lt(*arguments, "--json")
        assert done.code == 0, done.err
        return done.json

    return run


def load(shown, place):
    """The ticket at RUN:ROUND:ARM-seedN."""
    model = None if place.startswith(shown["runs"]["fc1"]) else "tiny:net"
    return Ticket.load(f"runs:/{place}", model=model, check=False)


def digests(ticket):
    return {"mask": digest(ticket.mask), "start": digest(ticket.weights), "trained": digest(ticket.trained)}


def check_rounds(shown, found, expected):
    """Rounds that were trained now are those that the old version trained."""
    found = {(each["arm"], each["seed"], each["round"]): each for each in found}
    for before in expected:
        now = found.pop((before["arm"], before["seed"], before["round"]))
        if shown["machine"] == machine():
            assert {key: now[key] for key in before if key not in VARYING} == {
                key: value for key, value in before.items() if key not in VARYING
            }
        else:
            exact = ("densities", "survivors", "iterations", "test_size", "diverged")
            assert [now[key] for key in exact] == [before[key] for key in exact]
            assert now["test_accuracy"] == pytest.approx(before["test_accuracy"], abs=0.1)
    assert not found


def check_tickets(shown, run_id, other):
    """The tickets of a run that was gone on with are those of another that was not interrupted."""
    places = [place for place in shown["digests"] if place.startswith(other)]
    assert len(places) == 8
    for place in places:
        found = digests(load(shown, place.replace(other, run_id)))
        if shown["machine"] == machine():
            assert found == shown["digests"][place], place


def test_tickets_are_listed_as_they_were(shown, told):
    rows = told("tickets")
    assert [{key: row[key] for key in old} for row, old in zip(rows, shown["tickets"], strict=True)] == [
        old | ({"verdict": row["verdict"]} if row["more_than_dense"] else {})
        for row, old in zip(rows, shown["tickets"], strict=True)
    ]
    longer = {row["run_id"]: row["more_than_dense"] for row in rows if row["more_than_dense"]}
    expected = MORE_THAN_DENSE.get(shown["version"])
    assert longer == ({shown["runs"]["rewound"]: expected} if expected else {})


def test_every_ticket_holds_what_it_held(shown):
    assert len(shown["digests"]) == len(shown["tickets"]) == 16
    for place, expected in shown["digests"].items():
        assert digests(load(shown, place)) == expected, place


def test_an_interrupted_run_ends_as_one_that_was_not(shown, lt, tmp_path):
    run_id = shown["runs"]["interrupted"]
    assert kept(run_id, tmp_path) == ([1, 1, 1, 1], [])
    done = lt("run", "--resume", run_id, *TINY, "--json")
    assert done.code == 0, done.err
    assert "going on after" in done.err
    check_rounds(shown, done.json["rounds"], shown["rounds"]["tiny"])
    check_tickets(shown, run_id, shown["runs"]["tiny"])


@pytest.mark.slow
def test_rounds_that_wait_are_delivered_and_the_run_ends_as_one_that_was_not_killed(shown, told, tmp_path):
    run_id = shown["runs"]["waiting"]
    assert kept(run_id, tmp_path)[1] == shown["waiting_rounds"]
    assert {each["run_id"]: each["finished"] for each in told("sync")}[run_id] is False
    assert kept(run_id, tmp_path) == ([2, 2, 2, 2], [])
    check_rounds(shown, told("run", "--resume", run_id, *TINY)["rounds"], shown["rounds"]["tiny"])
    check_tickets(shown, run_id, shown["runs"]["tiny"])


def test_a_ticket_that_is_pulled_and_one_that_was_are_trained_as_they_were(shown, told, tmp_path):
    run_id = shown["runs"]["fc1"]
    (place,) = [place for place in shown["digests"] if place.startswith(run_id)]
    told("pull", f"{run_id}:1", "new", "--trained")
    for folder, flags in (("pulled", []), ("new", ["--no-dense"])):
        assert digests(Ticket.load(tmp_path / folder)) == shown["digests"][place]
        rounds = told("train", folder, "--arms", "winning", *flags)["rounds"]
        check_trained(rounds, shown["rounds"]["fc1"][len(flags) :])


def test_a_rewound_ticket_is_trained_as_it_was(shown, told):
    rounds = told("train", f"{shown['runs']['rewound']}:1", "--arms", "winning", *TINY)["rounds"]
    check_trained(rounds, shown["rounds"]["rewound"])
    begins_at = 0 if shown["version"] in MORE_THAN_DENSE else 10
    assert [each["begins_at"] for each in rounds] == [0, begins_at]


def check_trained(rounds, expected):
    """Once more: the rounds of the run that found the ticket, up to rounding."""
    for now, before in zip(rounds, expected, strict=True):
        assert (now["round"], now["survivors"]) == (before["round"], before["survivors"])
        assert now["test_loss"] == pytest.approx(before["test_loss"], rel=1e-3)


def test_a_registered_model_predicts_as_it_did(shown, told, tmp_path):
    assert told("pull", "models:/digits@smallest", "registered", "--trained")["run_id"] == shown["runs"]["fc1"]
    assert digests(Ticket.load(tmp_path / "registered")) == digests(Ticket.load(tmp_path / "pulled"))
    assert digests(Ticket.load("models:/digits@smallest")) == digests(Ticket.load(tmp_path / "pulled"))
    model = mlflow.pyfunc.load_model("models:/digits@smallest")
    with np.load("digits.npz") as data:
        found = model.predict(data["x_test"][:20])
    assert np.asarray(found) == pytest.approx(np.array(shown["predictions"]), rel=1e-4)


def test_a_study_is_shown_and_gone_on_with(shown, told):
    as_then = ["--prunable", "layers"] if shown["version"] == "0.3.0" else []
    for command in (["sweep", "show", "small"], ["sweep", "small.toml", *TINY, *as_then]):
        now = told(*command)
        assert (now["study"], now["run_id"]) == (shown["study"]["study"], shown["study"]["run_id"])
        assert now["trials"] == shown["study"]["trials"]


def test_figures_are_drawn_and_the_table_is_as_it_was(shown, told):
    drawn, before = told("figures", shown["runs"]["tiny"]), shown["rounds"]["tiny"]
    assert [{key: now[key] for key in old} for now, old in zip(drawn["rounds"], before, strict=True)] == before
    assert len(drawn["verdict"]["rounds"]) == 2
    assert drawn["figures"]
    assert all(Path(path).is_file() for path in drawn["figures"])
