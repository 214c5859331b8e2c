"""The commands about tickets: `lt tickets`, `lt pull`, and what they and others refuse."""

import contextlib
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from lottery_ticket import Ticket
from lottery_ticket.tickets.folder import TENSORS


@pytest.fixture
def cli(lt, found):
    """`lt` on the store of the run."""

    def call(*arguments):
        return lt(*arguments, MLFLOW_TRACKING_URI=found.client.tracking_uri)

    return call


def test_lt_tickets_filters_and_sorts(cli, found):
    rows = cli("tickets", "--json", "--sort", "density").json
    assert [row["density"] for row in rows] == sorted(row["density"] for row in rows)
    won = cli("tickets", "--json", "--winning").json
    assert won
    assert {row["verdict"] for row in won} == {"wins"}
    best = cli("tickets", "--json", "--sort", "accuracy", "--limit", 3, "--arm", "winning", "--max-density", 0.7).json
    assert len(best) == 3
    assert [row["test_accuracy"] for row in best] == sorted((r["test_accuracy"] for r in best), reverse=True)
    assert max(row["density"] for row in best) <= 0.7
    gained = cli("tickets", "--json", "--sort", "gain").json
    gains = [row["test_accuracy"] - row["dense_accuracy"] for row in gained if row["dense_accuracy"] is not None]
    assert gains == sorted(gains, reverse=True)
    assert all(row["dense_accuracy"] is None for row in gained[len(gains) :])
    table = cli("tickets", "--limit", 2, "--min-accuracy", 0.1)
    assert table.code == 0
    assert found.run_id in table.out
    assert "2 of" in table.out


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_lt_tickets_can_be_read_and_copied_at_any_width(lt, found, columns):
    store = found.client.tracking_uri
    done = lt("tickets", "--arm", "reinit-own", COLUMNS=str(columns), MLFLOW_TRACKING_URI=store)
    lines = done.out.splitlines()
    below = lines[lines.index(f"{found.run_id}  fc1 on {found.stored.settings.dataset}") + 1 :]
    for line in below[:3]:
        place, left, accuracy, *_ = line.split()
        assert re.fullmatch(r":[123]:reinit-own-seed[03]", place)
        assert 0 < float(left) < 100
        assert 0 < float(accuracy) < 100
        assert len(line) <= columns
    taken = next(line for line in lines if line.startswith("Bring one here with: lt pull ")).split()[-1]
    assert lt("pull", taken, MLFLOW_TRACKING_URI=store).code == 0


def test_lt_pull_writes_a_folder_once(cli, found, tmp_path):
    done = cli("pull", f"{found.run_id}:3", "mine", "--trained")
    assert done.code == 0, done.err
    assert done.out.startswith("mine: fc1 on small, 51.2 % of the weights left")
    assert Ticket.load(tmp_path / "mine").trained is not None
    again = cli("pull", f"{found.run_id}:3", "mine")
    assert (again.code, again.out) == (2, "")
    assert again.err == "lt: DEST: 'mine' is there already; allowed: a path where nothing is yet\n"
    done = cli("pull", found.run_id, "--json")
    assert (tmp_path / done.json["folder"] / TENSORS).exists()
    name = f"fc1-small-winning-seed0-round{done.json['round']}-{found.run_id[:8]}"
    assert done.json["folder"] == str(Path("tickets", name))
    done = cli("pull", f"{found.run_id}:2:reinit-own-seed3", "--json")
    assert (done.json["arm"], done.json["seed"], done.json["round"]) == ("reinit-own", 3, 2)


