"""Our arms: what each keeps of the winning ticket, and that nothing else is kept."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import Split
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import ARMS, Moment, check_arms
from lottery_ticket.method.arms.masks import TRADES, rewired
from lottery_ticket.method.trajectory import evidence, find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.randomness import generator

SHAPES = {"conv.weight": (6, 4, 3, 3), "fc.weight": (20, 30)}


@pytest.fixture
def at():
    """A late-rewound moment with a third of the weights left, whose θ₀ and θₖ differ in values and signs."""
    draws = torch.Generator().manual_seed(1)

    def drawn(scale):
        weights = {name: torch.randn(shape, generator=draws) * scale for name, shape in SHAPES.items()}
        return weights | {"fc.bias": torch.randn(20, generator=draws)}

    mask = {name: torch.rand(shape, generator=draws) < 0.33 for name, shape in SHAPES.items()}
    return Moment(pytest.fail, 5, 2, mask, mask, drawn(0.1), drawn(0.3), 7)


@pytest.fixture
def start(at):
    """(arm) → its start at that moment, which is the moment's but for what is tested."""

    def made(arm):
        start = ARMS[arm].start(at)
        assert start.begins_at == 7
        assert torch.equal(start.weights["fc.bias"], at.rewound["fc.bias"])
        return start

    return made


@pytest.mark.parametrize("name", SHAPES)
def test_signs_alone(at, start, name):
    made, kept = start("sign-only"), at.winning[name]
    assert torch.equal(made.mask[name], kept)
    assert torch.equal(made.weights[name][kept].sign(), at.rewound[name][kept].sign())
    size = at.initial[name].sub(at.initial[name].mean()).square().mean().sqrt()
    torch.testing.assert_close(made.weights[name][kept].abs(), size.expand(int(kept.sum())))


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_alone(at, start, name):
    made, kept = start("signs-random"), at.winning[name]
    assert torch.equal(made.mask[name], kept)
    assert torch.equal(made.weights[name][kept].abs(), at.rewound[name][kept].abs())
    same = (made.weights[name][kept].sign() == at.rewound[name][kept].sign()).float().mean()
    assert 0.3 < same < 0.7


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_values_in_another_order(at, start, name):
    kept = at.winning[name]
    made, whole = start("shuffle").weights[name], start("shuffle-all").weights[name]
    assert torch.equal(made[kept].sort().values, at.rewound[name][kept].sort().values)
    assert torch.equal(whole.flatten().sort().values, at.rewound[name].flatten().sort().values)
    for values in (made, whole):
        assert (values[kept] == at.rewound[name][kept]).float().mean() < 0.1
    pruned = torch.isin(whole[kept], at.rewound[name][~kept]).float().mean()
    assert 0.5 < pruned < 0.8  # two thirds of the values are those of pruned weights


def test_what_values_of_survivors_can_give_needs_no_others(at):
    """A late-rewound ticket holds no others: NaN."""
    held = {
        name: value.where(at.winning.get(name, torch.tensor(True)), torch.nan) for name, value in at.rewound.items()
    }
    at = Moment(at.make_network, at.seed, at.round, at.own, at.winning, at.initial, held, at.rewound_at)
    for arm in ("sign-only", "signs-random", "shuffle"):
        made = ARMS[arm].start(at)
        assert all(made.weights[name][kept].isfinite().all() for name, kept in at.winning.items())


@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,), (2, 2)]), st.integers(0, 10), st.integers(0, 99)
)
def test_every_unit_keeps_its_number_of_weights(rows, columns, more, tenths, seed):
    draws = torch.Generator().manual_seed(seed)
    kept = torch.rand((rows, columns, *more), generator=draws) * 10 < tenths
    made = rewired(kept, torch.Generator().manual_seed(seed), trades=3)
    assert (made.shape, made.dtype) == (kept.shape, torch.bool)
    assert torch.equal(made.flatten(1).sum(1), kept.flatten(1).sum(1)), "fan-in"
    assert torch.equal(made.sum(0), kept.sum(0)), "fan-out, of every place of a kernel"


