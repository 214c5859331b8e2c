"""Criteria against their papers' formulas, worked out by loops and by plain torch, and against the known mistakes."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import Split
from lottery_ticket.engine.job import Member
from lottery_ticket.masks import survivors
from lottery_ticket.method import criteria
from lottery_ticket.method.criteria import CRITERIA, Criterion, scores_by
from lottery_ticket.method.pruning import keep
from lottery_ticket.method.schedule import next_mask
from lottery_ticket.method.trajectory import evidence, find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.models.tensors import tensors_of

LABELS = torch.tensor([0] * 30 + [1] * 14 + [2] * 16)[torch.randperm(60, generator=torch.Generator().manual_seed(3))]


class Images:
    """Data as `evidence` takes it: training images alone."""

    train = Split(torch.randn(60, 1, 3, 3, generator=torch.Generator().manual_seed(1)), LABELS)


class Normalised(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3)
        self.output = nn.Linear(12, classes)

    def forward(self, x):
        return self.output(F.relu(self.norm(self.conv(x))).flatten(1))


class OfVectors(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.hidden, self.norm, self.output = nn.Linear(9, 4), nn.BatchNorm1d(4), nn.Linear(4, classes)

    def forward(self, x):
        return self.output(F.relu(self.norm(self.hidden(x.flatten(1)))))


def at(model="mlp:4", pruned=0.0, seed=0, **how):
    """A network's evidence: of trained weights, θ₀ beside them, and a mask that leaves some out."""
    settings = load_preset(model=model, batch_size=60, bias_init="normal", **how)
    network = make_network(settings, (1, 3, 3), 3)
    initial = network.draw(seed, "init")
    draws = torch.Generator().manual_seed(5)
    moved = {
        name: value + 0.3 * torch.randn(value.shape, generator=draws) if value.is_floating_point() else value
        for name, value in initial.items()
        if not name.endswith("running_var")
    }
    mask = {name: torch.rand(kept.shape, generator=draws) >= pruned for name, kept in network.dense_mask().items()}
    weights = {name: moved.get(name, value) for name, value in initial.items()}
    weights = {name: value * mask[name] if name in mask else value for name, value in weights.items()}
    return network, evidence(settings, network, Images, 0, Member("winning", seed, mask, initial), weights, initial)


def loss_of(network, state, images, temperature=1.0, training=True):
    module = network.module.train(training)
    scores = functional_call(module, dict(state), (Images.train.x[images],)) / temperature
    return F.cross_entropy(scores, Images.train.y[images])


def agree(found, expected, mask):
    assert found.keys() == mask.keys()
    for name, kept in mask.items():
        torch.testing.assert_close(found[name][kept].double(), expected[name][kept].double(), rtol=1e-4, atol=1e-9)


BY_WEIGHT = {
    "magnitude": lambda w, i: abs(w),
    "magnitude-init": lambda w, i: abs(i),
    "magnitude-increase": lambda w, i: abs(w) - abs(i),
    "movement": lambda w, i: abs(w - i),
}


