"""The judge of claims, fed with made-up curves for each outcome, and against scipy."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from lottery_ticket.config import NOT_TRAINING, Settings, load_preset
from lottery_ticket.errors import InputError
from lottery_ticket.reproduction.claims import (
    Experiment,
    attribute,
    claimed_at,
    decide,
    estimate,
    read_as,
    reported_at,
)
from lottery_ticket.reproduction.figures import draw_attribution, draw_rounds
from lottery_ticket.reproduction.jobs import experiment_of, make_jobs
from lottery_ticket.reproduction.parse import load_reproduction, parse, reproduction_names
from lottery_ticket.reproduction.records import sources_of
from lottery_ticket.reproduction.report import _attribution, _where_measured, in_numbers
from tests.analysis.test_verdict import record

SEEDS = 3


def curve(arm, accuracy, rounds=15, spread=0.0005, stop=None):
    """Rounds of three seeds, which differ from round to round; `accuracy` and `stop`, the means, are of density."""
    turn = ["winning", "reinit", "reinit-own", "random-mask"].index(arm)
    made = []
    for seed in range(SEEDS):
        for r in range(rounds):
            jitter = (seed + r + turn) % 3 - 1
            value = accuracy(0.8**r) + spread * (seed - 1) + 1e-4 * jitter * (1 + r % 2 if r else 3)
            more = {"seconds": 1 + 0.001 * (seed - 1), "test_accuracy_best": value, "iterations": 4000}
            if stop is not None:
                more |= {"early_stop_iteration": stop(0.8**r) + jitter, "test_accuracy_early_stop": value}
            made.append(record(arm, seed, r, value).model_copy(update=more))
    return made


def flat(level):
    return lambda density: level


def file(part, more=None, variants=("paper",)):
    """A reproduction of one claim with one part, or several."""
    parts = part if isinstance(part, list) else [part]
    return parse(
        "made-up.toml",
        {
            "title": "t",
            "source": "s",
            "about": "a",
            "setups": {
                name: {
                    "preset": "shu-fc1",
                    "settings": {"validation_size": held_out},
                    "quick": {"epochs": 1},
                    "report": {"epochs": 100},
                }
                for name, held_out in (("fc1", 5000), ("other", 0))
            },
            "variants": {
                "paper": {"says": "right", "settings": {"arms": "winning,reinit"}},
                "own": {"says": "own masks", "settings": {"arms": "winning,reinit-own"}, "control": "reinit-own"},
            },
            "claims": [
                {
                    "id": "C",
                    "figure": "1",
                    "says": "It is so.",
                    "variants": list(variants),
                    "parts": [{"says": "p", "setup": "fc1"} | each for each in parts],
                }
            ],
        }
        | (more or {}),
    )


def judged(part, *curves, others=(), share=1.0, more=None):
    """The outcome of a claim on made-up curves."""
    experiments = {
        ("fc1", "paper"): Experiment([r for each in curves for r in each], share),
        ("other", "paper"): Experiment([r for each in others for r in each], share),
    }
    return decide(file(part, more), experiments)[0]


SETUP = {"preset": "shu-fc1", "quick": {}, "report": {}}
CLAIM = {
    "id": "C",
    "figure": "1",
    "says": "It is so.",
    "variants": ["paper"],
    "parts": [{"says": "p", "setup": "fc1", "above": 0, "at_pct": 10}],
}
GAP = {"minus": "control", "at_pct": 10, "above": 7, "below": 13}


def test_a_drawing_shows_arms_of_several_setups_and_asks_for_them():
    sides = ["winning", "control", "other:winning"]
    told = file(GAP, {"drawings": [{"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "sides": sides}]})
    assert told.experiments == [("fc1", "paper"), ("other", "paper")]
    rounds = {"fc1": curve("winning", flat(0.9)) + curve("reinit", flat(0.8)), "other": curve("winning", flat(0.7), 5)}
    experiments = {(name, "paper"): Experiment(each, 1.0) for name, each in rounds.items()}
    (axes,) = draw_rounds(told.drawings[0], told, experiments).axes
    means = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(means) == ["winning (3 seeds)", "reinit (3 seeds)", "other:winning (3 seeds)"]
    assert [each.get_ydata().mean() for each in means.values()] == pytest.approx([90, 80, 70], abs=0.1)
    assert [len(each.get_xdata()) for each in means.values()] == [15, 15, 5]
    assert len({to_hex(each.get_color()) for each in means.values()}) == 3


@pytest.mark.parametrize(
    ("reinit", "word"),
    [(0.88, "holds"), (0.96, "does not hold"), (0.80, "does not hold"), (0.9095, "undecided")],
)
def test_a_gap_is_where_it_has_to_be_or_not(reinit, word):
    outcome = judged(GAP, curve("winning", flat(0.98)), curve("reinit", flat(reinit), spread=-0.0005))
    assert outcome.word == word
    found = outcome.findings[0].estimate
    assert found.mean == pytest.approx(100 * (0.98 - reinit))
    assert found.low < found.mean < found.high


def test_it_is_told_at_how_many_percent_a_part_was_measured():
    """The ladder has 100, 80, 64, 51.2, 41.0, 32.8, 26.2, 21.0, 16.8, 13.4, 10.7 % …, rarely what a claim names."""
    curves = curve("winning", flat(0.98)), curve("reinit", flat(0.88))
    for where, at in (
        ({"at_pct": 38.8}, (40.96, 40.96)),
        ({"at_pct": 10}, (10.74, 10.74)),
        ({"at_pct": None, "from_pct": 38.8, "to_pct": 15, "take": "mean"}, (32.77, 16.78)),
    ):
        (found,) = judged({key: value for key, value in (GAP | where).items() if value is not None}, *curves).findings
        assert found.at == pytest.approx(at, abs=0.01)
    assert _where_measured(found) == " from 32.8 to 16.8 % left"
    (exact,) = judged(GAP | {"at_pct": 51.2}, *curves).findings
    assert _where_measured(exact) == ""


def test_the_other_side_may_be_measured_at_another_density():
    """Falling from 98 % at 41 % left to 90 at 10.7 and 70 at 4.4, reinit one lower; by the values of each seed."""

    def fall(density):
        return {0.8**4: 0.98, 0.8**10: 0.90, 0.8**14: 0.70}.get(density, 0.8)

    curves = [curve("winning", fall), curve("reinit", lambda density: fall(density) - 0.01, spread=-0.0004)]
    at = {"at_pct": 41, "other_at_pct": 10, "above": 7}
    for of, minus, gap in (("winning", "winning", 8), ("winning", "reinit", 9), ("reinit", "winning", 7)):
        (found,) = judged(at | {"of": of, "minus": minus}, *curves).findings
        by_seed = {(r.arm, r.seed, r.round): 100 * r.test_accuracy for each in curves for r in each}
        expected = [by_seed[of, seed, 4] - by_seed[minus, seed, 10] for seed in range(SEEDS)]
        assert found.estimate.values == pytest.approx(expected)
        assert found.estimate.mean == pytest.approx(gap, abs=0.02)
        assert (found.at, found.other_at) == (pytest.approx((40.96, 40.96)), pytest.approx((10.74, 10.74), abs=0.01))
        assert _where_measured(found) == " (the other at 10.7 %)"
    (found,) = judged(at | {"minus": "reinit", "at_pct": 38, "other_at_pct": 4.4}, *curves).findings
    assert _where_measured(found) == " at 41 % left"
    on_the_way = {"minus": "reinit", "from_pct": 41, "to_pct": 4.4, "take": "largest", "other_at_pct": 4.4, "above": 0}
    assert judged(on_the_way, *curves).findings[0].estimate.mean == pytest.approx(29, abs=0.1)
    assert judged(at | {"minus": "reinit", "other_at_pct": 1}, *curves).findings[0].estimate is None


AS_LONG = {
    "variants": {
        "paper": {
            "says": "right",
            "settings": {"arms": "winning,reinit,dense-as-long"},
            "control": "dense-as-long",
        }
    }
}
"""Variants with an arm that has all weights in every round."""


def test_an_arm_that_has_all_weights_is_measured_in_the_same_round():
    """It gains half a point with each round; the ticket's 10.7 % are left in round 10, 41 % in round 4."""
    winning = curve("winning", flat(0.98))
    longer = [
        record("dense-as-long", seed, r, 0.9 + 0.005 * r + 0.0005 * (seed - 1)).model_copy(update={"density": 1.0})
        for seed in range(SEEDS)
        for r in range(15)
    ]
    by_seed = {(r.arm, r.seed, r.round): 100 * r.test_accuracy for r in [*winning, *longer]}

    def gap(seed, r):
        return by_seed["winning", seed, r] - by_seed["dense-as-long", seed, r]

    on_the_way = {"from_pct": 41, "to_pct": 10, "take": "mean"}
    for where, rounds in (({"at_pct": 10}, (10,)), (on_the_way, range(4, 11))):
        for side in ("dense-as-long", "control"):
            (found,) = judged({"minus": side, "above": 0} | where, winning, longer, more=AS_LONG).findings
            expected = [sum(gap(seed, r) for r in rounds) / len(rounds) for seed in range(SEEDS)]
            assert found.estimate.values == pytest.approx(expected)
    gone = [each for each in longer if each.round < 10]  # that round is not there
    (found,) = judged({"minus": "control", "at_pct": 10, "above": 0}, winning, gone, more=AS_LONG).findings
    assert found.estimate is None


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ({"of": "dense-as-long", "at_pct": 100}, "claim C: of: 'dense-as-long' has all weights in every round"),
        ({"of": "control", "minus": "winning", "at_pct": 10}, "claim C: of: 'control' has all weights in every round"),
        ({"minus": "dense-as-long", "at_pct": 10, "other_at_pct": 100}, "other_at_pct: 100.* tells none of the"),
        ({"over": "control", "at_pct": 10, "other_at_pct": 100}, "claim C: other_at_pct: 100.* tells none of the"),
        ({"measure": "fluctuation", "minus": "control", "to_pct": 10}, "claim C: minus: 'control' has all weights in"),
    ],
)
def test_no_percentage_names_a_round_with_all_weights(part, names):
    with pytest.raises(InputError, match=names):
        file(part | {"above": 0}, AS_LONG)


