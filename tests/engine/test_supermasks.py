"""Learned masks against plain PyTorch: what is trained, what stays, what is kept; and networks that are not trained."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, linear, relu

from lottery_ticket.engine import training
from lottery_ticket.engine.job import Member, steps
from lottery_ticket.engine.supermasks import largest
from lottery_ticket.engine.training import train
from lottery_ticket.masks import under
from lottery_ticket.models.network import make_network
from lottery_ticket.randomness import generator

TOTAL, BATCH, ROUND = 25, 50, 2
LAYERS = ("fc1", "output")


@pytest.fixture
def tiny(settings):
    """A small network whose biases are not zero, so that one that is trained is seen."""
    told = {"iterations": TOTAL, "batch_size": BATCH, "evaluate_every": 10, "stack": 8, "bias_init": "normal"}
    return settings.model_copy(update=told | {"model": "mlp:12", "optimizer": "sgd", "momentum": 0.9, "lr": 0.1})


@pytest.fixture
def network(tiny, small):
    return make_network(tiny, small.input_shape, small.classes)


@pytest.fixture
def watched(monkeypatch):
    """The scores of each stack, as they are in the end."""
    made = []

    class Watched(training.Supermasks):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self.scores)

    monkeypatch.setattr(training, "Supermasks", Watched)
    return made


def member(network, how, seed=0, left=0.3):
    """One that is trained so from θ₀; of its mask only the numbers of weights count."""
    draws = torch.Generator().manual_seed(seed)
    mask = {name: torch.rand(kept.shape, generator=draws) < left for name, kept in network.dense_mask().items()}
    return Member(how, seed, mask, network.draw(seed, "init"), training=how)


class GetSubnet(torch.autograd.Function):
    """The mask of the k largest scores; its gradient goes straight through to all of them."""

    @staticmethod
    def forward(ctx, scores, k):
        mask = torch.zeros_like(scores)
        mask.flatten()[scores.flatten().argsort()[scores.numel() - k :]] = 1
        return mask

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def accuracy(weights, masks, biases, data):
    """Of the network under these masks, by plain PyTorch."""
    hidden = relu(linear(data.test.x.flatten(1), weights[0] * masks[0], biases[0]))
    scores = linear(hidden, weights[1] * masks[1], biases[1])
    return (scores.argmax(1) == data.test.y).double().mean().item()


def trained_plainly(own, small, settings, scores, mask_of):
    """Scores trained by torch's own optimiser, `mask_of(scores of a layer, its index)` being the mask of a step."""
    weights = [own.weights[f"{layer}.weight"] for layer in LAYERS]
    biases = [own.weights[f"{layer}.bias"] for layer in LAYERS]
    scores = [each.requires_grad_() for each in scores]
    more = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(scores, **more)
    else:
        optimizer = torch.optim.SGD(scores, momentum=settings.momentum, **more)
    order = torch.randperm(len(small.train), generator=generator(own.seed, "order", ROUND, 0))
    assert TOTAL * BATCH > len(order) == 1000
    again = torch.randperm(len(small.train), generator=generator(own.seed, "order", ROUND, 1))
    for batch in torch.cat([order, again]).split(BATCH)[:TOTAL]:
        if settings.schedule == "cosine":
            step = int(optimizer.state[scores[0]].get("done", 0))
            optimizer.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * step / TOTAL)) / 2
            optimizer.state[scores[0]]["done"] = step + 1
        optimizer.zero_grad()
        masks = [mask_of(each, place) for place, each in enumerate(scores)]
        hidden = relu(linear(small.train.x[batch].flatten(1), weights[0] * masks[0], biases[0]))
        cross_entropy(linear(hidden, weights[1] * masks[1], biases[1]), small.train.y[batch]).backward()
        optimizer.step()
    return [each.detach() for each in scores], weights, biases


