"""The arm `small-dense`: a real network of that width, trained by itself, has the same weights and accuracies."""

import numpy as np
import pytest
import torch
from torch import nn

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.config import load_preset
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import prepare
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.masks import under
from lottery_ticket.method.arms import ARMS, Moment, check_network
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models import narrow
from lottery_ticket.models.network import MODELS, make_network
from lottery_ticket.models.resnet import resnet
from lottery_ticket.models.tensors import tensors_of
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.testing import check_arm
from lottery_ticket.tickets.compact import compact


@pytest.fixture(scope="module")
def coloured():
    """90 training and 30 test images of 3 classes, 3×16×16, drawn."""
    drawn, y = np.random.default_rng(0), np.arange(120) % 3
    x = (drawn.random((120, 16, 16, 3)) * 120 + 60 * y[:, None, None, None]).astype(np.uint8)
    return prepare(Images("coloured", "drawn", x[:90], y[:90], x[90:], y[90:]), 20, torch.device("cpu"))


def settings_of(**more):
    few = {"rounds": 3, "iterations": 8, "batch_size": 15, "evaluate_every": 4, "validation_size": 20}
    return load_preset(**few | {"prune_rate": 0.6, "arms": "winning,small-dense", "device": "cpu"} | more)


def shallow(input_shape, classes, width: float = 1.0):
    """A residual network that does not amplify rounding so much as one of twenty layers."""
    return resnet(input_shape, classes, width, channels=(8, 16), blocks=1)


SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
CASES = {
    "fc1": {"model": "fc1", "engine": "dense"},
    "fc1 over survivors alone": {"model": "fc1", "engine": "sparse"},
    "biases that decay": {"model": "mlp:30-20", "bias_init": "normal", **SGD},
    "a dense output layer": {"model": "mlp:30-20", "bias_init": "normal", "keep_dense": ("output*",), **SGD},
    "a dense first layer": {"model": "mlp:30-20", "bias_init": "normal", "keep_dense": ("fc1*",)},
    "convolutions": {"model": "conv4", "width": 0.25},
    "convolutions alone": {"model": "conv2", "width": 0.2, "keep_dense": ("fc*", "output*"), **SGD},
    "batch norm": {"model": "vgg11", "width": 0.05, "bn_init": "uniform", **SGD, "lr": 0.01},
    "residual": {"model": f"{__name__}:shallow", "bn_init": "uniform", **SGD, "lr": 0.01},
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_small_network(coloured, case):
    settings = settings_of(**CASES[case])
    network = make_network(settings, coloured.input_shape, coloured.classes)
    check_network(settings, network)
    shapes = {name: value.shape for name, value in tensors_of(network.module).items()}
    for winning, done in find_tickets(settings, network, coloured):
        r = done.record.round
        width = narrow.narrowed(network, sum(winning.record.survivors.values())).factory.keywords.get("width")
        assert (width == (settings.width or 1)) == (r == 0)
        small = make_network(settings.model_copy(update={"width": width}), coloured.input_shape, coloured.classes)
        assert sum(done.record.survivors.values()) == small.inventory.weights
        assert done.record.density == small.inventory.weights / network.inventory.weights
        start = small.draw(0, "small-dense", r)
        (alone,) = train(small, [Member("small-dense", 0, small.dense_mask(), start)], coloured, settings, r)
        assert [point.test_accuracy for point in done.record.curve] == [point.test_accuracy for point in alone.curve]
        for mine, its in zip(done.record.curve, alone.curve, strict=True):
            assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-3)
            assert mine.validation_loss == pytest.approx(its.validation_loss, rel=1e-3)
        for name, value in alone.weights.items():
            block = tuple(map(slice, value.shape))
            assert torch.equal(done.start[name][block], start[name])
            torch.testing.assert_close(done.weights[name][block], value, rtol=1e-2, atol=1e-3)
            beyond = torch.ones(shapes[name], dtype=torch.bool)
            beyond[block] = False
            assert r or not beyond.any()
            assert name.endswith("running_var") or not done.weights[name][beyond].any(), name