def test_nor_can_it_be_drawn_against_one():
    drawing = {"name": "d", "title": "t", "setup": "fc1", "variants": ["paper"]}
    with pytest.raises(InputError, match="drawing d: sides: 'control' cannot be drawn; allowed: arms"):
        file({"at_pct": 10, "above": 0}, AS_LONG | {"drawings": [drawing]})


def test_of_rounds_with_as_many_weights_the_same_one_is_meant():
    """Whole units of a small dense network, say: here 12 % both in the ninth and in the tenth round."""
    winning, reinit = curve("winning", flat(0.98)), curve("reinit", lambda density: 0.9 + density)
    as_many = [each.model_copy(update={"density": 0.12}) if each.round in (9, 10) else each for each in reinit]
    (found,) = judged(GAP | {"minus": "reinit"}, winning, as_many).findings
    by_seed = {(r.arm, r.seed, r.round): 100 * r.test_accuracy for r in [*winning, *reinit]}
    expected = [by_seed["winning", seed, 10] - by_seed["reinit", seed, 10] for seed in range(SEEDS)]
    assert found.estimate.values == pytest.approx(expected)


def test_a_claim_of_several_parts_holds_in_part():
    curves = curve("winning", flat(0.98)), curve("reinit", flat(0.96))
    assert judged([GAP, GAP | {"above": 1, "below": 3}], *curves).word == "holds in part"
    assert judged([GAP, GAP | {"at_pct": 3}], *curves).word == "does not hold"
    assert judged([GAP | {"above": 1}, GAP | {"at_pct": 3}], *curves).word == "undecided"


