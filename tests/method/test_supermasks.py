"""Arms whose weights are never trained: what they start from, how many weights are left, what is recorded of them."""

import pytest
import torch

from lottery_ticket.config import load_preset
from lottery_ticket.errors import InputError
from lottery_ticket.masks import density, survivors, under
from lottery_ticket.method.arms import ARMS, Moment, check_arms, check_changes
from lottery_ticket.method.schedule import as_many
from lottery_ticket.method.trajectory import Checkpoint, find_tickets
from lottery_ticket.models.network import make_network

ARMS_HERE = ("winning", "sign-only", "untrained", "untrained-signs", "edge-popup", "supermask")
FIXED = ARMS_HERE[2:]


@pytest.fixture
def tiny(settings):
    told = {"model": "mlp:12", "batch_size": 25, "iterations": 15, "evaluate_every": 5, "stack": 8, "engine": "dense"}
    return settings.model_copy(update=told | {"rounds": 3, "prune_rate": 0.5, "prune_rate_output": 0.3})


def rounds_of(settings, data, after=None, **more):
    """(arm, round) → what the method yields."""
    chosen = settings.model_copy(update={"arms": ARMS_HERE} | more)
    network = make_network(chosen, data.input_shape, data.classes)
    return {(e.record.arm, e.record.round): e for done in find_tickets(chosen, network, data, after) for e in done}


@pytest.fixture
def rounds(tiny, small):
    return rounds_of(tiny, small)


def test_values_are_those_of_the_start(rounds):
    """θ₀, or its signs; bit for bit, in every round."""
    theta = rounds["winning", 0].start
    for (arm, r), done in rounds.items():
        if arm in FIXED:
            expected = rounds["sign-only", r].start if arm == "untrained-signs" else theta
            for name, value in under(done.mask, expected).items():
                assert torch.equal(done.weights[name], value)
                assert torch.equal(done.start[name], expected[name])


def test_as_many_weights_as_the_winning_ticket(rounds):
    for (arm, r), done in rounds.items():
        assert done.record.survivors == survivors(done.mask)
        if arm == "supermask" and r:
            assert 0.7 < done.record.density / rounds["winning", r].record.density < 1.4
            assert done.record.density == density(done.mask)
        else:
            assert done.record.survivors == rounds["winning", r].record.survivors
        if arm.startswith("untrained"):
            assert all(torch.equal(kept, rounds["winning", r].mask[name]) for name, kept in done.mask.items())
    assert not torch.equal(rounds["edge-popup", 2].mask["fc1.weight"], rounds["winning", 2].mask["fc1.weight"])


def test_records_tell_what_was_not_trained(rounds):
    images = 15 * 25
    for (arm, r), done in rounds.items():
        record = done.record
        if arm.startswith("untrained") or (arm in FIXED and r == 0):
            assert (record.iterations, record.train_loss, record.early_stop_iteration) == (0, None, None)
            assert [(point.iteration, point.epoch) for point in record.curve] == [(0, None)]
            assert (record.cost.images, record.cost.computed, record.cost.round.sparse) == (0, 0, 0)
            assert record.test_accuracy == record.test_accuracy_best
        else:
            assert (record.iterations, record.cost.images) == (15, images)
            assert record.train_loss > 0
            assert record.cost.computed == rounds["winning", 0].record.cost.computed
        if arm in ("winning", "untrained"):
            assert (record.cost.to_find > 0) == (r > 0)
        if arm in ("edge-popup", "supermask"):
            assert record.cost.to_find == 0
    for arm in FIXED[1:]:
        assert rounds[arm, 0].record.test_loss == rounds["untrained", 0].record.test_loss or arm == "untrained-signs"
    kept, size = rounds["edge-popup", 2].record.survivors["fc1.weight"], 784 * 12
    # forwards over the mask's weights, and the gradients of all
    assert rounds["edge-popup", 2].record.cost.training["fc1.weight"] == (2 * size, kept + size)
    learned = rounds["supermask", 2].record
    assert learned.test_accuracy_best == learned.test_accuracy_early_stop == learned.test_accuracy
    assert learned.early_stop_iteration == 15


