"""Products over survivors alone against float64 dense ones: results and gradients, whatever survives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery_ticket.engine.sparse.blocks import blocked, images_in_block, members_first
from lottery_ticket.engine.sparse.weights import SparseLinear, survivors

sizes = st.integers(1, 9)


def products(members, rows, columns, images, density, seed, biased=True, scale=1.0):
    """Scores and gradients of SparseLinear, and the same by float64 dense products."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(members, rows, columns, generator=draw) < density
    weights = scale * torch.randn(members, rows, columns, generator=draw).mul_(mask)
    x = torch.randn(members, images, columns, generator=draw).requires_grad_()
    bias = torch.randn(members, rows, generator=draw).requires_grad_() if biased else None
    ours = SparseLinear(weights, mask)
    y = ours(x, bias)
    asked = torch.randn(y.shape, generator=draw)
    leaves = [ours.values, x, *([bias] if biased else [])]
    found = [y, *torch.autograd.grad((y * asked).sum(), leaves)]
    exact = [each.detach().double().requires_grad_() for each in (weights, x, *([bias] if biased else []))]
    z = exact[1] @ exact[0].mT + (exact[2][:, None] if biased else 0)
    gradients = list(torch.autograd.grad((z * asked.double()).sum(), exact))
    gradients[0] = gradients[0][mask]
    return found, [z, *gradients], ours, weights


def near(ours, exact):
    """Up to a part in 100,000 of float32, and the rounding of terms of size one that cancel each other."""
    apart = (ours.detach().double() - exact.detach()).norm()
    return ours.shape == exact.shape and bool(apart <= 1e-5 * exact.detach().norm() + 1e-6)


@settings(max_examples=150, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from([1, 27, 128]), st.floats(0, 1), st.booleans(), st.integers(0, 9))
def test_as_dense_in_float64(members, rows, columns, images, density, biased, seed):
    found, exact, ours, weights = products(members, rows, columns, images, density, seed, biased)
    for mine, its in zip(found, exact, strict=True):
        assert near(mine, its)
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
    together = SparseLinear(weights, mask)(x, None)
    for k in (2, 0, 1):
        alone = SparseLinear(weights[k : k + 1], mask[k : k + 1])(x[k : k + 1], None)
        assert torch.equal(alone[0], together[k])


def test_images_that_members_share_are_not_copied_for_each():
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 7, 20, generator=draw) < 0.5
    weights, x = torch.randn(3, 7, 20, generator=draw).mul_(mask), torch.randn(16, 20, generator=draw)
    with torch.no_grad():
        shared = SparseLinear(weights, mask)(x.expand(3, 16, 20), None)
        own = SparseLinear(weights, mask)(x.expand(3, 16, 20).contiguous(), None)
    assert torch.equal(shared, own)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e-42])
def test_what_is_not_finite_shows(value):
    mask = torch.tensor([[[True, False], [False, True]]])
    weights = torch.tensor([[[1.0, 0.0], [0.0, value]]])
    x = torch.tensor([[[1e30, 1e30]]])
    y = SparseLinear(weights, mask)(x, None)[0, 0]
    exact = torch.tensor([1e30, value]) * torch.tensor([1.0, 1e30])
    assert torch.equal(y.isfinite(), exact.isfinite())
    assert torch.equal(y.isnan(), exact.isnan())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_what_is_not_finite_shows_behind_a_convolution(value):
    """As torch has it, but that a pruned weight, here of the second channel, makes no NaN of an infinite value."""
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    mask = torch.ones(1, 3, 2, 3, 3, dtype=torch.bool)
    mask[:, :, 1] = False
    weights = 10 * torch.ones(mask.shape).mul_(mask)
    x = torch.ones(1, 4, 2, 6, 6)
    x[0, 1, 0, 2, 3] = value
    y = members_first(survivors(layer, weights, mask)(blocked(x), None))[0]
    theirs = F.conv2d(x[0], weights[0], padding=1)
    assert torch.equal(y.isnan(), theirs.isnan())
    assert torch.equal(y.isinf(), theirs.isinf())
    assert not y.isfinite().all()
    x[0, 1, 1] = float("inf")
    again = members_first(survivors(layer, weights, mask)(blocked(x), None))[0]
    torch.testing.assert_close(again, y, rtol=0, atol=0, equal_nan=True)


def convolutions(layer, members, images, size, density, seed):
    """The result and gradients over survivors, and the same in float64 by torch."""
    draw = torch.Generator().manual_seed(seed)
    shape = (members, *layer.weight.shape)
    mask = torch.rand(shape, generator=draw) < density
    weights = torch.randn(shape, generator=draw).mul_(mask)
    x = torch.randn(members, images, layer.in_channels, *size, generator=draw).requires_grad_()
    bias = torch.randn(members, layer.out_channels, generator=draw).requires_grad_() if layer.bias is not None else None
    ours = survivors(layer, weights, mask)
    y = members_first(ours(blocked(x), bias))
    asked = torch.randn(y.shape, generator=draw)
    given_ = [x, *([bias] if bias is not None else [])]
    found = [y, *torch.autograd.grad((y * asked).sum(), [ours.values, *given_])]
    exact = [each.detach().double().requires_grad_() for each in (weights, *given_)]
    how = layer.stride, layer.padding, layer.dilation, layer.groups
    z = torch.stack(
        [F.conv2d(exact[1][k], exact[0][k], exact[2][k] if bias is not None else None, *how) for k in range(members)]
    )
    gradients = list(torch.autograd.grad((z * asked.double()).sum(), exact))
    gradients[0] = gradients[0].reshape(-1)[ours._index]
    return found, [z, *gradients], ours, weights


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 2, (1, 2), (2, 1)]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, "depthwise"]),
    st.sampled_from([1, 5, 16]),
    st.floats(0, 1),
)
def test_convolutions_as_dense_in_float64(data, kernel, stride, dilation, groups, images, density):
    reach = dilation * (kernel - 1) + 1
    padding = data.draw(st.sampled_from([0, 1, (0, reach // 2), *(["same"] if stride == 1 else [])]))
    channels = data.draw(st.sampled_from([2, 4]))
    groups = channels if groups == "depthwise" else groups
    size = tuple(data.draw(st.integers(reach, reach + 4)) for _ in range(2))
    biased, members = data.draw(st.booleans()), data.draw(st.sampled_from([1, 3]))
    layer = nn.Conv2d(channels, 2 * channels, kernel, stride, padding, dilation, groups, bias=biased)
    found, exact, ours, weights = convolutions(layer, members, images, size, density, data.draw(st.integers(0, 9)))
    for mine, its in zip(found, exact, strict=True):
        assert near(mine, its)
    assert torch.equal(ours.dense(), weights)


@pytest.mark.parametrize("images", [27, 128])
def test_a_wide_convolution_of_any_batch_and_on_more_threads_has_the_same_bits(images):
    layer = nn.Conv2d(16, 24, 3, padding=1, bias=False)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found, exact, _, _ = convolutions(layer, 2, images, (8, 7), 0.2, 0)
            assert all(near(*pair) for pair in zip(found, exact, strict=True))
            results.append(found)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize(("images", "expected"), [(1, 1), (27, 27), (60, 60), (128, 64), (500, 50), (997, 997)])
def test_blocks_divide_the_batch(images, expected):
    assert images % images_in_block(images) == 0
    assert images_in_block(images) == expected