def test_rounds_that_were_not_trained_decide_nothing():
    outcome = judged(GAP | {"at_pct": 3}, curve("winning", flat(0.98)), curve("reinit", flat(0.88)))
    assert outcome.findings[0].estimate is None
    assert outcome.word == "undecided"


def test_one_seed_decides_nothing():
    alone = [r for r in curve("winning", flat(0.98)) + curve("reinit", flat(0.5)) if r.seed == 0]
    assert judged(GAP | {"above": 0, "below": None}, alone).word == "undecided"


def test_the_interval_is_that_of_the_paired_t_test():
    values = {0: 1.0, 1: 1.5, 2: 1.1, 5: 0.7}
    interval = stats.ttest_1samp(list(values.values()), 0).confidence_interval(0.95)
    assert estimate(values, 0.95)[1:3] == pytest.approx(tuple(interval))


def test_the_worst_round_of_a_range_counts_where_the_least_is_taken():
    part = {"minus": "dense", "from_pct": 90, "to_pct": 15, "take": "least", "above": -1}

    def dip(at):
        return lambda density: 0.95 if abs(density - at) < 0.01 else 0.98

    assert judged(part, curve("winning", dip(0.8**14))).word == "holds"  # 4.4 %: not in the range
    assert judged(part, curve("winning", dip(0.8**5))).word == "does not hold"


def test_faster_is_a_ratio_of_early_stops():
    part = {"measure": "early_stop", "over": "dense", "at_pct": 21, "above": 0.52, "below": 0.72}
    faster = curve("winning", flat(0.98), stop=lambda density: 1000 if density == 1 else 600)
    assert judged(part, faster).word == "holds"
    assert judged(part, curve("winning", flat(0.98), stop=lambda density: 1000)).word == "does not hold"
    assert judged(part, curve("winning", flat(0.98))).findings[0].estimate is None


def test_fluctuation_is_the_spread_of_steps():
    def up_and_down(density):
        return 0.9 + 0.04 * (round(math.log(density, 0.8)) % 2)

    part = {"measure": "fluctuation", "of": "control", "from_pct": 40, "to_pct": 4, "above": 2}
    steady, wild = curve("reinit", flat(0.9)), curve("reinit", up_and_down)
    assert judged(part, curve("winning", flat(0.98)), wild).word == "holds"
    assert judged(part, curve("winning", flat(0.98)), steady).word == "does not hold"
    assert judged(part | {"minus": "winning"}, curve("winning", flat(0.98)), wild).findings[0].estimate.mean == (
        pytest.approx(4, rel=0.05)
    )


def test_hours_are_those_at_report_scale():
    rounds = curve("winning", flat(0.98)), curve("reinit", flat(0.98))  # a second each
    outcome = judged({"measure": "hours", "above": 10}, *rounds, share=30 / 3600 / 20)
    assert outcome.findings[0].estimate.mean == pytest.approx(20)
    assert outcome.word == "holds"
    assert judged({"measure": "hours", "above": 10}, *rounds, share=30 / 3600 / 2).word == "does not hold"
    paused = [rounds[0][0].model_copy(update={"seconds": 1e6}), *rounds[0][1:]], rounds[1]
    assert judged({"measure": "hours", "above": 10}, *paused, share=30 / 3600 / 2).word == "does not hold"


def better(density):
    """Tickets a point above dense."""
    return 0.98 if density == 1 else 0.99


@pytest.mark.parametrize(("reinit", "word"), [(0.95, "does not hold"), (0.995, "holds"), (0.99, "undecided")])
def test_a_streak_of_winning_rounds(reinit, word):
    part = {"measure": "winning_streak", "below": 2}
    outcome = judged(part, curve("winning", better), curve("reinit", flat(reinit), spread=0.0004))
    assert outcome.word == word


def test_a_streak_counts_rounds_that_are_sure_to_win():
    part = {"measure": "winning_streak", "below": 2}
    noisy = judged(part, curve("winning", flat(0.98)), curve("reinit", flat(0.98), spread=0.01))
    assert noisy.findings[0].estimate.mean == 0
    early = curve("reinit", lambda density: 0.95 if density > 0.3 else 0.98, spread=0.0004)
    assert judged(part, curve("winning", flat(0.98)), early).findings[0].estimate.mean == 5


@pytest.mark.parametrize("bounds", [{"below": 2}, {"above": 1}, {"above": 0, "below": 3}])
def test_one_seed_shows_no_streak(bounds):
    one = [[each for each in curve(arm, flat(level)) if each.seed == 0]
           for arm, level in (("winning", 0.99), ("reinit", 0.5))]  # fmt: skip
    outcome = judged({"measure": "winning_streak"} | bounds, *one)
    assert (outcome.word, outcome.findings[0].estimate[:3]) == ("undecided", (0, 0, 14))


@pytest.mark.parametrize(("reinit", "word"), [(0.95, "holds"), (0.995, "does not hold"), (0.99, "undecided")])
def test_a_streak_may_have_to_be_long(reinit, word):
    part = {"measure": "winning_streak", "above": 1}
    assert judged(part, curve("winning", better), curve("reinit", flat(reinit), spread=0.0004)).word == word


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_streak_goes_by_the_variants_accuracy(seeds):
    """Tickets are far better on the last epoch, and far worse on the best one."""
    part = {"measure": "winning_streak", "above": 0}
    best = {"variants": {"paper": {"says": "x", "accuracy": "best", "settings": {"arms": "winning,reinit"}}}}
    told = file(part, best)
    of_last = [each for arm, level in (("winning", better), ("reinit", flat(0.9)))
               for each in curve(arm, level, spread=0.0004 * len(arm)) if each.seed < seeds]  # fmt: skip
    turned = [each.model_copy(update={"test_accuracy_best": 0.8 - each.test_accuracy / 10}) for each in of_last]
    words = {}
    for name, records in (("last", of_last), ("best", read_as(turned, told.variants["paper"]))):
        pair = {("fc1", "paper"): Experiment(records, 1.0)}
        words[name] = decide(told, pair)[0].word
    assert words == {
        "last": "holds" if seeds == 3 else "undecided",
        "best": "does not hold" if seeds == 3 else "undecided",
    }