@pytest.mark.parametrize(
    "how",
    [
        {"prune_rate": 0.3, "prune_rate_output": 0.1},
        {"density": 0.07, "scope": "erk"},
        {"density": 0.2, "model": "mlp:40-40"},
        {"tensor_densities": ("fc1.weight=0.03", "*=0.6")},
    ],
    ids=str,
)
@pytest.mark.parametrize("pruning", ["iterative", "one-shot", "init"])
def test_how_many_are_left_needs_no_weights(tiny, small, how, pruning):
    """As many as `winning` has that is trained and pruned, in a run without it and in each round by itself."""
    chosen = tiny.model_copy(update=how | {"pruning": pruning, "iterations": 2, "rounds": 4})
    beside = rounds_of(chosen, small, arms=("winning",))
    alone = rounds_of(chosen, small, arms=("edge-popup",))
    network = make_network(chosen, small.input_shape, small.classes)
    for r in range(4):
        expected = beside["winning", r].record.survivors
        assert alone["edge-popup", r].record.survivors == survivors(as_many(chosen, network, r)) == expected


@pytest.mark.parametrize("arm", ["edge-popup", "supermask"])
def test_a_round_needs_nothing_of_those_before(tiny, small, arm):
    chosen = tiny.model_copy(update={"arms": (arm,)})
    whole = rounds_of(chosen, small, arms=(arm,))
    after = Checkpoint([whole[arm, 1].record.model_copy(update={"diverged": True})], {}, {}, {})
    (last,) = rounds_of(chosen, small, after, arms=(arm,)).values()
    assert last.record.curve == whole[arm, 2].record.curve
    assert all(torch.equal(kept, whole[arm, 2].mask[name]) for name, kept in last.mask.items())


def test_late_rewinding_changes_nothing_of_them(tiny, small):
    """Of what is never trained there is no θₖ."""
    draws = torch.Generator().manual_seed(0)
    mask = {"w": torch.rand(6, 5, generator=draws) < 0.5}
    initial, rewound = ({"w": torch.randn(6, 5, generator=draws)} for _ in range(2))
    early, late = (Moment(pytest.fail, 0, 2, mask, mask, initial, *given) for given in ((initial, 0), (rewound, 7)))
    for arm in FIXED:
        one, other = (ARMS[arm].start(at) for at in (early, late))
        assert torch.equal(one.weights["w"], other.weights["w"])
        assert one.begins_at == other.begins_at == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arms": "winning,edge-popup", "scope": "global"}, "--scope: 'global' leaves it to trained weights how many"),
        (
            {"arms": "winning,supermask", "frozen": "non-positive"},
            "--frozen: 'non-positive' freezes weights, of which s",
        ),
        (
            {"arms": "edge-popup", "criterion": "snip"},
            "--criterion: 'snip' has no meaning without an arm whose weights",
        ),
        ({"arms": "edge-popup", "prune_first": "highest"}, "--prune-first: 'highest' has no meaning without an arm"),
        ({"arms": "supermask", "rewind_iteration": 5}, "5 has no meaning without an arm whose weights are pruned; al"),
        ({"arms": "edge-popup", "mask_every": 50}, "--mask-every: 50 has no meaning without an arm whose masks change"),
        ({"arms": "untrained"}, "--arms: 'untrained' takes its masks from winning; allowed: winning beside it"),
    ],
)
def test_what_makes_no_sense_is_one_line(given, said):
    with pytest.raises(InputError) as refused:
        check_arms(load_preset(**given))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_lengths_of_changes_are_not_theirs():
    """In rounds of so few iterations no mask could change by `--mask-every`."""
    settings = load_preset(arms="edge-popup,supermask", iterations=2)
    check_arms(settings)
    check_changes(settings, 1000)
