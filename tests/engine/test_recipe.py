"""What the papers' recipes ask of training: crops and flips, label smoothing, weights alone that decay."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lottery_ticket.config import load_preset
from lottery_ticket.data.augment import AUGMENTATIONS, augmentations
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import describe, prepare
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.optim import Optimizer
from lottery_ticket.engine.training import train
from lottery_ticket.errors import InputError
from lottery_ticket.models.network import make_network
from lottery_ticket.models.tensors import give

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures():
    """60 pictures of 12×12 pixels in colour, of three classes."""
    draws, labels = np.random.default_rng(0), np.arange(60) % 3
    x = draws.integers(0, 256, (60, 12, 12, 3)).astype(np.uint8)
    return Images("pictures", "drawn", x, labels, x[:9], labels[:9])


def settings(**given):
    own = {"model": "mlp:6", "optimizer": "sgd", "lr": 0.1, "batch_size": 20, "iterations": 6, "validation_size": 0}
    return load_preset("quick", **(own | given))


def trained(pictures, chosen, members):
    data = prepare(pictures, 0, CPU, normalise=chosen.normalise)
    return train(make_network(chosen, data.input_shape, data.classes), members, data, chosen, 1, snapshot_at=3)


def member(pictures, chosen, arm="winning", seed=0, **more):
    data = prepare(pictures, 0, CPU)
    network = make_network(chosen, data.input_shape, data.classes)
    return Member(arm, seed, network.dense_mask(), network.draw(0, "init"), **more)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_crop_is_a_window_of_the_image_with_black_around_it():
    x, black = torch.randn(40, 3, 10, 7), torch.tensor([-1.0, -2.0, -3.0]).view(3, 1, 1)
    cropped = AUGMENTATIONS["crop"].on(black)(x, torch.Generator().manual_seed(5))
    padded = black.expand(40, 3, 18, 15).clone()
    padded[:, :, 4:14, 4:11] = x
    windows = [(i, j) for i in range(9) for j in range(9)]
    found = [
        next(at for at in windows if torch.equal(mine, each[:, at[0] : at[0] + 10, at[1] : at[1] + 7]))
        for mine, each in zip(cropped, padded, strict=True)
    ]
    assert len(set(found)) > 20


def test_black_is_what_pixels_of_0_are_after_standardisation(pictures):
    info = describe(pictures, 0)
    (crop,) = augmentations(["crop"], info, CPU)
    dark = info.standardise(torch.zeros(5, 3, 12, 12))
    torch.testing.assert_close(crop(dark, torch.Generator().manual_seed(0)), dark)


def test_arms_of_a_seed_see_the_same_images_and_those_of_another_seed_do_not(pictures):
    chosen = settings(augment="crop,flip")
    begun = [member(pictures, chosen, arm, seed) for arm, seed in (("winning", 0), ("reinit", 0), ("winning", 1))]
    first, second, other = trained(pictures, chosen, begun)
    assert same(first.weights, second.weights)
    assert not same(first.weights, other.weights)
    plain, *_ = trained(pictures, settings(), begun)
    assert not same(first.weights, plain.weights)


def test_what_goes_on_at_k_sees_what_the_dense_network_saw_from_k_on(pictures):
    """Schedule, data order, crops and flips go on there, so that the same values at k end in the same bits."""
    more = {"schedule": "step", "milestones": (4,), "warmup_iterations": 4, "rewind_iteration": 3}
    chosen = settings(augment="crop,flip", **more)
    (dense,) = trained(pictures, chosen, [member(pictures, chosen)])
    late = Member("winning", 0, member(pictures, chosen).mask, dense.snapshot, 3)
    (again,) = trained(pictures, chosen, [late])
    assert same(again.weights, dense.weights)


def test_label_smoothing_is_that_of_torch(pictures):
    chosen = settings(label_smoothing=0.2, iterations=1, batch_size=60)
    begun = member(pictures, chosen)
    (after,) = trained(pictures, chosen, [begun])
    data = prepare(pictures, 0, CPU)
    module = make_network(chosen, data.input_shape, data.classes).build()
    give(module, begun.weights)
    loss = F.cross_entropy(module(data.train.x), data.train.y, label_smoothing=0.2)
    loss.backward()
    for name, value in module.named_parameters():
        torch.testing.assert_close(after.weights[name], (value - 0.1 * value.grad).detach(), rtol=1e-5, atol=1e-6)
    assert after.train_loss == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    "more", [{"label_smoothing": 0.3}, {"weight_decay": 0.1, "weight_decay_on": "weights"}], ids=str
)
def test_the_recipe_is_the_same_over_survivors_alone(pictures, more):
    dense, sparse = (settings(model="mlp:40-20", engine=engine, **more) for engine in ("dense", "sparse"))
    begun = member(pictures, dense)
    kept = torch.Generator().manual_seed(0)
    few = {name: torch.rand(value.shape, generator=kept) < 0.1 for name, value in begun.mask.items()}
    begun = Member("winning", 0, few, begun.weights)
    (one,), (other,) = (trained(pictures, how, [begun]) for how in (dense, sparse))
    assert other.sparse
    assert not one.sparse
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)])
def test_weights_alone_decay(optimizer, momentum):
    """As torch's optimiser with two groups; members of other rates beside it."""
    more = {"momentum": momentum} if optimizer == "sgd" else {}
    hows = [
        settings(optimizer=optimizer, lr=lr, weight_decay=0.1, weight_decay_on="weights", **more) for lr in (0.1, 0.02)
    ]
    torch.manual_seed(0)
    start = [torch.randn(2, 4, 3), torch.randn(2, 4), torch.randn(2, 4)]  # weight, bias, scale
    alone = [[value[k].clone().requires_grad_() for value in start] for k in range(2)]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    references = [
        kinds[optimizer](
            [{"params": own[:1], "weight_decay": 0.1}, {"params": own[1:], "weight_decay": 0.0}], lr=how.lr, **more
        )
        for own, how in zip(alone, hows, strict=True)
    ]
    stacked = [value.clone() for value in start]
    ours = Optimizer(hows, stacked, [torch.rand(2, 4, 3) < 2, None, None], 5)
    for _ in range(5):
        gradients = [torch.randn_like(value) for value in start]
        ours.step(gradients)
        for k, reference in enumerate(references):
            for parameter, gradient in zip(alone[k], gradients, strict=True):
                parameter.grad = gradient[k].clone()
            reference.step()
    for value, *own in zip(stacked, *alone, strict=True):
        torch.testing.assert_close(value, torch.stack(own).detach(), rtol=1e-5, atol=1e-6)


