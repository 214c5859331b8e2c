"""The judge, fed with made-up rounds for each outcome, and against scipy."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from lottery_ticket.analysis.verdict import judge
from lottery_ticket.record import Point, Record, pack_bits

N = 10_000


def record(arm, seed, r, accuracy, diverged=False, rng=None):
    """A round whose network gets exactly that part of the test images right, at random places if told."""
    bits = np.zeros(N, bool)
    bits[: round(accuracy * N)] = True
    if rng is not None:
        rng.shuffle(bits)
    point = Point(
        iteration=1, epoch=1, validation_loss=None, validation_accuracy=None, test_loss=1.0, test_accuracy=accuracy
    )
    return Record(
        arm=arm,
        seed=seed,
        round=r,
        density=0.8**r,
        densities={"w": 0.8**r},
        survivors={"w": 1},
        iterations=1,
        train_loss=1.0,
        validation_loss=None,
        test_loss=1.0,
        test_accuracy=float(bits.mean()),
        test_loss_best=1.0,
        test_accuracy_best=accuracy,
        best_epoch=1,
        early_stop_iteration=None,
        test_loss_early_stop=None,
        test_accuracy_early_stop=None,
        seconds=1.0,
        finished_at=0,
        diverged=diverged,
        test_size=N,
        correct=pack_bits(bits),
        curve=[point],
    )


def run_of(dense, winning, reinit, seeds=5, jitter=0.0005):
    """Rounds 0 and 1 over seeds whose accuracies differ by multiples of the jitter."""
    records = []
    for seed in range(seeds):
        shift = jitter * (seed % 3 - 1)
        records += [record("winning", seed, 0, dense + shift), record("reinit", seed, 0, dense - shift)]
        records += [record("winning", seed, 1, winning - shift), record("reinit", seed, 1, reinit + 2 * shift)]
    return records


OUTCOMES = [  # dense, winning, reinit → matching, beats the control, wins
    (0.970, 0.980, 0.960, "yes", "yes", "yes"),
    (0.970, 0.950, 0.930, "no", "yes", "no"),
    (0.970, 0.980, 0.990, "yes", "no", "no"),
    (0.970, 0.980, 0.980, "yes", "undecided", "undecided"),
    (0.970, 0.968, 0.950, "undecided", "yes", "undecided"),
]


@pytest.mark.parametrize("outcome", [*OUTCOMES, (0.970, 0.9699, 0.960, "yes", "yes", "yes")])  # within tolerance
def test_outcomes_over_seeds(outcome):
    check(judge(run_of(*outcome[:3])), "t-interval", outcome)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcomes_on_one_test_set(outcome, seeds):
    rng = np.random.default_rng(3)
    dense, winning, reinit = outcome[:3]
    records = []
    for seed in range(seeds):
        records += [record("winning", seed, 0, dense, rng=rng), record("reinit", seed, 0, dense, rng=rng)]
        records += [record("winning", seed, 1, winning, rng=rng), record("reinit", seed, 1, reinit, rng=rng)]
    check(judge(records), "mcnemar", outcome)


def check(verdict, method, outcome):
    matching, beats, wins = outcome[3:]
    (only,) = verdict.rounds
    assert verdict.method == method
    assert (only.matching, only.beats_control, only.wins) == (matching, beats, wins)
    assert verdict.smallest_winning_pct == pytest.approx(80 if wins == "yes" else 100)
    assert verdict.smallest_matching_pct == pytest.approx(80 if matching == "yes" else 100)


def test_wide_spread_is_undecided():
    (only,) = judge(run_of(0.970, 0.974, 0.970, seeds=3, jitter=0.01)).rounds
    assert (only.matching, only.beats_control, only.wins) == ("undecided", "undecided", "undecided")


def test_intervals_are_scipys():
    records = run_of(0.97, 0.975, 0.965)
    (only,) = judge(records, level=0.9, only_seeds=True).rounds
    pick = lambda arm, r: [x.test_accuracy for x in records if (x.arm, x.round) == (arm, r)]  # noqa: E731
    for ours, (a, b) in (
        (only.against_dense, (pick("winning", 1), pick("winning", 0))),
        (only.against_control, (pick("winning", 1), pick("reinit", 1))),
    ):
        expected = stats.ttest_rel(a, b).confidence_interval(0.9)
        assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high))


def test_mcnemar_counts_the_discordant_images():
    rng = np.random.default_rng(0)
    records = [record(arm, 0, r, 0.97 + 0.01 * r * (arm == "winning"), rng=rng)
               for arm, r in itertools.product(("winning", "reinit"), (0, 1))]  # fmt: skip
    (only,) = judge(records).rounds
    a, b = (next(x for x in records if x.arm == arm and x.round == 1).correct_bits for arm in ("winning", "reinit"))
    gained, lost = int((a & ~b).sum()), int((~a & b).sum())
    assert only.against_control.mean == pytest.approx((gained - lost) / N)
    assert only.against_control.p_value == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert "weaker evidence" in judge(records).evidence


def test_without_a_control_nothing_wins():
    verdict = judge([x for x in run_of(0.97, 0.98, 0.96) if x.arm == "winning"])
    assert verdict.control is None
    assert verdict.rounds[0].matching == "yes"
    assert verdict.rounds[0].wins == "undecided"
    assert verdict.smallest_winning_pct == 100


def test_reinit_is_preferred_as_control_to_reinit_own():
    own = [x.model_copy(update={"arm": "reinit-own"}) for x in run_of(0.97, 0.98, 0.99) if x.arm == "reinit"]
    assert judge(run_of(0.97, 0.98, 0.96) + own).control == "reinit"
    trunk = [x for x in run_of(0.97, 0.98, 0.96) if x.arm == "winning"]
    verdict = judge(trunk + own)
    assert verdict.control == "reinit-own"
    assert verdict.rounds[0].beats_control == "no"


def test_a_diverged_winning_arm_does_not_win_and_no_winning_arm_has_no_verdict():
    records = [x.model_copy(update={"diverged": True}) if (x.arm, x.round, x.seed) == ("winning", 1, 0) else x
               for x in run_of(0.97, 0.98, 0.96)]  # fmt: skip
    verdict = judge(records)
    assert verdict.rounds[0].wins == "no"
    assert verdict.diverged == ("winning-seed0",)
    assert judge([x for x in records if x.arm == "reinit"]) is None


def test_smallest_is_over_all_rounds_and_json_is_plain():
    records = run_of(0.97, 0.98, 0.96)
    for r, less in ((2, 0.005), (3, 0.04)):
        later = {"round": r, "density": 0.8**r}
        records += [
            x.model_copy(update=later | {"test_accuracy": x.test_accuracy - less}) for x in records if x.round == 1
        ]
    verdict = judge(records)
    assert [r.wins for r in verdict.rounds] == ["yes", "yes", "no"]
    assert verdict.smallest_winning_pct == pytest.approx(64)
    told = json.loads(verdict.to_json())
    assert told["smallest_winning_pct"] == verdict.smallest_winning_pct
    assert told["rounds"][1]["wins"] == "yes"


def seeds_differ(gaps, n=N, control=0.0, **more):
    """Rounds 0 and 1 of as many seeds as there are gaps, winning − dense; reinit is dense and a little."""
    records = []
    for seed, gap in enumerate(gaps):
        records += [record("winning", seed, 0, 0.9), record("winning", seed, 1, 0.9 + gap)]
        records += [record("reinit", seed, r, 0.9 - control * r * (1 + seed)) for r in (0, 1)]
    return [each.model_copy(update=more) for each in records]


def test_seeds_that_differ_by_exactly_the_same_show_nothing():
    (only,) = judge(seeds_differ([0.01] * 3)).rounds
    assert (only.matching, only.beats_control, only.wins) == ("undecided",) * 3
    assert only.against_dense.half is None
    assert any("exactly the same" in note for note in only.notes)


def test_networks_that_agree_on_every_image_beat_nothing():
    (only,) = judge(seeds_differ([0.0])).rounds
    assert (only.matching, only.beats_control, only.wins) == ("yes", "undecided", "undecided")


@pytest.mark.parametrize("size", [10, 20, 40])
def test_a_test_set_may_be_too_small_to_decide(size, monkeypatch):
    """A few images more in each of three seeds: what they show of seeds, they do not of images."""
    monkeypatch.setattr("tests.analysis.test_verdict.N", size)
    records = []
    for seed, more in enumerate((1, 1, 2)):
        records += [record("winning", seed, 0, 0.7), record("winning", seed, 1, 0.7 + more / size)]
        records += [record("reinit", seed, r, 0.7) for r in (0, 1)]
    verdict, seeds_alone = (judge(records, level=0.8, only_seeds=alone) for alone in (False, True))
    (only,), (narrower,) = verdict.rounds, seeds_alone.rounds
    assert (only.beats_control, narrower.beats_control) == ("undecided", "yes")
    assert only.against_control.low < 0 < narrower.against_control.low
    assert (only.against_control.over_images, narrower.against_control.over_images) == (True, False)
    assert verdict.detectable == only.against_control.half > only.against_control.mean
    assert any("over the test images, which are wider" in note for note in only.notes)
    assert not narrower.notes
    assert judge(records).rounds[0].wins == "undecided"


def test_more_seeds_do_not_help_where_the_test_images_are_too_few():
    """The control gets the same 100 images wrong that tickets get right, and 85 the other way round, in all seeds."""
    records = []
    for seed in range(5):
        right = np.ones(N, bool)
        right[:300] = False
        control = right.copy()
        control[1000 : 1100 + seed % 2], control[:85] = False, True
        dense = right.copy()
        dense[2000 : 2050 + seed % 2] = False
        for arm, r, bits in (
            ("winning", 0, dense),
            ("winning", 1, right),
            ("reinit", 0, dense),
            ("reinit", 1, control),
        ):
            made = record(arm, seed, r, float(bits.mean()))
            records.append(made.model_copy(update={"correct": pack_bits(bits)}))
    verdict = judge(records, looks=(5, 8, 12))
    (only,) = verdict.rounds
    assert (only.matching, only.beats_control) == ("yes", "undecided")
    gaps = np.repeat([1, -1, 0], [100, 85, N - 185])
    error = np.std(gaps) / np.sqrt(N)  # but for an image or two
    expected = stats.norm.ppf((1 + verdict.level) / 2) * error
    assert only.against_control.half == pytest.approx(expected, rel=0.02)
    assert verdict.detectable == only.against_control.half
    (told,) = [remark for remark in verdict.remarks if "Undecided" in remark]
    assert "it takes more test images, not more seeds" in told


def test_a_control_of_ones_own_counts_for_the_dense_accuracy():
    """As `reinit` does: of seeds that it has finished."""
    for control in ("reinit", "mine"):
        records = [
            record(arm, seed, r, 0.9 + 0.01 * r + 0.001 * seed, diverged=(arm, seed, r) == (control, 2, 1))
            for arm in ("winning", control)
            for seed in range(3)
            for r in (0, 1)
        ]
        assert judge(records, controls=(control,)).dense == pytest.approx(0.9005)


def test_one_of_three_seeds_that_diverged_leaves_too_few():
    records = [x for x in run_of(0.97, 0.98, 0.96, seeds=3) if (x.arm, x.seed, x.round) != ("winning", 2, 1)]
    gone = next(x for x in run_of(0.97, 0.98, 0.96, seeds=3) if (x.arm, x.seed, x.round) == ("winning", 2, 1))
    records.append(gone.model_copy(update={"diverged": True, "test_accuracy": 0.1}))
    later = [x.model_copy(update={"round": 2, "density": 0.64}) for x in records if x.round == 1 and x.seed < 2]
    later.append(next(x for x in later if x.arm == "reinit").model_copy(update={"seed": 2}))
    verdict = judge([*records, *later])
    assert verdict.method == "t-interval"
    first, second = verdict.rounds
    assert (first.counted, first.matching, first.wins) == ("2 of 3", "no", "no")
    assert (second.counted, second.matching, second.wins) == ("2 of 3", "undecided", "undecided")
    assert first.dense == pytest.approx(np.mean([0.9695, 0.97]))  # of seeds 0 and 1, as the winning arm's mean
    assert first.winning == pytest.approx(np.mean([0.9805, 0.98]))


@pytest.mark.parametrize(("lost", "wins"), [(0, "yes"), (1, "yes"), (2, "yes"), (3, "undecided")])
def test_a_control_that_diverges_is_left_out_on_both_sides(lost, wins):
    records = [x.model_copy(update={"diverged": (x.arm, x.round) == ("reinit", 1) and x.seed < lost})
               for x in run_of(0.97, 0.98, 0.96)]  # fmt: skip
    (only,) = judge(records).rounds
    assert (only.counted, only.wins) == (f"{5 - lost} of 5", wins)


def test_a_seed_that_ended_keeps_the_others_from_winning():
    records = [x for x in run_of(0.97, 0.98, 0.96) if (x.arm, x.seed, x.round) != ("winning", 4, 1)]
    (only,) = judge(records).rounds
    assert (only.counted, only.beats_control, only.wins) == ("4 of 5", "yes", "undecided")
    assert "1 seed(s) ended before" in only.notes


@pytest.mark.parametrize("majority", [0.9, 0.899, 0.95])
def test_a_dense_network_at_chance_has_no_tickets(majority):
    verdict = judge(seeds_differ([0.05, 0.051, 0.052], control=0.001, majority=majority))
    assert not verdict.learned
    assert verdict.smallest_matching_pct == verdict.smallest_winning_pct == 100
    assert "no round counts as a ticket" in verdict.remarks[0]


@pytest.mark.parametrize(("majority", "classes"), [(0.5, None), (0.88, 10), (None, 2), (None, None)])
def test_a_dense_network_that_learned_has(majority, classes):
    verdict = judge(seeds_differ([0.05, 0.051, 0.052], control=0.001, majority=majority), classes=classes)
    assert verdict.learned
    assert verdict.rounds[0].wins == "yes"


def test_tickets_that_give_every_image_the_same_scores_do_not_match():
    records = [x.model_copy(update={"constant": x.round == 1}) for x in run_of(0.97, 0.98, 0.96)]
    (only,) = judge(records).rounds
    assert (only.matching, only.wins) == ("no", "no")
    dead = [x.model_copy(update={"constant": True, "majority": 0.1}) for x in run_of(0.97, 0.98, 0.96)]
    assert not judge(dead).learned


def test_what_could_have_been_shown_is_told():
    verdict = judge(run_of(0.97, 0.975, 0.965), only_seeds=True)
    (only,) = verdict.rounds
    assert verdict.detectable == pytest.approx((only.against_control.high - only.against_control.low) / 2)
    assert any("winning − reinit below about 0.16 points" in remark for remark in verdict.remarks)
    assert judge(seeds_differ([0.01] * 3)).detectable is None
