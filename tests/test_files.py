"""Masks and weights on disk: exact, plain safetensors, small."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lottery_ticket import load_mask, load_weights
from lottery_ticket.files import save_mask, save_weights

shapes = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(shape=shapes, density=st.sampled_from([0.0, 0.01, 0.2, 0.9, 1.0]), seed=st.integers(0, 99))
def test_round_trip(tmp_path_factory, shape, density, seed):
    folder = tmp_path_factory.mktemp("files")
    source = torch.Generator().manual_seed(seed)
    kept = torch.rand(shape, generator=source) < density
    weights = {"a.weight": torch.randn(shape, generator=source) * kept, "a.bias": torch.randn(3, generator=source)}
    save_mask({"a.weight": kept}, folder / "mask")
    save_weights(weights, folder / "weights", {"a.weight": kept})
    assert torch.equal(load_mask(folder / "mask")["a.weight"], kept)
    loaded = load_weights(folder / "weights")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.03, 0.01])
def test_sizes(tmp_path, density):
    """A mask takes one bit a weight; weights at most 8 bytes a survivor (4 when dense), and a header."""
    count = 300 * 784
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.randperm(count)[: round(density * count)]] = True
    kept = kept.view(300, 784)
    save_mask({"w": kept}, tmp_path / "mask")
    save_weights({"w": torch.randn(300, 784) * kept}, tmp_path / "weights", {"w": kept})
    header = 300
    assert (tmp_path / "mask").stat().st_size <= count / 8 + header
    assert (tmp_path / "weights").stat().st_size <= (8 if density < 1 else 4) * kept.sum() + header
    assert all(
        value.dtype in (torch.uint8, torch.float32, torch.int32) for value in load_file(tmp_path / "weights").values()
    )


def test_buffers_of_any_type_survive(tmp_path):
    weights = {"n": torch.tensor(7), "running_mean": torch.randn(4)}
    save_weights(weights, tmp_path / "w")
    assert load_weights(tmp_path / "w")["n"] == 7
