"""Each arm at its own best: chosen by validation accuracy, compared by seed on test accuracy. By hand, and for real."""

import csv
import io
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

import lottery_ticket
from lottery_ticket.analysis.plots import STYLE, style
from lottery_ticket.cli.say import Console
from lottery_ticket.cli.sweep_display import print_study
from lottery_ticket.cli.tuned_display import print_tuned
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import ARMS
from lottery_ticket.study import tuned_figure
from lottery_ticket.study.accuracies import Accuracies, accuracies
from lottery_ticket.study.conclude import Concluded, boundary_of, conclude, tuned_as_csv
from lottery_ticket.study.definition import Study
from lottery_ticket.study.figures import draw_study
from lottery_ticket.study.measures import measure_accuracy
from lottery_ticket.study.opened import Opened, read_study
from lottery_ticket.study.parse import load_study, parse, study_names
from lottery_ticket.study.storage import open_storage
from lottery_ticket.study.sweep import sweep
from lottery_ticket.study.trials import Trial
from lottery_ticket.study.tuning import tune
from tests.analysis.test_verdict import record

LR = {"low": 0.001, "high": 0.1, "log": True, "points": 3}


def study_of(space=None, settings=None, **more):
    values = {"sampler": "grid", "tune": ["lr"], "densities": [50.0], "space": {"lr": LR} | (space or {})}
    return parse("made up", values | {"settings": {"seeds": 3} | (settings or {})} | more, {}, {})


def trial(number, networks, **params):
    """A trial with these networks: (arm, round) → a (validation, test) for each seed; round 1 has 50 % left."""
    told = [
        Accuracies(arm, seed, r, 100 * 0.5**r, *pair)
        for (arm, r), pairs in networks.items()
        for seed, pair in enumerate(pairs)
        if pair
    ]
    return Trial(number, params, "none", {}, "", 0.0, f"run {number}", False, tuple(told))


def alike(validation, *tests):
    return [(validation, test) for test in tests]


BY_HAND = [  # in the order that a grid sampler may have
    trial(
        0,
        {
            ("winning", 0): alike(0.93, 0.92, 0.93, 0.94),
            ("winning", 1): alike(0.95, 0.94, 0.95, 0.96),
            ("reinit", 1): alike(0.90, 0.97, 0.97, 0.98),  # the best on test images, by luck
        },
        lr=0.01,
    ),
    trial(
        1,
        {
            ("winning", 0): alike(0.90, 0.90, 0.90, 0.90),
            ("winning", 1): [(0.97, 0.90), (0.94, 0.90), (0.93, 0.90)],  # its best seed, not its best mean
            ("reinit", 1): [(0.99, 0.1), (0.99, 0.1), None],  # a seed diverged
        },
        lr=0.001,
    ),
    trial(
        2,
        {
            ("winning", 0): alike(0.93, 0.99, 0.99, 0.99),
            ("winning", 1): alike(0.10, 0.20, 0.20, 0.20),
            ("reinit", 1): alike(0.92, 0.93, 0.92, 0.93),
        },
        lr=0.1,
    ),
]


def test_values_are_chosen_by_the_mean_on_validation_images():
    winning, reinit, dense = tune(study_of(), BY_HAND)
    assert [row.arm for row in (winning, reinit, dense)] == ["winning", "reinit", "dense"]
    assert [row.best.trial.params["lr"] for row in (winning, reinit, dense)] == [0.01, 0.1, 0.01]  # of equals the least
    assert [row.best.test for row in (winning, reinit, dense)] == pytest.approx([0.95, 2.78 / 3, 0.93])
    assert [row.best.validation for row in (winning, reinit, dense)] == pytest.approx([0.95, 0.92, 0.93])
    assert [row.best.left for row in (winning, reinit, dense)] == [50, 50, 100]
    assert [(row.trials, len(row.candidates)) for row in (winning, reinit, dense)] == [(3, 3), (3, 2), (3, 3)]
    assert [row.at_any.trial.params["lr"] for row in (winning, reinit, dense)] == [0.01, 0.01, 0.1]
    assert [row.at_edge for row in (winning, reinit, dense)] == [{}, {"lr": "largest"}, {}]


