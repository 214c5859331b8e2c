"""Masks and weights on disk: exact, plain safetensors, small, and nothing that is damaged passes for whole."""

import json
import pickle
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lottery_ticket import LotteryTicketError, load_mask, load_weights
from lottery_ticket.tickets.files import read_tensors, save_mask, save_weights, write_tensors

shapes = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(shape=shapes, density=st.sampled_from([0.0, 0.01, 0.2, 0.9, 1.0]), seed=st.integers(0, 99))
def test_round_trip(tmp_path_factory, shape, density, seed):
    folder = tmp_path_factory.mktemp("files")
    source = torch.Generator().manual_seed(seed)
    kept = torch.rand(shape, generator=source) < density
    weights = {"a.weight": torch.randn(shape, generator=source) * kept, "a.bias": torch.randn(3, generator=source)}
    save_mask({"a.weight": kept}, folder / "mask.safetensors")
    save_weights(weights, folder / "weights.safetensors", {"a.weight": kept})
    assert torch.equal(load_mask(folder / "mask.safetensors")["a.weight"], kept)
    loaded = load_weights(folder / "weights.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.03, 0.01])
def test_sizes(tmp_path, density):
    """A mask takes at most one bit a weight, and less where few survive; weights at most 4 bytes a survivor."""
    count = 300 * 784
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.randperm(count)[: round(density * count)]] = True
    kept = kept.view(300, 784)
    weights = {"w": torch.randn(300, 784) * kept}
    save_mask({"w": kept}, tmp_path / "mask.safetensors")
    save_weights(weights, tmp_path / "weights", {"w": kept})
    save_weights(weights, tmp_path / "bfloat16", {"w": kept}, "bfloat16")
    header = 400
    p = torch.tensor(density)
    entropy = float(-(p * p.log2() + (1 - p) * (1 - p).log2())) if density < 1 else 0
    assert (tmp_path / "mask.safetensors").stat().st_size <= (1.1 * entropy + 0.06) * count / 8 + header
    assert (tmp_path / "weights").stat().st_size <= 0.9 * 4 * kept.sum() + header
    assert (tmp_path / "bfloat16").stat().st_size <= 0.72 * 2 * kept.sum() + header
    assert all(value.dtype == torch.uint8 for value in load_file(tmp_path / "weights").values())


@pytest.mark.parametrize(
    "kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
)
def test_tensors_of_any_type_survive(tmp_path, kind):
    weights = {"n": torch.tensor(7).to(kind), "v": (100 * torch.randn(5, 3).abs()).to(kind), "empty": torch.zeros(0, 4)}
    save_weights(weights, tmp_path / "w")
    loaded = load_weights(tmp_path / "w")
    for name, value in weights.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_bfloat16_rounds_by_at_most_one_part_in_256(tmp_path):
    weights = {"w": torch.randn(1000), "steps": torch.tensor(123456789)}
    save_weights(weights, tmp_path / "w", precision="bfloat16")
    loaded = load_weights(tmp_path / "w")
    assert loaded["w"].dtype == torch.float32
    assert torch.equal(loaded["w"], weights["w"].bfloat16().float())
    assert ((loaded["w"] - weights["w"]).abs() <= weights["w"].abs() / 256).all()
    assert loaded["steps"] == 123456789


def test_weights_are_not_read_under_another_mask(tmp_path):
    kept = torch.tensor([True, False, True])
    save_weights({"w": torch.tensor([1.0, 0, 2])}, tmp_path / "weights.safetensors", {"w": kept})
    with pytest.raises(LotteryTicketError, match=r"mask\.safetensors cannot be read"):
        load_weights(tmp_path / "weights.safetensors")
    save_mask({"w": torch.tensor([True, False, False])}, tmp_path / "mask.safetensors")
    with pytest.raises(LotteryTicketError, match="does not fit its mask"):
        load_weights(tmp_path / "weights.safetensors")
    assert load_weights(tmp_path / "weights.safetensors", {"w": kept})["w"].tolist() == [1, 0, 2]


def test_no_flipped_bit_passes_unnoticed(tmp_path):
    """Every seventh byte of the file, header and all."""
    kept = torch.rand(40, 50) < 0.3
    path = tmp_path / "t"
    write_tensors(path, {"m": kept, "w": torch.randn(40, 50) * kept}, {"w": "m"})
    whole = path.read_bytes()
    assert len(whole) > 1500
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(LotteryTicketError, match="cannot be read"):
            read_tensors(path)


def bomb(shape, **more):
    told = {"w": {"shape": shape, "dtype": "float32", "kept": "float32", "crc32": zlib.crc32(bytes(8)), **more}}
    return {"w": torch.zeros(8, dtype=torch.uint8)}, signed(json.dumps(told))


def signed(text):
    return {"tensors": f"{zlib.crc32(text.encode()):08x}{text}"}


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (bomb([2**20, 2**20]), "declares 4,398,046,511,104 bytes"),
        (bomb([2**45]), "no valid shape"),
        (bomb([-1, 3]), "no valid shape"),
        (bomb([True]), "no valid shape"),
        (bomb("3"), "no valid shape"),
        (bomb([3], kept="object"), "unknown type"),
        (bomb([3], kept=[]), "is no text"),
        (bomb([3], dtype="int8"), "wider type than its own"),
        (bomb([1] * 70), "no valid shape"),
        (bomb([3], dtype={}), "is no text"),
        (bomb([3], mask=["w"]), "is no text"),
        (bomb([3], mask="nowhere"), "no mask"),
        (bomb([3], mask="w"), "no mask"),
        (bomb([3]), "decompressing"),
        (bomb([3], crc32=1), "is damaged"),
        (({"w": torch.zeros(8)}, {}), "table of tensors is damaged"),
        (({"w": torch.zeros(8)}, signed("{}")), "does not fit the tensors"),
        (({"w": torch.zeros(8)}, signed("[[")), "JSON"),
    ],
)
def test_files_that_lie_are_refused(tmp_path, made, why):
    tensors, metadata = made
    save_file(tensors, tmp_path / "w", metadata)
    with pytest.raises(LotteryTicketError, match=why):
        read_tensors(tmp_path / "w")


def test_a_long_file_that_declares_little_is_not_read(tmp_path):
    stream = {"w": torch.zeros(5000, dtype=torch.uint8)}
    entry = {"shape": [3], "dtype": "float32", "kept": "float32", "crc32": zlib.crc32(bytes(5000))}
    save_file(stream, tmp_path / "w", signed(json.dumps({"w": entry})))
    with pytest.raises(LotteryTicketError, match="a tensor of 3 elements is kept in 5,000 bytes"):
        read_tensors(tmp_path / "w")
    with open(tmp_path / "w", "r+b") as file:
        file.truncate(2**31 + 1)  # takes no room on the disk
    with pytest.raises(LotteryTicketError, match="2,147,483,649 bytes long; allowed: at most 2,147,483,648"):
        read_tensors(tmp_path / "w")


def test_equal_tensors_are_equal_files(tmp_path):
    weights = {f"layer{i}.weight": torch.ones(3, i) for i in range(9)}
    for name in "abcdef":
        save_weights(weights, tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abcdef"}) == 1


def test_weights_are_no_mask(tmp_path):
    save_weights({"w": torch.ones(3)}, tmp_path / "w")
    with pytest.raises(LotteryTicketError, match="it holds no mask"):
        load_mask(tmp_path / "w")


def test_a_pickle_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").touch, ())

    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(LotteryTicketError, match="cannot be read"):
        load_weights(tmp_path / "w.safetensors")
    assert not (tmp_path / "owned").exists()