def test_stops_that_never_came_before_the_end_are_censored():
    """98 % of them at the end: a ratio of 1.00, which is no evidence."""
    part = {"measure": "early_stop", "over": "dense", "at_pct": 21, "above": 0.52, "below": 0.72}

    def at(dense, ticket):
        return judged(part, curve("winning", flat(0.98), stop=lambda density: dense if density == 1 else ticket))

    both, ticket, dense = at(4001, 4001), at(3000, 4001), at(4001, 1000)
    assert both.word == "undecided"
    assert ticket.word == "does not hold"  # at least 4,000 / 3,000 of the dense network's
    assert dense.word == "does not hold"  # at most 1,000 / 4,000
    found = ticket.findings[0].estimate
    assert (found.censored, found.high) == ((3, 6), math.inf)
    assert found.low == pytest.approx(4 / 3, rel=1e-2)
    assert "3 of 6 stops never came before the end" in in_numbers(ticket.findings[0])
    assert "6 of 6 stops" in in_numbers(both.findings[0])
    assert at(1000, 620).findings[0].estimate.censored == (0, 6)


@pytest.mark.parametrize("lost", ["winning", "reinit"])
def test_a_seed_that_diverged_is_left_out_of_both_sides(lost):
    curves = [curve("winning", flat(0.98)), curve("reinit", flat(0.88), spread=-0.0005)]
    assert judged(GAP, *curves).word == "holds"
    burst = [[each.model_copy(update={"diverged": True, "test_accuracy": 0.1}) if each.arm == lost and each.seed == 1
              and each.round == 10 else each for each in of_arm] for of_arm in curves]  # fmt: skip
    outcome = judged(GAP, *burst)
    found = outcome.findings[0].estimate
    assert outcome.word == "undecided"
    assert (len(found.values), outcome.findings[0].lost) == (2, 1)
    assert found.mean == pytest.approx(10, abs=0.1)
    assert "2 of 3 seeds" in in_numbers(outcome.findings[0])
    assert judged(GAP | {"at_pct": 50}, *burst).word == "holds"  # where it had not


def test_a_seed_that_ended_before_is_left_out_of_a_range():
    part = {"minus": "dense", "from_pct": 90, "to_pct": 10, "take": "mean", "above": -1}
    ended = [each for each in curve("winning", flat(0.98)) if each.seed or each.round < 5]
    assert judged(part, curve("winning", flat(0.98))).word == "holds"
    outcome = judged(part, ended)
    assert (outcome.word, outcome.findings[0].lost) == ("undecided", 1)


def burst(records, arm, rounds, ends=False):
    """The same with seeds of an arm that diverge (seed → round), and train on or end there."""
    return [
        each.model_copy(update={"diverged": True, "test_accuracy": 0.1})
        if (each.arm, each.round) == (arm, rounds.get(each.seed))
        else each
        for each in records
        if not (ends and each.arm == arm and each.round > rounds.get(each.seed, 99))
    ]


EVERYWHERE = {"in the same round": {0: 6, 1: 6, 2: 6}, "each in another": {0: 4, 1: 6, 2: 8}}


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("rounds", EVERYWHERE.values(), ids=EVERYWHERE)
@pytest.mark.parametrize(
    ("arm", "part"),
    [
        ("reinit", {"minus": "reinit", "from_pct": 51.2, "to_pct": 10.7, "above": 0}),
        ("winning", {"minus": "dense", "from_pct": 100, "to_pct": 10, "take": "least", "above": -1}),
        ("winning", {"minus": "reinit", "from_pct": 100, "to_pct": 10, "measure": "fluctuation", "below": 5}),
        ("reinit", {"measure": "hours", "below": 1000}),
    ],
)
def test_where_all_seeds_diverge_nothing_is_measured(arm, part, rounds, ends):
    """Not over the rounds that are left, which may be others in each seed, and are others than the part says."""
    records = [*curve("winning", flat(0.98)), *curve("reinit", flat(0.96), spread=-0.0005)]
    assert judged(part, records).word == "holds"
    (finding,) = judged(part, burst(records, arm, rounds, ends)).findings
    assert (finding.estimate, finding.answer, finding.lost, finding.at) == (None, "undecided", 3, None)
    assert in_numbers(finding) == "not measured (0 of 3 seeds, the others diverged or ended before)"


def test_a_part_is_measured_where_the_page_says():
    """Not where a seed was, that is left out."""
    part = {"minus": "dense", "from_pct": 90, "to_pct": 10, "take": "mean", "above": -1}
    longer = [each for each in curve("winning", flat(0.98)) if each.seed or each.round < 5]
    assert judged(part, longer).findings[0].at == pytest.approx((80, 100 * 0.8**10))
    shorter = [each for each in curve("winning", flat(0.98)) if each.seed == 0 or each.round < 5]
    (finding,) = judged(part, shorter).findings
    assert (finding.lost, len(finding.estimate.values)) == (2, 1)


def test_all_seeds_the_same_decide_nothing():
    part = {"measure": "early_stop", "at_pct": 10, "above": 50}
    same = [each.model_copy(update={"early_stop_iteration": 1000}) for each in curve("winning", flat(0.98))]
    outcome = judged(part, same)
    assert outcome.word == "undecided"
    assert "all seeds the same, no interval" in in_numbers(outcome.findings[0])


