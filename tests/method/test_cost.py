"""What rounds cost, by hand: 784-5-10, whose 3,970 weights take part once in an image's forward pass."""

import pytest
import torch

from lottery_ticket.method import criteria
from lottery_ticket.method.trajectory import Checkpoint, find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.record import Both

FORWARD = {"fc1.weight": 784 * 5, "output.weight": 50}
TRAINING = 2 * 784 * 5 + 3 * 50  # the images need no gradient
IMAGES = 1000 + 13 * 60  # 30 iterations: 16 batches of 60, one of 40, and 13 of 60 again
LATE = IMAGES - 4 * 60


def run(settings, small, after=None, **how):
    chosen = settings.model_copy(update={"model": "mlp:5", "rounds": 3, "prune_rate": 0.5} | how)
    network = make_network(chosen, small.input_shape, small.classes)
    return [{done.record.arm: done for done in rounds} for rounds in find_tickets(chosen, network, small, after)]


def costs(rounds, arm="winning"):
    return [done[arm].record.cost for done in rounds]


def test_of_each_round_and_what_it_took_to_find_its_mask(settings, small):
    arms = ("winning", "reinit", "reinit-own")
    rounds = run(settings, small, arms=arms, rewind_iteration=4)
    winning = costs(rounds)
    assert [cost.images for cost in winning] == [IMAGES, LATE, LATE]
    assert {name: each.dense for name, each in winning[2].inference.items()} == FORWARD
    assert winning[1].inference == {"fc1.weight": Both(3920, 1960), "output.weight": Both(50, 25)}
    assert winning[1].training["fc1.weight"] == Both(2 * 3920, 2 * 1960)
    assert winning[1].round == Both(LATE * TRAINING, LATE * TRAINING // 2)
    whole = [IMAGES * TRAINING, LATE * TRAINING, LATE * TRAINING]
    assert [cost.computed for cost in winning] == whole
    assert [cost.to_find for cost in winning] == [0, whole[0], whole[0] + whole[1]]
    assert [cost.to_find for cost in costs(rounds, "reinit")] == [cost.to_find for cost in winning]  # borrowed
    own = costs(rounds, "reinit-own")
    assert [cost.to_find for cost in own] == [0, own[0].computed, own[0].computed + own[1].computed]


def test_survivors_alone_are_what_the_sparse_engine_computes(settings, small):
    dense, half, quarter = costs(run(settings, small, arms=("winning",), engine="sparse"))
    assert dense.computed == dense.round.dense == IMAGES * TRAINING
    assert half.computed == half.round.sparse == IMAGES * TRAINING // 2
    assert quarter.to_find == dense.computed + half.computed


def by_gradients(at):
    at.gradients(at.weights)
    return at.gradients(at.start, range(10))


def test_gradients_of_a_criterion_are_among_it(settings, small, monkeypatch):
    monkeypatch.setitem(criteria.CRITERIA, "by-gradients", criteria.Criterion(by_gradients))
    first, second, last = costs(run(settings, small, arms=("winning",), criterion="by-gradients", engine="dense"))
    assert first.computed == second.computed == (IMAGES + 1000 + 10) * TRAINING
    assert last.computed == IMAGES * TRAINING  # nothing is pruned after it
    assert last.to_find == 2 * first.computed


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_goes_on_knows_what_it_cost_before(settings, small, known):
    whole = run(settings, small, arms=("winning",))
    done = whole[1]["winning"]
    record = done.record if known else done.record.model_copy(update={"cost": None})  # of lt 0.4
    initial = {0: {name: torch.as_tensor(value) for name, value in done.start.items()}}
    after = Checkpoint([record], {("winning", 0): done.next_mask}, initial, {})
    (last,) = costs(run(settings, small, after, arms=("winning",)))
    expected = costs(whole)[-1]
    assert last == (expected if known else expected.model_copy(update={"to_find": None}))
