"""What lies between convolutions over survivors, on blocks of images: torch's own layers, up to rounding."""

import pytest
import torch
import torch.nn.functional as F

from lottery_ticket.engine.sparse.between import normalised, pooled
from lottery_ticket.engine.sparse.blocks import blocked, members_first


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("offset", [0.0, 300.0], ids=["centred", "far from zero"])
def test_normalisation_and_what_follows_it(rectified, summed, offset):
    x = (images(2, 12, 5, 4, 3) + offset).requires_grad_()
    more = images(2, 12, 5, 4, 3, seed=1).requires_grad_() if summed else None
    weight, bias = images(10, seed=2).requires_grad_(), images(10, seed=3).requires_grad_()
    leaves = [x, weight, bias, *([more] if summed else [])]
    added = blocked(more) if summed else None
    y, mean, variance = normalised(blocked(x), None, weight, bias, 1e-5, added, rectified)
    asked = images(*y.shape, seed=4)
    found = [members_first(y), *torch.autograd.grad((y * asked).sum(), leaves)]

    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    channels = exact[0].transpose(0, 1).flatten(1, 2)
    z = F.batch_norm(channels, None, None, exact[1], exact[2], True, 0.1, 1e-5)
    z = z.unflatten(1, (2, 5)).transpose(0, 1)
    z = z + exact[3] if summed else z
    z = z.relu() if rectified else z
    theirs = [z, *torch.autograd.grad((z * members_first(asked).double()).sum(), exact)]
    for mine, its in zip(found, theirs, strict=True):
        assert (mine.double() - its).norm() <= (1e-5 if not offset else 1e-3) * its.norm()
    assert torch.allclose(mean.double(), channels.mean((0, 2, 3)), rtol=1e-5)
    assert torch.allclose(variance.double(), channels.var((0, 2, 3), correction=0), rtol=1e-4)


@pytest.mark.parametrize("following", [False, True])
def test_normalisation_by_what_is_kept(following):
    x, more = images(2, 12, 5, 4, 3), images(2, 12, 5, 4, 3, seed=1)
    mean, variance = images(10, seed=2), images(10, seed=3).square() + 0.1
    with torch.set_grad_enabled(following):
        y, *_ = normalised(blocked(x), (mean, variance), None, None, 1e-5, blocked(more), True)
    own = F.batch_norm(x.transpose(0, 1).flatten(1, 2), mean, variance).unflatten(1, (2, 5)).transpose(0, 1)
    assert torch.allclose(members_first(y), (own + more).relu(), atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [((2, 2), (2, 2)), ((3, 2), (2, 1)), ((3, 3), (2, 2))])
def test_pooling(size, stride):
    x = images(2, 12, 3, 7, 6).requires_grad_()
    y = pooled(blocked(x), size, stride)
    asked = images(*y.shape, seed=1)
    (gradient,) = torch.autograd.grad((y * asked).sum(), x)
    exact = x.detach().flatten(0, 1).requires_grad_()
    z = F.max_pool2d(exact, size, stride)
    assert torch.equal(members_first(y).flatten(0, 1), z)
    (its,) = torch.autograd.grad((z * members_first(asked).flatten(0, 1)).sum(), exact)
    assert torch.allclose(gradient.flatten(0, 1), its)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows(value):
    x = images(1, 4, 2, 4, 4)
    x[0, 1, 1, 2, 3] = value
    ours = members_first(pooled(blocked(x), (2, 2), (2, 2)))[0]
    assert torch.equal(ours.isnan(), F.max_pool2d(x[0], 2).isnan())
    y = members_first(normalised(blocked(x), None, None, None, 1e-5, None, True)[0])[0]
    theirs = F.batch_norm(x[0], None, None, training=True).relu()
    assert torch.equal(y.isnan(), theirs.isnan())
