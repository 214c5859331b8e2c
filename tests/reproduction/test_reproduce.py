"""Reproductions for real: small experiments, a real MLflow store, real processes, a real browser."""

import csv
import re
import signal
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import sync_playwright

from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.reproduction.jobs import carry_out, find, make_jobs
from lottery_ticket.reproduction.parse import load_reproduction
from tests.cli.test_ui import CHROMIUM, FLAGS
from tests.conftest import environment
from tests.help import launcher

FILE = """
title = "A report in small | <made up>"
source = "nobody"
about = "Two variants of fc1."
remarks = ["Its Figure 1 is wrong. ![see](../secret.png) ![far](http://127.0.0.1:9/far.png)"]

[setups.fc1]
preset = "shu-fc1"
settings = {{ dataset = "{dataset}", rounds = 5, prune_rate = 0.5, iterations = 15 }}
quick = {{ seeds = 3 }}
report = {{ seeds = 5, iterations = 200 }}

[setups.one-shot]
preset = "shu-fc1"
settings = {{ dataset = "{dataset}", rounds = 2, iterations = 20 }}
quick = {{ seeds = 3 }}
report = {{ seeds = 5 }}
each = {{ prune_rate = [0.5, 0.9] }}

[variants.paper]
says = "as it should be"

[variants.own]
says = "with its own masks"
settings = {{ arms = ["winning", "reinit-own"] }}
control = "reinit-own"
accuracy = "best"

[[claims]]
id = "A"
figure = "Figure 1"
says = "Tickets win."
variants = ["paper", "own"]

[[claims.parts]]
says = "above reinit"
setup = "fc1"
minus = "control"
from_pct = 40
to_pct = 6
above = 0

[[claims]]
id = "B"
figure = "Figure 2"
says = "It takes long."
variants = ["paper"]

[[claims.parts]]
says = "more than an hour"
setup = "one-shot"
measure = "hours"
above = 1

[[drawings]]
name = "figure-1"
title = "Figure 1"
setup = "fc1"
variants = ["paper", "own"]
claims = ["A"]

[[attributions]]
name = "gap"
title = "The gap"
setup = "fc1"
at_pct = 12.5
variants = ["paper", "own"]
claims = ["A"]
"""


@pytest.fixture
def toml(tmp_path, small_npz):
    path = tmp_path / "small.toml"
    path.write_text(FILE.format(dataset=small_npz))
    return path


def runs(folder, kind="run"):
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    found = client.search_experiments()
    return client.search_runs([each.experiment_id for each in found], f"tags.`lt.kind` = '{kind}'")


def test_a_report_is_run_judged_and_written(lt, toml, tmp_path):
    done = lt("reproduce", toml, "--json")
    assert done.code == 0, done.err
    assert "3 run(s) needed: 0 there, 0 begun" in done.err
    claims = {(each["id"], each["variant"]): each for each in done.json["claims"]}
    assert claims["B", "paper"]["outcome"] == "does not hold"
    assert claims["A", "own"]["outcome"] in ("holds", "does not hold", "undecided")
    assert len(claims["A", "own"]["parts"][0]["seeds"]) == 3

    folder = tmp_path / "mlruns" / "reproductions" / "small-quick"
    text = (folder / "report.md").read_text()
    for told in (
        "does not hold",
        "Its Figure 1 is wrong.",
        "figures/figure-1.png",
        "figures/gap.png",
        "torch ",
        "reproduce",
    ):
        assert told in text
    with open(folder / "rounds.csv") as file:
        rows = list(csv.DictReader(file))
    assert {(row["setup"], row["variant"]) for row in rows} == {("fc1", "paper"), ("fc1", "own"), ("one-shot", "paper")}
    once = {row["weights_remaining_pct"][:4] for row in rows if row["setup"] == "one-shot"}
    assert once == {"100.", "50.0", "10.0"}
    trained = [row for row in rows if row["variant"] == "own" and row["arm"] == "winning"]
    assert {(row["multiply_adds"], row["made_small"] != "") for row in trained} == {("266200", True)}
    for row in trained:
        before = [each for each in trained if each["seed"] == row["seed"] and int(each["round"]) < int(row["round"])]
        assert int(row["to_find"]) == sum(int(each["computed"]) for each in before)
    with open(folder / "claims.csv") as file:
        assert [row["answer"] for row in csv.DictReader(file)][-1] == "no"

    (kept,) = runs(tmp_path, "reproduction")
    assert kept.info.run_id == done.json["run_id"]
    assert kept.data.tags["lt.claim/B/paper"] == "does not hold"
    assert "- **B**, paper: does not hold" in kept.data.tags["mlflow.note.content"]
    made = {run.info.run_id for run in runs(tmp_path)}
    assert len(made) == 3
    assert {id for key, value in kept.data.tags.items() if key.startswith("lt.run/") for id in value.split(",")} == made
    artifacts = {
        item.path for item in MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db").list_artifacts(kept.info.run_id)
    }
    assert artifacts == {"claims.csv", "figures", "report.html", "report.md", "rounds.csv"}
    assert all(run in text for run in made)

    again = lt("reproduce", toml, "--json")
    assert again.code == 0, again.err
    assert "3 there" in again.err
    assert "round " not in again.err
    assert {run.info.run_id for run in runs(tmp_path)} == made
    assert again.json["claims"] == done.json["claims"]

    if CHROMIUM is not None:
        check_page(folder / "report.html", tmp_path / "alone")