def test_every_mask_of_these_degrees_is_as_likely():
    """Against all matrices with row sums 2, 2, 1 and column sums 2, 1, 1, 1, counted out."""
    kept = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    rows, columns = kept.sum(1).tolist(), kept.sum(0).tolist()
    every = [
        bits
        for bits in product((0, 1), repeat=12)
        if [sum(bits[4 * r : 4 * r + 4]) for r in range(3)] == rows and [sum(bits[c::4]) for c in range(4)] == columns
    ]
    found = dict.fromkeys(every, 0)
    source = torch.Generator().manual_seed(0)
    for _ in range(50 * len(every)):
        found[tuple(rewired(kept, source, trades=10).flatten().int().tolist())] += 1
    chi_square = sum((count - 50) ** 2 / 50 for count in found.values())
    assert len(every) > 5
    assert chi_square < 4 * len(every), found


@pytest.mark.parametrize("left", [0.1, 0.5, 0.9])
def test_the_mask_it_begins_with_is_forgotten(left):
    """From two blocks, which no chance gives, to what it gives with these degrees: columns alike in all rows."""
    kept = torch.zeros(80, 80, dtype=torch.bool)
    kept[:40, : int(80 * left / 2)] = kept[40:, 80 - int(80 * left / 2) :] = True
    kept[:, 40 - int(10 * left) : 40 + int(10 * left)] |= True
    shares = []
    for seed in range(4):
        made = rewired(kept, torch.Generator().manual_seed(seed), TRADES)
        free = (kept.sum(0) > 0) & (kept.sum(0) < 80)
        assert torch.equal(made[:, ~free], kept[:, ~free])
        shares.append((made & kept)[:, free].sum() / kept[:, free].sum())
    chance = kept[:, free].float().mean()
    assert abs(sum(shares) / 4 - chance) < 0.03, (shares, chance)


def test_a_random_mask_keeps_no_degrees(at, start):
    made = start("random-mask")
    assert all(made.mask[name].sum() == kept.sum() for name, kept in at.winning.items())
    assert not torch.equal(made.mask["fc.weight"].sum(1), at.winning["fc.weight"].sum(1))
    assert torch.equal(start("degree-preserving").mask["fc.weight"].sum(1), at.winning["fc.weight"].sum(1))


def rounds_of(settings, data, train=train, **more):
    """(arm, seed, round) → what the method yields."""
    settings = settings.model_copy(
        update={"rounds": 3, "iterations": 20, "evaluate_every": None, "engine": "dense"} | more
    )
    network = make_network(settings, data.input_shape, data.classes)
    done = [each for rounds in find_tickets(settings, network, data, train=train) for each in rounds]
    return {(each.record.arm, each.record.seed, each.record.round): each for each in done}


def test_inverted_masks_lose_the_largest_first(settings, small):
    done = rounds_of(settings, small, arms=("winning", "mask-inverted"))
    for r in (1, 2):
        before, now = done["mask-inverted", 0, r - 1], done["mask-inverted", 0, r]
        for name, kept in now.mask.items():
            sizes = before.weights[name].abs()
            assert sizes[kept].max() <= sizes[before.mask[name] & ~kept].min()
            assert int(kept.sum()) == int(done["winning", 0, r].mask[name].sum())
            assert torch.equal(now.start[name], done["winning", 0, 0].start[name])


def test_the_mask_of_another_seed(settings, small):
    done = rounds_of(settings, small, arms=("winning", "other-seed"), seeds=(4, 0, 7))
    for r in range(3):
        for seed, lender in ((4, 0), (0, 4), (7, 0)):
            mine = done["other-seed", seed, r]
            assert all(torch.equal(kept, done["winning", lender, r].mask[name]) for name, kept in mine.mask.items())
            assert all(torch.equal(value, done["winning", seed, 0].start[name]) for name, value in mine.start.items())
            if r and mine.record.cost:
                assert mine.record.cost.to_find == done["winning", lender, r].record.cost.to_find
    with pytest.raises(InputError, match=r"^--seeds: 0 has no second seed, whose mask other-seed could take; allowed"):
        check_arms(settings.model_copy(update={"arms": ("winning", "other-seed")}))