def test_differences_are_paired_by_seed():
    winning, reinit, dense = tune(study_of(), BY_HAND)
    assert winning.behind is winning.behind_any is None
    for gap, pairs in (
        (reinit.behind, [0.94 - 0.93, 0.95 - 0.92, 0.96 - 0.93]),
        (reinit.behind_any, [0.94 - 0.97, 0.95 - 0.97, 0.96 - 0.98]),
        (dense.behind_any, [0.94 - 0.99, 0.95 - 0.99, 0.96 - 0.99]),
    ):
        mean, error = sum(pairs) / 3, stats.sem(pairs)
        assert gap.mean == pytest.approx(mean)
        assert gap.interval == pytest.approx(stats.t.interval(0.95, 2, mean, error))
    assert dense.behind.mean == pytest.approx(0.02)
    assert dense.behind.interval is None  # all seeds differ by the same


def test_a_best_that_no_value_lies_beyond_is_not_bracketed():
    assert tune(study_of(), BY_HAND[:1])[0].at_edge == {"lr": "only"}
    assert tune(study_of(), BY_HAND[:2])[0].at_edge == {"lr": "largest"}
    bracketed = tune(study_of(), [*BY_HAND[::2], trial(3, {("winning", 1): [None] * 3}, lr=0.001)])
    assert bracketed[0].at_edge == {}  # tried, though nothing came of it
    unordered = study_of({"optimizer": {"choices": ["sgd", "adam"]}}, tune=["lr", "optimizer"])
    both = [trial(each.number, {}, **each.params, optimizer="adam") for each in BY_HAND]
    both[2] = trial(2, {("winning", 1): alike(0.9, 0.9, 0.9, 0.9)}, lr=0.1, optimizer="sgd")
    rows = tune(unordered, [*both, trial(9, {("winning", 1): alike(0.8, 0.8, 0.8, 0.8)}, lr=0.01, optimizer="sgd")])
    assert [(row.best and row.best.trial.number, row.at_edge) for row in rows] == [
        (2, {"lr": "largest"}),
        (None, {}),
        (None, {}),
    ]


def test_what_is_searched_and_not_tuned_makes_groups():
    study = study_of({"scope": {"choices": ["layer", "global"]}, "batch_size": {"choices": [60, 30]}})
    trials = [
        trial(n, {("winning", 1): alike(score, score, score, score)}, lr=lr, scope=scope, batch_size=size)
        for n, (lr, scope, size, score) in enumerate(
            [(0.1, "global", 60, 0.5), (0.01, "global", 60, 0.6), (0.1, "layer", 60, 0.9), (0.1, "layer", 30, 0.8)]
        )
    ]
    rows = [row for row in tune(study, trials) if row.arm == "winning"]
    assert [(row.group, row.best.trial.number, row.trials) for row in rows] == [
        ({"scope": "layer", "batch_size": 30}, 3, 1),
        ({"scope": "layer", "batch_size": 60}, 2, 1),
        ({"scope": "global", "batch_size": 60}, 1, 2),
    ]


def test_a_density_is_the_same_round_in_all_trials():
    """Where winning diverged before it, the round before does not stand for it."""
    study = study_of(densities=[40.0, 3.0])
    one = [Accuracies("winning", seed, r, left, 0.9, 0.9) for seed in range(3) for r, left in ((4, 41.0), (3, 51.0))]
    other = [Accuracies("winning", seed, 3, 51.0, 0.99, 0.99) for seed in range(3)]
    trials = [
        Trial(n, {"lr": lr}, "none", {}, "", 0.0, "", False, tuple(there))
        for n, (lr, there) in enumerate(((0.1, one), (0.01, other)))
    ]
    rows = tune(study, trials)
    assert [(row.pct, row.arm, row.best and row.best.trial.number) for row in rows] == [
        (40.0, "winning", 0),
        (40.0, "reinit", None),
        (40.0, "dense", None),
    ]


def validated(made, accuracy):
    """A record with this accuracy on the validation images at its end, and a better one before."""
    point = made.curve[-1]
    before = point.model_copy(update={"iteration": 0, "validation_accuracy": 1.0})
    return made.model_copy(update={"curve": [before, point.model_copy(update={"validation_accuracy": accuracy})]})