def check_page(report, folder):
    """It needs nothing but itself."""
    folder.mkdir()
    moved = report.rename(folder / "page.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(moved.as_uri())
        assert page.title() == "A report in small | <made up>"
        assert page.locator("h1").inner_text() == "A report in small | <made up>"
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 2
        assert all(width > 300 for width in widths)
        assert [url for url in asked if not url.startswith("data:")] == [moved.as_uri()]
        assert page.get_by_text("does not hold", exact=True).count() >= 1
        browser.close()


@pytest.mark.slow
def test_a_run_of_lt_run_with_the_same_settings_is_read(lt, toml, small_npz, tmp_path):
    flags = f"--preset shu-fc1 --dataset {small_npz} --rounds 2 --iterations 20 --prune-rate 0.9 --seeds 3".split()
    made = lt("run", *flags, "--verdict-tolerance", 0.9, "--verdict-level", 0.6, "--json")  # which only judge
    assert made.code == 0, made.err
    lt("run", *flags, "--lr", "0.01")
    done = lt("reproduce", toml, "--only", "B")
    assert done.code == 0, done.err
    assert "2 run(s) needed: 1 there, 0 begun" in done.err
    assert [folder.name for folder in (tmp_path / "mlruns" / "reproductions").iterdir()] == ["small-quick-B"]
    (kept,) = runs(tmp_path, "reproduction")
    assert made.json["run_id"] in kept.data.tags["lt.run/one-shot/paper"]
    page = (tmp_path / "mlruns" / "reproductions" / "small-quick-B" / "report.md").read_text()
    assert "95% t-intervals" in page
    assert "match the dense network to 0.2 points" in page
    assert "fc1" not in {key.split("/")[1] for key in kept.data.tags if key.startswith("lt.run/")}


@pytest.mark.slow
def test_it_goes_on_where_it_was_killed(lt, toml, tmp_path):
    process = launcher.Started(["reproduce", str(toml)], tmp_path, environment())
    deadline = time.monotonic() + 120
    store = tmp_path / "mlruns" / "artifacts"
    while not list(store.glob("**/rounds/01/round.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    (begun,) = runs(tmp_path)
    done = lt("reproduce", toml, "--only", "A")
    assert done.code == 0, done.err
    assert re.search(r"│ A +│ paper +│", done.out)
    assert "1 run(s) needed: 0 there, 1 begun" in done.err
    assert re.search(r"going on after \d complete round", done.err)
    assert begun.info.run_id in {run.info.run_id for run in runs(tmp_path)}
    assert len(runs(tmp_path)) == 1


@pytest.mark.slow
def test_from_python(toml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, name = load_reproduction(str(toml))
    done = carry_out(told, name, only=["B"], tracking_uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert [outcome.word for outcome in done.outcomes] == ["does not hold"]
    assert done.experiments["one-shot", "paper"].part == pytest.approx(2 * 20 / (2 * 20))
    assert [len(each) for each in done.sources["one-shot", "paper"]] == [3, 3]

    (job, _) = make_jobs(told, "quick", ["B"])
    find(job, done.client, "lottery-ticket")
    assert job.finished
    run_id = job.runs[0][0].info.run_id
    (lost, *_) = done.client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run_id}'")
    done.client.delete_run(lost.info.run_id)
    with pytest.raises(LotteryTicketError, match=f"run {run_id} lacks reinit-seed2, deleted in MLflow"):
        carry_out(told, name, only=["B"], tracking_uri=done.client.tracking_uri)
    done.client.update_run(run_id, status="RUNNING")
    done.client.set_tag(run_id, "lt.host", "elsewhere")
    with pytest.raises(LotteryTicketError, match="is being trained on elsewhere: wait"):
        carry_out(told, name, only=["B"], tracking_uri=done.client.tracking_uri)
    Path(done.client.download_artifacts(run_id, ""), "settings.json").unlink()  # as if killed while it was made
    (job, _) = make_jobs(told, "quick", ["B"])
    find(job, done.client, "lottery-ticket")
    assert not job.runs


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["shuu"], "REPORT: 'shuu' is unknown; did you mean 'shu'"),
        (["nowhere.toml"], "does not exist"),
        (["shu", "--scale", "large"], "--scale: 'large' is unknown; allowed: quick, long, report"),
        (["zhou", "--scale", "long"], "--scale: 'long' is unknown; allowed: quick, report"),
        (["shu", "--only", "C7"], "--only: 'C7' is unknown"),
        (["shu", "--only", ","], "--only: '' is unknown"),
        (["shu", "--dest", "/dev/null/x"], "--dest: '/dev/null/x' cannot be written"),
        (["shu", "--dest", "a/" + "x" * 300], "cannot be written (OSError: [Errno 36] File name too long"),
        (["shu", "--dest", "/proc/x"], "--dest: '/proc/x' cannot be written"),
        (["shu", "--experiment", "."], "--experiment: '.' is no name"),
        (["shu", "--tracking-uri", "sqlite://"], "--tracking-uri: 'sqlite://' is no file; allowed: sqlite:///FILE"),
        (["shu", "--tracking-uri", "http://a..b:5000"], "--tracking-uri: 'http://a..b:5000' cannot be reached"),
        (["shu", "--tracking-uri", "http://127.0.0.1:9"], "cannot be reached"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(lt, tmp_path, arguments, names):
    done = lt("reproduce", *arguments)
    assert done.code == 2
    assert names in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("quick = {{ seeds = 3 }}", "quick = {{ seeds = 3, epochz = 3 }}", "'epochz' is unknown"),
        (
            '"winning", "reinit-own"',
            '"winning", "reinit-own", "rienit"',
            "variant own: arms: 'rienit' is unknown; did you",
        ),
        (
            '"winning", "reinit-own"',
            '"winning", "reinit-own", "other-seed"',
            "variant own: arms: 'other-seed' takes its masks from another seed, ",
        ),
        ("rounds = 5", "rounds = 5, validation_size = 9999999", "setup fc1, variant paper: validation_size: 9999999 "),
        ('accuracy = "best"', 'accuracy = "early-stop"', "variant own: accuracy: 'early-stop' needs validation images"),
        ("wrong.", "\\u001b]0;evil", "has characters that do not print, in '"),
    ],
)
def test_wrong_files_are_one_line_and_write_nothing(lt, small_npz, tmp_path, old, new, names):
    file = tmp_path / "wrong.toml"
    assert old in FILE
    file.write_text(FILE.replace(old, new).format(dataset=small_npz))
    done = lt("reproduce", "wrong.toml")
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)
    assert names in done.err
    assert list(tmp_path.iterdir()) == [file]