@pytest.mark.parametrize("model", ["resnet20", "wrn22-2", "vgg11", "conv4-dropout"])
@pytest.mark.parametrize("keep_dense", [None, pytest.param(("output*",), marks=pytest.mark.slow)])
def test_trained_in_plain_pytorch_it_stays_the_small_network(coloured, model, keep_dense):
    """In float64, with masked weights set back to zero: all losses, and no value outside of the blocks."""
    network = make_network(settings_of(model=model, keep_dense=keep_dense, bias_init="normal"), (3, 16, 16), 3)
    draws, theta = torch.Generator().manual_seed(0), network.draw(0, "init")
    mask = {name: torch.rand(kept.shape, generator=draws) < 0.05 for name, kept in network.dense_mask().items()}
    start = ARMS["small-dense"].start(Moment(lambda: network, 7, 3, mask, mask, theta, theta))
    small = narrow.narrowed(network, sum(int(kept.sum()) for kept in mask.values()))
    losses, trained = [], []
    for module, values, masked in (
        (network.build(), under(start.mask, start.weights), start.mask),
        (small.build(), small.draw(7, "small-dense", 3), {}),
    ):
        module.load_state_dict(values)
        module.double().train()
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.eval()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        for x, y in zip(coloured.train.x.double().split(30), coloured.train.y.split(30), strict=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for name, kept in masked.items():
                    module.get_parameter(name).mul_(kept)
            losses.append(loss.item())
        losses.append(nn.functional.cross_entropy(module.eval()(coloured.test.x.double()), coloured.test.y).item())
        trained.append(tensors_of(module))
    assert losses[:4] == pytest.approx(losses[4:], rel=1e-8)
    for name, value in trained[1].items():
        beyond = trained[0][name].clone()
        beyond[tuple(map(slice, value.shape))] = 0
        assert name.endswith("running_var") or not beyond.any(), name


@pytest.mark.parametrize("left", [1.0, 0.9, 0.5, 0.2, 0.107, 0.03, 0.004, 0.0001])
def test_as_many_weights_as_whole_units_allow(left):
    """fc1 by hand, over all pairs of units that widths in steps of 1/100,000 give."""
    network = make_network(settings_of(model="fc1"), (1, 28, 28), 10)
    asked = round(left * 266_200)
    widths = [w / 100_000 for w in range(1, 100_001)]
    units = {(max(1, round(300 * width)), max(1, round(100 * width))) for width in widths}
    counts = {784 * first + first * second + 10 * second for first, second in units}
    found = narrow.narrowed(network, asked)
    assert abs(found.inventory.weights - asked) == min(abs(count - asked) for count in counts)
    assert sum(int(kept.sum()) for kept in narrow.places(network, found).values()) == found.inventory.weights


def test_the_nearest_not_the_next_and_of_two_the_smaller():
    """3-n-2 has 5n weights; of the output layer alone 2n."""
    network = make_network(settings_of(model="mlp:8", prunable="layers"), (3,), 2)
    asked = {0: 5, 1: 5, 5: 5, 7: 5, 8: 10, 12: 10, 13: 15, 37: 35, 38: 40, 40: 40}
    assert {n: narrow.narrowed(network, n).inventory.weights for n in asked} == asked
    network = make_network(settings_of(model="mlp:8", keep_dense=("fc1*",)), (3,), 2)
    asked = {3: 2, 4: 4, 5: 4, 16: 16}
    assert {n: narrow.narrowed(network, n).inventory.weights for n in asked} == asked


def test_weights_that_stay_dense_leave_the_widest():
    """The convolutions of conv2 with 13 channels go with 50 or 51 units, round(256 w)."""
    network = make_network(settings_of(model="conv2", width=0.2, keep_dense=("fc*", "output*")), (3, 16, 16), 3)
    assert narrow.narrowed(network, 9 * 3 * 13 + 9 * 13 * 13).inventory == network.inventory
    found = narrow.narrowed(network, 9 * 3 * 12 + 9 * 12 * 12 + 1).inventory
    assert found.prunable == {"conv1.weight": 324, "conv2.weight": 1296}
    assert {name: each.count for name, each in found.dense.items()} == {
        "fc1.weight": 12 * 64 * 50,  # widths to 12.5 / 64 give 12 channels, and round(256 × 12.5 / 64) = 50
        "fc2.weight": 50 * 50,
        "output.weight": 50 * 3,
    }


@pytest.mark.parametrize("model", ["fc1", "lenet5-lecun", "resnet20"])
def test_made_small_it_is_that_network(model):
    """Compaction, which knows nothing of widths, finds the same units."""
    shape = (3, 32, 32)
    network = make_network(settings_of(model=model), shape, 10)
    small = narrow.narrowed(network, network.inventory.weights // 5)
    mask = narrow.places(network, small)
    module = network.build()
    values = narrow.embedded(network, small.draw(0, "init"), tensors_of(module))
    module.load_state_dict(values)
    made = compact(module.eval(), mask, shape)
    assert {name: after for name, (_, after) in made.weights.items()} == small.inventory.prunable
    assert all(kept.all() for kept in made.mask.values())


class Concatenating(nn.Module):
    """Half of what the last layer takes are other channels where it is narrower."""

    def __init__(self, input_shape, classes, width: float = 1.0):
        super().__init__()
        self.one, self.other = (nn.Conv2d(input_shape[0], round(8 * width), 3) for _ in range(2))
        self.last = nn.Linear(2 * round(8 * width), classes)

    def forward(self, x):
        return self.last(torch.cat([self.one(x), self.other(x)], 1).mean((2, 3)))


def grouped(input_shape, classes, width: float = 1.0):
    first = nn.Conv2d(input_shape[0], round(8 * width), 3)
    return nn.Sequential(
        first, nn.ReLU(), nn.Conv2d(round(8 * width), 8, 3, groups=2), nn.Flatten(), nn.LazyLinear(classes)
    )


def depthwise(input_shape, classes, width: float = 1.0):
    units = round(8 * width)
    deep = nn.Conv2d(units, units, 3, groups=units)
    return nn.Sequential(nn.Conv2d(input_shape[0], units, 3), nn.ReLU(), deep, nn.Flatten(), nn.LazyLinear(classes))


def normalised(input_shape, classes, width: float = 1.0):
    units = round(8 * width)
    last = nn.Linear(units, classes)
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(units), nn.LayerNorm(units), nn.ReLU(), last)


def squashed(input_shape, classes, width: float = 1.0):
    """Units that are gone give a half."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(round(8 * width)), nn.Sigmoid(), nn.LazyLinear(classes))


def by_units(input_shape, classes, width: int = 12):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Dropout(0.3), nn.ReLU(), nn.LazyLinear(classes))


def unmoved(input_shape, classes, width: float = 1.0):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(classes))


def deeper(input_shape, classes, width: float = 1.0):
    hidden = [nn.Sequential(nn.LazyLinear(8), nn.ReLU()) for _ in range(round(2 * width))]
    return nn.Sequential(nn.Flatten(), *hidden, nn.LazyLinear(classes))


def without(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(classes))


@pytest.mark.parametrize(
    ("factory", "more", "why"),
    [
        (Concatenating, {}, "at width 0.5 the network is not what the leading blocks of its tensors are: scores dif"),
        (grouped, {}, "the leading blocks of its tensors are: scores differ in evaluation"),
        (normalised, {}, "scores differ in evaluation"),
        (squashed, {"keep_dense": ("3.*",)}, "gradients of 3.weight differ"),
        (unmoved, {}, "at width 0.5 the network cannot be built with the same tensors and fewer weights"),
        (deeper, {}, "at width 0.5 the network cannot be built with the same tensors and fewer weights"),
        (without, {}, "the network has no --width: its factory names no argument `width`"),
        (depthwise, {}, None),
        (squashed, {}, None),
        (by_units, {}, None),
        (by_units, {"width": 40}, None),
    ],
)
def test_a_network_that_holds_no_narrower_one_is_refused(factory, more, why):
    settings = settings_of(model=f"{__name__}:{factory.__name__}", **more)
    network = make_network(settings, (3, 8, 8), 4)
    if why is None:
        check_network(settings, network)
        assert narrow.narrowed(network, network.inventory.weights // 3).inventory.weights < network.inventory.weights
        return
    with pytest.raises(
        InputError, match=r"^--arms: 'small-dense' cannot be had: .*; allowed: other arms, or a net"
    ) as told:
        check_network(settings, network)
    assert why in str(told.value)
    check_network(settings.model_copy(update={"arms": ("winning", "reinit")}), network)


DEEP = ("resnet32", "resnet56", "resnet110", "resnet18", "vgg16", "vgg19")


@pytest.mark.parametrize(
    "model",
    [
        *(pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in MODELS),
        "mlp:300-100",
    ],
)
def test_all_of_the_packages_networks_hold_narrower_ones(model):
    network = make_network(settings_of(model=model, width=0.2), (3, 32, 32), 4)
    assert narrow.obstacle(network) is None


def test_a_width_of_whole_units_stays_whole():
    network = make_network(settings_of(model=f"{__name__}:by_units"), (3, 2, 2), 4)
    assert [narrow.narrowed(network, n).inventory.weights for n in (1, 40, 100, 192)] == [16, 32, 96, 192]


def odd_at_three(input_shape, classes, width: int = 8):
    """Another network at one width alone."""
    middle = nn.LayerNorm(3, elementwise_affine=False) if width == 3 else nn.Identity()
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), middle, nn.LazyLinear(classes))


def test_every_width_is_tried_before_it_is_trained():
    network = make_network(settings_of(model=f"{__name__}:odd_at_three"), (3, 2, 2), 4)
    assert narrow.obstacle(network) is None
    with pytest.raises(LotteryTicketError, match="at width 3 the network is not what the leading blocks"):
        narrow.narrowed(network, 48)


def test_it_is_refused_before_anything_is_written(small_npz, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = settings_of(dataset=str(small_npz), model=f"{__name__}:without")
    with pytest.raises(InputError, match="--arms: 'small-dense' cannot be had"):
        make_plan(settings)
    with pytest.raises(
        InputError, match="'small-dense' cannot be had: what the network of a loop of your own takes is"
    ):
        lottery_ticket.find(
            lambda: nn.Linear(4, 2), train=print, evaluate=lambda module: 0.5, arms=("winning", "small-dense")
        )
    assert not list(tmp_path.iterdir())


def test_the_checks_of_arms_know_it():
    check_arm(ARMS["small-dense"])


@pytest.mark.slow
def test_its_tickets_are_found_again_and_trained_again(small_npz, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = settings_of(dataset=str(small_npz), model="mlp:30-20", seeds="0,3", arms="winning,reinit,small-dense")
    result = lottery_ticket.run(settings, listener=Listener())
    for seed, r in ((0, 1), (3, 2)):
        ticket = Ticket.load(f"runs:/{result.run_id}:{r}:small-dense-seed{seed}")
        network = ticket.network()
        trunk = next(each for each in result.rounds if (each.arm, each.seed, each.round) == ("winning", seed, r))
        small = narrow.narrowed(network, sum(trunk.survivors.values()))
        mine = next(each for each in result.rounds if (each.arm, each.seed, each.round) == ("small-dense", seed, r))
        assert mine.survivors == small.inventory.prunable == {n: int(kept.sum()) for n, kept in ticket.mask.items()}
        for name, value in small.draw(seed, "small-dense", r).items():
            assert torch.equal(ticket.weights[name][tuple(map(slice, value.shape))], value)
        assert mine.cost.to_find == 0 < trunk.cost.to_find
        assert sum(mine.cost.inference[n].sparse for n in small.inventory.prunable) == small.inventory.weights
    winning = Ticket.load(f"runs:/{result.run_id}:1:winning-seed0")
    again = lottery_ticket.train_ticket(winning, arms="winning,small-dense", listener=Listener())
    losses = [
        [each.test_loss for each in run.rounds if (each.arm, each.seed, each.round) == ("small-dense", 0, 1)]
        for run in (result, again)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
