"""Masks that change within a training: which weights go and grow, when, and that nothing else changes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from lottery_ticket.config import load_preset
from lottery_ticket.engine import training
from lottery_ticket.engine.changing import When, regrown
from lottery_ticket.engine.job import Changed, Member, Trained, in_iterations
from lottery_ticket.engine.training import train
from lottery_ticket.errors import InputError
from lottery_ticket.masks import survivors
from lottery_ticket.method.arms import check_arms, check_changes
from lottery_ticket.method.trajectory import find_tickets, finished_round
from lottery_ticket.models.network import make_network
from lottery_ticket.randomness import generator

EVERY, UNTIL, TOTAL = 4, 15, 20
TOLD = {"mask_every": EVERY, "mask_until": UNTIL, "iterations": TOTAL, "evaluate_every": None, "stack": 8}


@pytest.fixture
def tiny(settings):
    """Settings of a small network whose masks change after iterations 4, 8 and 12, of gmp after 15 too."""
    return settings.model_copy(update=TOLD | {"model": "mlp:12", "batch_size": 25, "optimizer": "sgd", "momentum": 0.9})


@pytest.fixture
def network(tiny, small):
    return make_network(tiny, small.input_shape, small.classes)


@pytest.fixture
def watched(monkeypatch):
    """Each change of masks: iteration, masks before and after, weights and gradients at it, and the moments after."""
    seen = []

    class Watched(training.Changes):
        def change(self, iteration, weights, gradients):
            before = dict(self.masks)
            copies = [{n: v.detach().clone() for n, v in each.items()} for each in (weights, gradients)]
            super().change(iteration, weights, gradients)
            seen.append((iteration, before, self.masks, *copies))

    monkeypatch.setattr(training, "Changes", Watched)
    return seen


def member(network, how, seed=0, left=0.2):
    """One that is trained so, from θ₀, with as many weights left."""
    draws = torch.Generator().manual_seed(seed)
    mask = {name: torch.rand(kept.shape, generator=draws) < left for name, kept in network.dense_mask().items()}
    return Member(how, seed, mask, network.draw(seed, "init"), training=how)


@given(st.integers(1, 60), st.floats(0.05, 1), st.floats(0, 0.95), st.integers(0, 99))
def test_as_many_grow_as_go_and_never_the_strongest(size, density, fraction, seed):
    draws = torch.Generator().manual_seed(seed)
    kept = torch.rand(size, generator=draws) < density
    weights, score = torch.randn(size, generator=draws) * kept, torch.rand(size, generator=draws)
    made = regrown(weights, kept, score, fraction)
    count, going = int(kept.sum()), int(fraction * int(kept.sum()))
    assert int(made.sum()) == count
    strongest = set(weights.abs().masked_fill(~kept, -1).argsort(descending=True)[: count - going].tolist())
    others = sorted(set(range(size)) - strongest, key=lambda i: -score[i])
    assert set(made.nonzero().flatten().tolist()) == strongest | set(others[:going])


def test_of_a_network_that_diverged_as_many_are_left():
    kept = torch.tensor([True, True, True, True, False, False])
    made = regrown(torch.full((6,), torch.nan), kept, torch.full((6,), torch.nan), 0.5)
    assert int(made.sum()) == 4


@given(st.integers(1, 10**7), st.floats(0.001, 1), st.integers(0, 50), st.integers(1, 200), st.integers(1, 99))
def test_gradual_pruning_follows_the_cubic_schedule(size, density, first, length, every):
    """Zhu & Gupta 2017, equation 1, of sparsities."""
    when, target = When(first, every, first + length), max(1, round(density * size))
    final = 1 - target / size
    for t in {first, first + length // 3, first + length // 2, first + length}:
        sparsity = final + (0 - final) * (1 - (t - first) / length) ** 3
        assert abs(when.left(size, target, t) - (1 - sparsity) * size) <= 0.51
    assert (when.left(size, target, first), when.left(size, target, first + length + 1)) == (size, target)


def test_when_masks_change():
    when = When(2, 4, 15)
    assert [t for t in range(30) if when.regular(t)] == [6, 10, 14]
    assert When.told(load_preset(iterations=200), 200) == When(0, 100, 150)
    settings = in_iterations(load_preset(mask_every="0.5ep", mask_from="1ep", mask_until="0.5", epochs=4), 600)
    assert When.told(settings, 40) == When(10, 5, 20)
    assert [round(when.fraction(0.3, t), 6) for t in (0, 15)] == [0.3, 0]
    assert math.isclose(when.fraction(0.3, 5), 0.15 * (1 + math.cos(math.pi / 3)))


@pytest.mark.parametrize("how", ["set", "rigl", "gmp"])
def test_densities_at_every_change(tiny, network, small, watched, how):
    """Exact, of every tensor and member; what is pruned is zero; what grew begins at zero, and learns."""
    members = [member(network, how, seed, left) for seed, left in ((0, 0.2), (1, 0.4), (2, 0.03))]
    results = train(network, members, small, tiny, 1)
    assert [each[0] for each in watched] == [4, 8, 12, *([15] if how == "gmp" else [])]
    grown = 0
    for iteration, before, after, weights, _ in watched:
        for name, kept in after.items():
            assert not weights[name][~before[name]].any()
            for k, own in enumerate(members):
                target, size = int(own.mask[name].sum()), own.mask[name].numel()
                left = target + round((size - target) * (1 - iteration / UNTIL) ** 3) if how == "gmp" else target
                assert int(kept[k].sum()) == left
                if how == "gmp":
                    gone, here = before[name][k] & ~kept[k], weights[name][k].abs()
                    assert here[gone].max() <= here[kept[k]].min()
                    assert not (kept[k] & ~before[name][k]).any()
            grown += int((kept & ~before[name]).sum())
    assert (grown > 0) == (how != "gmp")
    for k, (own, result) in enumerate(zip(members, results, strict=True)):
        assert survivors(result.changed.mask) == survivors(own.mask)
        for name, kept in result.changed.mask.items():
            assert torch.equal(kept, watched[-1][2][name][k])
            assert not result.weights[name][~kept].any()
        new = watched[-1][2]["fc1.weight"][k] & ~watched[-1][1]["fc1.weight"][k]
        assert how == "gmp" or result.weights["fc1.weight"][new].any()


def test_rigl_grows_where_the_gradient_is_largest(tiny, network, small, watched):
    """By a gradient that plain PyTorch takes of the whole network, on the batch of an iteration without a step."""
    own = member(network, "rigl", 3)
    train(network, [own], small, tiny, 1)
    order = torch.randperm(len(small.train), generator=generator(3, "order", 1, 0))
    for iteration, before, after, weights, _ in watched:
        module = network.drawn(0, "init")
        for name, value in module.named_parameters():
            value.data.copy_(weights[name][0])
        batch = order[25 * (iteration - 1) : 25 * iteration]
        cross_entropy(module(small.train.x[batch]), small.train.y[batch]).backward()
        for name, kept in before.items():
            going = int(0.15 * (1 + math.cos(math.pi * iteration / UNTIL)) * int(kept.sum()))
            sizes = weights[name][0].abs().masked_fill(~kept[0], -1).flatten()
            stay = torch.zeros_like(kept[0]).flatten()
            stay[sizes.argsort(descending=True)[: int(kept.sum()) - going]] = True
            gradient = module.get_parameter(name).grad.abs().flatten().masked_fill(stay, -1)
            stay[gradient.argsort(descending=True)[:going]] = True
            assert (stay.view(kept[0].shape) != after[name][0]).sum() <= 2  # of ties within rounding


def test_set_grows_at_random_by_the_seed(tiny, network, small, watched):
    for seed, r in ((0, 1), (0, 1), (1, 1), (0, 2)):
        train(network, [replace(member(network, "set"), seed=seed)], small, tiny, r)
    firsts = [each[2]["fc1.weight"] & ~each[1]["fc1.weight"] for each in watched if each[0] == EVERY]
    assert torch.equal(firsts[0], firsts[1])
    chance = float(firsts[0].float().mean())
    for other in firsts[2:]:
        assert (firsts[0] & other).sum() < 3 * chance * firsts[0].sum() + 5
    columns = firsts[0][0].float().mean(0)
    assert columns[:392].mean() / columns[392:].mean() == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("how", ["set", "rigl", "gmp"])
def test_as_plain_pytorch_trains_it(tiny, network, small, watched, how, optimizer):
    """With torch's own optimiser, given the masks: survivors keep their moments, what grows has none."""
    momentum = 0.9 if optimizer == "sgd" else 0.0
    tiny = tiny.model_copy(update={"optimizer": optimizer, "momentum": momentum, "lr": 0.01, "weight_decay": 1e-3})
    own = member(network, how)
    (result,) = train(network, [own], small, tiny, 1)
    changes = {each[0]: {name: kept[0] for name, kept in each[2].items()} for each in watched}
    module = network.drawn(0, "init")
    mask = network.dense_mask() if how == "gmp" else own.mask
    more = {"momentum": momentum} if optimizer == "sgd" else {}
    optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](
        module.parameters(), lr=0.01, weight_decay=1e-3, **more
    )
    order = torch.randperm(len(small.train), generator=generator(0, "order", 1, 0))

    def put(mask):
        for name, kept in mask.items():
            module.get_parameter(name).data.mul_(kept)

    put(mask)
    for iteration in range(1, TOTAL + 1):
        optimiser.zero_grad()
        batch = order[25 * (iteration - 1) : 25 * iteration]
        cross_entropy(module(small.train.x[batch]), small.train.y[batch]).backward()
        if how != "rigl" or iteration not in changes:
            optimiser.step()
        put(mask)
        if iteration in changes:
            for name, kept in changes[iteration].items():
                for moments in optimiser.state[module.get_parameter(name)].values():
                    if moments is not None and moments.ndim:
                        moments[kept & ~mask[name]] = 0
            mask = changes[iteration]
            put(mask)
    for name, value in module.named_parameters():
        torch.testing.assert_close(result.weights[name], value.detach(), rtol=1e-3, atol=1e-5)


