"""Figures of studies, from made-up trials: what is drawn, where it is shaded, what is left out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lottery_ticket.analysis.plots import STYLE, style
from lottery_ticket.study import figures, maps
from lottery_ticket.study.importance import Share
from lottery_ticket.study.parse import parse
from lottery_ticket.study.trials import Trial

LR = {"low": 1e-4, "high": 0.1, "log": True, "points": 4}
RATE = {"low": 0.1, "high": 0.7, "points": 3}


@pytest.fixture(autouse=True)
def _style(monkeypatch):
    monkeypatch.setitem(STYLE, "figure.dpi", 50)
    monkeypatch.setattr(maps, "_CELLS", 60)
    with style():
        yield


def study(densities=(21.0, 10.7), **space):
    return parse("made up", {"space": space, "densities": densities}, {}, {})


def trial(params, won=True, smallest=None, dense=0.98, at=(21.0, 10.7), winning=0.98, reinit=0.965):
    smallest = (10.0 if won else 100.0) if smallest is None else smallest
    measures = {"smallest_winning_pct": smallest, "smallest_matching_pct": smallest, "dense_accuracy": dense}
    measures |= {"winning_margin": 0.01 if won else -0.01, "cost": 1.0, "seconds": 1.0}
    for pct in at:
        measures[f"weights_remaining_pct/{pct:g}pct"] = pct
        measures[f"winning_accuracy/{pct:g}pct"] = winning
        measures[f"reinit_accuracy/{pct:g}pct"] = reinit
        measures[f"winning_minus_reinit/{pct:g}pct"] = winning - reinit
    return Trial(0, params, "winning" if won else "none", measures, "", 0.0, "", False)


def drawn(axes, label):
    """y values of the lines with that label."""
    return [line.get_ydata() for line in axes.lines if line.get_label() == label]


LINE = [trial({"lr": lr}, won=lr in (1e-3, 1e-2)) for lr in (1e-2, 1e-4, 1e-1, 1e-3)]
MAP = [
    trial({"lr": lr, "prune_rate": rate}, won=lr < 0.01 and rate < 0.5)
    for lr in (1e-4, 1e-3, 1e-2, 1e-1)
    for rate in (0.1, 0.4, 0.7)
]
MANY = {"lr": LR, "prune_rate": RATE, "optimizer": {"choices": ["adam", "adamw"]}}
SHARES = {"lr": Share(0.6, 0.5, 0.7), "prune_rate": Share(0.2, 0.1, 0.3)}
SHARES |= {"interactions": Share(0.1, 0.0, 0.1), "unexplained": Share(0.1, 0.05, 0.2)}
NOTHING = {"lr": Share(0.0, 0.0, 0.0), "optimizer": Share(0.0, 0.0, 0.0), "unexplained": Share(1.0, 1.0, 1.0)}
LINES, MAPS = ["accuracy", "smallest"], ["map_smallest", "map_gap"]
FEW = {"lr": LR, "optimizer": {"choices": ["adam", "adamw"]}}


@pytest.mark.parametrize(
    ("space", "trials", "importance", "files"),
    [
        ({"lr": LR}, [], {}, []),
        ({"lr": LR}, LINE, {}, LINES),
        ({"lr": LR}, LINE[:1], {}, LINES),
        ({"lr": LR}, [trial({"lr": 0.01}, at=(), won=False)] * 2, {}, LINES),
        ({"lr": LR}, [trial({"lr": lr}, winning=1, reinit=1, dense=1) for lr in (0.001, 0.1)], {}, LINES),
        ({"optimizer": {"choices": ["sgd", "adam"]}}, [trial({"optimizer": "adam"})], {}, LINES),
        ({"lr": LR, "prune_rate": RATE}, MAP, SHARES, [*MAPS, "importance"]),
        ({"lr": LR, "prune_rate": RATE}, MAP[:1], {}, MAPS),
        ({"lr": LR, "prune_rate": RATE}, MAP[-4:], {}, MAPS),
        ({"lr": LR, "prune_rate": RATE}, [trial(MAP[0].params, at=())], {}, ["map_smallest"]),
        (FEW, [trial({"lr": 0.01, "optimizer": "adamw"})], NOTHING, ["smallest", "importance"]),
        (MANY, [trial({**each.params, "optimizer": "adam"}) for each in MAP], {}, ["smallest"]),
    ],
)
def test_files_are_those_that_the_trials_allow(space, trials, importance, files, tmp_path):
    paths = figures.draw_study(study(**space), trials, "a $tudy", tmp_path / "new" / "figures", importance)
    assert [path.name for path in paths] == [f"{name}.png" for name in files]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_shaded_where_tickets_win_half_way_to_the_next_trial():
    for figure in (figures.draw_accuracy(study(lr=LR), LINE, "n"), figures.draw_smallest(study(lr=LR), LINE, "n")):
        for axes in figure.axes:
            (region,) = axes.patches
            begin, end = region.get_x(), region.get_x() + region.get_width()
            assert (begin, end) == pytest.approx((math.sqrt(1e-7), math.sqrt(1e-3)))


def test_regions_at_the_ends_and_apart():
    ends = figures.winning_regions([1, 2, 4, 8], [True, False, False, True], 0, 100, False)
    assert ends == [(0.5, 1.5), (6, 10)]
    assert figures.winning_regions([1, 2], [True, True], 0.9, 2.1, False) == [(0.9, 2.1)]
    assert figures.winning_regions([1, 10], [False, True], 1, 20, True) == [(pytest.approx(10**0.5), 20)]
    assert figures.winning_regions([3], [True], 0, 10, False) == []


def test_choices_are_shaded_only_if_they_have_an_order():
    rates = study(prune_rate={"choices": [0.4, 0.1, 0.2]})
    trials = [trial({"prune_rate": rate}, won=rate < 0.3) for rate in (0.4, 0.2, 0.1)]
    (axes,) = figures.draw_smallest(rates, trials, "n").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "0.2", "0.4"]
    (region,) = axes.patches
    assert (region.get_x(), region.get_width()) == (-0.5, 2)
    optimisers = study(optimizer={"choices": ["sgd", "adam"]})
    (axes,) = figures.draw_smallest(optimisers, [trial({"optimizer": name}) for name in ("adam", "sgd")], "n").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["sgd", "adam"]
    assert not axes.patches


def test_networks_that_did_not_learn_squash_nothing():
    failed = trial({"lr": 1e-1}, won=False, winning=0.6, reinit=0.1, dense=0.1)
    above, below = figures.draw_accuracy(study(lr=LR), [*LINE[:2], LINE[3], failed], "n").axes
    pixels = above.transData.transform([(1e-3, accuracy) for accuracy in (98, 96.5)])[:, 1]
    assert pixels[0] - pixels[1] > 0.1 * above.bbox.height
    bottom = above.transData.transform([(1e-3, 10)])[0, 1]
    assert above.bbox.y0 <= bottom < pixels[1]
    assert 1.5 < below.get_ylim()[1] < 2.5  # not the 50 points between two networks that did not learn
    (marks,) = {tuple(line.get_xdata()) for line in below.lines if line.get_marker() == "^"}
    assert marks == (1e-1,)


def test_what_was_not_measured_is_left_out():
    trials = [*LINE[:3], trial({"lr": 1e-3}, at=(21.0,), won=False)]
    figure = figures.draw_accuracy(study((51.2, 21.0, 10.7), lr=LR), trials, "n")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "21 % left" in labels
    assert "51.2 % left" not in labels
    for axes in figure.axes:
        wide, narrow = drawn(axes, "winning")
        assert np.isfinite(wide).all()
        assert np.isnan(narrow).tolist() == [False, True, False, False]


def test_no_ticket_is_hollow_at_the_top():
    (axes,) = figures.draw_smallest(study(lr=LR), LINE, "n").axes
    *_, there, none = [line for line in axes.lines if line.get_marker() == "o"]
    assert np.isnan(there.get_ydata()).tolist() == [True, False, False, True]
    assert none.get_xdata().tolist() == [1e-4, 1e-1]
    assert none.get_markerfacecolor() == "white"


def test_dots_of_a_map_agree_with_the_phases():
    for draw in (maps.draw_map_smallest, maps.draw_map_gap):
        axes = draw(study(lr=LR, prune_rate=RATE), MAP, "n").axes[0]
        wins, others = [line for line in axes.lines if line.get_marker() == "o"]
        won = {(t.params["lr"], t.params["prune_rate"]) for t in MAP if t.phase == "winning"}
        assert set(map(tuple, wins.get_xydata())) == won
        assert len(others.get_xydata()) == len(MAP) - len(won)
        assert to_rgb(wins.get_markerfacecolor()) < (0.2, 0.2, 0.2)
        assert to_rgb(others.get_markerfacecolor()) == (1, 1, 1)


def cells(figure):
    """The coloured cells of a map, which of its cells are grey, and its boundary lines."""
    grey, mesh, *lines = figure.axes[0].collections
    return mesh.get_array(), ~grey.get_array().mask, lines


def at(lr, prune_rate):
    """The row and column of a map's cell."""
    across = math.log(lr / LR["low"]) / math.log(LR["high"] / LR["low"])
    up = (prune_rate - RATE["low"]) / (RATE["high"] - RATE["low"])
    return min(int(60 * up), 59), min(int(60 * across), 59)


