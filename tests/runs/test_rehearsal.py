"""Networks that would fail later, or give wrong numbers in silence, are refused before a run is made; others train."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.allocation import allocate
from lottery_ticket.engine.device import arithmetic
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.errors import InputError
from lottery_ticket.models.network import make_network
from lottery_ticket.models.tensors import give, tensors_of
from lottery_ticket.randomness import generator
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.rehearsal import rehearse
from lottery_ticket.tickets.files import load_weights, save_weights


@pytest.fixture(scope="module")
def tiny_npz(tmp_path_factory):
    """Images of 4×4 pixels in four classes that can be learned."""
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 121), ("test", 41)):
        labels = np.arange(count) % 4
        arrays[f"x_{part}"] = (draw.integers(0, 99, (count, 4, 4)) + 50 * np.eye(4)[labels][:, None]).astype(np.uint8)
        arrays[f"y_{part}"] = labels
    np.savez(path := tmp_path_factory.mktemp("tiny") / "tiny.npz", **arrays)
    return path


@pytest.fixture
def plan(tiny_npz):
    """A plan for a factory of tests/help/strange.py."""

    def make(name, **more):
        flags = {"validation_size": 20, "iterations": 20, "batch_size": 10, "dataset": str(tiny_npz)} | more
        return make_plan(load_preset(**{"model": f"tests.help.strange:{name}"} | flags))

    return make


def not_a_number(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes), Root())


class Root(nn.Module):
    """Of negative scores too."""

    def forward(self, x):
        return x.sqrt()


def test_scores_are_numbers(plan):
    """Not the criterion is told, which can score nothing then."""
    with pytest.raises(
        InputError, match=r"^--model: 'tests\.runs\.test_rehearsal:not_a_number' gives scores that are not"
    ):
        plan("", model=f"{__name__}:not_a_number")


def takes_nothing():
    """No executor."""


def test_an_executor_takes_what_it_is_given(plan):
    with pytest.raises(
        InputError, match=r"^--executor: 'tests\.runs\.test_rehearsal:takes_nothing' is a function; allow"
    ):
        plan("Permuted", executor=f"{__name__}:takes_nothing")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Permuted", "(order); allowed: what is drawn is registered, as by self.register_buffer"),
        ("PermutedByNumpy", "(order)"),
        ("Scaled", "(options['scale'])"),
        ("Table", "(table)"),
        ("OnlyInTraining", "(order)"),
    ],
)
def test_what_is_drawn_when_it_is_built_and_is_no_parameter(plan, name, named):
    with pytest.raises(InputError, match="is another function each time it is built") as refused:
        plan(name)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Counter", "calls"),
        ("CountedByClass", "CountedByClass.calls"),
        ("CountedByModule", "tests.help.strange.CALLS[0]"),
        ("Iterated", "steps"),
        ("OwnGenerator", "draws"),
        ("NumpysGenerator", "tests.help.strange.GENERATOR['state']['state']"),
        ("Average", "mean"),
        ("History", "seen[2], seen[3]"),
    ],
)
def test_state_in_python(plan, name, named):
    with pytest.raises(InputError) as refused:
        plan(name)
    assert f"changes {named} with every pass" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("AlwaysDrops", "return F.dropout(h, 0.5)"),
        ("Noisy", "return h + 0.1 * torch.randn_like(h)"),
        ("NoisyByNumpy", ""),
    ],
)
def test_evaluations_that_draw(plan, name, line):
    with pytest.raises(InputError, match="other scores in each evaluation") as refused:
        plan(name)
    assert line in str(refused.value)
    assert ("strange.py, line" in str(refused.value)) == bool(line)


@pytest.mark.parametrize(("name", "same"), [
    ("seeds_itself", "first.weight, output.weight"), ("loads_a_checkpoint", "first.weight, output.weight"),
    ("seeds_numpys", "first.weight"),
])  # fmt: skip
def test_start_values_that_do_not_depend_on_the_seed(plan, name, same):
    for more, what in (({}, "reinit"), ({"seeds": 2}, "seed 1"), ({"arms": "winning,reinit-own"}, "reinit-own")):
        with pytest.raises(InputError, match="so it seeds a generator itself or loads a checkpoint") as refused:
            plan(name, init="module", **more)
        assert f"gives {what} the same {same} as seed 0" in str(refused.value)
    plan(name)  # the scheme draws them
    plan(name, init="module", arms="winning,random-mask")  # a checkpoint is pruned
    with pytest.raises(InputError, match="gives seed 4 the same"):
        plan(name, init="module", arms="winning", seeds="3,4")


def test_start_values_that_nobody_can_repeat(plan):
    with pytest.raises(InputError, match=r"gives first\.weight other values each time it is built"):
        plan("OwnFactory", init="module")


@pytest.mark.parametrize(("name", "layer"), [("normalised", "2 (BatchNorm1d)"), ("NormalisedAndScaled", "norm (Batch")])
def test_a_last_batch_of_one_image(plan, name, layer):
    with pytest.raises(InputError) as refused:
        plan(name)  # 101 images in batches of 10
    assert str(refused.value).startswith("--batch-size: 10 leaves a batch of one image")
    assert layer in str(refused.value)
    plan(name, iterations=10)  # which end before it
    plan(name, batch_size=9)


def test_a_last_evaluation_of_one_image(plan):
    more = {"batch_size": 40, "arms": "winning,reinit,random-mask", "seeds": 17, "stack": 51, "jobs": 1}
    with pytest.raises(InputError, match=r"--batch-size: 40 leaves a batch of one image.*norm \(BatchNorm1d\)"):
        plan("NormalisedByTheBatch", **more)
    plan("NormalisedByTheBatch", **more | {"batch_size": 39})


@pytest.mark.parametrize(("name", "why"), [
    ("ExtraState", "keeps _extra_state by get_extra_state"), ("Quantised", "fails in a first round"),
])  # fmt: skip
def test_tensors_that_cannot_be_kept(plan, name, why):
    with pytest.raises(InputError) as refused:
        plan(name)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_refusal_leaves_no_trace(lt, tiny_npz, tmp_path):
    done = lt("run", "--dataset", tiny_npz, "--validation-size", 20, "--model", "tests.help.strange:Counter")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


TRAINED = ["Remembering", "Replacing", "Waves", "Unsigned", "Listed", "TwoNames", "OneBias", "linear_twice",
           "prelu_twice", "norm_twice", "channels_last"]  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_unusual_trains_as_plain_torch_does(plan, name, tmp_path):
    ready = plan(name, optimizer="sgd", lr=0.05, iterations=3, batch_size=25)
    network, data = ready.network, ready.data
    start = network.draw(0, "init")
    with arithmetic(ready.settings, torch.device("cpu")):
        (mine,) = train(network, [Member("winning", 0, network.dense_mask(), start)], data, ready.settings, 0)
        module = network.build()
        give(module, start)
        order = torch.randperm(len(data.train), generator=generator(0, "order", 0, 0))
        for batch in order.split(25)[:3]:
            loss = F.cross_entropy(module.train()(data.train.x[batch]), data.train.y[batch])
            module.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.sub_(0.05 * parameter.grad)
    trained = tensors_of(module)
    assert trained.keys() == mine.weights.keys()
    for key, value in trained.items():
        torch.testing.assert_close(mine.weights[key], value.contiguous(), rtol=1e-4, atol=1e-5)
    assert float((module.eval()(data.test.x).argmax(1) == data.test.y).float().mean()) == pytest.approx(
        mine.curve[-1].test_accuracy
    )
    save_weights(mine.weights, tmp_path / "weights.safetensors")
    kept = load_weights(tmp_path / "weights.safetensors")
    assert all(torch.equal(kept[key], value) and kept[key].dtype == value.dtype for key, value in mine.weights.items())


@pytest.mark.parametrize("name", ["linear_twice", "Waves", "channels_last"])
@pytest.mark.slow
def test_what_is_unusual_is_pulled_and_exported(lt, tiny_npz, name):
    flags = f"--dataset {tiny_npz} --validation-size 20 --rounds 2 --iterations 10 --arms winning".split()
    done = lt("run", *flags, "--model", f"tests.help.strange:{name}", "--json")
    assert done.code == 0, done.err
    accuracy = done.json["rounds"][1]["test_accuracy"]
    model = ["--model", f"tests.help.strange:{name}"]
    done = lt("export", f"{done.json['run_id']}:1", *model, "--format", "state-dict", "--json")
    assert done.code == 0, done.err
    assert done.json["accuracy"] == pytest.approx(accuracy, abs=0.05)


def test_a_rehearsal_leaves_the_network_and_the_generators_alone(tiny_npz):
    settings = load_preset(
        model="tests.help.strange:norm_twice", dataset=str(tiny_npz), validation_size=20, batch_size=9
    )
    data = prepare(load_images(str(tiny_npz)), 20, torch.device("cpu"))
    network = make_network(settings, data.input_shape, data.classes)
    before = {name: value.clone() for name, value in tensors_of(network.module).items()}, vars(network.module).copy()
    states = torch.get_rng_state(), str(np.random.get_state())
    rehearse(settings, network, data, allocate(settings, network, data))
    assert all(torch.equal(value, before[0][name]) for name, value in tensors_of(network.module).items())
    assert vars(network.module) == before[1]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]