def test_members_do_not_depend_on_each_other(tiny, network, small):
    """Of several trainings, densities and seeds in one call: each as alone, again and again the same bits."""
    members = [member(network, how, seed) for how in ("set", "rigl", "gmp") for seed in (0, 1)]
    together, again = (train(network, members, small, tiny, 1) for _ in range(2))
    for own, result, same in zip(members, together, again, strict=True):
        (alone,) = train(network, [own], small, tiny, 1)
        for name, value in result.weights.items():
            assert torch.equal(value, same.weights[name])
            torch.testing.assert_close(value, alone.weights[name], rtol=1e-3, atol=1e-5)
        for name, kept in result.changed.mask.items():
            assert (kept != alone.changed.mask[name]).float().mean() < 1e-3


ARMS = ("winning", "random-mask", "gmp", "set", "rigl")


@pytest.fixture
def rounds(tiny, network, small):
    """(arm, round) → what the method yields."""
    chosen = tiny.model_copy(update={"arms": ARMS, "rounds": 3, "prune_rate": 0.5, "evaluate_every": 5})
    return {(e.record.arm, e.record.round): e for done in find_tickets(chosen, network, small) for e in done}


def test_arms_at_equal_density(rounds):
    for (arm, r), done in rounds.items():
        assert done.record.survivors == rounds["winning", r].record.survivors == survivors(done.mask)
        assert all(not done.weights[name][~kept].any() for name, kept in done.mask.items())
        if arm in ("gmp", "set", "rigl"):
            assert all(torch.equal(value, rounds["winning", 0].start[n]) for n, value in done.start.items())
    for arm in ARMS:  # nothing is pruned in round 0, so nothing changes
        for name, value in rounds[arm, 0].weights.items():
            torch.testing.assert_close(value, rounds["winning", 0].weights[name])
    assert not torch.equal(rounds["set", 2].mask["fc1.weight"], rounds["random-mask", 2].mask["fc1.weight"])


