"""Reproductions from small files: sittings and machines add up, and anybody can judge again."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import lottery_ticket
from lottery_ticket.errors import InputError
from lottery_ticket.reproduction.records import Folder
from lottery_ticket.store.seal import seal, unseal

RESULTS = Path(__file__).parents[2] / "results"
CONV2 = RESULTS / "cifar/conv2"

FILE = """
title = "A paper in small"
source = "nobody"
about = "fc1."

[setups.fc1]
preset = "shu-fc1"
settings = {{ dataset = "{dataset}", rounds = 2, prune_rate = 0.5, {length} }}
quick = {{ seeds = 2 }}
report = {{ seeds = 2, iterations = 30 }}

[variants.paper]
says = "as it should be"

[[claims]]
id = "A"
figure = "Figure 1"
says = "Nobody knows."
variants = ["paper"]

[[claims.parts]]
says = "above dense by 1"
setup = "fc1"
minus = "dense"
at_pct = 50
above = {above}
replications = [{{ who = "somebody", value = 0.5, low = 0.1, high = 0.9, n = 4 }}]
"""


@pytest.fixture
def make(small_npz, tmp_path, monkeypatch):
    """Writes the file of a reproduction, whose claim is undecided, or does not hold if it asks for 99 points."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(small_npz, tmp_path / "own.npz")

    def write(level=0.999999, above=0.5, length="iterations = 10"):
        path = tmp_path / "mine.toml"
        told = FILE.format(dataset=tmp_path / "own.npz", above=above, length=length)
        path.write_text(f"level = {level}\n" + told)
        return path

    return write


def reproduce(file, store, **how):
    return lottery_ticket.reproduce(file, dest=f"page-{store}", tracking_uri=f"sqlite:///{store}.db", **how)


def seeds_of(kept):
    ((_, experiment),) = kept.done.experiments.items()
    return sorted({record.seed for record in experiment.records})


def claims(kept):
    return kept.files["claims.csv"].read_text()


@pytest.mark.slow
def test_what_one_sitting_trained_the_next_reads_and_adds_to(make, tmp_path):
    file = make()
    first = reproduce(file, "one", records="kept", max_seeds=3)
    assert seeds_of(first) == [0, 1, 2]
    assert first.done.outcomes[0].word == "undecided"
    assert sorted(path.name for path in tmp_path.glob("kept/*/*.json")) == ["seed0.json", "seed1.json", "seed2.json"]
    told = json.loads(unseal((next(tmp_path.glob("kept/*/seed2.json"))).read_bytes()))
    assert told["command"] == f"lottery_ticket.reproduce({str(file)!r}, scale='quick', max_seeds=3, records='kept')"
    assert {"version", "torch", "hardware", "digest", "settings", "run_id"} < set(told)
    page = first.files["report.md"].read_text()
    assert "| fc1 | paper | 3 | 2 of at most 2 |" in page
    assert "somebody +0.50 points (+0.10 to +0.90; n = 4)" in page

    shutil.copytree(tmp_path / "kept", tmp_path / "elsewhere")
    next(tmp_path.glob("elsewhere/*/seed1.json")).unlink()
    second = reproduce(file, "two", records="elsewhere", max_seeds=3)  # another store
    assert claims(second) == claims(first)
    (job,) = second.done.sources["fc1", "paper"]
    assert [source.run_id == first.done.sources["fc1", "paper"][0][seed].run_id for seed, source in enumerate(job)] == [
        True,
        False,
        True,
    ]
    assert len(list(tmp_path.glob("elsewhere/*/seed1.json"))) == 1