def test_what_is_kept_of_a_trial():
    """The dense networks, and the rounds near a density of the winning arm, at their end; nothing that diverged."""
    records = [
        validated(record(arm, seed, r, 0.9 + 0.01 * r, diverged=(arm, seed, r) == ("reinit", 1, 3)), 0.8 + 0.01 * r)
        for arm in ("winning", "reinit")
        for seed in (0, 1)
        for r in range(6)
    ]
    kept = accuracies(records, [51.2])
    expected = {("winning", seed, 0) for seed in (0, 1)}
    expected |= {(arm, seed, r) for arm in ("winning", "reinit") for seed in (0, 1) for r in (2, 3, 4)}
    assert {(each.arm, each.seed, each.round) for each in kept} == expected - {("reinit", 1, 3)}
    (one,) = (each for each in kept if (each.arm, each.seed, each.round) == ("reinit", 1, 2))
    assert (one.left, one.validation, one.test) == pytest.approx((64.0, 0.82, 0.92))
    assert [Accuracies(*each) for each in json.loads(json.dumps(kept))] == kept
    assert accuracies([validated(each, None) for each in records], [51.2]) == []
    ended = [each for each in records if each.arm != "winning" or each.round < 3]  # other arms have masks of their own
    expected = {("reinit", seed, r) for seed in (0, 1) for r in (2, 3, 4, 5)} - {("reinit", 1, 3)}
    assert {(a, s, r) for a, s, r, *_ in accuracies(ended, [51.2]) if a == "reinit"} == expected


def test_the_table_has_what_was_chosen_as_it_is():
    """An lr of 1e-7 is not rounded away; a text that a spreadsheet would run is none."""
    study = study_of({"dataset": {"choices": ["=1+1.npz"]}})
    fine = [trial(0, {("winning", 1): alike(2 / 3, 0.1, 0.2, 0.3)}, lr=1.23456789e-7, dataset="=1+1.npz")]
    rows = list(csv.DictReader(io.StringIO(tuned_as_csv(study, tune(study, fine)))))
    assert rows[0] == {
        "dataset": "'=1+1.npz",
        "density_pct": "50.0",
        "arm": "winning",
        "lr": "1.23456789e-07",
        "trial": "0",
        "weights_remaining_pct": "50.0",
        "validation_accuracy": "0.666667",
        "test_accuracy": "0.2",
        "winning_minus_arm": "",
        "low": "",
        "high": "",
        "any_lr": "1.23456789e-07",
        "any_trial": "0",
        "any_weights_remaining_pct": "50.0",
        "any_validation_accuracy": "0.666667",
        "any_test_accuracy": "0.2",
        "any_winning_minus_arm": "",
        "any_low": "",
        "any_high": "",
        "not_bracketed": "lr:only",
        "seeds": "3",
        "trials": "1",
        "trials_counted": "1",
        "mlflow_run_id": "run 0",
    }
    assert rows[1]["arm"] == "reinit"
    assert rows[1]["lr"] == rows[1]["test_accuracy"] == rows[1]["mlflow_run_id"] == ""


def test_what_a_person_is_told(capsys):
    study = study_of()
    print_tuned(Console(width=200, highlight=False, markup=False), study, tune(study, BY_HAND))
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if "reinit" in line and "│" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[:5] == ["50", "reinit", "0.1!", "92.00", "92.67"]
    assert cells[5] == "+2.33 (-0.54 to +5.20)"  # 1, 3 and 3 points: 2.33 ± 4.303 × 1.155 / √3
    assert cells[6:8] == ["0.01", "97.33"]
    assert "Not bracketed: reinit at 50 %: lr 0.1, the largest that was tried." in told
    assert "Left out: reinit at 50 %: 1 of 3 trials, where not all seeds got there." in told
    assert "test accuracy: the most that an arm has at any value" in " ".join(told.split())
    print_tuned(Console(), study, [])
    assert "No arm has a best yet: no trial has a round near 50 % of the weights." in capsys.readouterr().out


