"""`tests/help/kill.py`, a few times in `make test` and many times in `make test-slow`."""

import pytest

from tests.help.kill import kill_runs, kill_sweep

MANY = pytest.param(50, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, MANY])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, times):
    assert kill_runs(times, times, tmp_path, print) >= 1


@pytest.mark.parametrize("times", [MANY])
def test_a_killed_sweep_loses_no_trial_and_counts_none_twice(tmp_path, times):
    assert kill_sweep(times, times, tmp_path, print) >= 1
