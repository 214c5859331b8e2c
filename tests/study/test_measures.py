"""What is measured of a trial, on made-up rounds."""

import math

import pytest

from lottery_ticket.analysis.verdict import judge
from lottery_ticket.study.definition import EndEarly
from lottery_ticket.study.measures import measure, phase, settled, winning_margin
from tests.analysis.test_verdict import record


def rounds(winning, reinit, dense=0.97, seeds=3):
    """Records of a dense round and one round for each pair of accuracies, a little different from seed to seed."""
    made = []
    for seed in range(seeds):
        shift = 0.0001 * (seed - 1)
        made += [record("winning", seed, 0, dense + shift), record("reinit", seed, 0, dense + shift)]
        for r, (ticket, control) in enumerate(zip(winning, reinit, strict=True), start=1):
            made += [record("winning", seed, r, ticket - shift), record("reinit", seed, r, control + shift)]
    return made


def judged(*args, **kwargs):
    return judge(rounds(*args, **kwargs))


def test_two_rounds_on_end_make_a_phase():
    assert phase(judged([0.98, 0.98, 0.90], [0.96, 0.96, 0.90])) == "winning"
    assert phase(judged([0.98, 0.90, 0.98], [0.96, 0.96, 0.96])) == "none"
    assert phase(judged([0.97, 0.97, 0.98], [0.97, 0.97, 0.96])) == "matching"


def test_the_margin_is_positive_where_tickets_win():
    """A point over dense, of 10,000 images, and the tolerance: less what the images may err, more than the seeds do."""
    error = math.sqrt(0.01 * 0.99 / 10_000)
    expected = pytest.approx(0.01 + 0.002 - 1.96 * error, abs=1e-4)
    assert winning_margin(judged([0.98, 0.98, 0.90], [0.96, 0.96, 0.90])) == expected
    assert winning_margin(judged([0.98, 0.90, 0.98], [0.96, 0.96, 0.96])) < 0
    assert winning_margin(judged([0.97, 0.97, 0.98], [0.98, 0.97, 0.96])) <= 0


def test_one_round_shows_something_where_no_more_were_to_be():
    one = rounds([0.98], [0.96])
    for planned in (None, 2):
        assert phase(judge(one, rounds=planned)) == "winning"
        assert winning_margin(judge(one, rounds=planned)) > 0
    assert phase(judge(one, rounds=4)) == "none"
    assert winning_margin(judge(one, rounds=4)) == -1
    assert winning_margin(judged([0.90], [0.96])) < 0


def test_rounds_that_a_trial_ended_before_count_among_all():
    """Without them a trial that collapses would have fewer rounds to win among than one that does not."""
    made = rounds([0.973, 0.90, 0.90], [0.97, 0.96, 0.96])
    (first, *_) = judge(made).rounds
    alone = first.p_wins
    assert first.p_adjusted == pytest.approx(3 * alone)
    ended = judge(made, rounds=16)
    assert ended.of_rounds == 15
    assert ended.rounds[0].p_adjusted == pytest.approx(min(1, 15 * alone))
    assert "among the 15 rounds" in ended.evidence


def test_measures():
    records = rounds([0.98, 0.985, 0.95], [0.96, 0.96, 0.94])
    found = measure(judge(records), records, [64.0, 10.7], 4, "iterative")
    assert found["smallest_winning_pct"] == pytest.approx(64)
    assert found["smallest_matching_pct"] == pytest.approx(64)
    assert found["cost"] == 3  # iterations of rounds 0, 1 and 2
    assert found["dense_accuracy"] == pytest.approx(0.97)
    assert found["weights_remaining_pct/64pct"] == pytest.approx(64)
    assert found["winning_minus_reinit/64pct"] == pytest.approx(0.025)
    assert found["winning_minus_dense/64pct"] == pytest.approx(0.015)
    assert found["seconds"] == 24
    assert not any(name.endswith("10.7pct") for name in found)  # 51.2 % is the nearest round, and not near


def test_what_the_nearest_round_really_had_is_told():
    records = rounds([0.98, 0.98], [0.96, 0.96])
    assert measure(judge(records), records, [70.0], 3, "iterative")["weights_remaining_pct/70pct"] == pytest.approx(64)


def test_no_ticket_costs_all_rounds():
    records = rounds([0.9, 0.9], [0.96, 0.96])
    found = measure(judge(records), records, [], 9, "iterative")
    assert (found["smallest_winning_pct"], found["cost"]) == (100, 9)


