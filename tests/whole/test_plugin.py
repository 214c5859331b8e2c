"""A package of guests, really installed: each goes through the commands that take it; ours through its checks."""

import importlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from lottery_ticket import testing
from lottery_ticket.analysis import Analysis, Finding
from lottery_ticket.analysis.analyses import ANALYSES
from lottery_ticket.data.augment import AUGMENTATIONS
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.executors import EXECUTORS
from lottery_ticket.method.arms import ARMS
from lottery_ticket.method.criteria import CRITERIA
from lottery_ticket.models.network import MODELS
from lottery_ticket.plugins import KINDS
from lottery_ticket.runs.listener import Listener
from lottery_ticket.study import PerTrial
from lottery_ticket.study.definition import SAMPLERS, Range
from lottery_ticket.study.samplers import make_sampler

GUESTS = Path(__file__).parents[1] / "plugin"
FLAGS = ["--dataset", "stripes", "--model", "tiny-conv", "--validation-size", "60", "--rounds", "3"]
FLAGS += ["--iterations", "12", "--batch-size", "20"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> str:
    """The folder that the package of guests was installed into, by pip, from its source."""
    site = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(GUESTS), str(source)], check=True)
    done = subprocess.run([*pip, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(site)


def _put_on_the_path(folder):
    sys.path.insert(0, folder)


@pytest.fixture
def guests(lt, installed):
    """`lt` in whose environment the package is installed."""

    def run(*arguments):
        done = lt(*arguments, before=partial(_put_on_the_path, installed))
        assert done.code == 0, (arguments, done.err)
        return done

    return run


@pytest.mark.slow
def test_all_of_it(guests, tmp_path):
    there = guests("plugins", "--json").json
    mine = {(each["kind"], each["name"]) for each in there if each["package"] == "lt-guests 1.2.3"}
    guests_of = {("arms", "mean-signs"), ("criteria", "snip-first"), ("models", "tiny-conv"), ("samplers", "corners")}
    assert guests_of <= mine
    assert len(mine) == 10
    assert not any(each["fault"] for each in there)
    assert "lt-guests 1.2.3" in guests("plugins", "arms").out

    arms = "winning,reinit,mean-signs,last-signs"
    flags = [*FLAGS, "--arms", arms, "--criterion", "snip-first", "--augment", "turn,flip", "--executor", "one-by-one"]
    result = guests("run", *flags, "--listener", "diary", "--json").json
    run = result["run_id"]
    assert [line.partition(":")[0] for line in (tmp_path / "diary.txt").read_text().splitlines()] == ["0", "1", "2"]
    assert {each["arm"] for each in result["rounds"]} == set(arms.split(","))
    left = {each["round"]: each["survivors"] for each in result["rounds"] if each["arm"] == "mean-signs"}
    assert left == {each["round"]: each["survivors"] for each in result["rounds"] if each["arm"] == "winning"}

    for arm in ("mean-signs", "last-signs"):
        guests("pull", f"{run}:2:{arm}-seed0", tmp_path / arm)
    pulled = guests("pull", f"{run}:2", tmp_path / "mine", "--trained", "--json").json
    assert pulled["arm"] == "winning" or pulled
    trained = guests("train", f"{run}:2", "--arms", "winning,reinit,mean-signs", "--json").json
    again = next(each for each in trained["rounds"] if (each["arm"], each["round"]) == ("winning", 2))
    found = next(each for each in result["rounds"] if (each["arm"], each["round"]) == ("winning", 2))
    assert again["test_accuracy"] == found["test_accuracy"]

    told = guests("analyse", run, "signs-kept", "--json").json
    assert [row["round"] for row in told["table"]] == [0, 1, 2]
    assert all(0.5 < row["same_sign"] <= 1 for row in told["table"])

    (tmp_path / "study.toml").write_text(
        'sampler = "corners"\ntrials = 2\nbatch = 2\ndensities = [80.0]\n'
        '[settings]\nmodel = "tiny-conv"\ndataset = "stripes"\nvalidation_size = 60\niterations = 6\n'
        'batch_size = 20\nrounds = 2\ncriterion = "snip-first"\n[space.lr]\nlow = 1e-3\nhigh = 1e-2\nlog = true\n'
    )
    assert len(guests("sweep", "study.toml", "--json").json["trials"]) == 2

    (tmp_path / "report.toml").write_text(
        'title = "Signs"\nsource = "https://blog.example/signs"\nabout = "Signs matter."\n'
        '[setups.small]\npreset = "quick"\nquick = { rounds = 2, iterations = 6, seeds = 2 }\n'
        "report = { rounds = 2, iterations = 6, seeds = 2 }\n"
        '[variants.paper]\nsays = "as it is"\nsettings = { arms = ["winning", "mean-signs"], model = "tiny-conv", '
        'dataset = "stripes", validation_size = 60, batch_size = 20, epochs = 0 }\n'.replace(", epochs = 0", "")
        + '[[claims]]\nid = "1"\nfigure = "1"\nsays = "They are near."\nvariants = ["paper"]\n'
        '[[claims.parts]]\nsays = "near"\nsetup = "small"\nminus = "mean-signs"\nat_pct = 80\nabove = -50\nbelow = 50\n'
    )
    done = guests("reproduce", "report.toml", "--json").json
    assert done["claims"]


@pytest.mark.slow
def test_what_is_missing_is_one_line(guests, lt, tmp_path):
    flags = [*FLAGS, "--arms", "winning,mean-signs", "--criterion", "snip-first"]
    run = guests("run", *flags, "--json").json["run_id"]
    for command, kind in (
        (["run", "--resume", run], "--arms: 'mean-signs' is unknown"),
        (["pull", f"{run}:1:mean-signs-seed0"], "'mean-signs' is unknown"),
        (["run", *FLAGS], "--dataset: 'stripes' is unknown"),
        (["run", "--criterion", "snip-first"], "--criterion: 'snip-first' is unknown"),
        (["run", "--augment", "turn"], "--augment: 'turn' is unknown"),
        (["run", "--executor", "one-by-one"], "--executor: 'one-by-one' is unknown"),
        (["run", "--listener", "diary"], "--listener: 'diary' is unknown"),
        (["analyse", run, "signs-kept"], "ANALYSIS: 'signs-kept' is unknown"),
    ):
        done = lt(*command)
        assert (done.code, done.out) == (2, ""), (command, done.err)
        assert kind in done.err
        assert done.err.count("\n") == 1
    assert len(lt("tickets", "--json").json) >= 1  # the list needs none of them


MINE = """
from lottery_ticket.method import Arm, Criterion, Moment, Start

def _halved(at: Moment) -> Start:
    return Start(at.winning, {name: value / 2 for name, value in at.initial.items()})

Halved = Arm(_halved, own_mask=False, control=True)
largest_first = Criterion(lambda at: {name: -at.weights[name].abs() for name in at.mask})
nothing = 3
"""


@pytest.mark.slow
def test_code_of_ones_own_is_named_by_flag_alone(lt, quick_flags, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    flags = [*quick_flags, "--arms", "winning,mine:Halved", "--criterion", "mine:largest_first"]
    result = lt("run", *flags, "--json")
    assert result.code == 0, result.err
    run = result.json["run_id"]
    assert result.json["verdict"]["control"] == "mine:Halved"
    (tmp_path / "it.toml").write_text('criterion = "mine:largest_first"\n')
    for command, told in (
        (["run", "--config", "it.toml"], "it.toml: criterion: 'mine:largest_first' is code, which no file has run"),
        (["run", "--resume", run], "--arms: '' is not what this run trains; allowed: winning,mine:Halved, which runs"),
        (["pull", f"{run}:1:mine:Halved-seed0", "there"], ""),
        (["run", "--criterion", "mine:nothing"], "--criterion: 'mine:nothing' is a int; allowed: a lottery_ticket.me"),
        (["run", "--arms", "winning,mine:none"], "--arms: 'mine:none' cannot be imported: AttributeError"),
    ):
        done = lt(*command)
        assert told in done.err, done.err
        assert done.code == (2 if told else 0), done.err
    again = lt("run", "--resume", run, "--arms", "winning,mine:Halved", "--criterion", "mine:largest_first", "--json")
    assert again.code == 0, again.err
    assert again.json["rounds"] == result.json["rounds"]


@pytest.mark.parametrize("name", ARMS)
def test_our_arms(name):
    testing.check_arm(ARMS[name])


@pytest.mark.parametrize("name", CRITERIA)
def test_our_criteria(name):
    testing.check_criterion(CRITERIA[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_our_models(name):
    testing.check_model(name, (3, 16, 16), width=0.125)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_our_augmentations(name):
    testing.check_augmentation(AUGMENTATIONS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTORS)
def test_our_executors(name):
    testing.check_executor(EXECUTORS[name])


@pytest.mark.parametrize("name", ANALYSES)
def test_our_analyses(name):
    testing.check_analysis(ANALYSES[name])


@pytest.mark.parametrize("name", SAMPLERS)
def test_our_samplers(name):
    space = {name: each for name, each in testing._STUDY.space.items() if isinstance(each, Range)}
    chosen = testing._STUDY.model_copy(update={"sampler": name, "space": space})
    testing.check_sampler(make_sampler, chosen)


def test_our_listener_and_data_set():
    testing.check_listener(Listener)
    testing.check_dataset(lambda: load_images("mnist"))


def test_the_guests(installed, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(installed)
    guests = {kind: importlib.import_module(f"lt_guests.{kind}") for kind in KINDS}
    testing.check_analysis(guests["analyses"].signs_kept)
    testing.check_arm(guests["arms"].mean_signs)
    testing.check_arm(guests["arms"].last_signs)
    testing.check_augmentation(guests["augmentations"].turn)
    testing.check_criterion(guests["criteria"].snip_first)
    testing.check_dataset(guests["datasets"].stripes)
    testing.check_executor(guests["executors"].one_by_one)
    testing.check_model(guests["models"].tiny_conv)
    testing.check_sampler(guests["samplers"].corners)
    monkeypatch.chdir(tmp_path)
    testing.check_listener(guests["listeners"].Diary)


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (lambda study: optuna.samplers.RandomSampler(seed=study.sampler_seed), "the same trials in every process"),
        (lambda study: optuna.samplers.RandomSampler(), "other trials when the study is begun again"),
        (lambda study: PerTrial(lambda number: _Global()), "draws from a global generator"),
        (lambda study: 3, "gives a int"),
    ],
)
def test_samplers_that_are_not_fit(sampler, told):
    with pytest.raises(AssertionError, match=told):
        testing.check_sampler(sampler)


class _Global(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, param_name, param_distribution):
        np.random.random()
        return super().sample_independent(study, trial, param_name, param_distribution)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (lambda run: Finding("Masks differ."), "says one text"),
        (lambda run: Finding([], [{"a": 1}, {"b": 1}]), "rows with other columns"),
        (lambda run: Finding([], [{"a": torch.tensor(1)}]), "has a Tensor in column a"),
        (lambda run: Finding([]), "finds nothing"),
        (lambda run: Finding([str(torch.rand(1))]), "finds other things again"),
        (lambda run: run.trained("winning", 0, 1)["conv1.weight"].zero_(), "changes conv1.weight of the run"),
        (lambda run: "differ", "gives a str"),
    ],
)
def test_analyses_that_are_not_fit(found, told):
    with pytest.raises(AssertionError, match=told):
        testing.check_analysis(Analysis(found))