def test_finetuning_stays_at_the_last_learning_rate(settings, small):
    """In one stack with members that go through the schedule; bit for bit as with that rate, constant, as a setting."""
    steps = {"schedule": "step", "milestones": (5, 10), "gamma": 0.1, "warmup_iterations": 3, "weight_decay": 1e-3}
    chosen = settings.model_copy(update=steps | {"rewind_iteration": 4, "stack": 2, "iterations": 20, "rounds": 3})
    network = make_network(chosen, small.input_shape, small.classes)
    seen = {}

    def watched(network, members, data, settings, round, *more):
        results = train(network, members, data, settings, round, *more)
        seen.update({(member.arm, round): (member, result) for member, result in zip(members, results, strict=True)})
        return results

    rounds_of(chosen, small, watched, arms=("winning", "finetune", "lr-rewinding"))
    constant = chosen.model_copy(
        update={"lr": chosen.lr * 0.1**2, "schedule": "constant", "milestones": None, "warmup_iterations": 0}
    )
    assert seen["finetune", 0][0].settings is None
    for r in (1, 2):
        member, result = seen["finetune", r]
        assert all(torch.equal(value, seen["finetune", r - 1][1].weights[n]) for n, value in member.weights.items())
        assert member.begins_at == 4
        alone = Member("finetune", 0, member.mask, member.weights, 4)
        (expected,) = train(network, [alone], small, constant, r)
        for name, value in expected.weights.items():
            torch.testing.assert_close(result.weights[name], value, rtol=1e-5, atol=1e-7)
    moved = [
        max((seen[arm, 1][1].weights[n] - v * seen[arm, 1][0].mask.get(n, 1)).abs().max() for n, v in start.items())
        for arm in ("finetune", "lr-rewinding")
        for start in [seen[arm, 1][0].weights]
    ]
    assert moved[0] < moved[1] / 5
    with pytest.raises(InputError, match=r"^--schedule: 'cosine' is next to 0 at its end, where finetune goes on"):
        check_arms(chosen.model_copy(update={"schedule": "cosine", "arms": ("winning", "finetune")}))


@pytest.mark.parametrize("criterion", ["magnitude", "taylor"])
def test_the_dense_network_is_trained_on_as_long_as_finding_the_ticket(settings, small, criterion):
    """No weight of it is scored."""
    done = rounds_of(settings.model_copy(update={"criterion": criterion}), small, arms=("winning", "dense-as-long"))
    for r in (1, 2):
        before, now = done["dense-as-long", 0, r - 1], done["dense-as-long", 0, r]
        assert now.record.density == 1
        assert all(torch.equal(value, before.weights[name]) for name, value in now.start.items())
        assert now.record.iterations == done["winning", 0, r].record.iterations
        spent = [done[arm, 0, r].record.cost.found_with for arm in ("winning", "dense-as-long")]
        assert spent[1] == (r + 1) * done["winning", 0, 0].record.cost.round.dense
        assert criterion == "taylor" or spent[1] >= spent[0]


@pytest.mark.parametrize("left", [0.1, 0.6])
@pytest.mark.parametrize("how", [{"optimizer": "sgd", "momentum": 0.9, "lr": 0.1}, {"weight_decay": 1e-2}], ids=str)
def test_frozen_weights_compute_and_never_move(settings, small, how, left):
    """Pruned weights bit for bit what they were, the others as plain PyTorch trains them beside these."""
    settings = settings.model_copy(
        update=how | {"iterations": 5, "batch_size": 1000, "engine": "dense", "evaluate_every": None}
    )
    network = make_network(settings, small.input_shape, small.classes)
    theta = network.draw(0, "init")
    draws = torch.Generator().manual_seed(0)
    mask = {name: torch.rand(kept.shape, generator=draws) < left for name, kept in network.dense_mask().items()}
    usual = Member("winning", 0, mask, theta)
    frozen = Member("freeze", 0, mask, theta, training="pruned-frozen")
    results = train(network, [usual, frozen], small, settings, 0)
    for name, kept in mask.items():
        assert torch.equal(results[1].weights[name][~kept], theta[name][~kept])
        assert not results[0].weights[name][~kept].any()

    module = network.drawn(0, "init")
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
    optimizer = kinds[settings.optimizer](
        module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, **more
    )
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(small.train.x), small.train.y).backward()
        optimizer.step()
        with torch.no_grad():
            for name, kept in mask.items():
                module.get_parameter(name).copy_(module.get_parameter(name).where(kept, theta[name]))
    for name, value in module.named_parameters():
        torch.testing.assert_close(results[1].weights[name], value.detach(), rtol=1e-3, atol=1e-4)


