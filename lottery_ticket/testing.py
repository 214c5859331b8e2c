"""Checks for authors of plugins: what the package's own arms, criteria, models … pass, yours must.

Each takes the thing itself, tries it on small real networks and images, and raises an AssertionError that says what is
wrong; none needs a test framework:

    from lottery_ticket.testing import check_arm
    from lt_signs import sign_only

    def test_sign_only():
        check_arm(sign_only)
"""

import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import torch
from torch import nn

from lottery_ticket import plugins
from lottery_ticket.analysis.plots import save_all
from lottery_ticket.analysis.stored_run import Analysis, Finding, StoredRun
from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.augment import Augmentation
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import Data, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.allocation import Allocation, allocate
from lottery_ticket.engine.executors import Executor, trainer
from lottery_ticket.engine.job import Member, Train
from lottery_ticket.engine.training import train
from lottery_ticket.masks import density, survivors
from lottery_ticket.method.arms import Arm, Moment
from lottery_ticket.method.criteria import Criterion
from lottery_ticket.method.pruning import prune
from lottery_ticket.method.trajectory import evidence, find_tickets
from lottery_ticket.models.network import Network, make_network
from lottery_ticket.randomness import forked
from lottery_ticket.runs.listener import Listener
from lottery_ticket.study.definition import Choices, Study
from lottery_ticket.study.space import distributions