def test_the_figure_shows_every_value_and_marks_the_chosen_ones(monkeypatch, tmp_path):
    monkeypatch.setitem(STYLE, "figure.dpi", 50)
    study = study_of()
    rows = tune(study, BY_HAND)
    with style():
        figure = tuned_figure._draw(study, rows, "n")
        (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert lines["winning"].get_xydata() == pytest.approx(np.array([[0.001, 90], [0.01, 95], [0.1, 20]]))
    assert lines["reinit"].get_xdata().tolist() == [0.01, 0.1]
    assert to_rgb(lines["winning"].get_color()) == to_rgb(ARMS["winning"].colour)
    rings = {line.get_color(): line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"}
    squares = {line.get_color(): line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "s"}
    assert rings[ARMS["winning"].colour] == squares[ARMS["winning"].colour] == [0.01]
    assert (rings[ARMS["reinit"].colour], squares[ARMS["reinit"].colour]) == ([0.1], [0.01])
    space = {"scope": {"choices": ["layer", "global"]}, "weight_decay": {"choices": [0, 1e-4]}}
    several = study_of(space, tune=["lr", "weight_decay"])
    grouped = [
        replace(each, params=dict(each.params, scope=scope, weight_decay=0))
        for each in BY_HAND
        for scope in ("layer", "global")
    ]
    paths = tuned_figure.draw_tuned(several, tune(several, grouped), "a $tudy", tmp_path)
    assert [path.name for path in paths] == ["tuned-1.png", "tuned-2.png"]
    assert tuned_figure.draw_tuned(study, tune(study, [trial(0, {}, lr=0.1)]), "n", tmp_path) == []


def test_any_arms_are_tuned_and_those_that_cannot_win_go_by_accuracy():
    for arms in (["supermask", "edge-popup"], ["winning"], ["winning", "random-mask"]):
        study = study_of(settings={"arms": arms})
        assert (study.objective, study.judged) == ("validation-accuracy", False)
        assert (study.measures, study.directions) == (["validation_accuracy"], ["maximize"])
        assert study.definition()["objective"] == "validation-accuracy"
    assert study_of().objective == "smallest-ticket"
    assert study_of(objective="phase").objective == "phase"
    assert not study_of(objective="validation-accuracy").judged


LEARNED = [
    trial(
        n,
        {
            ("edge-popup", 1): alike(validation, *tests),
            ("supermask", 1): alike(1 - validation, 0.80, 0.82, 0.81),
            ("edge-popup", 2): alike(0.5, 0.5, 0.5, 0.5),
        },
        lr=lr,
    )
    for n, (lr, validation, tests) in enumerate(((0.1, 0.7, (0.90, 0.91, 0.89)), (0.01, 0.6, (0.95, 0.95, 0.95))))
]


def test_without_winning_all_is_compared_with_the_first_arm():
    study = study_of(settings={"arms": ["edge-popup", "supermask"]})
    first, other = tune(study, LEARNED)  # there is no dense network
    assert [(row.arm, row.best.trial.params["lr"]) for row in (first, other)] == [
        ("edge-popup", 0.1),
        ("supermask", 0.01),
    ]
    assert first.behind is None
    pairs = [0.90 - 0.80, 0.91 - 0.82, 0.89 - 0.81]
    assert other.behind.mean == pytest.approx(0.09)
    assert other.behind.interval == pytest.approx(stats.t.interval(0.95, 2, sum(pairs) / 3, stats.sem(pairs)))
    rows = list(csv.DictReader(io.StringIO(tuned_as_csv(study, [first, other]))))
    assert [row["edge-popup_minus_arm"] for row in rows] == ["", "0.09"]
    assert "winning_minus_arm" not in rows[0]


def test_of_a_trial_without_winning_every_round_is_kept_and_its_accuracy_measured():
    """A supermask leaves of each tensor what it learns; the dense round of an arm that learns is of no interest."""
    left = {0: 1.0, 1: 0.6, 2: 0.2}
    records = [
        validated(record("supermask", seed, r, 0.9), 0.5 + 0.1 * r + 0.01 * seed).model_copy(
            update={"density": left[r]}
        )
        for seed in (0, 1)
        for r in ((0, 1, 2) if seed else (0, 1))  # one seed ended before the other
    ]
    kept = accuracies(records, [50.0])
    assert {(each.seed, each.round) for each in kept} == {(0, 1), (1, 1), (1, 2)}
    assert measure_accuracy(records) == {"validation_accuracy": pytest.approx((0.60 + 0.71) / 2), "seconds": 5.0}


def test_what_a_person_is_told_of_a_study_that_is_not_judged(capsys):
    study = study_of(settings={"arms": ["edge-popup", "supermask"]})
    trials = [
        replace(each, phase="", best=each.number == 1, measures={"validation_accuracy": 0.5 + 0.1 * each.number})
        for each in LEARNED
    ]
    opened = Opened("mine", study, None, "", False)
    concluded = Concluded([], Path("trials.csv"), {}, [], tune(study, trials), Path("tuned.csv"))
    print_study(opened, trials, concluded)
    told = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    assert rows[:2] == [["1*", "0.01", "60.00"], ["0", "0.1", "50.00"]]
    assert "edge-popup" in told
    assert not any(word in told for word in ("winning", "Winning", "dense"))
    assert boundary_of(study, trials) == []


def test_no_figure_says_where_tickets_win_where_that_is_not_asked(tmp_path):
    study = study_of(settings={"arms": ["edge-popup", "supermask"]})
    assert draw_study(study, LEARNED, "mine", tmp_path, {}) == []


TUNED = """tune = ["lr"]
sampler = "grid"
densities = [50.0]

[settings]
validation_size = 200

[space]
lr = { low = 1e-3, high = 1e-1, log = true, points = 4 }
"""
WRONG = [
    ('["lr"]', '["lrr"]', "my.toml: tune: 'lrr' is unknown; did you mean 'lr'? allowed: lr"),
    ('["lr"]', '["momentum"]', "my.toml: tune: 'momentum' is unknown; allowed: lr"),
    ('["lr"]', '["lr", "lr"]', "my.toml: tune: 'lr,lr' names one twice; allowed: each once"),
    ('["lr"]', '"lr"', "my.toml: tune: 'lr' is not allowed; allowed: a list of what [space] searches, as [\"lr\"]"),
    ('["lr"]', "[1]", "my.toml: tune.0: 1 is not allowed; allowed: a list of what [space] searches"),
    (
        "[settings]",
        'objective = "phase"\n[settings]\narms = ["supermask"]',
        "my.toml: settings.arms: 'supermask' cannot show that tickets win; allowed: winning,reinit and more; with "
        "objective validation-accuracy any",
    ),
    (
        'tune = ["lr"]',
        'objective = "validation-accuracy"',
        "my.toml: objective: 'validation-accuracy' is for a study that tunes; allowed: smallest-ticket, phase",
    ),
    ("tune", "end_early.rounds = 9\ntune", "my.toml: end_early: 'rounds' asks winning alone, and would end trials of"),
    ("[50.0]", "[]", "my.toml: densities: '' is empty; allowed: percents of weights left, as 10.7"),
    ('"grid"', '"tpe"', "my.toml: sampler: 'tpe' need not spread trials evenly, and one that looks for tickets would"),
    ('"grid"', '"gp"', "would tune winning alone; allowed with tune: grid, qmc"),
    ('"grid"', '"boundary"\nobjective = "phase"', "allowed with tune: grid, qmc"),
    ("validation_size = 200", "validation_size = 0", "my.toml: settings.validation_size: 0 leaves no images to choose"),
    ("[settings]\nvalidation_size = 200", 'preset = "openlth-lenet"', "validation_size: 0 leaves no images to choose"),
    (
        "[settings]\nvalidation_size = 200",
        "[space.validation_size]\nchoices = [5]",
        "my.toml: space: 'validation_size' cannot be searched with",
    ),
    (
        '"grid"',
        '"qmc"\nspace.momentum = { low = 0.1, high = 0.9 }',
        "my.toml: space.momentum: '0.1 to 0.9' is one value a trial; allowed beside tune: choices, or sampler grid",
    ),
    *(
        ('["lr"]', f'["lr", "{name}"]\nspace.{name} = {{ choices = [{value}] }}', f"my.toml: tune: '{name}' would comp")
        for name, value in (("prune_rate", 0.2), ("epochs", 3), ("width", 0.5), ("dataset", '"mnist"'), ("rounds", 3))
    ),
]


def text_of(old, new):
    """The file with what is to be wrong; keys before the tables."""
    head, table = TUNED.replace(old, new, 1), ""
    if "\nspace." in new:
        line = next(line for line in head.splitlines() if line.startswith("space."))
        head, table = head.replace(line + "\n", ""), line.removeprefix("space.") + "\n"
    return head + table


@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=[f"{new} {said}" for _, new, said in WRONG])
def test_what_cannot_be_tuned_is_one_line(old, new, said):
    with pytest.raises(InputError) as told:
        parse("my.toml", tomllib.loads(text_of(old, new)), {}, {})
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_options_are_called_by_their_names(tmp_path):
    (tmp_path / "my.toml").write_text(TUNED)
    with pytest.raises(InputError, match=r"^--sampler: 'tpe' need not spread trials evenly"):
        load_study(tmp_path / "my.toml", sampler="tpe")
    with pytest.raises(InputError, match=r"^--validation-size: 0 leaves no images to choose values by"):
        load_study(tmp_path / "my.toml", validation_size=0)
    assert load_study(tmp_path / "my.toml", sampler="qmc").tune == ("lr",)


def test_a_study_is_another_where_it_tunes_and_else_as_it_was():
    tuned, plain = (parse("m", tomllib.loads(text), {}, {}) for text in (TUNED, TUNED.replace('tune = ["lr"]', "")))
    assert tuned.definition() == plain.definition() | {"tune": "lr"}
    stored = json.loads(plain.model_dump_json())
    del stored["tune"]  # as an older version wrote it
    assert Study.model_validate(stored) == plain
    assert not any("tune" in load_study(name).definition() for name in study_names() if name != "tuned")
    two = study_of({"momentum": {"choices": [0.5, 0.9]}}, {"optimizer": "sgd"})
    orders = [two.model_copy(update={"tune": names}).definition() for names in (("lr", "momentum"), ("momentum", "lr"))]
    assert orders[0] == orders[1]


STUDY = """sampler = "grid"
trials = 2
batch = 2
densities = [64.0, 40.96]
tune = ["lr"]

[settings]
dataset = "{dataset}"
model = "mlp:12"
validation_size = 200
iterations = 30
evaluate_every = 10
rounds = 5
seeds = 3
arms = ["winning", "reinit", "small-dense"]

[space]
lr = {{ choices = [1e-3, 3e-2] }}
"""


@pytest.mark.slow
def test_a_study_for_real_agrees_with_what_mlflow_has(lt, small_npz, tmp_path):
    """From the records of all trials, chosen and compared again."""
    (tmp_path / "mine.toml").write_text(STUDY.format(dataset=small_npz))
    done = lt("sweep", "mine.toml", "--json")
    assert done.code == 0, done.err
    store = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    runs = {
        each["params"]["lr"]: lottery_ticket.load_run(each["run_id"], tracking_uri=store)
        for each in done.json["trials"]
    }
    assert runs.keys() == {1e-3, 3e-2}
    with (tmp_path / "mlruns/studies/mine/tuned.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["density_pct"], row["arm"]) for row in rows] == [
        (pct, arm) for pct in ("64.0", "40.96") for arm in ("winning", "reinit", "small-dense", "dense")
    ]
    for row in rows:
        arm, r = ("winning", 0) if row["arm"] == "dense" else (row["arm"], {"64.0": 2, "40.96": 4}[row["density_pct"]])
        found = {
            lr: {each.seed: each for each in run.rounds if (each.arm, each.round) == (arm, r)}
            for lr, run in runs.items()
        }
        validation = {
            lr: sum(each.curve[-1].validation_accuracy for each in there.values()) / 3 for lr, there in found.items()
        }
        test = {lr: sum(each.test_accuracy for each in there.values()) / 3 for lr, there in found.items()}
        best, most = max(validation, key=validation.get), max(test, key=test.get)
        assert len(set(validation.values())) == 2
        assert (float(row["lr"]), float(row["any_lr"])) == (best, most)
        assert float(row["validation_accuracy"]) == pytest.approx(validation[best], abs=1e-6)
        assert float(row["test_accuracy"]) == pytest.approx(test[best], abs=1e-6)
        assert float(row["weights_remaining_pct"]) == pytest.approx(found[best][0].weights_remaining_pct)
        assert row["mlflow_run_id"] == runs[best].run_id
        assert (row["seeds"], row["trials"], row["trials_counted"]) == ("3", "2", "2")
        assert row["not_bracketed"] == f"lr:{'least' if best == 1e-3 else 'largest'}"
        if row["arm"] == "winning":
            first = {seed: each.test_accuracy for seed, each in found[best].items()}
            assert row["winning_minus_arm"] == row["any_winning_minus_arm"] == ""
            continue
        for prefix, lr in (("", best), ("any_", most)):
            gaps = [first[seed] - each.test_accuracy for seed, each in found[lr].items()]
            assert float(row[f"{prefix}winning_minus_arm"]) == pytest.approx(sum(gaps) / 3, abs=1e-6)
            low, high = stats.t.interval(0.95, 2, sum(gaps) / 3, stats.sem(gaps))
            assert (float(row[f"{prefix}low"]), float(row[f"{prefix}high"])) == pytest.approx((low, high), abs=1e-6)
    assert [each["arm"] for each in done.json["tuned"]] == [row["arm"] for row in rows]
    client = runs[1e-3].client
    assert {"tuned.csv", "trials.csv"} <= {item.path for item in client.list_artifacts(done.json["run_id"])}
    assert "figures/tuned.png" in {item.path for item in client.list_artifacts(done.json["run_id"], "figures")}
    shown = lt("sweep", "show", "mine", "--dest", "again")
    assert shown.code == 0, shown.err
    assert "each arm at its own best lr" in shown.out
    assert (tmp_path / "again/tuned.csv").read_bytes() == (tmp_path / "mlruns/studies/mine/tuned.csv").read_bytes()
    other = lt("sweep", "mine.toml", "--validation-size", 0)
    assert (other.code, len(other.err.splitlines())) == (2, 1)
    plain = STUDY.replace('tune = ["lr"]', "").format(dataset=small_npz)
    (tmp_path / "mine.toml").write_text(plain)
    another = lt("sweep", "mine.toml")
    assert another.code == 2
    assert "is in the storage with tune = 'lr', not 'nothing'; allowed: the same study, or --fresh" in another.err


@pytest.mark.slow
def test_learned_masks_are_tuned_alone(lt, small_npz, tmp_path):
    """From the records of all trials; there is no verdict, and nothing is said of tickets that win."""
    text = STUDY.format(dataset=small_npz).replace(
        '["winning", "reinit", "small-dense"]', '["edge-popup", "supermask"]'
    )
    (tmp_path / "mine.toml").write_text(text)
    done = lt("sweep", "mine.toml", "--json")
    assert done.code == 0, done.err
    store = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    runs = {
        each["params"]["lr"]: lottery_ticket.load_run(each["run_id"], tracking_uri=store)
        for each in done.json["trials"]
    }
    for each in done.json["trials"]:
        ends = [r.curve[-1].validation_accuracy for r in runs[each["params"]["lr"]].rounds if r.round == 4]
        assert each["measures"]["validation_accuracy"] == pytest.approx(sum(ends) / 6)
        assert each["measures"].keys() == {"validation_accuracy", "seconds"}
        assert each["phase"] == ""
    rows = [row for row in done.json["tuned"] if row["arm"] == "edge-popup"]
    assert [row["density_pct"] for row in rows] == [64.0, 40.96]
    for row, r in zip(rows, (2, 4), strict=True):
        there = {lr: [e for e in run.rounds if (e.arm, e.round) == ("edge-popup", r)] for lr, run in runs.items()}
        validation = {lr: sum(e.curve[-1].validation_accuracy for e in each) / 3 for lr, each in there.items()}
        best = max(validation, key=validation.get)
        assert (row["lr"], row["validation_accuracy"]) == (best, pytest.approx(validation[best]))
        assert row["test_accuracy"] == pytest.approx(sum(e.test_accuracy for e in there[best]) / 3)
    study = runs[1e-3].client.get_run(done.json["run_id"])
    assert study.data.metrics.keys() == {"trials", "seconds", "seconds_saved"}
    assert sorted(path.name for path in (tmp_path / "mlruns/studies/mine").iterdir()) == [
        "trials.csv",
        "tuned.csv",
        "tuned.png",
    ]
    shown = lt("sweep", "show", "mine", "--dest", "again")
    assert shown.code == 0, shown.err
    assert "each arm at its own best lr" in shown.out
    assert "inning" not in shown.out


@pytest.mark.slow
def test_no_trial_ends_for_what_winning_alone_came_to(small_npz, tmp_path, monkeypatch):
    """Rounds with a hundredth of the weights are far below dense, and other arms may have their best there."""
    monkeypatch.chdir(tmp_path)
    settings = {"dataset": str(small_npz), "model": "mlp:12", "validation_size": 200, "iterations": 20, "rounds": 6}
    more = {"trials": 1, "settings": settings | {"prune_rate": 0.8, "seeds": 1}, "space": {"lr": {"choices": [0.01]}}}
    for name, tune_ in (("plain", []), ("tuned", ["lr"])):
        study = parse(name, {"sampler": "grid", "tune": tune_, **more}, {}, {})
        (done,) = sweep(study, name).trials
        rounds = {each.round for each in lottery_ticket.load_run(done.run_id).rounds}
        assert bool(done.ended_early) == (name == "plain")
        assert rounds == set(range(6) if name == "tuned" else range(4))
    opened = read_study("plain", open_storage())
    assert conclude(opened, None, tmp_path / "plain").tuned_table is None
    assert not (tmp_path / "plain/tuned.csv").exists()