@pytest.mark.parametrize(
    "how",
    [
        {"weight_decay": 1e-3},
        {"schedule": "cosine", "lr": 0.5},
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 1e-2, "momentum": 0.0},
    ],
    ids=str,
)
def test_edge_popup_is_what_plain_pytorch_makes_of_it(tiny, network, small, watched, how):
    """Scores, mask and accuracy against Ramanujan et al.'s autograd function; weights and biases bit for bit θ₀."""
    settings = tiny.model_copy(update=how)
    own = member(network, "edge-popup", 3)
    (result,) = train(network, [own], small, settings, ROUND)
    counts = [int(own.mask[f"{layer}.weight"].sum()) for layer in LAYERS]
    source = generator(3, "edge-popup", ROUND)
    first = [torch.empty(own.weights[f"{layer}.weight"].shape) for layer in LAYERS]
    for each in first:
        nn.init.kaiming_uniform_(each, a=math.sqrt(5), generator=source)
    scores, weights, biases = trained_plainly(
        own, small, settings, first, lambda each, place: GetSubnet.apply(each.abs(), counts[place])
    )
    masks = [GetSubnet.apply(each.abs(), count).bool() for each, count in zip(scores, counts, strict=True)]
    for layer, each, mask in zip(LAYERS, scores, masks, strict=True):
        torch.testing.assert_close(watched[0][f"{layer}.weight"][0].detach(), each, rtol=1e-3, atol=1e-5)
        kept = result.changed.mask[f"{layer}.weight"]
        assert int(kept.sum()) == int(mask.sum())
        assert (kept != mask).sum() <= 2  # of scores alike within rounding
    assert result.curve[-1].test_accuracy == pytest.approx(accuracy(weights, masks, biases, small), abs=0.005)
    assert result.curve[-1].test_accuracy > 0.2  # of 10 classes
    for name, value in result.weights.items():
        assert torch.equal(value, under(result.changed.mask, own.weights)[name])
    assert not result.diverged
    assert result.images == TOTAL * BATCH


def test_a_supermask_is_what_plain_pytorch_makes_of_it(tiny, network, small, watched):
    """Logits, the mask that is drawn in the end and its accuracy against Zhou et al.'s straight-through Bernoulli."""
    settings = tiny.model_copy(update={"lr": 20.0})
    own = member(network, "supermask", 1, 0.4)
    (result,) = train(network, [own], small, settings, ROUND)
    draws = generator(1, "supermask", ROUND)

    def sampled(logits, place):
        chance = logits.sigmoid()
        return (torch.rand(chance.shape, generator=draws) < chance).float() + chance - chance.detach()

    parts = [own.mask[f"{layer}.weight"].double().mean() for layer in LAYERS]
    first = [
        (part / (1 - part)).log().float().expand(own.weights[f"{layer}.weight"].shape).clone()
        for layer, part in zip(LAYERS, parts, strict=True)
    ]
    logits, weights, biases = trained_plainly(own, small, settings, first, sampled)
    last = generator(1, "supermask evaluated", ROUND, TOTAL)
    masks = [torch.rand(each.shape, generator=last) < each.sigmoid() for each in logits]
    for layer, each, mask in zip(LAYERS, logits, masks, strict=True):
        torch.testing.assert_close(watched[0][f"{layer}.weight"][0].detach(), each, rtol=1e-3, atol=1e-4)
        assert (result.changed.mask[f"{layer}.weight"] != mask).sum() <= 2
    assert result.curve[-1].test_accuracy == pytest.approx(accuracy(weights, masks, biases, small), abs=0.005)
    assert result.curve[-1].test_accuracy > 0.2  # of 10 classes
    for name, value in result.weights.items():
        assert torch.equal(value, under(result.changed.mask, own.weights)[name])
    assert result.changed.settled_at == TOTAL


@given(st.lists(st.sampled_from([0.0, 0.5, -0.5, 2.0, -3.0, math.nan]), min_size=1, max_size=12), st.data())
def test_exactly_so_many_of_the_largest_are_left(scores, data):
    left = data.draw(st.integers(1, len(scores)))
    sizes = [math.inf if math.isnan(score) else abs(score) for score in scores]
    wanted = sorted(range(len(scores)), key=lambda i: (sizes[i], i))[len(scores) - left :]
    made = largest(torch.tensor(scores).view(1, -1), left)
    assert made.shape == (1, len(scores))
    assert sorted(wanted) == made[0].nonzero().flatten().tolist()


@pytest.mark.parametrize("how", ["edge-popup", "supermask"])
def test_members_do_not_depend_on_each_other(tiny, network, small, how):
    """Of several densities and seeds: each as alone, again the same bits, however often it is evaluated."""
    members = [member(network, how, seed, left) for seed, left in ((0, 0.1), (1, 0.5), (2, 0.5))]
    assert training.stacks(members, 8) == [[0, 1, 2]]
    together, again = (train(network, members, small, tiny, ROUND) for _ in range(2))
    seldom = train(network, members, small, tiny.model_copy(update={"evaluate_every": None}), ROUND)
    for own, *results in zip(members, together, again, seldom, strict=True):
        result, same, other = results
        (alone,) = train(network, [own], small, tiny, ROUND)
        for name, kept in result.changed.mask.items():
            assert torch.equal(kept, same.changed.mask[name])
            assert torch.equal(kept, other.changed.mask[name])
            assert (kept != alone.changed.mask[name]).float().mean() < 1e-3
    other_round = train(network, members[:1], small, tiny, ROUND + 1)[0].changed.mask["fc1.weight"]
    assert not torch.equal(other_round, together[0].changed.mask["fc1.weight"])