def test_a_database_that_is_no_store_is_left_alone(lt, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as database:
        database.execute("CREATE TABLE customers(id)")
    before = (tmp_path / "app.db").read_bytes()
    for command in (["tickets"], ["pull", "0" * 32]):
        done = lt(*command, "--tracking-uri", "sqlite:///app.db")
        assert (done.code, "is no MLflow store" in done.err) == (2, True), done.err
    assert (tmp_path / "app.db").read_bytes() == before


def test_names_with_dollars_and_brackets(cli, found, small_npz, tmp_path):
    shutil.copy(small_npz, tmp_path / "a$_$[bold]b.npz")
    done = cli("train", f"{found.run_id}:2", "--dataset", "a$_$[bold]b.npz", "--iterations", "37")
    assert done.code == 0, done.err
    assert "The ticket on a$_$[bold]b.npz: " in done.out
    assert "a$_$[bold]b" in cli("tickets", "--limit", 1).out
    run_id = cli("tickets", "--json").json[0]["run_id"]
    assert cli("diff", run_id, f"{found.run_id}:2").code == 0


def test_a_pipe_is_no_data_set(cli, found, tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    done = cli("train", f"{found.run_id}:2", "--dataset", "pipe.npz")
    assert (done.code, "--dataset: 'pipe.npz' is no file" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pull", "0" * 32], "TICKET: '00000000000000000000000000000000' is no run in"),
        (["pull", "{run}:9"], "has no ticket of round 9; allowed: 1 to 3"),
        (["pull", "{run}:0"], "has no ticket of round 0; allowed: 1 to 3"),
        (["pull", "{run}:x"], "is no ticket; allowed: RUN, RUN:ROUND, RUN:ROUND:ARM-seedN, models:/NAME@ALIAS"),
        (["pull", "{run}:winning-seed7"], "has no ticket of winning-seed7; allowed: winning-seed0, winning-seed3"),
        (["pull", "{run}:2:dense-seed0"], "has no ticket of dense-seed0; allowed: winning-seed0, winning-seed3"),
        (["pull", "{run}:reinit-seed0"], "has no verdict on reinit; allowed: RUN:ROUND"),
        (["pull", "models:/none@smallest"], "is not in sqlite:"),
        (["pull", "models:/none"], "names no registered model; allowed: models:/NAME@ALIAS or models:/NAME/VERSION"),
        (["pull", "nowhere"], "is no ticket; allowed: RUN, RUN:ROUND"),
        (["train", "nowhere"], "'nowhere' is no folder; allowed: a folder that `lt pull` wrote"),
        (["train", "{run}:3", "--lr", "-1"], "--lr: '-1' is not allowed; allowed: a number > 0"),
        (["train", "{run}:3", "--arms", "reinit"], "--arms: 'reinit' is not allowed; allowed: winning (the ticket)"),
        (["train", "{run}:3", "--arms", "winning,reinit-own"], "and with it reinit, random-mask"),
        (["train", "{run}:3", "--dataset", "kmnist.npz"], "--dataset: 'kmnist.npz' cannot be read"),
        (["train", "{run}:3", "--prune-rate", "0.5"], "No such option: --prune-rate"),
        (["register", "{run}:3", "--name", "a/b"], "--name: 'a/b' is not allowed; allowed: letters"),
        (["register", "{run}:3", "--name", "n", "--alias", "v3"], "--alias: 'v3' is not allowed"),
        (["register", "{run}:3"], "Missing option '--name'"),
        (["register", "models:/a@b", "--name", "n"], "RUN: 'models:/a@b' is no run"),
        (["tickets", "--max-density", "2"], "--max-density: 2.0 is not allowed; allowed: a number from 0 to 1"),
        (["tickets", "--sort", "size"], "--sort: 'size' is unknown; allowed: newest, density, accuracy, gain"),
        (["tickets", "--limit", "0"], "--limit: 0 is not allowed; allowed: a whole number from 1"),
        (["tickets", "--model", "fc2"], "--model: 'fc2' is unknown; did you mean 'fc1'?"),
        (["tickets", "--tracking-uri", "sqlite:///no.db"], "does not exist; allowed: a store that `lt run`"),
    ],
)
def test_bad_input(cli, found, tmp_path, arguments, told):
    done = cli(*[argument.format(run=found.run_id) for argument in arguments])
    assert (done.code, done.out) == (2, ""), done.err
    assert told in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["lenet5", "nosuch:net"])
def test_another_model_than_the_tickets_is_refused(lt, found, tmp_path, model):
    """It was taken for no more than a permission, and the ticket's own trained without a word."""
    run = f"{found.run_id}:1"
    lt("pull", run, "mine", "--trained", MLFLOW_TRACKING_URI=found.client.tracking_uri)
    for command in (["train", "mine", "--iterations", 2], ["export", "mine", "e"], ["pull", run, "again"]):
        done = lt(*command, "--model", model, MLFLOW_TRACKING_URI=found.client.tracking_uri)
        assert (done.code, done.out) == (2, ""), command
        assert f"--model: '{model}' is not what this ticket is of; allowed: fc1, or no --model" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