def test_what_moved_towards_zero_is_zero_and_the_rest_frozen(settings, small):
    done = rounds_of(settings, small, arms=("winning", "freeze", "freeze-towards-zero"), weight_decay=1e-3)
    theta = done["winning", 0, 0].start
    expected = {name: theta[name].clone() for name in done["freeze", 0, 0].mask}
    for r in (1, 2):
        before, now = done["freeze-towards-zero", 0, r - 1], done["freeze-towards-zero", 0, r]
        for name, value in expected.items():
            gone = before.mask[name] & ~now.mask[name]
            value[gone & (before.weights[name].abs() < theta[name].abs())] = 0
            pruned = ~now.mask[name]
            assert 0 < int((value[pruned] == 0).sum()) < int(pruned.sum())
            assert torch.equal(now.weights[name][pruned], value[pruned])
            assert torch.equal(now.start[name][now.mask[name]], theta[name][now.mask[name]])
            still = done["freeze", 0, r]
            assert torch.equal(still.weights[name][~still.mask[name]], theta[name][~still.mask[name]])
    cost = done["freeze", 0, 2].record.cost
    assert cost.an_image.sparse == cost.an_image.dense > done["winning", 0, 2].record.cost.an_image.sparse


def test_altered_data_find_the_mask_and_real_ones_train_it(settings, small):
    """Masks are those of a run whose data were altered beforehand, by a hand other than the engine's."""
    arms = ("winning", "on-random-labels", "mask-random-labels", "on-half-data", "mask-half-data")
    done = rounds_of(settings, small, arms=arms)
    count = len(small.train)
    order = torch.randperm(count, generator=generator(0, "random-labels"))
    half = torch.randperm(count, generator=generator(0, "half-data"))[: (count + 1) // 2]
    other = small.train.y.clone()
    unused = torch.ones(count, dtype=torch.bool)
    unused[half] = False
    other[unused] = (other[unused] + 1) % 10

    altered = replace(small, train=Split(small.train.x, small.train.y[order]))
    as_altered = rounds_of(settings, altered, arms=("winning",))
    blind = rounds_of(settings, replace(small, train=Split(small.train.x, other)), arms=arms[-2:])
    for r in range(3):
        finder, borrower = done["on-random-labels", 0, r], done["mask-random-labels", 0, r]
        for name, value in as_altered["winning", 0, r].weights.items():
            torch.testing.assert_close(finder.weights[name], value, rtol=1e-4, atol=1e-5)
            assert torch.equal(done["on-half-data", 0, r].weights[name], blind["on-half-data", 0, r].weights[name])
        for name, kept in borrower.mask.items():
            assert torch.equal(kept, finder.mask[name])
            assert torch.equal(borrower.start[name], done["winning", 0, 0].start[name])
            assert torch.equal(done["mask-half-data", 0, r].mask[name], done["on-half-data", 0, r].mask[name])
    assert not torch.equal(
        done["mask-half-data", 0, 0].weights["fc1.weight"], blind["mask-half-data", 0, 0].weights["fc1.weight"]
    ), "it trains on all images"
    assert done["mask-random-labels", 0, 2].record.test_accuracy > done["on-random-labels", 0, 2].record.test_accuracy
    with pytest.raises(InputError, match=r"'mask-half-data' takes its masks from on-half-data; allowed: on-half-data"):
        check_arms(load_preset(arms="winning,mask-half-data"))


@pytest.mark.parametrize("training", ["random-labels", "half-data", "pruned-frozen"])
def test_criteria_see_what_the_member_was_trained_on(settings, small, training):
    """Gradients of altered data are theirs, not those of the real ones, and frozen weights compute."""
    network = make_network(settings, small.input_shape, small.classes)
    theta = network.draw(0, "init")
    mask = {name: torch.rand(kept.shape) < 0.5 for name, kept in network.dense_mask().items()}
    at = evidence(settings, network, small, 0, Member("x", 0, mask, theta, training=training), theta, theta)
    count = len(small.train)
    x, y = small.train.x, small.train.y
    if training == "random-labels":
        y = y[torch.randperm(count, generator=generator(0, "random-labels"))]
    if training == "half-data":
        half = torch.randperm(count, generator=generator(0, "half-data"))[: (count + 1) // 2]
        x, y = x[half], y[half]
    module = network.drawn(0, "init")
    with torch.no_grad():
        for name, kept in mask.items() if training != "pruned-frozen" else ():
            module.get_parameter(name).mul_(kept)
    torch.nn.functional.cross_entropy(module(x), y).backward()
    assert at.images == len(y)
    for name, value in at.gradients(theta).items():
        torch.testing.assert_close(value, module.get_parameter(name).grad, rtol=1e-3, atol=1e-6)


def test_every_arm_has_a_colour_of_its_own():
    colours = [torch.tensor([int(arm.colour[i : i + 2], 16) for i in (1, 3, 5)]) for arm in ARMS.values()]
    nearest = min((one - other).abs().sum() for i, one in enumerate(colours) for other in colours[:i])
    assert nearest >= 40