@pytest.mark.parametrize("how", ["edge-popup", "supermask"])
def test_only_the_mask_learns(settings, small, how):
    """In a network with convolutions, normalisation and dropout no parameter moves; batch statistics do."""
    told = {"model": "tests.engine.test_supermasks:normalised", "bn_init": "uniform", "iterations": 12, "lr": 0.1}
    chosen = settings.model_copy(update=told | {"weight_decay": 0.1, "optimizer": "sgd", "momentum": 0.9})
    network = make_network(chosen, small.input_shape, small.classes)
    own = member(network, how, 1, 0.5)
    (result,) = train(network, [own], small, chosen, ROUND)
    parameters = dict(network.module.named_parameters())
    assert {name for name, value in result.weights.items() if not torch.equal(value, own.weights[name])} == {
        *own.mask,
        *(name for name in own.weights if name not in parameters),
    }
    for name, kept in result.changed.mask.items():
        assert torch.equal(result.weights[name], own.weights[name].where(kept, 0))
        assert not torch.equal(kept, own.mask[name])
    dropped = train(network, [own], small, chosen.model_copy(update={"seeds": (0,)}), ROUND)[0]
    assert dropped.curve == result.curve


def normalised():
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        *(nn.Dropout(0.3), nn.Linear(4 * 49, 10)),
    )


def test_what_is_not_trained_is_not_normalised(settings, small):
    """Without training, the statistics of batch normalisation are those that it begins with: mean 0, variance 1."""
    chosen = settings.model_copy(update={"model": "tests.engine.test_supermasks:normalised"})
    network = make_network(chosen, small.input_shape, small.classes)
    own = member(network, "untrained", 1, 0.5)
    (result,) = train(network, [own], small, chosen, ROUND)
    plain = normalised().eval()
    plain.load_state_dict(under(own.mask, own.weights), strict=False)  # but for how many batches it has seen
    assert torch.equal(result.weights["1.running_mean"], torch.zeros(4))
    assert torch.equal(result.weights["1.running_var"], torch.ones(4))
    plain[1] = nn.Identity()
    with torch.no_grad():
        right = (plain(small.test.x).argmax(1) == small.test.y).numpy()
    assert (result.correct == right).mean() > 0.99  # it divides by the root of 1.00001


def test_scores_that_burst_are_told(tiny, network, small):
    """A loss under θ₀ is finite whatever becomes of them."""
    (result,) = train(network, [member(network, "edge-popup")], small, tiny.model_copy(update={"lr": 1e38}), ROUND)
    assert result.diverged
    assert int(result.changed.mask["fc1.weight"].sum()) == int(member(network, "edge-popup").mask["fc1.weight"].sum())


def test_where_no_weight_is_likely_one_stays(tiny, network, small):
    mask = {name: torch.zeros_like(kept) for name, kept in network.dense_mask().items()}
    own = replace(member(network, "supermask"), mask=mask)
    (result,) = train(network, [own], small, tiny.model_copy(update={"lr": 1e-9}), ROUND)
    assert [int(kept.sum()) for kept in result.changed.mask.values()] == [1, 1]


def test_a_network_that_is_not_trained_is_evaluated_once(tiny, network, small):
    """Beside one that is; the values are those that it starts from, bit for bit."""
    own = member(network, "untrained", 2)
    still, dense, other = train(
        network,
        [own, replace(member(network, "edge-popup"), mask=network.dense_mask()), replace(own, training="usual")],
        small,
        tiny,
        ROUND,
    )
    module = network.drawn(2, "init")
    with torch.no_grad():
        for name, kept in own.mask.items():
            module.get_parameter(name).mul_(kept)
        right = module(small.test.x).argmax(1) == small.test.y
    for result in (still, dense):
        assert [(point.iteration, point.epoch) for point in result.curve] == [(0, None)]
        assert (result.images, result.changed, result.diverged, result.sparse) == (0, None, False, ())
        assert math.isnan(result.train_loss)
    assert still.correct.tolist() == right.tolist()
    assert all(torch.equal(value, under(own.mask, own.weights)[name]) for name, value in still.weights.items())
    assert other.images == TOTAL * BATCH
    assert steps([own, replace(own, training="usual")], tiny, len(small.train)) == TOTAL