def test_cells_and_boundary_of_a_map():
    coloured, grey, (line,) = cells(maps.draw_map_smallest(study(lr=LR, prune_rate=RATE), MAP, "n"))
    assert (coloured.compressed() == 10).all()
    assert not coloured.mask[at(1e-4, 0.1)]
    assert not coloured.mask[at(1e-3, 0.4)]
    for place in (at(1e-1, 0.1), at(1e-4, 0.7)):
        assert coloured.mask[place]
        assert grey[place]
    x, y = line.get_paths()[0].vertices.T
    along = np.abs(y - 0.1).argmin()
    assert 1e-3 < x[along] < 1e-2
    row, edge = at(x[along], 0.1)
    assert np.flatnonzero(~coloured.mask[row]).max() == pytest.approx(edge, abs=2)  # the colour ends at the boundary


def test_a_map_of_tickets_is_paler_the_less_sure_it_is():
    grey, mesh, line = maps.draw_map_smallest(study(lr=LR, prune_rate=RATE), MAP, "n").axes[0].collections
    x, y = line.get_paths()[0].vertices.T
    on_it = at(x[np.abs(y - 0.1).argmin()], 0.1)
    for each in (grey, mesh):
        alpha = each.get_alpha()
        assert 0.15 <= alpha.min() <= alpha[on_it] < 0.5 < alpha[at(1e-4, 0.1)] <= 1
    *_, mesh, _ = maps.draw_map_gap(study(lr=LR, prune_rate=RATE), MAP, "n").axes[0].collections
    assert mesh.get_alpha() is None  # there pale colours are small differences