def _small(file: Path | None = None) -> tuple[Settings, Network, Data]:
    """A network with convolutions and linear layers on 120 drawn images of 3 classes, 3×8×8, which a file may hold."""
    drawn = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (drawn.random((120, 8, 8, 3)) * 120 + 60 * (y % 3)[:, None, None, None]).astype(np.uint8)
    images = Images("small", str(file), x[:90], y[:90], x[90:], y[90:])
    settings = load_preset(
        model="lenet5", validation_size=0, epochs=None, iterations=6, batch_size=15, rounds=2, device="cpu"
    )
    if file:
        np.savez(file, x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
        settings, images = settings.model_copy(update={"dataset": str(file)}), load_images(str(file))
    data = prepare(images, 0, torch.device("cpu"))
    return settings, make_network(settings, data.input_shape, data.classes), data


def _finished(settings: Settings, network: Network, data: Data) -> tuple[Member, dict[str, torch.Tensor]]:
    """A member of round 0 and what it was trained to."""
    member = Member("winning", 0, network.dense_mask(), network.draw(0, "init"))
    (trained,) = train(network, [member], data, settings, 0)
    return member, trained.weights


def check_arm(arm: Arm) -> None:
    """It keeps its mask's size and shape, gives the same again for the same moment, and changes nothing it is given."""
    assert isinstance(arm, Arm), f"is a {type(arm).__name__}, no lottery_ticket.method.Arm"
    settings, network, data = _small()
    member, trained = _finished(settings, network, data)
    scores = {name: trained[name].abs() for name in member.mask}
    mask = prune(scores, member.mask, network.rates(settings))
    theta = member.weights
    late = {name: value + 0.01 * torch.ones_like(value) for name, value in theta.items()}
    for at in (
        Moment(lambda: network, 0, 0, member.mask, member.mask, theta, theta),
        Moment(lambda: network, 0, 1, mask, mask, theta, theta, 0, trained if arm.keep_start else {}),
        Moment(lambda: network, 0, 1, mask, mask, theta, late, 3, trained if arm.keep_start else {}),
    ):
        given = [dict(each) for each in (at.own, at.winning, at.initial, at.rewound)]
        copies = [{name: value.clone() for name, value in each.items()} for each in given]
        start, again = arm.start(at), arm.start(at)
        for before, after in zip(copies, given, strict=True):
            changed = [name for name in before if not torch.equal(before[name], after[name])]
            assert not changed, f"changes {', '.join(changed)} of the moment that it is given"
        assert start.weights.keys() == theta.keys(), "gives other tensors than the network has"
        assert start.mask.keys() == at.own.keys(), "gives masks of other tensors than are prunable"
        for name, kept in start.mask.items():
            assert kept.dtype == torch.bool, f"gives no mask of {name}"
            assert kept.shape == at.own[name].shape, f"gives a mask of {name} of another shape"
        if not arm.own_mask and not arm.size_alone:
            assert survivors(start.mask) == survivors(at.winning), "borrows its mask but keeps other numbers of weights"
        assert density(start.mask) > 0, "leaves no weight"
        for name, value in start.weights.items():
            assert value.shape == theta[name].shape, f"gives {name} another shape"
            assert not value.is_floating_point() or value.isfinite().all(), (
                f"gives values of {name} that are not finite"
            )
            assert torch.equal(value, again.weights[name]), f"gives {name} other values when it is asked again"
        for name, kept in start.mask.items():
            assert torch.equal(kept, again.mask[name]), f"gives another mask of {name} when it is asked again"
        assert start.begins_at in (0, at.rewound_at), "begins at an iteration whose values it was not given"


def check_criterion(criterion: Criterion) -> None:
    """It scores every prunable tensor with finite numbers, the same again, and prunes exactly what is asked for."""
    assert isinstance(criterion, Criterion), f"is a {type(criterion).__name__}, no lottery_ticket.method.Criterion"
    settings, network, data = _small()
    member, trained = _finished(settings, network, data)
    at = evidence(settings, network, data, 0, member, trained, member.weights)
    copies = {name: value.clone() for name, value in at.weights.items()}
    scores, again = criterion.scores(at), criterion.scores(at)
    changed = [name for name, value in at.weights.items() if not torch.equal(value, copies[name])]
    assert not changed, f"changes {', '.join(changed)} of the evidence that it is given"
    for name, kept in at.mask.items():
        assert name in scores, f"gives no scores of {name}"
        assert scores[name].shape == kept.shape, f"gives scores of another shape than {name}"
        assert scores[name][kept].isfinite().all(), f"gives scores of {name} that are not finite"
        assert torch.equal(scores[name], again[name]), f"gives {name} other scores when it is asked again"
        assert scores[name].unique().numel() > 1, f"gives all weights of {name} one score, so that their order decides"
    assert criterion.pruning in ("iterative", "init"), f"is to be asked {criterion.pruning}; allowed: iterative, init"
    assert criterion.steps >= 1, "has no step"
    rates = network.rates(settings)
    left = survivors(prune({name: scores[name].detach() for name in at.mask}, at.mask, rates))
    asked = {name: kept.numel() - round(rates[name] * kept.numel()) for name, kept in at.mask.items()}
    assert left == asked, f"prunes to {left}, asked for {asked}"


def check_model(
    model: Callable[..., nn.Module] | str,
    input_shape: tuple[int, ...] = (3, 8, 8),
    classes: int = 3,
    width: float | None = None,
) -> None:
    """It builds a network that takes such images, draws other values for other seeds, and is trained and pruned.

    Args:
        model: the factory, or the name of a network.
        input_shape, classes: of the images.
        width: the setting of that name.
    """
    from lottery_ticket.runs.rehearsal import rehearse

    settings, _, data = _small()
    if input_shape != data.input_shape or classes != data.classes:
        settings, data = _settings_for(input_shape, classes)
    name = model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"
    assert isinstance(model, str) or plugins.imported(name, "model") is model, f"is not what {name} imports"
    settings = settings.model_copy(update={"model": name, "width": width})
    network = make_network(settings, data.input_shape, data.classes)
    assert network.kinds, "has no prunable weights"
    with forked():
        rehearse(settings, network, data, allocate(settings, network, data))


def _settings_for(input_shape: tuple[int, ...], classes: int) -> tuple[Settings, Data]:
    drawn = np.random.default_rng(0)
    shape = input_shape if len(input_shape) == 1 else (*input_shape[1:], input_shape[0])
    labels = np.arange(8 * classes) % classes
    x = drawn.random((len(labels), *shape)).astype(np.float32) + labels.reshape(-1, *[1] * len(shape))
    images = Images("small", "drawn", x, labels, x[: 2 * classes], labels[: 2 * classes])
    settings = load_preset(validation_size=0, epochs=None, iterations=4, batch_size=classes, rounds=2, device="cpu")
    return settings, prepare(images, 0, torch.device("cpu"))


def check_dataset(make: Callable[[], Images]) -> None:
    """It gives the same `Images` each time: images and labels that go together, of all classes in training."""
    first, again = make(), make()
    assert isinstance(first, Images), f"gives a {type(first).__name__}, no lottery_ticket.data.Images"
    assert first.digest == again.digest, "gives other images when it is asked again"
    for part in ("train", "test"):
        x, y = getattr(first, f"x_{part}"), getattr(first, f"y_{part}")
        assert len(x) == len(y) > 0, f"has {len(x)} images and {len(y)} labels in {part}"
        assert x.dtype in (np.uint8, np.float32), f"has images of {x.dtype}; allowed: uint8 or float32"
        assert np.isfinite(x).all(), f"has images in {part} that are not finite"
        assert np.issubdtype(y.dtype, np.integer), f"has labels of {y.dtype} in {part}; allowed: whole numbers"
        assert y.min() >= 0, f"has labels below 0 in {part}"
    assert set(np.unique(first.y_train)) == set(range(first.classes)), "lacks a class in training"
    prepare(first, 0, torch.device("cpu"))


def check_augmentation(augmentation: Augmentation) -> None:
    """It keeps the images' shape and draws from its generator alone: the same again for the same seed."""
    assert isinstance(augmentation, Augmentation), f"is a {type(augmentation).__name__}, no Augmentation"
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    before = torch.get_rng_state()
    apply = augmentation.on(torch.full((3, 1, 1), -1.5))
    results = [apply(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2, 3)]
    assert torch.equal(before, torch.get_rng_state()), "draws from torch's global generator"
    assert torch.equal(images, given), "changes the images that it is given"
    for result in results:
        assert result.shape == images.shape, "gives images of another shape"
        assert result.dtype == images.dtype, "gives images of another type"
        assert result.isfinite().all(), "gives values that are not finite"
    assert torch.equal(results[0], results[1]), "gives other images for the same seed"


def check_executor(executor: Executor) -> None:
    """Within its context there is a `Train` that trains as the engine does, bit for bit or within rounding."""
    with TemporaryDirectory() as work:
        settings, network, data = _small(Path(work, "small.npz"))
        _check_executor(executor, settings, network, data)


def _check_executor(executor: Executor, settings: Settings, network: Network, data: Data) -> None:
    members = [Member("winning", seed, network.dense_mask(), network.draw(seed, "init")) for seed in (0, 1)]
    here = train(network, members, data, settings, 0)
    allocation: Allocation = allocate(settings, network, data)
    settings = settings.model_copy(update={"jobs": allocation.jobs, "stack": allocation.stack})
    opened: AbstractContextManager[Train] = executor(settings, allocation, data.info)
    assert hasattr(opened, "__enter__"), f"gives a {type(opened).__name__}, no context manager"
    with opened as trained_there:
        there = trained_there(network, members, data, settings, 0, None, None)
    assert len(there) == len(here), "gives another number of networks than members"
    for mine, its in zip(here, there, strict=True):
        for name, value in mine.weights.items():
            close = torch.allclose(value.float(), its.weights[name].float(), rtol=1e-3, atol=1e-4)
            assert close, f"trains {name} to other values than the engine"
        assert math.isclose(mine.curve[-1].test_accuracy, its.curve[-1].test_accuracy, abs_tol=0.1)


def check_listener(make: Callable[[], Listener]) -> None:
    """It makes a `Listener` that takes all that a run tells it."""
    listener = make()
    assert isinstance(listener, Listener), f"makes a {type(listener).__name__}, no lottery_ticket.runs.Listener"
    settings, network, data = _small()
    with trainer(settings, allocate(settings, network, data), data.info) as engine:
        for rounds in find_tickets(settings, network, data, watch=listener.progress, train=engine):
            listener.rounds_finished([each.record for each in rounds])
    listener.warned("something is not as it should be")


def check_analysis(analysis: Analysis) -> None:
    """It finds something in a run of two seeds and three rounds, the same again, and says it in plain values."""
    assert isinstance(analysis, Analysis), f"is a {type(analysis).__name__}, no lottery_ticket.analysis.Analysis"
    settings, network, data = _small()
    settings = settings.model_copy(update={"seeds": (0, 1), "rounds": 3})
    rounds = {
        (each.record.arm, each.record.seed, each.record.round): each
        for finished in find_tickets(settings, network, data)
        for each in finished
    }
    run = StoredRun(
        run_id="0123456789abcdef0123456789abcdef",
        name="small",
        settings=settings,
        records=[each.record for each in rounds.values()],
        mask=lambda arm, seed, r: rounds[arm, seed, r].mask,
        trained=lambda arm, seed, r: rounds[arm, seed, r].weights,
        initial=lambda seed: rounds["winning", seed, 0].start,
    )
    given = [tensors for each in rounds.values() for tensors in (each.mask, each.weights, each.start)]
    copies = [{name: value.clone() for name, value in tensors.items()} for tensors in given]
    found, again = analysis.of(run), analysis.of(run)
    for before, after in zip(copies, given, strict=True):
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        assert not changed, f"changes {', '.join(changed)} of the run that it is given"
    assert isinstance(found, Finding), f"gives a {type(found).__name__}, no lottery_ticket.analysis.Finding"
    assert not isinstance(found.says, str), "says one text; allowed: a list of sentences"
    assert all(isinstance(sentence, str) and sentence for sentence in found.says), "says what is no sentence"
    assert found.says or found.table or found.figures, "finds nothing"
    for row in found.table:
        assert row.keys() == found.table[0].keys(), "has rows with other columns than the first"
        for column, value in row.items():
            assert isinstance(value, str | int | float | None), f"has a {type(value).__name__} in column {column}"
    assert [list(found.says), list(found.table)] == [list(again.says), list(again.table)], "finds other things again"
    with TemporaryDirectory() as folder:
        save_all(found.figures, Path(folder))


_STUDY = Study.model_validate(
    {
        "space": {
            "lr": {"low": 1e-4, "high": 1e-1, "log": True, "points": 6},
            "batch_size": {"low": 10, "high": 100, "points": 4},
            "optimizer": {"choices": ("adam", "sgd")},
        },
        "objective": "phase",
    }
)


def check_sampler(sampler: Callable[[Study], optuna.samplers.BaseSampler], study: Study = _STUDY) -> None:
    """It proposes what the study searches, the same for the same seed, and other trials in each of two processes.

    By default the study searches a range on a log axis, one of whole numbers and a choice, for one value.
    """
    trials, again = _proposed(sampler, study), _proposed(sampler, study)
    for params in trials:
        for name, searched in study.space.items():
            if isinstance(searched, Choices):
                assert params[name] in searched.choices, f"proposes {name} = {params[name]}, which is no choice"
            else:
                assert searched.low <= params[name] <= searched.high, f"proposes {name} = {params[name]}, out of range"
    assert trials == again, "proposes other trials when the study is begun again with the same sampler_seed"
    assert trials[::2] != trials[1::2], "proposes the same trials in every process that works on the study"


def _proposed(sampler: Callable[[Study], optuna.samplers.BaseSampler], study: Study) -> list[dict[str, Any]]:
    """Eight trials, asked of two samplers in turn, as two processes would, each better than the one before."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = [sampler(study), sampler(study)]
    for each in made:
        assert isinstance(each, optuna.samplers.BaseSampler), f"gives a {type(each).__name__}, no Optuna sampler"
    trials = optuna.create_study(directions=study.directions)
    before = _global_generators()
    for number in range(8):
        trials.sampler = made[number % 2]
        trial = trials.ask(fixed_distributions=distributions(study))
        trials.tell(trial, [number - 3.5 for _ in study.directions])
    assert _global_generators() == before, "draws from a global generator"
    return [trial.params for trial in trials.trials]


def _global_generators() -> tuple[object, ...]:
    return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