def test_accuracies_of_gradual_pruning_are_of_as_many_weights_as_are_left(rounds, network):
    """Neither the best nor the early-stopping point is looked for where more weights were left."""
    done = rounds["gmp", 2]
    curve = [replace_point(point, point.iteration) for point in done.record.curve]
    assert [point.iteration for point in curve] == [5, 10, 15, 20]
    changed = Changed(done.mask, {}, 0, settled_at=UNTIL)
    trained = Trained(done.weights, curve, 0.0, np.zeros(4, bool), None, False, 0.1, False, True, 1.0, changed=changed)
    record = finished_round(2, Member("gmp", 0, done.mask, done.start), trained, None, network).record
    assert (record.early_stop_iteration, record.test_accuracy_best) == (15, 0.85)
    assert done.record.early_stop_iteration in (15, 20)


def replace_point(point, iteration):
    """It gets worse all the time."""
    worse = {"validation_loss": float(iteration), "test_accuracy": 1 - iteration / 100, "epoch": None}
    return point.model_copy(update=worse)


def test_multiply_adds_count_the_density_over_time(rounds):
    def of(arm, name="fc1.weight"):
        return rounds[arm, 2].record.cost.training[name]

    images, size = TOTAL * 25, 784 * 12
    left = survivors(rounds["winning", 2].mask)["fc1.weight"]
    assert of("set") == of("winning")
    assert rounds["set", 2].record.cost.to_find == 0 < rounds["winning", 2].record.cost.to_find
    # twice the weights an image, once forwards and once for the gradient; RigL's of three batches for all weights
    assert of("rigl").sparse == round(2 * left + (size - left) * 3 * 25 / images)
    counts = [size] * 4 + [left + round((size - left) * (1 - t / UNTIL) ** 3) for t in (4, 8, 12) for _ in range(4)]
    counts = counts[:15] + [left] * 5
    assert of("gmp").sparse == round(2 * sum(counts) / TOTAL)
    assert of("gmp").dense == 2 * size