def test_images_are_standardised_by_what_is_told(pictures):
    def first_pixels(normalise):
        return prepare(pictures, 0, CPU, normalise=normalise).train.x[:, :, 0, 0]

    raw = torch.from_numpy(pictures.x_train[:, 0, 0].astype(np.float32)) / 255
    torch.testing.assert_close(first_pixels("unit"), raw)
    imagenet = (raw - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(first_pixels("imagenet"), imagenet)
    torch.testing.assert_close(first_pixels("0.5/0.25"), (raw - 0.5) / 0.25)
    assert first_pixels("data").mean().abs() < 0.2


@pytest.mark.parametrize("normalise", ["0.5,0.5/0.5", "0.5/0", "none", "0.5", "nan/1", "1/2/3"])
def test_what_is_no_normalisation_is_one_line(normalise):
    with pytest.raises(InputError, match=r"--normalise: .* is not allowed; allowed: data, unit, imagenet or MEAN"):
        settings(normalise=normalise)


def test_numbers_for_other_channels_are_refused(pictures):
    with pytest.raises(InputError, match=r"--normalise: '0.5,0.5/1,1' has 2 means; allowed for pictures: one, or 3"):
        prepare(pictures, 0, CPU, normalise="0.5,0.5/1,1")


def test_scales_of_batch_normalisation():
    def scales(**given):
        drawn = make_network(settings(model="vgg11", width=0.05, **given), (3, 16, 16), 3).draw(0, "init")
        return torch.cat([value for name, value in drawn.items() if name.startswith("bn") and name.endswith("weight")])

    assert (scales() == 1).all()
    assert (scales(bn_init="one") == 1).all()
    uniform = scales(bn_init="uniform")
    assert 0 <= uniform.min() < 0.1
    assert 0.9 < uniform.max() < 1
    assert 0.4 < uniform.mean() < 0.6
    with pytest.raises(InputError, match="--bn-init: 'uniform' has no meaning for mlp:6, which has no batch norm"):
        make_network(settings(bn_init="uniform"), (3, 16, 16), 3)


def test_what_decays_without_weight_decay_is_refused():
    with pytest.raises(InputError, match="--weight-decay-on: 'weights' has no meaning without --weight-decay"):
        settings(weight_decay_on="weights")


def test_the_classifier_the_first_layer_and_the_shortcuts_stay_dense_by_name():
    patterns = "output.*,conv1.*,*.shortcut.*"
    network = make_network(settings(model="resnet20", keep_dense=patterns), (3, 32, 32), 10)
    assert network.inventory.weights == 270_896 - 640 - 432 - (16 * 32 + 32 * 64)
