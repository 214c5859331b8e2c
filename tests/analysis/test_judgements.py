"""Judgements where the truth is known: how often they are wrong; and the committed ones, judged again."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lottery_ticket.reproduction.claims import Experiment, decide
from lottery_ticket.reproduction.keep import claims_csv
from lottery_ticket.reproduction.parse import load_reproduction
from tests.analysis.test_statistics import simulated
from tests.reproduction.test_claims import file

TIMES = 30
WRONG = stats.binom.isf(1e-5, TIMES, 0.025)
"""So many of as many judgements, each wrong in 2.5 % of cases, are hardly ever wrong."""


def longest(states):
    return max(map(len, "".join("w" if state == "wins" else " " for state in states).split()), default=0)


@given(
    states=st.lists(st.sampled_from(["wins", "equal", "loses", "falls short"]), min_size=3, max_size=9),
    seeds=st.sampled_from([1, 2, 3, 5]),
    asked=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_streak_is_seldom_judged_wrongly(states, seeds, asked, seed):
    """Whatever rounds truly win, equal reinit, lose to it or fall short of dense: both wrong answers are rare."""
    to_dense = [-0.01 if state == "falls short" else 0.004 for state in states]
    to_control = [{"wins": 0.006, "loses": -0.006}.get(state, 0.0) for state in states]
    rng, truth = np.random.default_rng(seed), longest(states)
    told = file([{"measure": "winning_streak", "above": asked - 1}, {"measure": "winning_streak", "below": asked}])
    wrong = 0
    for _ in range(TIMES):
        records = simulated(seeds, rng, to_dense, to_control)
        (outcome,) = decide(told, {("fc1", "paper"): Experiment(records, 1.0)})
        reaches, stays_below = (finding.answer for finding in outcome.findings)
        assert (reaches == "yes") == (stays_below == "no")  # one question, asked from both sides
        assert (reaches == "no") == (stays_below == "yes")
        wrong += reaches == ("no" if truth >= asked else "yes")
        assert seeds > 1 or reaches == stays_below == "undecided"
    assert wrong <= WRONG


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize(("to_control", "answer"), [(0.01, "yes"), (-0.01, "no")])
def test_a_clear_streak_is_decided(seeds, to_control, answer):
    told, rng = file({"measure": "winning_streak", "above": 1}), np.random.default_rng(seeds)
    records = simulated(seeds, rng, [0.01] * 6, [to_control] * 6)
    (outcome,) = decide(told, {("fc1", "paper"): Experiment(records, 1.0)})
    assert outcome.findings[0].answer == answer


@pytest.mark.parametrize("name", ["shu"])
def test_the_committed_reproductions_are_what_their_rounds_say_today(name):
    folder = Path(__file__).parents[2] / "results" / "reproduce" / name
    source = importlib.util.spec_from_file_location("rejudge", folder.parents[2] / "bench" / "rejudge.py")
    rejudge = importlib.util.module_from_spec(source)
    source.loader.exec_module(rejudge)
    told, _ = load_reproduction(name)
    outcomes = decide(told, rejudge.read_experiments(folder / "rounds.csv", told))
    assert claims_csv(outcomes) == (folder / "claims.csv").read_text()
    page = (folder / "report.md").read_text()
    for outcome in outcomes:
        assert f"**{outcome.claim.id}**" in page
        assert f"**{outcome.word}**" in page