def test_a_reproduction_judges_with_its_own_settings(small_npz):
    """Not with those of the run that is read for it."""
    more = {"setups": {"fc1": {"preset": "shu-fc1", "settings": {"dataset": str(small_npz), "validation_size": 200,
            "verdict_tolerance": 0.01}, "quick": {"epochs": 1}, "report": {"epochs": 2}}}}  # fmt: skip
    told = file(GAP, more)
    (job,) = make_jobs(told, "quick")
    lenient = job.settings.model_copy(update={"verdict_tolerance": 0.9, "verdict_level": 0.6, "device": "cpu"})
    assert lenient.training() == job.settings.training()
    records = curve("winning", flat(0.98)) + curve("reinit", flat(0.9))
    job.found = sources_of(lenient, "", "", {}, "id", records)
    assert experiment_of([job], told, ("fc1", "paper"), "quick").tolerance == 0.01


def test_what_makes_two_runs_the_same_training():
    assert set(NOT_TRAINING) < set(Settings.model_fields)
    base = load_preset()
    for name, value in {"verdict_level": 0.9, "jobs": 2, "checkpoint_precision": "float32"}.items():
        assert base.model_copy(update={name: value}).training() == base.training()
    for name, value in {"lr": 0.1, "seeds": (1,), "precision": "bfloat16", "evaluate_every": 7}.items():
        assert base.model_copy(update={name: value}).training() != base.training()


def test_a_control_that_the_verdict_does_not_know_is_one_here():
    more = {"variants": {"paper": {"says": "x", "control": "random-mask", "settings": {"arms": "winning,random-mask"}}}}
    rounds = curve("winning", better), curve("random-mask", flat(0.5), spread=0.0004)
    assert judged({"measure": "winning_streak", "below": 2}, *rounds, more=more).word == "does not hold"


def test_another_setups_dense_network_is_its_round_0():
    part = {"minus": "other:dense", "at_pct": 10, "below": 0}
    dense = curve("winning", flat(0.99), spread=0.0004)
    outcome = judged(part, curve("winning", flat(0.98)), others=[dense])
    assert outcome.findings[0].estimate.mean == pytest.approx(-1)


def test_a_side_that_is_measured_may_be_another_setups():
    assert ("other", "paper") in file({"of": "other:winning", "at_pct": 10, "above": 0}).experiments


def test_a_side_of_another_setup():
    part = {"setup": "other", "minus": "fc1:winning", "at_pct": 10, "below": 0}
    once = curve("winning", flat(0.95), spread=0.0004)
    assert judged(part, curve("winning", flat(0.98)), others=[once]).word == "holds"


def test_a_variant_reads_its_own_accuracy():
    variant = file(GAP).variants["paper"]
    rounds = [record("winning", 0, 0, 0.9).model_copy(update={"test_accuracy_best": 0.95})]
    assert read_as(rounds, variant)[0].test_accuracy == 0.9
    assert read_as(rounds, variant.model_copy(update={"accuracy": "best"}))[0].test_accuracy == 0.95
    assert read_as(rounds, variant.model_copy(update={"accuracy": "early-stop"})) == []


@pytest.mark.parametrize(
    ("part", "side", "value"),
    [
        ({"minus": "control", "at_pct": 10, "above": 0, "reported": 10}, "control", 88),
        ({"minus": "dense", "at_pct": 10, "above": 0, "reported": 0.5}, "winning", 98.5),
        ({"of": "reinit", "minus": "winning", "at_pct": 10, "below": 0, "reported": -3}, "reinit", 95),
        ({"over": "dense", "at_pct": 10, "below": 1, "reported": 0.62, "measure": "early_stop"}, "winning", 620),
        (
            {"of": "reinit", "over": "winning", "at_pct": 10, "above": 1, "reported": 2.5, "measure": "early_stop"},
            "reinit",
            2500,
        ),
    ],
)
def test_where_the_source_puts_a_side(part, side, value):
    curves = [curve("winning", flat(0.98), stop=flat(1000)), curve("reinit", flat(0.95), stop=flat(1500))]
    experiments = {("fc1", "paper"): Experiment([r for each in curves for r in each], 1.0)}
    told = file(part)
    (asked,) = told.claims[0].parts
    found = reported_at(asked, "paper", told, experiments)
    assert found == (side, 10, pytest.approx(value, abs=0.1 if value < 100 else 2))
    assert reported_at(asked.model_copy(update={"reported": None}), "paper", told, experiments) is None
    assert reported_at(asked.model_copy(update={"at_pct": 0.1, "minus": "control"}), "paper", told, experiments) is None


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"minus": "control"}, ("control", 40, 80)),  # the winning arm's 90 % at 10 % left, less 10
        ({"of": "reinit", "minus": "winning"}, ("reinit", 10, 105)),  # its 95 % at 40 %, and 10 more
    ],
)
def test_where_the_source_puts_a_side_at_another_density(part, found):
    curves = curve("winning", lambda density: 0.95 if density > 0.4 else 0.9), curve("reinit", flat(0.5))
    experiments = {("fc1", "paper"): Experiment([r for each in curves for r in each], 1.0)}
    told = file(part | {"at_pct": 10, "other_at_pct": 40, "above": 0, "reported": 10})
    side, pct, value = reported_at(told.claims[0].parts[0], "paper", told, experiments)
    assert (side, pct, value) == (*found[:2], pytest.approx(found[2], abs=0.1))