def test_the_densities_are_those_that_were_measured():
    """A prune rate of 0.4 has no round of 10.7 %."""
    assert figures.measured_at(MAP, 5) == "about 5 %"
    trials = [replace(each, measures=dict(each.measures)) for each in MAP]
    for each, left in zip(trials, [12.5, 9.1, *[10.7] * 10], strict=True):
        each.measures["weights_remaining_pct/10.7pct"] = left
    assert figures.measured_at(trials, 10.7) == "9.1–12.5 %"
    figure = maps.draw_map_gap(study(lr=LR, prune_rate=RATE, densities=(10.7,)), trials, "n")
    assert figure.axes[0].get_title() == "n: winning − reinit at 9.1–12.5 % left"


def test_a_map_without_winners_is_grey_near_its_trials():
    trials = [t for t in MAP if t.phase == "none"]
    coloured, grey, lines = cells(maps.draw_map_smallest(study(lr=LR, prune_rate=RATE), trials, "n"))
    assert coloured.mask.all()
    assert grey[at(1e-1, 0.1)]
    assert not lines


@pytest.mark.parametrize("draw", [maps.draw_map_smallest, maps.draw_map_gap])
def test_a_map_is_blank_where_no_trial_is_near(draw):
    """Trials below lr 0.001 say nothing of lr 0.02; around a point of a grid that was not tried it is blank."""
    places = [{"lr": lr, "prune_rate": rate} for lr in (1e-4, 3e-4, 6e-4, 9e-4) for rate in (0.1, 0.4, 0.7)]
    low = [trial(place, won=place["lr"] < 5e-4) for place in places]
    coloured, grey, lines = cells(draw(study(lr=LR, prune_rate=RATE), low, "n"))
    right = slice(at(0.02, 0.1)[1], None)
    assert coloured.mask[:, right].all()
    assert not grey[:, right].any()
    assert all(path.vertices[:, 0].max(initial=0) < 0.02 for line in lines for path in line.get_paths())
    rest = [t for t in MAP if (t.params["lr"], t.params["prune_rate"]) != (1e-3, 0.4)]
    spread = parse("m", {"space": {"lr": LR, "prune_rate": RATE}, "sampler": "grid", "densities": [21.0]}, {}, {})
    coloured, grey, _ = cells(draw(spread, rest, "n"))
    row, column = at(1e-3, 0.4)
    around = slice(row - 12, row + 12), slice(column - 8, column + 8)
    assert coloured.mask[around].all()
    assert not grey[around].any()