def test_anybody_can_judge_it_again_without_training(make, tmp_path):
    file = make()
    first = reproduce(file, "one", records="kept", max_seeds=4)
    page = first.files["report.md"].read_text()
    assert "99.9999% t-intervals" in page
    assert "all looks together hold at 99.9999%" in page
    again = reproduce(file, "other", records="kept", max_seeds=0)
    assert claims(again) == claims(first)
    assert again.files["rounds.csv"].read_text() == first.files["rounds.csv"].read_text()
    runs = again.done.client.search_runs(["0", "1"], "tags.`lt.kind` = 'run'")
    assert not runs
    with pytest.raises(InputError, match=r"--max-seeds: 5 is not that of the folder kept; allowed there: 4"):
        reproduce(file, "other", records="kept", max_seeds=5)
    with pytest.raises(InputError, match=r"--max-seeds: 0 trains nothing, and there is nothing of fc1 paper in"):
        reproduce(file, "third", records="empty", max_seeds=0)


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(each, id=str(each.relative_to(RESULTS)), marks=() if each == CONV2 else pytest.mark.slow)
        for each in (CONV2, *sorted(path.parent for path in RESULTS.glob("reproduce/**/records")))
    ],
)
def test_committed_records_are_judged_the_same_without_data(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_DATA_DIR", str(tmp_path / "nothing"))
    shutil.copytree(folder / "records", "records")
    then = list(csv.DictReader((folder / "claims.csv").read_text().splitlines()))
    scale = folder.name if folder.name in ("long", "report") else "quick"
    name = "frankle-conv" if folder == CONV2 else folder.name if scale == "quick" else folder.parent.name
    store = {"scale": scale, "tracking_uri": "sqlite:///m.db"}
    only = list(dict.fromkeys(row["claim"] for row in then))
    kept = lottery_ticket.reproduce(name, only=only, records="records", max_seeds=0, **store)
    assert kept.files["rounds.csv"].read_bytes() == (folder / "rounds.csv").read_bytes()
    now = list(csv.DictReader(kept.files["claims.csv"].read_text().splitlines()))
    assert [{key: to_ten_digits(row[key]) for key in row} for row in now] == [
        {key: to_ten_digits(row[key]) for key in row} for row in then
    ]
    assert not (tmp_path / "nothing").exists()  # nothing was fetched
    pages = kept.files["report.md"], folder / "report.md"
    assert paragraphs(pages[0].read_text()) == paragraphs(pages[1].read_text())


def paragraphs(page):
    """The lines of a page, but for its command and what it says of data that is not there."""
    return [line for line in page.splitlines() if line and not line.startswith(("To make it again", "The data set"))]


def test_the_page_says_that_the_data_was_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_DATA_DIR", str(tmp_path / "nothing"))
    shutil.copytree(CONV2 / "records", "records")
    store = {"records": "records", "max_seeds": 0, "tracking_uri": "sqlite:///m.db"}
    kept = lottery_ticket.reproduce("frankle-conv", only="V2a", **store)
    assert "The data set cifar10 was not on the machine" in kept.files["report.md"].read_text()
    with pytest.raises(InputError, match="nothing of conv4 paper in records; runs in the store are told by their data"):
        lottery_ticket.reproduce("frankle-conv", only="V4a", **store)


def test_what_is_not_there_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_DATA_DIR", str(tmp_path / "nothing"))
    shutil.copytree(CONV2 / "records", "records")
    kept = lottery_ticket.reproduce("frankle-conv", records="records", max_seeds=0, tracking_uri="sqlite:///m.db")
    then = list(csv.DictReader((CONV2 / "claims.csv").read_text().splitlines()))
    now = list(csv.DictReader(claims(kept).splitlines()))
    measured = [row for row in now if row["mean"]]
    assert {row["claim"] for row in measured} == {row["claim"] for row in then}
    assert {row["answer"] for row in now if not row["mean"]} == {"undecided"}
    page = kept.files["report.md"].read_text()
    besides = "besides conv4 paper, .*, of which there is nothing yet"
    assert re.search(f"All of this at scale report takes about .* of such a process, {besides}", page)
    assert "Seeds that are not there yet, and counted nowhere: conv4 paper (0 of 3), " in page
    assert [name for name in kept.files if name.startswith("conv")] == ["conv2-accuracy", "conv2-early-stop"]


@pytest.mark.parametrize("here", [True, False])
def test_what_is_there_of_one_variant_is_judged_where_another_needs_more_arms(make, tmp_path, monkeypatch, here):
    """One run trains both, with three arms; the records are of the two that the first needs."""
    told = make().read_text().replace('minus = "dense"', 'minus = "control"')
    told = told.replace("[[claims]]", 'settings = { arms = ["winning", "reinit"] }\n\n[[claims]]', 1)
    (tmp_path / "mine.toml").write_text(told)
    alone = list(csv.DictReader(claims(reproduce(tmp_path / "mine.toml", "one", records="kept")).splitlines()))
    own = '[variants.own]\nsays = "masks of its own"\ncontrol = "reinit-own"\n'
    own += 'settings = { arms = ["winning", "reinit-own"] }\n\n[[claims]]'
    both = told.replace("[[claims]]", own, 1).replace('variants = ["paper"]', 'variants = ["paper", "own"]')
    (tmp_path / "mine.toml").write_text(both)
    if not here:
        (tmp_path / "own.npz").unlink()
    judged = reproduce(tmp_path / "mine.toml", "two", records="kept", max_seeds=0)
    paper, other = csv.DictReader(claims(judged).splitlines())
    assert paper == alone[0]
    assert (other["variant"], other["mean"]) == ("own", "")


def test_trajectories_that_go_on_serve_for_their_first_rounds(make, tmp_path):
    file = make(length='iterations = 10, arms = ["winning", "random-mask"]', above=-99)
    told = file.read_text()
    file.write_text(told.replace("rounds = 2", "rounds = 3"))
    longer = reproduce(file, "one", records="kept")
    file.write_text(told.replace(', "random-mask"', ""))
    shorter = reproduce(file, "other", records="kept")
    assert len(list(tmp_path.glob("kept/*/*.json"))) == 2  # nothing was trained, nor written
    assert claims(shorter) == claims(longer)
    whole, part = (kept.files["rounds.csv"].read_text().splitlines() for kept in (longer, shorter))
    assert part == [line for line in whole if not re.match("fc1,paper,(random-mask|winning,.,2)", line)]
    for old, new in (
        ("rounds = 2", "rounds = 4"),
        ("rounds = 2", "rounds = 2, density = 0.5"),
        ('"random-mask"', '"reinit"'),
    ):
        file.write_text(told.replace(old, new))
        with pytest.raises(InputError, match="there is nothing of fc1 paper in kept or the store"):
            reproduce(file, "third", records="kept", max_seeds=0)


def test_the_cost_of_what_serves_twice_is_counted_once(make):
    file = make(length='iterations = 10, arms = ["winning", "random-mask"]')
    setup, claim = (
        re.search(r"\[setups.*?\n\n", file.read_text(), re.DOTALL)[0],
        file.read_text().partition("[[claims]]")[2],
    )
    short = setup.replace("setups.fc1", "setups.short").replace(', "random-mask"', "").replace("seeds = 2", "seeds = 3")
    again = claim.replace('"A"', '"B"').replace('setup = "fc1"', 'setup = "short"')
    file.write_text(file.read_text().replace("rounds = 2", "rounds = 3") + f"\n{short}[[claims]]{again}")
    reproduce(file, "one", records="kept", only="A")
    kept = reproduce(file, "one", records="kept")
    rows = [line.split(" | ") for line in kept.files["report.md"].read_text().partition("## Cost")[2].splitlines()]
    assert [row[:3] for row in rows if len(row) == 6][2:] == [["| fc1", "paper", "4"], ["| short", "paper", "1"]]
    assert len({line for line in kept.files["rounds.csv"].read_text().splitlines() if line.startswith("short")}) == 6


def test_the_cost_counts_arms_of_a_run_that_serve_elsewhere(make):
    file = make(length='iterations = 10, arms = ["winning", "reinit", "random-mask"]')
    told = file.read_text().replace("rounds = 2", "rounds = 3")
    file.write_text(told)
    reproduce(file, "one", records="kept")
    longer = told.replace(', "random-mask"', "")
    setup, claim = re.search(r"\[setups.*?\n\n", longer, re.DOTALL)[0], told.partition("[[claims]]")[2]
    short = setup.replace("setups.fc1", "setups.short").replace("rounds = 3", "rounds = 2")
    short = short.replace("reinit", "random-mask")
    again = claim.replace('"A"', '"B"').replace('setup = "fc1"', 'setup = "short"')
    file.write_text(f"{longer}\n{short}[[claims]]{again}")
    kept = reproduce(file, "two", records="kept", max_seeds=0)
    rows = [line.split(" | ") for line in kept.files["report.md"].read_text().partition("## Cost")[2].splitlines()]
    assert [row[:3] for row in rows if len(row) == 6][2:] == [["| fc1", "paper", "4"], ["| short", "paper", "2"]]


def test_a_last_round_has_not_paid_for_gradients_of_the_next_mask(make):
    file = make(length='iterations = 10, arms = ["winning"], criterion = "taylor"')
    told = file.read_text()
    file.write_text(told.replace("rounds = 2", "rounds = 3"))
    reproduce(file, "one", records="kept")
    file.write_text(told)
    with pytest.raises(InputError, match="there is nothing of fc1 paper in kept or the store"):
        reproduce(file, "other", records="kept", max_seeds=0)


@pytest.mark.parametrize(
    ("scale", "whole", "part"),
    [
        (
            "quick",
            "All of this at scale report takes about 0:36:00 ",
            "All of this at scale report takes about 0:36:00 ",
        ),
        ("report", None, "What is missing here of scale report takes about 0:06:00 "),
    ],
)
def test_the_page_says_what_is_missing_and_how_long_it_takes(make, tmp_path, scale, whole, part):
    file = make()
    reproduce(file, "one", records="kept", scale=scale)
    files = [next(tmp_path.glob(f"kept/*/seed{seed}.json")) for seed in (0, 1)]
    for path in files:
        rounds = json.loads(unseal(path.read_bytes()))["rounds"]
        assert len(rounds) == 4  # two arms, two rounds; at scale report three times as long as at quick
        told_otherwise(path, rounds=[record | {"seconds": 90} for record in rounds])
    for takes, seeds in ((whole, None), (part, "fc1 paper (1 of 2)")):
        page = reproduce(file, "other", records="kept", scale=scale, max_seeds=0).files["report.md"].read_text()
        assert page.count("scale report takes about") == (takes is not None)
        assert (takes or "") in page
        assert page.count("Seeds that are not there yet") == (seeds is not None)
        assert (seeds or "") in page
        files[0].unlink(missing_ok=True)


def to_ten_digits(cell):
    """Of a table, if it is a number."""
    try:
        return f"{float(cell):.10g}"
    except ValueError:
        return cell


def told_otherwise(path, **facts):
    """A file of the records as it would be if these facts were others; None: not told."""
    told = json.loads(unseal(path.read_bytes()))
    told = {key: value for key, value in (told | facts).items() if value is not None}
    path.write_text(seal(json.dumps(told)))


@pytest.mark.parametrize(
    ("length", "iterations"), [("iterations = 10", 10), ('epochs = 1, warmup_iterations = "0.5ep"', 20)]
)
def test_nor_need_the_data_be_there(make, tmp_path, length, iterations):
    file = make(length=length)
    first = reproduce(file, "one", records="kept")
    (source, _) = first.done.sources["fc1", "paper"][0]
    assert (source.train_size, source.test_size) == (1200, 400)
    data = tmp_path / "own.npz"
    whole = data.read_bytes()
    data.unlink()
    again = reproduce(file, "other", records="kept", max_seeds=0)
    for name in ("claims.csv", "rounds.csv"):
        assert again.files[name].read_bytes() == first.files[name].read_bytes()
    pages = [kept.files["report.md"].read_text() for kept in (first, again)]
    told = f"The data set {data} was not on the machine that made this page."
    assert [told in page for page in pages] == [False, True]
    assert f"1200 for training, 400 images for testing, digest {source.digest}." in pages[1]
    assert [kept.done.experiments["fc1", "paper"].part for kept in (first, again)] == [iterations / 30] * 2

    with pytest.raises(InputError, match=r"--max-seeds: 0 trains nothing, and there is nothing of fc1 paper in empty;"):
        reproduce(file, "other", records="empty", max_seeds=0)
    for path in tmp_path.glob("kept/*/*.json"):
        told_otherwise(path, train_size=None)  # as files of before
    if iterations == 10:
        assert claims(reproduce(file, "third", records="kept", max_seeds=0)) == claims(first)
    else:
        with pytest.raises(InputError, match="there is nothing of fc1 paper in kept"):
            reproduce(file, "third", records="kept", max_seeds=0)
    data.write_bytes(whole)
    assert claims(reproduce(file, "third", records="kept", max_seeds=0)) == claims(first)


def test_records_that_stand_in_for_the_data_must_agree_in_it(make, tmp_path):
    file = make(length="epochs = 1")
    first = reproduce(file, "one", records="kept")
    (tmp_path / "own.npz").unlink()
    one, other = (next(tmp_path.glob(f"kept/*/seed{seed}.json")) for seed in (0, 1))
    whole = other.read_bytes()
    for facts, why in (
        ({"digest": "f00"}, "digest f00, there "),
        ({"train_size": 1260}, "training images 1260, there 1200"),
    ):
        other.write_bytes(whole)
        told_otherwise(other, **facts)
        with pytest.raises(InputError, match=f"seed1.json' was trained on another .*seed0.json \\({why}"):
            reproduce(file, "two", records="kept", max_seeds=0)
    other.write_bytes(whole)
    told_otherwise(other, train_size=None)
    assert claims(reproduce(file, "two", records="kept", max_seeds=0)) == claims(first)  # the other one tells
    told_otherwise(one, train_size=None)
    with pytest.raises(InputError, match=r"seed0.json' does not tell how many training images .*own.npz has"):
        reproduce(file, "two", records="kept", max_seeds=0)


@pytest.mark.slow
def test_no_seed_is_added_where_all_is_decided(make):
    kept = reproduce(make(level=0.95, above=99), "one", max_seeds=8)
    assert kept.done.outcomes[0].word == "does not hold"
    assert len(seeds_of(kept)) < 8
    with pytest.raises(InputError, match=r"--max-seeds: 2 leaves no seed to add: fc1 paper begins with 2"):
        reproduce(make(), "one", max_seeds=2)


def test_files_that_differ_in_what_matters_are_refused(make, tmp_path):
    file = make()
    reproduce(file, "one", records="kept")
    assert len(list(tmp_path.glob("kept/*/*.json"))) == 2
    path = next(tmp_path.glob("kept/*/seed0.json"))
    whole = path.read_bytes()
    for damaged, why in (
        (whole[:-40], "cannot be read"),
        (whole.replace(b'"test_accuracy":0.', b'"test_accuracy":1.', 1), "its checksum does not fit"),
        (seal(unseal(whole).decode().replace('"seed":0', '"seed":1')).encode(), "it is not of one seed"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"--records: .*{why}"):
            Folder(tmp_path / "kept")
    path.write_bytes(whole)
    with np.load(tmp_path / "own.npz") as images:
        changed = dict(images)
    changed["x_train"][0, 0, 0] ^= 1
    np.savez(tmp_path / "own.npz", **changed)
    with pytest.raises(InputError, match=r"seed0.json' was trained on another .*own.npz \(digest "):
        reproduce(file, "two", records="kept", max_seeds=0)