@pytest.mark.parametrize("name", BY_WEIGHT)
def test_of_one_weight_and_its_initial_value(name):
    _, seen = at(pruned=0.3)
    found = CRITERIA[name].scores(seen)
    for tensor, kept in seen.mask.items():
        for place in kept.nonzero().tolist():
            w, i = float(seen.weights[tensor][tuple(place)]), float(seen.initial[tensor][tuple(place)])
            assert float(found[tensor][tuple(place)]) == pytest.approx(BY_WEIGHT[name](w, i), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("base", ["magnitude", "magnitude-increase"])
def test_where_the_sign_stays_or_changes(base, same):
    _, seen = at(pruned=0.2)
    found = CRITERIA[f"{base}-{'same' if same else 'diff'}-sign"].scores(seen)
    others = []
    for tensor, kept in seen.mask.items():
        for place in kept.nonzero().tolist():
            w, i = float(seen.weights[tensor][tuple(place)]), float(seen.initial[tensor][tuple(place)])
            score = float(found[tensor][tuple(place)])
            if ((w > 0) == (i > 0)) == same:
                assert score == pytest.approx(BY_WEIGHT[base](w, i), rel=1e-5, abs=1e-7)
            else:  # zero, up to what breaks the ties
                assert -1e-29 < score <= 0
                others.append(score)
    assert len(set(others)) == len(others) > 3
    assert others != sorted(others)  # not by position


@pytest.mark.parametrize("sign", [1, -1])
def test_large_or_small_before_and_after(sign):
    _, seen = at(pruned=0.3)
    name = "large-init-large-final" if sign == 1 else "small-init-small-final"
    scores = CRITERIA[name].scores(seen)
    for tensor, kept in seen.mask.items():
        alive = kept.nonzero().tolist()
        w, i = ([sign * abs(float(v[tensor][tuple(p)])) for p in alive] for v in (seen.weights, seen.initial))
        sets = Counter()
        for lowest in range(len(alive)):  # the quadrant of those that are in the upper part by both
            both = frozenset(k for k in range(len(alive)) if w[k] >= sorted(w)[lowest] and i[k] >= sorted(i)[lowest])
            sets[both] += 1
        for both in filter(None, sets):
            left = keep({tensor: scores[tensor]}, {tensor: kept}, {tensor: len(both)})[tensor]
            assert {k for k, place in enumerate(alive) if left[tuple(place)]} == both
    assert not torch.equal(
        keep(scores, seen.mask, 9)["fc1.weight"], keep({n: -s for n, s in scores.items()}, seen.mask, 9)["fc1.weight"]
    )


def test_random_is_drawn_by_seed_and_round():
    _, seen = at()
    one, again = (CRITERIA["random"].scores(seen)["fc1.weight"] for _ in range(2))
    assert torch.equal(one, again)
    for other in (replace(seen, seed=1), replace(seen, round=1)):
        assert not torch.equal(one, CRITERIA["random"].scores(other)["fc1.weight"])


def test_gradient_and_taylor():
    network, seen = at(pruned=0.3)
    leaves = {name: seen.weights[name].clone().requires_grad_() for name in seen.mask}
    loss = loss_of(network, seen.weights | leaves, torch.arange(60))
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    agree(CRITERIA["gradient"].scores(seen), {name: found[name].abs() for name in found}, seen.mask)
    first_order = {name: (found[name] * leaves[name]).abs().detach() for name in found}
    agree(CRITERIA["taylor"].scores(seen), first_order, seen.mask)
    place, step = (0, int(seen.mask["fc1.weight"][0].nonzero()[0])), 1e-3
    ended = []
    for by in (1 - step, 1 + step):
        double = {name: value.double() for name, value in seen.weights.items()}
        double["fc1.weight"][place] *= by
        ended.append(float(F.cross_entropy(plain(double, Images.train.x.double()), LABELS)))
    assert float(first_order["fc1.weight"][place]) == pytest.approx(abs(ended[1] - ended[0]) / (2 * step), rel=1e-3)


def plain(state, x):
    """mlp:4 by hand."""
    hidden = F.relu(x.flatten(1) @ state["fc1.weight"].T + state["fc1.bias"])
    return hidden @ state["output.weight"].T + state["output.bias"]


@pytest.mark.parametrize("model", ["mlp:4", f"{__name__}:Normalised"])
def test_snip_is_the_gradient_of_the_mask(model):
    network, seen = at(model, pruned=0.3)
    images = torch.tensor(seen.balanced(10))
    gates = {name: kept.float().requires_grad_() for name, kept in seen.mask.items()}
    gated = {name: gate * seen.weights[name] for name, gate in gates.items()}
    before = {name: value.clone() for name, value in tensors_of(network.module).items()}
    found = CRITERIA["snip"].scores(seen)
    assert all(torch.equal(value, before[name]) for name, value in tensors_of(network.module).items())
    state = {name: value.clone() for name, value in seen.weights.items()} | gated
    expected = torch.autograd.grad(loss_of(network, state, images), list(gates.values()))
    agree(found, {name: value.abs() for name, value in zip(gates, expected, strict=True)}, seen.mask)


def test_grasp_by_the_whole_hessian():
    network, seen = at(pruned=0.2)
    images = torch.tensor(seen.balanced(10))
    sizes = [kept.numel() for kept in seen.mask.values()]
    shapes = {name: kept.shape for name, kept in seen.mask.items()}

    def loss(flat):
        parts = {n: part.view(shapes[n]) for n, part in zip(shapes, flat.split(sizes), strict=True)}
        state = {name: value.double() for name, value in seen.weights.items()} | parts
        return F.cross_entropy(plain(state, Images.train.x[images].double()) / 200, LABELS[images])

    flat = torch.cat([seen.weights[name].flatten() for name in shapes]).double()
    g = torch.autograd.functional.jacobian(loss, flat) * torch.cat([kept.flatten() for kept in seen.mask.values()])
    product = torch.autograd.functional.hessian(loss, flat) @ g
    expected = dict(zip(shapes, (flat * product).split(sizes), strict=True))
    found = CRITERIA["grasp"].scores(seen)
    agree(found, {name: value.view(shapes[name]) for name, value in expected.items()}, seen.mask)
    assert network.module.training  # as it was


def test_hessian_products_do_not_depend_on_the_batches():
    network, seen = at()
    images = range(50)
    g = seen.gradients(seen.weights, images)
    whole = seen.gradients.hessian(seen.weights, g, images)
    seen.gradients._batch_size = 7
    assert seen.gradients.seen == 50 + 2 * 50
    again = seen.gradients.hessian(seen.weights, g, images)
    for name in network.trainable:
        torch.testing.assert_close(again[name], whole[name], rtol=1e-4, atol=1e-7)


def test_no_batch_is_of_a_single_image():
    """Which could not be normalised."""
    _, seen = at(f"{__name__}:OfVectors")
    seen.gradients._batch_size = 59
    assert all(value.isfinite().all() for value in CRITERIA["gradient"].scores(seen).values())


def test_fisher_squares_the_gradients_of_single_images():
    network, seen = at(f"{__name__}:Normalised", pruned=0.2)
    images = seen.balanced(50)
    assert len(images) == 42
    expected = {name: torch.zeros(kept.shape) for name, kept in seen.mask.items()}
    before = {name: value.clone() for name, value in seen.weights.items()}
    for image in images:
        leaves = {name: seen.weights[name].clone().requires_grad_() for name in seen.mask}
        loss = loss_of(network, seen.weights | leaves, torch.tensor([image]), training=False)
        for name, value in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            expected[name] += value**2 * seen.weights[name] ** 2 / 2 / len(images)
    agree(CRITERIA["fisher"].scores(seen), expected, seen.mask)
    assert all(torch.equal(value, before[name]) for name, value in seen.weights.items())


def flows(weights, mask):
    """SynFlow of mlp:4, path by path: the sum over the paths through a weight of the products of absolute weights."""
    one, two = ((weights[f"{n}.weight"].abs() * mask[f"{n}.weight"]).double().numpy() for n in ("fc1", "output"))
    bias = weights["fc1.bias"].abs().double().numpy()
    first, second = np.zeros_like(one), np.zeros_like(two)
    for i, h, o in product(range(9), range(4), range(3)):
        path = one[h, i] * two[o, h]
        first[h, i] += path
        second[o, h] += path
    for h, o in product(range(4), range(3)):
        second[o, h] += bias[h] * two[o, h]
    return {"fc1.weight": torch.from_numpy(first), "output.weight": torch.from_numpy(second)}


def test_synflow_sums_over_paths():
    _, seen = at(pruned=0.3)
    found = CRITERIA["synflow"].scores(seen)
    agree(found, flows(seen.weights, seen.mask), seen.mask)
    far = {name: value * 1e30 for name, value in seen.weights.items()}  # R of a deep network
    scores = scores_by("synflow", replace(seen, weights=far))
    assert all(value.dtype == torch.float64 and value.isfinite().all() for value in scores.values())
    assert max(float(value.max()) for value in scores.values()) > 1e50


def test_synflow_in_a_hundred_steps_each_scored_anew():
    network, seen = at(seed=2)
    settings = load_preset(criterion="synflow", scope="global", density=0.2, rounds=2)
    theta, dense, asked = seen.initial, network.dense_mask(), []

    def anew(mask):
        asked.append(sum(survivors(mask).values()))
        judged = evidence(settings, network, Images, 0, Member("winning", 0, mask, theta), theta, theta)
        return scores_by("synflow", judged)

    found = next_mask(settings, network, dense, 1, anew)
    expected = {name: kept.clone() for name, kept in dense.items()}
    for step in range(1, 101):
        scores = flows(theta, expected)
        ranked = sorted(
            ((float(scores[n][p]), k, p, n) for k, n in enumerate(expected) for p in places(expected[n])), reverse=True
        )
        safe = {max(q for q in ranked if q[3] == n)[2:] for n in expected}
        order = sorted(ranked, key=lambda q: (q[2:] in safe, q[0]), reverse=True)
        for q in order[round(48 * 0.2 ** (step / 100)) :]:
            expected[q[3]][q[2]] = False
    assert asked[0] == 48
    assert len(asked) == 100
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert sum(survivors(found).values()) == round(0.2 * 48)


def places(kept):
    return [tuple(place) for place in kept.nonzero().tolist()]


def test_classes_are_balanced_and_drawn_by_the_seed():
    _, seen = at()
    for asked, each in ((5, 5), (10, 10), (50, 14)):  # the rarest class has 14
        chosen = seen.balanced(asked)
        assert Counter(LABELS[chosen].tolist()) == dict.fromkeys(range(3), each)
        assert len(set(chosen)) == len(chosen)
    assert seen.balanced(5) == seen.balanced(5) != replace(seen, seed=1).balanced(5)


def test_batches_of_balanced_images_are_not_of_few_classes():
    """Batch normalisation goes by each of them: in order of their classes it would be by another class each time."""
    _, seen = at()
    parts = LABELS[seen.balanced(14)].split(14)
    assert [len(part) for part in parts] == [14, 14, 14]
    assert all(len(part.unique()) == 3 for part in parts)


def test_pruned_weights_count_as_zero_and_do_not_come_back():
    _, seen = at(pruned=0.4)
    full = {name: value + (~seen.mask[name]) if name in seen.mask else value for name, value in seen.weights.items()}
    for name in ("snip", "grasp", "synflow", "taylor", "gradient"):
        one, other = (CRITERIA[name].scores(each) for each in (seen, replace(seen, weights=full)))
        assert all(torch.equal(one[n][kept], other[n][kept]) for n, kept in seen.mask.items())


def test_highest_first_is_the_same_inverted():
    _, seen = at()
    lowest, highest = (scores_by("snip", seen, inverted) for inverted in (False, True))
    assert all(torch.equal(lowest[name], -highest[name]) for name in lowest)


def test_at_initialisation_no_step_is_taken_before_scoring(settings, small, monkeypatch):
    asked = []

    def spy(seen):
        asked.append(seen)
        cudnn = torch.backends.cudnn
        assert (cudnn.deterministic, cudnn.allow_tf32, cudnn.benchmark) == (True, False, False)
        return {name: seen.weights[name].abs() for name in seen.mask}

    monkeypatch.setitem(criteria.CRITERIA, "spy", Criterion(spy, pruning="init", steps=3))
    how = {"model": "mlp:5", "criterion": "spy", "rounds": 3, "iterations": 4, "arms": ("winning", "reinit-own")}
    chosen = settings.model_copy(update=how)
    network = make_network(chosen, small.input_shape, small.classes)
    rounds = list(find_tickets(chosen, network, small))
    theta = network.draw(0, "init")
    assert len(asked) == 2 * 2 * 3
    for k, seen in enumerate(asked):
        own = theta if k % 6 < 3 else network.draw(0, "reinit", 1 + k // 6)
        assert all(torch.equal(seen.start[name], own[name]) for name in own)
        assert all(torch.equal(seen.initial[name], own[name]) for name in own)
        assert all(torch.equal(seen.weights[n], own[n] * seen.mask.get(n, torch.ones(1))) for n in own)
        assert (seen.images, len(seen.labels)) == (1000, 1000)
    assert [round(finished[0].record.density, 2) for finished in rounds] == [1, 0.8, 0.64]


def test_after_training_what_it_started_from_is_beside_it(settings, small, monkeypatch):
    asked = []
    monkeypatch.setitem(criteria.CRITERIA, "spy", Criterion(lambda seen: asked.append(seen) or seen.noise()))
    how = {"model": "mlp:5", "criterion": "spy", "rounds": 2, "iterations": 6, "rewind_iteration": 2}
    chosen = settings.model_copy(update=how | {"arms": ("winning", "reinit-own"), "rounds": 3})
    network = make_network(chosen, small.input_shape, small.classes)
    rounds = list(find_tickets(chosen, network, small))
    theta = network.draw(0, "init")
    for k, seen in enumerate(asked):
        done = rounds[k // 2][k % 2]
        own = theta if k % 2 == 0 else done.start
        assert all(torch.equal(seen.initial[name], own[name]) for name in own)
        assert all(torch.equal(seen.start[name], done.start[name]) for name in own)
        assert all(torch.equal(seen.weights[name], done.weights[name]) for name in own)
    assert not torch.equal(asked[2].start["fc1.weight"], asked[2].initial["fc1.weight"])  # θₖ
