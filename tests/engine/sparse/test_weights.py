"""Products over survivors alone against float64 dense ones: results and gradients, whatever survives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery_ticket.engine.sparse.weights import SparseWeight

sizes = st.integers(1, 9)


def products(members, rows, columns, images, density, seed, biased=True, scale=1.0):
    """Scores and gradients of SparseWeight, and the same by float64 dense products."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(members, rows, columns, generator=draw) < density
    weights = scale * torch.randn(members, rows, columns, generator=draw).mul_(mask)
    x = torch.randn(members, images, columns, generator=draw).requires_grad_()
    bias = torch.randn(members, rows, generator=draw).requires_grad_() if biased else None
    ours = SparseWeight(weights, mask)
    y = ours.linear(x, bias)
    asked = torch.randn(y.shape, generator=draw)
    leaves = [ours.values, x, *([bias] if biased else [])]
    found = [y, *torch.autograd.grad((y * asked).sum(), leaves)]
    exact = [each.detach().double().requires_grad_() for each in (weights, x, *([bias] if biased else []))]
    z = exact[1] @ exact[0].mT + (exact[2][:, None] if biased else 0)
    gradients = list(torch.autograd.grad((z * asked.double()).sum(), exact))
    gradients[0] = gradients[0][mask]
    return found, [z, *gradients], ours, weights


def near(ours, exact):
    size = exact.norm().clamp_min(1e-12)
    return ours.shape == exact.shape and float((ours.double() - exact).norm() / size) <= 1e-5


@settings(max_examples=150, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from([1, 27, 128]), st.floats(0, 1), st.booleans(), st.integers(0, 9))
def test_as_dense_in_float64(members, rows, columns, images, density, biased, seed):
    found, exact, ours, weights = products(members, rows, columns, images, density, seed, biased)
    for mine, its in zip(found, exact, strict=True):
        assert near(mine, its) or its.norm() < 1e-12
    assert torch.equal(ours.dense(), weights)


def test_nothing_one_and_everything_survives():
    for density in (0.0, 1e-9, 1.0):
        found, exact, ours, _ = products(2, 5, 4, 3, density, 0)
        assert all(near(*pair) for pair in zip(found[:1], exact[:1], strict=True))
        assert ours.ends[-1] == len(ours.values)


def test_members_do_not_depend_on_each_other_bit_for_bit():
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 30, 20, generator=draw) < 0.1
    weights, x = torch.randn(3, 30, 20, generator=draw).mul_(mask), torch.randn(3, 16, 20, generator=draw)
    together = SparseWeight(weights, mask).linear(x, None)
    for k in (2, 0, 1):
        alone = SparseWeight(weights[k : k + 1], mask[k : k + 1]).linear(x[k : k + 1], None)
        assert torch.equal(alone[0], together[k])


def test_images_that_members_share_are_not_copied_for_each():
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 7, 20, generator=draw) < 0.5
    weights, x = torch.randn(3, 7, 20, generator=draw).mul_(mask), torch.randn(16, 20, generator=draw)
    with torch.no_grad():
        shared = SparseWeight(weights, mask).linear(x.expand(3, 16, 20), None)
        own = SparseWeight(weights, mask).linear(x.expand(3, 16, 20).contiguous(), None)
    assert torch.equal(shared, own)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e-42])
def test_what_is_not_finite_shows(value):
    mask = torch.tensor([[[True, False], [False, True]]])
    weights = torch.tensor([[[1.0, 0.0], [0.0, value]]])
    x = torch.tensor([[[1e30, 1e30]]])
    y = SparseWeight(weights, mask).linear(x, None)[0, 0]
    exact = torch.tensor([1e30, value]) * torch.tensor([1.0, 1e30])
    assert torch.equal(y.isfinite(), exact.isfinite())
    assert torch.equal(y.isnan(), exact.isnan())
