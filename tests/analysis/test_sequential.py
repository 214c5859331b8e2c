"""Looks at growing numbers of seeds: what they err, what they save, and how many more it would take."""

import numpy as np
import pytest

from lottery_ticket.analysis.sequential import level_at, looks, more_seeds
from lottery_ticket.analysis.statistics import over_seeds


@pytest.mark.parametrize(
    ("first", "most", "planned"),
    [(3, 27, (3, 5, 8, 12, 18, 27)), (5, 20, (5, 8, 12, 18, 20)), (3, 4, (3, 4)), (2, 3, (2, 3))],
)
def test_each_look_has_half_as_many_seeds_again(first, most, planned):
    assert looks(first, most) == planned


def test_what_the_looks_may_err_is_what_is_allowed_in_all():
    planned = looks(3, 27)
    assert level_at(3, planned, 0.95) == pytest.approx(1 - 0.05 * 3 / 27)
    assert level_at(8, planned, 0.95) == pytest.approx(1 - 0.05 * 3 / 27)
    assert sum(1 - level_at(seeds, planned, 0.9) for seeds in planned) == pytest.approx(0.1)


def stopped(effect: float, trials: int = 2000) -> tuple[float, float]:
    """Of simulated studies of differences N(effect, 1), the part that decides they are not 0, and the mean of seeds."""
    draws = np.random.default_rng(0).normal(effect, 1, (trials, 27))
    planned = looks(3, 27)
    decided, used = 0, 0
    for values in draws:
        for seeds in planned:
            low, high = over_seeds(values[:seeds]).interval(level_at(seeds, planned, 0.95))
            if low > 0 or high < 0:
                decided += 1
                break
        used += seeds
    return decided / trials, used / trials


def test_it_errs_no_more_than_a_fixed_number_of_seeds_would_and_saves_most_of_them():
    wrong, _ = stopped(0.0)
    assert 0.01 < wrong < 0.05
    found, used = stopped(2.0)
    assert found > 0.999
    assert used < 9  # of 27
    found, used = stopped(0.6)
    assert found > 0.65
    assert used < 23


@pytest.mark.parametrize("truth", [0.5, 1.0])
def test_the_seeds_that_it_would_take_do_decide(truth):
    spread, seeds, level = 1.0, 5, 0.95
    values = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    values = values / values.std(ddof=1) * spread + truth
    low, high = over_seeds(values).interval(level)
    more = more_seeds(truth, (high - low) / 2, seeds, level)
    error = spread / np.sqrt([seeds + more - 1, seeds + more])
    from scipy.stats import t

    quantiles = t.ppf(0.975, [seeds + more - 2, seeds + more - 1])
    assert quantiles[1] * error[1] < truth <= quantiles[0] * error[0]


def test_a_difference_of_nothing_is_never_shown():
    assert more_seeds(0.0, 0.1, 5, 0.95) is None