@pytest.mark.parametrize(
    ("part", "bound", "line"),
    [
        ({"minus": "dense", "from_pct": 80, "to_pct": 10, "above": -1}, -1, {80: 97, 10: 97}),
        ({"from_pct": 100, "to_pct": 2.7, "below": 95}, 95, {100: 95, 2.7: 95}),
        ({"minus": "control", "from_pct": 80, "to_pct": 60, "above": -2}, -2, {80: 93, 64: 93}),
        ({"over": "dense", "from_pct": 80, "to_pct": 60, "above": 1, "measure": "early_stop"}, 1, {}),
        ({"minus": "control", "at_pct": 10, "above": 1}, 1, {}),
    ],
)
def test_where_a_bound_lies(part, bound, line):
    curves = [curve("winning", flat(0.98), stop=flat(1000)), curve("reinit", flat(0.95), stop=flat(1500))]
    experiments = {("fc1", "paper"): Experiment([r for each in curves for r in each], 1.0)}
    told = file(part)
    found = claimed_at(told.claims[0].parts[0], bound, "paper", told, experiments)
    assert list(found) == pytest.approx(list(line), rel=0.01)
    assert list(found.values()) == pytest.approx(list(line.values()), abs=0.1)


def test_a_drawing_shows_what_is_claimed():
    drawing = {"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "claims": ["C"]}
    parts = [
        {"minus": "control", "from_pct": 38.8, "to_pct": 5, "above": 0},
        {"minus": "dense", "from_pct": 80, "to_pct": 15, "take": "least", "above": -1},
        {"minus": "dense", "from_pct": 80, "to_pct": 10, "take": "least", "above": -1},
        {"minus": "control", "at_pct": 10, "above": 7, "reported": 10},
    ]
    told = file(parts, {"drawings": [drawing]})
    curves = curve("winning", flat(0.98)) + curve("reinit", flat(0.95))
    (axes,) = draw_rounds(told.drawings[0], told, {("fc1", "paper"): Experiment(curves, 1.0)}).axes
    assert axes.get_legend_handles_labels()[1] == [
        "winning (3 seeds)",
        "reinit (3 seeds)",
        "by the source's gap",
        "claimed from here on: winning above reinit",
        "claimed: winning above",
    ]


def test_early_stops_that_had_not_come_are_marked():
    """reinit's, whose seeds stop at 3,999, 4,000 and 4,001 of 4,000 iterations; winning's came before."""
    drawing = {"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "measure": "early_stop"}
    told = file(GAP, {"drawings": [drawing]})
    curves = curve("winning", flat(0.98), 4, stop=flat(1000)) + curve("reinit", flat(0.95), 4, stop=flat(4000))
    (axes,) = draw_rounds(told.drawings[0], told, {("fc1", "paper"): Experiment(curves, 1.0)}).axes
    marked = [line for line in axes.lines if line.get_marker() == "^"]
    assert [line.get_label() for line in marked] == ["at least: a stop had not come by the end"]
    assert list(marked[0].get_xdata()) == pytest.approx([100, 80, 64, 51.2], rel=0.001)


def test_a_gap_is_taken_apart():
    more = {
        "attributions": [{"name": "gap", "title": "g", "setup": "fc1", "at_pct": 10, "variants": ["paper", "own"]}],
    }
    told = file(GAP, more)
    experiments = {
        ("fc1", "paper"): Experiment(
            [*curve("winning", flat(0.98)), *curve("reinit", flat(0.96), spread=0.0002)], 1, 0.0, 0.0
        ),
        ("fc1", "own"): Experiment(
            [*curve("winning", flat(0.97)), *curve("reinit-own", flat(0.9), spread=0.0001)], 1, 0.0, 0.0
        ),
    }
    paper, own = attribute(told.attributions[0], told, experiments)
    assert paper.gap.mean == pytest.approx(2)
    assert paper.more is None
    assert own.gap.mean == pytest.approx(7)
    assert own.more.mean == pytest.approx(5)
    assert own.more.low < 5 < own.more.high
    assert own.on.mean == pytest.approx(7)
    assert own.more_on.mean == pytest.approx(5)


def test_a_gap_from_a_density_on_is_the_mean_over_those_rounds():
    more = {
        "attributions": [{"name": "gap", "title": "g", "setup": "fc1", "at_pct": 10, "variants": ["paper", "own"]}],
    }
    told = file(GAP, more)
    steep = [*curve("winning", flat(0.98)), *curve("reinit", lambda density: 0.9 if density > 0.09 else 0.5)]
    (share,) = attribute(
        told.attributions[0],
        told,
        {("fc1", "paper"): Experiment(steep, 1), ("fc1", "own"): Experiment([], 1)},
    )
    below = [0.8**r for r in range(15) if 0.8**r < 0.11]
    gaps = [8 if density > 0.09 else 48 for density in below]
    assert set(gaps) == {8, 48}
    assert share.on.mean == pytest.approx(sum(gaps) / len(gaps))
    assert share.gap.mean == pytest.approx(8)


@pytest.mark.parametrize(
    ("lost", "left", "gap"),
    [({1: 10}, 2, 7), ({1: 12}, 2, 7), ({1: 12, 2: 13}, 1, 7), ({0: 13, 1: 13, 2: 13}, 0, None)],
)
def test_a_gap_is_of_networks_that_have_not_diverged(lost, left, gap):
    """A diverged round has the accuracy of chance: at most a few of its points would be the variant's."""
    more = {
        "attributions": [{"name": "gap", "title": "g", "setup": "fc1", "at_pct": 10, "variants": ["paper", "own"]}],
    }
    told = file(GAP, more)
    own = [*curve("winning", flat(0.97)), *curve("reinit-own", flat(0.9), spread=0.0001)]
    experiments = {
        ("fc1", "paper"): Experiment([*curve("winning", flat(0.98)), *curve("reinit", flat(0.96), spread=0.0002)], 1),
        ("fc1", "own"): Experiment(burst(own, "reinit-own", lost, ends=True), 1),
    }
    (attribution,) = told.attributions
    paper, *others = attribute(attribution, told, experiments)
    assert (paper.lost, len(paper.seeds)) == (0, 3)
    page = "\n".join(_attribution([paper, *others], attribution))
    if not left:
        assert not others
        assert "Not there: own, of which no seed has all rounds." in page
        return
    (share,) = others
    assert (share.lost, len(share.seeds), len(share.on.values)) == (3 - left, left, left)
    assert [share.gap.mean, share.on.mean] == pytest.approx([gap, gap], abs=0.1)
    assert f"own ({left} of 3 seeds, the others diverged or ended before)" in page
    panel, _ = draw_attribution(attribution, [paper, share], told, experiments).axes
    assert all(1 < gap < 8 for line in panel.lines if len(line.get_ydata()) == 15 for gap in line.get_ydata())


def test_a_curve_is_of_networks_that_have_not_diverged():
    drawing = {"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "sides": ["winning", "control"]}
    told = file(GAP, {"drawings": [drawing]})
    records = [*curve("winning", flat(0.98)), *burst(curve("reinit", flat(0.96)), "reinit", {2: 6}, ends=True)]
    (axes,) = draw_rounds(told.drawings[0], told, {("fc1", "paper"): Experiment(records, 1)}).axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines)[:2] == ["winning (3 seeds)", "reinit, diverged"]
    assert lines["reinit (2 to 3 of 3 seeds)"].get_ydata() == pytest.approx([96] * 15, abs=0.1)
    assert list(lines["reinit, diverged"].get_xdata()) == pytest.approx([100 * 0.8**6])
    assert min(np.nanmin(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) > 2) > 95


def test_a_gap_to_the_dense_network_is_taken_apart_over_setups():
    variants = ["paper", "other:paper"]
    gap = {"name": "gap", "title": "g", "setup": "fc1", "at_pct": 10, "minus": "dense", "variants": variants}
    told = file({"minus": "dense", "at_pct": 10, "above": 0}, {"attributions": [gap]})
    assert told.experiments == [("fc1", "paper"), ("other", "paper")]
    ahead = curve("winning", lambda density: 0.95 if density == 1 else 0.98)
    level = curve("winning", lambda density: 0.97 if density == 1 else 0.96 if density < 0.09 else 0.975)
    experiments = {
        ("fc1", "paper"): Experiment(ahead, 1),
        ("other", "paper"): Experiment(level, 1),
    }
    paper, other = attribute(told.attributions[0], told, experiments)
    assert [paper.gap.mean, paper.on.mean] == pytest.approx([3, 3], abs=0.02)
    assert other.gap.mean == pytest.approx(0.5, abs=0.02)
    assert other.more.mean == pytest.approx(-2.5, abs=0.02)
    assert other.on.mean == pytest.approx((1 * 0.5 + 4 * -1) / 5, abs=0.02)  # rounds 10 to 14
    left, _ = draw_attribution(told.attributions[0], [paper, other], told, experiments).axes
    drawn = [line.get_ydata() for line in left.lines if len(line.get_ydata()) == 15]
    assert [round(float(gaps[10]), 1) for gaps in drawn] == [3, 0.5]
    assert [gaps[0] for gaps in drawn] == [0, 0]


def all_of(name, told_curves):
    told, _ = load_reproduction(name)
    return {
        (o.claim.id, o.variant): o.word for o in decide(told, {pair: told_curves(*pair) for pair in told.experiments})
    }


def rounds_of(control, winning, reinit, share=1.0):
    return Experiment([*curve("winning", winning, 18, 0.0002), *curve(control, reinit, 18, -0.0002)], share)


def test_the_report_would_be_borne_out_by_what_it_shows():
    def as_reported(setup, variant):
        control = "reinit-own" if variant in ("as-coded", "own-masks") else "reinit"
        if setup == "fc1-large-lr":
            return rounds_of(control, flat(0.85), flat(0.865), 1e-6)
        depth = 0.1 if setup == "fc1" else 0.2
        wild = lambda d: 0.98 - depth * (0.09 / max(d, 0.09)) - (setup == "lenet5") * 0.04 * (round(100 * d) % 2)  # noqa: E731
        return rounds_of(control, flat(0.98), wild, 1e-6)

    words = all_of("shu", as_reported)
    assert set(words.values()) == {"holds"}, words
    assert len(words) == 11


def test_and_is_not_where_reinitialised_weights_do_as_well():
    def no_effect(setup, variant):
        control = "reinit-own" if variant in ("as-coded", "own-masks") else "reinit"
        return rounds_of(control, flat(0.98), flat(0.98), 1.0)

    words = all_of("shu", no_effect)
    assert words["C1", "paper"] == words["C2", "as-coded"] == "holds"
    assert words["C3a", "paper"] == words["C3b", "paper"] == words["C5", "paper"] == "does not hold"
    assert words["C4", "paper"] == "holds in part"


def test_the_paper_would_be_borne_out_by_what_it_shows():
    def as_published(setup, variant):
        once = setup == "one-shot"

        def winning(d):
            if d == 1:
                return 0.98
            return 0.9802 if d < 0.05 and not once else 0.984 if not once else 0.985 if d > 0.4 else 0.95

        arms = [
            curve("winning", winning, 18, 0.0002 if once else 0.0001, lambda d: 1000 if d == 1 else 620),
            curve("reinit", lambda d: winning(d) - 0.005, 18, 0.0003, lambda d: 1550),
            curve("random-mask", lambda d: winning(d) - 0.01, 18, 0.0003, lambda d: 1550),
        ]
        return Experiment(
            read_as([r for arm in arms for r in arm], load_reproduction("frankle-lenet")[0].variants[variant]),
            1,
        )

    words = all_of("frankle-lenet", as_published)
    assert set(words.values()) == {"holds"}, words


@pytest.mark.parametrize("name", reproduction_names())
def test_the_shipped_files_can_be_run_at_all_their_scales(name):
    told, _ = load_reproduction(name)
    assert {"quick", "report"} <= set(told.scales)
    for setup, variant in told.experiments:
        for scale in told.scales:
            assert told.settings(setup, variant, scale)
    for claim in told.claims:
        assert {setup for setup, _ in told.only([claim.id]).experiments} >= {part.setup for part in claim.parts}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"titel": "t"}, "titel.*did you mean 'title'"),
        (
            {"variants": {"paper": {"says": "x", "controll": "reinit"}}},
            "variants.paper key: 'controll' is unknown; did you mean 'control'",
        ),
        (
            {"claims": [{"figur" if key == "figure" else key: CLAIM[key] for key in CLAIM}]},
            "'figur' is unknown.*'figure'",
        ),
        (
            {"setups": {"fc1": SETUP, "unused": SETUP | {"preset": "shu-fc"}}},
            "setups.unused: preset: 'shu-fc' is unknown; did you mean 'shu-fc1'",
        ),
        ({"variants": {"other": {"says": "x"}}}, "variants: 'paper' is unknown"),
        ({"setups": {"fc1": {"preset": "shu-fc", "quick": {}, "report": {}}}}, "'shu-fc' is unknown"),
        ({"setups": {"fc1": SETUP | {"report": {"lrr": 1}}}}, "report.*'lrr'.*'lr'"),
        ({"setups": {"fc1": SETUP | {"report": {"lr": -1}}}}, "lr.*-1.*> 0"),
        ({"level": 1.5}, "level: 1.5"),
        ({"claims": []}, "claims"),
        (
            {"drawings": [{"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "claims": ["X"]}]},
            "claims: 'X' is unknown",
        ),
        (
            {"drawings": [{"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "sides": ["dense"]}]},
            "sides: 'dense' cannot be drawn",
        ),
        (
            {"drawings": [{"name": "a", "title": "a", "setup": "fc1", "variants": ["paper"], "sides": ["no:winning"]}]},
            "setup: 'no' is unknown",
        ),
        *(
            ({"attributions": [{"name": "a", "title": "a", "setup": "fc1", "at_pct": 10} | each]}, names)
            for each, names in (
                ({"variants": ["paper", "no:paper"]}, "setup: 'no' is unknown"),
                ({"variants": ["paper", "other:no"]}, "variants: 'no' is unknown"),
                ({"variants": ["paper", "own"], "minus": "reinit"}, "side in variant own: 'reinit' is unknown"),
                ({"variants": ["paper", "own"], "minus": "other:dense"}, "minus: 'other:dense' is of another setup"),
            )
        ),
        ({"claims": 2 * [CLAIM]}, "claims: id: 'C' is there twice"),
        (
            {"setups": {"a": SETUP | {"long": {}}, "b": SETUP}},
            "setups.b: long: None is missing; allowed: in every setup or in none",
        ),
        ({"variants": {"pa(per)": {"says": "x"}}}, r"variants.pa\(per\)"),
        (
            {"setups": {"fc1": SETUP | {"settings": {"model": "os:abort"}}}},
            r"settings: model: 'os:abort' is code, which no file has run",
        ),
    ],
)
def test_wrong_files_are_refused_by_name(change, names):
    with pytest.raises(InputError, match=names):
        file(GAP, change)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ({"minus": "control", "at_pct": 10}, "above, below"),
        ({"minus": "control", "above": 0}, "at_pct, to_pct"),
        ({"minus": "control", "above": 0, "at_pct": 10, "to_pct": 5}, "at_pct, to_pct"),
        ({"minus": "control", "over": "dense", "above": 0, "at_pct": 10}, "over"),
        ({"minus": "contrl", "above": 0, "at_pct": 10}, "'contrl' is unknown.*'control'"),
        ({"minus": "nowhere:winning", "above": 0, "at_pct": 10}, "'nowhere' is unknown"),
        ({"measure": "acuracy", "above": 0, "at_pct": 10}, "measure.*acuracy"),
        ({"above": 0, "at_pct": 1000}, "at_pct: 1000"),
        ({"measure": "fluctuation", "over": "control", "to_pct": 10, "above": 0}, "over: 'control' has no meaning"),
        ({"to_pct": 80, "from_pct": 40, "above": 0}, "to_pct: 80.* is above from_pct"),
        ({"at_pct": 2.4, "above": 0}, "at_pct: 2.4 is sparser than setup fc1 becomes; allowed: at least 2.78"),
        ({"at_pct": 10, "from_pct": 40, "above": 0}, "from_pct: 40.* has no meaning at one percentage"),
        ({"at_pct": 10, "take": "mean", "above": 0}, "take: 'mean' has no meaning at one percentage"),
        ({"at_pct": 10, "above": 10, "below": 1}, "above: 10.* is not below below"),
        ({"minus": ":winning", "at_pct": 10, "above": 0}, "setup: '' is unknown"),
        ({"measure": "hours", "at_pct": 10, "above": 0}, "at_pct: 10.* has no meaning with measure hours"),
        ({"measure": "hours", "other_at_pct": 10, "above": 0}, "other_at_pct: 10.* has no meaning with measure hours"),
        ({"at_pct": 10, "other_at_pct": 50, "above": 0}, "other_at_pct: 50.* without another side that is pruned"),
        (
            {"minus": "dense", "at_pct": 10, "other_at_pct": 50, "above": 0},
            "other_at_pct: 50.* without another side that is pruned",
        ),
        (
            {"measure": "early_stop", "over": "other:winning", "at_pct": 10, "above": 0},
            "measure: 'early_stop' needs validation images",
        ),
    ],
)
def test_wrong_parts_are_refused_by_name(part, names):
    with pytest.raises(InputError, match=names):
        file(part)


def test_only_some_claims_can_be_asked_for():
    told, _ = load_reproduction("shu")
    some = told.only(["C1"])
    assert [claim.id for claim in some.claims] == ["C1"]
    assert set(some.experiments) == {("fc1", "paper"), ("fc1", "as-coded")}
    with pytest.raises(InputError, match=r"--only: 'C9' is unknown.*C3a"):
        told.only(["C1", "C9"])
