"""Arms of runs side by side: differences and intervals as SciPy has them, rounds matched by density and by cost."""

import pytest
from scipy import stats

from lottery_ticket.analysis.plots import looks_of
from lottery_ticket.analysis.runs_compared import Side, compare_sides, points_of
from lottery_ticket.analysis.runs_compared_figure import draw_runs
from lottery_ticket.config import load_preset
from lottery_ticket.record import Both, Cost
from tests.analysis.test_verdict import record

OURS = {0: 0.951, 1: 0.962, 2: 0.957, 3: 0.949}
THEIRS = {0: 0.955, 1: 0.961, 2: 0.969, 3: 0.952}


def rounds(accuracies, densities=(1.0, 0.5), cost=None, diverged=()):
    made = []
    for index, density in enumerate(densities):
        for seed, accuracy in accuracies.items():
            one = record("winning", seed, index, accuracy, diverged=(seed, index) in diverged)
            spent = {"computed": cost, "to_find": index * cost, "training": {"w": Both(cost, cost)}} if cost else None
            told = Cost(images=1, inference={}, **spent) if spent else None
            made.append(one.model_copy(update={"density": density, "cost": told}))
    return made


def against(ours, theirs, **how):
    settings = load_preset()
    sides = [Side("first", settings, ours, "a"), Side("other", settings.model_copy(update={"lr": 0.1}), theirs, "a")]
    return compare_sides(sides, **how)


def test_seeds_that_both_have_are_paired():
    (other,) = against(rounds(OURS), rounds(THEIRS)).others
    expected = stats.ttest_rel(list(THEIRS.values()), list(OURS.values()))
    for gap in other.by_density:
        assert (gap.by, gap.seeds, gap.rounds[0]) == ("paired", (4, 4), gap.rounds[1])
        assert gap.difference == pytest.approx(sum(THEIRS.values()) / 4 - sum(OURS.values()) / 4)
        assert gap.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_other_seeds_are_compared_by_welch():
    elsewhere = {seed + 10: accuracy for seed, accuracy in THEIRS.items() if seed < 3}
    (other,) = against(rounds(OURS), rounds(elsewhere), level=0.9).others
    expected = stats.ttest_ind(list(elsewhere.values()), list(OURS.values()), equal_var=False)
    assert [gap.by for gap in other.by_density] == ["welch", "welch"]
    assert other.by_density[0].seeds == (4, 3)
    assert other.by_density[1].interval == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_a_seed_that_diverged_is_no_pair_but_the_others_are():
    ours, theirs = rounds(OURS, diverged={(2, 1)}), rounds(THEIRS | {7: 0.5})
    found = against(ours, theirs)
    assert found.points["first"][1].diverged == (2,)
    assert 2 not in found.points["first"][1].accuracies
    for gap, seeds in zip(found.others[0].by_density, ((0, 1, 2, 3), (0, 1, 3)), strict=True):
        before, after = ([each[seed] for seed in seeds] for each in (OURS, THEIRS))
        assert (gap.by, gap.seeds) == ("paired", (len(seeds), len(seeds)))
        assert gap.left_out == tuple(seed for seed in (0, 1, 2, 3, 7) if seed not in seeds)
        assert gap.accuracies == pytest.approx((sum(before) / len(seeds), sum(after) / len(seeds)))
        assert gap.difference == pytest.approx(gap.accuracies[1] - gap.accuracies[0])
        assert gap.interval == pytest.approx(tuple(stats.ttest_rel(after, before).confidence_interval(0.95)))


def test_one_seed_that_both_have_is_no_sample_of_pairs():
    (other,) = against(rounds(OURS), rounds({3: 0.94, 8: 0.96, 9: 0.965})).others
    assert [(gap.by, gap.seeds, gap.left_out) for gap in other.by_density] == [("welch", (4, 3), ())] * 2


def test_of_one_seed_and_of_seeds_all_alike_nothing_is_known():
    for ours, theirs in (
        ({0: 0.9}, {0: 0.95}),
        ({0: 0.9, 1: 0.92}, {0: 0.91, 1: 0.93}),
        ({0: 0.9}, {1: 0.95, 2: 0.96}),
    ):
        assert [gap.interval for gap in against(rounds(ours), rounds(theirs)).others[0].by_density] == [None, None]


def test_the_nearest_round_counts_where_it_is_near_enough():
    ours = rounds(OURS, (1.0, 0.8, 0.64, 0.3))
    theirs = rounds(THEIRS, (1.0, 0.9, 0.6, 0.2))
    (near,) = against(ours, theirs, tolerance=0.1).others
    assert [gap.rounds for gap in near.by_density] == [(0, 0), (2, 2)]  # 0.64 / 0.6 = 1.07; 0.9 / 0.8 = 1.125
    assert [gap.at for gap in near.by_density] == [(1.0, 1.0), pytest.approx((0.64, 0.6))]
    assert near.unmatched == (1, 3)
    (wide,) = against(ours, theirs, tolerance=0.6).others
    assert [gap.rounds for gap in wide.by_density] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_equal_cost_is_that_of_all_training_that_led_there():
    """Rounds of 100 and of 201: the second after two of the first, the fourth after four of them."""
    ours, theirs = rounds(OURS, (1.0, 0.8, 0.6, 0.5), cost=100), rounds(THEIRS, (1.0, 0.9), cost=201)
    (other,) = against(ours, theirs).others
    assert [gap.rounds for gap in other.by_spent] == [(1, 0), (3, 1)]
    assert [gap.at for gap in other.by_spent] == [(200, 201), (400, 402)]
    assert against(ours, rounds(THEIRS)).others[0].by_spent == ()
    assert [point.spent for point in points_of(Side("other", load_preset(), theirs))] == [201, 402]


def test_equal_cost_over_survivors_is_what_the_side_tells():
    """As computed every round is 100; over survivors the other's two are next to the first's second and fourth."""
    settings, ours, theirs = load_preset(), rounds(OURS, (1.0, 0.8, 0.6, 0.5), cost=100), rounds(THEIRS, cost=100)
    here = {(seed, r): (100, 180, 240, 290)[r] for seed in OURS for r in range(4)}
    there = {(seed, r): (175, 300)[r] + seed for seed in THEIRS for r in range(2)}  # 176.5 and 301.5 in the mean
    sides = [Side("first", settings, ours, sparse=here), Side("other", settings, theirs, sparse=there)]
    found = compare_sides(sides, cost="sparse")
    assert found.cost == "sparse"
    assert [gap.rounds for gap in found.others[0].by_spent] == [(1, 0), (3, 1)]
    assert [gap.at for gap in found.others[0].by_spent] == [(180, 176.5), (290, 301.5)]
    as_done = compare_sides(sides)
    assert as_done.cost == "computed"
    assert [gap.at for gap in as_done.others[0].by_spent] == [(100, 100), (200, 200)]
    del there[2, 1]
    assert [point.spent for point in points_of(sides[1], "sparse")] == [176.5, None]


def test_no_two_sides_look_alike():
    looks = looks_of([str(index) for index in range(26)])
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == 26


def test_settings_that_differ_and_a_figure(tmp_path):
    found = against(rounds(OURS, cost=100), rounds(THEIRS, cost=100))
    assert found.settings == {"lr": (load_preset().lr, 0.1)}
    assert found.data is True
    for name, cost in (("with", found), ("without", against(rounds(OURS), rounds({7: 0.9})))):
        draw_runs(cost, tmp_path / f"new/{name}.png")
        assert (tmp_path / f"new/{name}.png").stat().st_size > 10_000