def test_what_winning_found_is_paid_for(tiny, network, small):
    """Ranked together, how many weights a tensor has is known once `winning` is trained; by settings beforehand."""
    for scope, paid in (("global", True), ("layer", False), ("erk", False)):
        chosen = tiny.model_copy(
            update={"arms": ("winning", "gmp", "set", "mask-gmp"), "rounds": 3, "prune_rate": 0.5, "scope": scope}
        )
        rounds = {(e.record.arm, e.record.round): e for done in find_tickets(chosen, network, small) for e in done}
        winning = [rounds["winning", r].record.cost for r in range(3)]
        for r in (1, 2):
            for arm in ("gmp", "set"):
                before = sum(cost.computed for cost in winning[:r]) if paid else 0
                assert rounds[arm, r].record.cost.to_find == before
            lender = rounds["gmp", r].record.cost
            assert rounds["mask-gmp", r].record.cost.to_find == lender.to_find + lender.computed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arms": "winning,reinit", "mask_every": 50}, "--mask-every: 50 has no meaning without an arm whose masks"),
        ({"arms": "winning,gmp", "mask_fraction": 0.5}, "allowed: with set, rigl among --arms, or none"),
        ({"arms": "winning,set", "frozen": "non-positive"}, "--frozen: 'non-positive' freezes weights that grow from"),
        ({"arms": "rigl"}, "--arms: 'rigl' takes its masks from winning; allowed: winning beside it"),
        ({"arms": "winning,set", "iterations": 100}, "--mask-every: 100 leaves set no change before iteration 75"),
        ({"arms": "winning,gmp", "mask_until": "200it"}, "--mask-until: 200 is after the end of a round; allowed: at"),
        ({"arms": "winning,gmp", "mask_from": 80}, "--mask-from: 80 is not before masks stop changing; allowed: fewer"),
        ({"arms": "winning,gmp", "mask_until": "1.5"}, "--mask-until: '1.5' is not allowed; allowed: a length as 80ep"),
        ({"arms": "winning,gmp", "mask_every": 0}, "--mask-every: 0 is not allowed"),
        ({"arms": "winning,set", "mask_fraction": 1}, "--mask-fraction: 1 is not allowed; allowed: a number > 0 and <"),
    ],
)
def test_what_makes_no_sense_is_one_line(given, said):
    def check():
        settings = load_preset(**{"iterations": 100} | given)
        check_arms(settings)
        check_changes(settings, 1000)

    with pytest.raises(InputError) as refused:
        check()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