@pytest.mark.parametrize(("pruning", "won", "none"), [("iterative", 7, 11), ("one-shot", 5, 5), ("init", 4, 4)])
def test_a_ticket_costs_the_rounds_that_it_takes_by_its_schedule(pruning, won, none):
    """Round r takes 2^r iterations; round 3, which was not trained, as many as round 2."""

    def cost(winning, asked):
        records = [
            each.model_copy(update={"iterations": 10 + 2**each.round, "begins_at": 10})
            for each in rounds(winning, [0.96, 0.96])
        ]
        return measure(judge(records), records, [], asked, pruning)["cost"]

    assert cost([0.98, 0.98], 3) == won
    assert cost([0.9, 0.9], 4) == none


def test_an_answer_is_settled_far_below_dense_or_diverged():
    def why(winning):
        return settled(rounds(winning, winning), EndEarly())

    assert why([0.9, 0.9, 0.9]) == "more than 5 points below dense in all seeds for 3 round(s), at round 3"
    assert why([0.9, 0.9]) is None
    assert why([0.9, 0.93, 0.9]) is None
    lone = rounds([0.9, 0.9, 0.9], [0.9, 0.9, 0.9])
    lone[4] = record("winning", 0, 2, 0.97)  # one seed, one round
    assert settled(lone, EndEarly()) is None
    burst = [record("winning", seed, 0, 0.1, diverged=True) for seed in range(3)]
    assert settled(burst, EndEarly()) == "training diverged in all seeds in round 0"
    assert settled([*burst[:2], record("winning", 2, 0, 0.1)], EndEarly()) is None


def test_there_is_nothing_to_match_where_the_dense_network_learned_nothing():
    records = rounds([0.8, 0.8], [0.7, 0.7], dense=0.15)
    assert phase(judge(records, classes=100)) == "winning"
    of_one_class = [each.model_copy(update={"majority": 0.15}) for each in records]
    for verdict in (judge(records, classes=6), judge(of_one_class), judge(of_one_class, classes=100)):
        assert not verdict.learned
        assert phase(verdict) == "none"
        assert winning_margin(verdict) == -1
        assert verdict.smallest_winning_pct == verdict.smallest_matching_pct == 100
        assert "not shown to have learned: it gets 15.00 %" in verdict.remarks[0]


def test_two_classes_can_be_learned():
    of_two = [each.model_copy(update={"majority": 0.6}) for each in rounds([0.93, 0.93], [0.9, 0.9], dense=0.918)]
    assert phase(judge(of_two)) == "winning"


def test_a_speedup_is_of_stops_that_came_before_the_end():
    def speedup(dense, ticket):
        stops = [r.model_copy(update={"iterations": 100, "early_stop_iteration": dense if r.round == 0 else ticket})
                 for r in rounds([0.98], [0.96])]  # fmt: skip
        return measure(judge(stops), stops, [80.0], 2, "iterative").get("early_stop_speedup/80pct")

    assert speedup(80, 40) == pytest.approx(2)
    assert speedup(100, 40) is None  # at least 2.5
    assert speedup(80, 100) is None


def test_a_speedup_is_the_geometric_mean_over_seeds():
    stops = [
        r.model_copy(update={"iterations": 100, "early_stop_iteration": (10, 10, 90)[r.seed] if r.round == 0 else 10})
        for r in rounds([0.98], [0.96])
    ]
    found = measure(judge(stops), stops, [80.0], 2, "iterative")["early_stop_speedup/80pct"]
    assert found == pytest.approx(9 ** (1 / 3))  # of 1, 1 and 9; 110 over 30 would be 3.7


def test_a_diverged_seed_is_left_out_on_both_sides():
    """Three of eight seeds diverge: the dense accuracy is that of the other five."""
    made = rounds([0.9361, 0.9361], [0.9, 0.9], dense=0.9053, seeds=8)
    records = []
    for each in made:
        if each.seed >= 5 and each.arm == "winning":
            if each.round == 0:
                records.append(record("winning", each.seed, 0, 0.1, diverged=True))
        else:
            records.append(each)
    verdict = judge(records)
    found = measure(verdict, records, [80.0], 3, "iterative")
    assert found["dense_accuracy"] == pytest.approx(0.9054, abs=2e-4)
    assert found["winning_minus_dense/80pct"] == pytest.approx(0.0308, abs=3e-4)
    assert [(r.counted, r.wins) for r in verdict.rounds] == [("5 of 8", "yes"), ("5 of 8", "yes")]