FAILED = {"dense": 0.1, "winning": 0.1, "reinit": 0.1, "won": False}
SIZES = {"low": 10, "high": 60}, {"choices": [10, 30, 60]}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "made",
    [
        trial,  # all win
        lambda place: trial(place, won=False),  # none wins
        lambda place: trial(place, **FAILED),  # none learned
        lambda place: trial(place, **FAILED, at=()),  # all diverged before the first of the densities
        lambda place: trial(place, won=place["lr"] == 1e-3),
        lambda place: trial(place, won=False, winning=0.98, reinit=0.98),  # no difference at all
    ],
)
@pytest.mark.parametrize("lrs", [(1e-4, 1e-3, 1e-1), pytest.param((1e-3,), marks=pytest.mark.slow)])
def test_whatever_the_trials_say_it_can_be_drawn(sizes, made, lrs, tmp_path):
    """Over whole numbers and choices too, and where one of two settings is always the same."""
    trials = [made({"lr": lr, "batch_size": size}) for lr in lrs for size in (10, 30, 60)]
    assert figures.draw_study(study(lr=LR, batch_size=sizes), trials, "n", tmp_path, {})
    assert figures.draw_study(study(batch_size=sizes), trials, "n", tmp_path, {})


def test_gaps_of_a_map_are_at_the_density_most_trials_have_and_blank_where_none_learned():
    space = {"lr": LR, "prune_rate": RATE}
    corner = [{"lr": lr, "prune_rate": rate} for lr in (1e-4, 1e-1) for rate in (0.1, 0.7)]
    trials = [
        trial(corner[0], at=(51.2, 21.0, 10.7)),
        trial(corner[1], at=(51.2, 21.0), reinit=0.99),
        trial(corner[2], at=(51.2, 21.0), winning=0.1, reinit=0.6, won=False),
        trial(corner[3], at=(), won=False),
    ]
    figure = maps.draw_map_gap(study((51.2, 21.0, 10.7), **space), trials, "n")
    assert "21 % left" in figure.axes[0].get_title()  # three have 51.2 and 21, which is nearer to 10.7
    coloured, grey, _ = cells(figure)
    assert (coloured[0, 0], coloured[-1, 0]) == (pytest.approx(1.5), pytest.approx(-1))
    assert grey[0, -1]
    assert grey[-1, -1]
    assert figure.axes[0].collections[1].get_clim() == (pytest.approx(-1.5), pytest.approx(1.5))


def test_most_important_on_top_and_the_rest_below():
    (axes,) = figures.draw_importance(study(**MANY), SHARES, "n").axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[::-1] == ["learning rate", "prune rate per round", "interactions", "unexplained"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.1, 0.2, 0.6]
