"""What training cost over survivors alone, by hand, whatever it was done with; masks' cost by where they come from."""

import pytest

from lottery_ticket.config import load_preset
from lottery_ticket.method.found import spent_over_survivors
from lottery_ticket.record import Both, Cost
from tests.analysis.test_verdict import record
from tests.method.test_cost import IMAGES, TRAINING, run

LEFT = (100, 60, 30)
"""Of 100 multiply-adds of an image in training those over survivors, by round; 10 images a round."""


def test_of_rounds_that_were_trained_dense_and_over_survivors(settings, small):
    """Half of each tensor goes a round. SET has as many weights as winning, and pays for nobody else's training."""
    how = {"arms": ("winning", "reinit", "set"), "mask_every": 4}
    for engine in ("dense", "sparse"):
        rounds = run(settings, small, engine=engine, **how)
        records = [done[arm].record for done in rounds for arm in how["arms"]]
        spent = spent_over_survivors(settings.model_copy(update=how), records)
        output = rounds[2]["winning"].record.survivors["output.weight"]  # 12 or 13 of 50
        each = [IMAGES * TRAINING, IMAGES * TRAINING // 2, IMAGES * (2 * 980 + 3 * output)]
        for arm in ("winning", "reinit"):
            assert [spent[arm, 0, r] for r in range(3)] == [each[0], each[0] + each[1], sum(each)]
        assert [spent["set", 0, r] for r in range(3)] == each
        computed = {arm: rounds[2][arm].record.cost.found_with for arm in how["arms"]}
        assert computed["set"] == each[0]  # dense, with either engine
        assert computed["winning"] == (3 * each[0] if engine == "dense" else sum(each))


def rounds(*arms, scored=0, unknown=()):
    """Rounds that were trained dense; `scored` are the multiply-adds of a criterion's gradients in each."""
    made = []
    for r, left in enumerate(LEFT):
        for arm in arms:
            known = None if (arm, r) in unknown else 0
            training = {"w": Both(100, left if arm != "gmp" else (100, 80, 50)[r])}
            cost = Cost(images=10, inference={}, training=training, computed=1000 + scored, to_find=known)
            made.append(record(arm, 0, r, 0.9).model_copy(update={"cost": cost}))
    return made


@pytest.mark.parametrize(
    ("how", "arm", "expected", "times"),
    [
        ({}, "winning", [1000, 1000 + 600, 1000 + 600 + 300], [0, 1, 2]),
        ({}, "reinit", [1000, 1000 + 600, 1000 + 600 + 300], [0, 1, 2]),
        ({}, "gmp", [1000, 800, 500], [0, 0, 0]),
        ({}, "mask-gmp", [1000, 800 + 600, 500 + 300], [0, 1, 1]),
        ({"scope": "global"}, "gmp", [1000, 1000 + 800, 1000 + 600 + 500], [0, 1, 2]),
        ({"scope": "global"}, "mask-gmp", [1000, 1000 + 800 + 600, 1000 + 600 + 500 + 300], [0, 2, 3]),
        ({"pruning": "one-shot"}, "winning", [1000, 1000 + 600, 1000 + 300], [0, 1, 1]),
        ({"pruning": "one-shot"}, "reinit", [1000, 1000 + 600, 1000 + 300], [0, 1, 1]),
        ({"pruning": "init", "criterion": "snip"}, "winning", [1000, 600, 300], [0, 1, 1]),
        ({}, "small-dense", [1000, 600, 300], [0, 0, 0]),
    ],
)
def test_by_where_a_mask_comes_from(how, arm, expected, times):
    """A criterion's gradients count as often as rounds before do in which they were asked for, as many as they were."""
    arms = ("winning", "reinit", "gmp", "mask-gmp", "small-dense")
    settings = load_preset(**how).model_copy(update={"arms": arms})
    for scored in (0, 7):
        made = rounds(*arms, scored=scored)
        assert {each.cost.spent(each.sparse) for each in made} == {1000}  # they are told that nothing came before
        spent = spent_over_survivors(settings, made)
        assert [spent[arm, 0, r] for r in range(3)] == [expected[r] + scored * times[r] for r in range(3)]


def test_what_is_not_known_is_not_there():
    settings = load_preset().model_copy(update={"arms": ("winning", "reinit", "small-dense")})
    spent = spent_over_survivors(settings, rounds("winning", "reinit", "small-dense", unknown={("winning", 1)}))
    assert {key[::2] for key in spent} == {
        *(("winning", 0), ("reinit", 0), ("reinit", 1)),  # theirs is of winning's round 0
        *(("small-dense", r) for r in range(3)),
    }
    alone = spent_over_survivors(settings, rounds("reinit"))
    assert [*alone] == [("reinit", 0, 0)]
