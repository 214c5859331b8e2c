"""What numbers show, against scipy and by hand; and how often many rounds mislead where nothing is to be found."""

import numpy as np
import pytest
from scipy import stats

from lottery_ticket.analysis.comparable import comparable, dense_accuracy, shared_seeds
from lottery_ticket.analysis.statistics import (
    better_than,
    false_discovery,
    family_wise,
    half_of,
    over_images,
    over_seeds,
)
from lottery_ticket.analysis.verdict import judge
from tests.analysis.test_verdict import record


def test_the_spread_over_seeds_is_the_t_tests():
    values = [0.1, 0.3, 0.25, 0.05]
    spread, expected = over_seeds(values), stats.ttest_1samp(values, 0.02, alternative="greater")
    assert spread.above(0.02) == pytest.approx(expected.pvalue)
    assert spread.below(0.02) == pytest.approx(1 - expected.pvalue)
    assert spread.interval(0.9) == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval(0.9)))


@pytest.mark.parametrize("values", [[0.1], [0.5, 0.5], [0.98 - 0.97, 0.97 - 0.96, 0.01], [0.0, 0.0, 1e-17], []])
def test_equal_values_have_no_spread(values):
    assert over_seeds(values) is None


def test_images_that_two_networks_agree_on_leave_an_interval():
    few, many = (over_images(*[np.ones((1, n), bool)] * 2).interval(0.95)[1] for n in (10, 10_000))
    assert few == pytest.approx(1.96 / 12, rel=1e-3)  # half an image in each of four cells (Agresti & Min 2005)
    assert many == pytest.approx(1.96 / 10_002, rel=1e-3)


def test_corrections_are_those_of_the_papers():
    p_values = [0.010, 0.013, 0.014, 0.190, 0.350, 0.500, 0.630, 0.670, 0.750, 0.810]
    assert false_discovery(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    assert family_wise([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm, by hand
    assert false_discovery([]) == family_wise([]) == []


def test_half_of_the_networks_have_to_be_better():
    assert better_than(0.5, 9, 10) == pytest.approx(stats.binomtest(9, 10, 0.5, alternative="greater").pvalue)
    assert better_than(0.5, 0, 10) == better_than(1.0, 10, 10) == 1
    assert half_of([0.01, 0.9]) == pytest.approx(0.02)
    assert half_of([0.01, 0.02, 0.9]) == pytest.approx(0.03)
    assert half_of([0.01, 0.8, 0.9]) == 1


def test_a_comparison_has_the_same_seeds_on_both_sides():
    records = [
        record(arm, seed, r, 0.9) for arm in ("winning", "reinit", "random-mask") for seed in range(4) for r in (0, 1)
    ]
    burst = {("winning", 0, 0), ("reinit", 1, 1), ("random-mask", 2, 1)}
    records = [each.model_copy(update={"diverged": (each.arm, each.seed, each.round) in burst}) for each in records]
    assert shared_seeds(records) == {0: (1, 2, 3), 1: (2, 3)}
    counted = {(each.arm, each.seed) for each in comparable(records) if each.round == 1}
    assert counted == {("winning", 2), ("winning", 3), ("reinit", 2), ("reinit", 3), ("random-mask", 3)}
    assert dense_accuracy([r for r in records if r.arm != "winning"]) is None


TEMPLATE = record("winning", 0, 0, 0.9)


def simulated(seeds, rng, to_dense, to_control, spread=0.002):
    """A run with these true differences in rounds 1, 2, …: of the winning arm to dense, and to reinit; normal noise."""
    made = []
    for seed in range(seeds):
        for r, (dense, control) in enumerate(zip([0.0, *to_dense], [0.0, *to_control], strict=True)):
            for arm, value in (("winning", 0.9 + dense), ("reinit", 0.9 + dense - control)):
                accuracy = float(value + rng.normal(0, spread))
                more = {"arm": arm, "seed": seed, "round": r, "density": 0.8**r, "test_accuracy": accuracy}
                made.append(TEMPLATE.model_copy(update=more))
    return made


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_among_many_rounds_chance_seldom_wins(seeds):
    """With reinit truly equal, one of 14 rounds wins alone too often; corrected, it does not."""
    rng, runs = np.random.default_rng(seeds), 100
    verdicts = [judge(simulated(seeds, rng, [0.02] * 14, [0.0] * 14), only_seeds=True) for _ in range(runs)]
    alone = sum(any(r.wins_alone == "yes" for r in v.rounds) for v in verdicts) / runs
    among = sum(any(r.wins == "yes" for r in v.rounds) for v in verdicts) / runs
    assert alone > 0.1
    assert among <= stats.binom.isf(1e-3, runs, 0.025) / runs
    assert all(r.wins_alone == "yes" for v in verdicts for r in v.rounds if r.wins == "yes")
