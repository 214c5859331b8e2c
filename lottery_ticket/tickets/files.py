"""Masks and weights as safetensors: deflated bits for masks, room in proportion to survivors for weights.

Every tensor stands in the file under its name (`names.escaped`) as a uint8 tensor, one zlib stream. What it holds is
told by the metadata entry `tensors`: the CRC-32 of what follows in eight hexadecimal digits, then JSON, name →
`{"shape", "dtype", "kept", "mask", "crc32"}`. One entry, because safetensors writes several in any order; equal tensors
are equal files.

- A mask (`dtype` bool): `numpy.packbits` of the flattened mask (big-endian bits).
- Other tensors: the elements in row-major order (of a pruned tensor only those where the tensor named by `mask` is
  True; the others are zero), rounded to the type `kept`, as little-endian words. Words of floating-point numbers are
  rotated left by one bit, so that a byte holds the exponent; then all first bytes come, then all second ones, and so
  on. Exponents are alike, which is what zlib can make smaller. A complex number is two of them.
"""

import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lottery_ticket import memory
from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.names import escaped, unescaped

MOST_BYTES = 2**31
"""Of a file, and of all tensors in it together; one that is larger or declares more is refused before it is read."""

_ALWAYS, _EACH = 2**28, 4000
"""Bytes that any file may declare, and that it may for each byte of its own, whichever is more.

A mask counts with the float32 weights that it stands for. The mask of a
thousandth of the weights takes a two-thousandth of that (tests/strangers/test_memory.py); a mask of nothing takes next
to nothing, and the first bound leaves it 50 million weights.
"""

_TYPES = {
    name: getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex128", "complex64"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"),
    )
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_SURVIVORS = ":survivors"
_WORD = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def save_mask(mask: Mask, path: str | Path) -> None:
    """Write a mask: at most one bit a weight."""
    write_tensors(path, {escaped(name): kept for name, kept in mask.items()})


def load_mask(path: str | Path) -> Mask:
    """Read a mask: parameter name → dense bool tensor, True where the weight survives.

    LotteryTicketError where the file cannot be read as one.

    Example:
        >>> result = lottery_ticket.load_run(run_id)
        >>> folder = result.client.download_artifacts(result.stored.children["winning", 0], "rounds/01")
        >>> mask = lottery_ticket.load_mask(f"{folder}/mask.safetensors")
        >>> mask["fc2.weight"].shape, mask["fc2.weight"].dtype, int(mask["fc2.weight"].sum())
        (torch.Size([100, 300]), torch.bool, 24000)
    """
    mask = read_tensors(path)
    if any(kept.dtype != torch.bool for kept in mask.values()):
        raise LotteryTicketError(f"{path} cannot be read: it holds no mask")
    return {_name(key, path): kept for key, kept in mask.items()}


def save_weights(
    weights: Mapping[str, Tensor], path: str | Path, mask: Mask | None = None, precision: str = "float32"
) -> None:
    """Write weights; of the tensors in `mask` only the survivors, which must be all that is not zero.

    Such a file is read beside the mask's, `mask.safetensors`: the mask is the larger part of very sparse weights and
    stands on disk once. With the precision "bfloat16" float32 tensors are rounded to it (by at most 1/256).
    """
    stored = {}
    for name, value in weights.items():
        kept = (mask or {}).get(name)
        key = escaped(name)
        stored[key if kept is None else f"{key}{_SURVIVORS}"] = value if kept is None else value[kept]
    rounded = {name for name, value in stored.items() if precision == "bfloat16" and value.dtype == torch.float32}
    write_tensors(path, stored, rounded=rounded)


def load_weights(path: str | Path, mask: Mask | None = None) -> Weights:
    """Read weights: parameter name → dense tensor, pruned weights zero.

    Of pruned tensors a file holds the survivors; `mask` defaults to the one in `mask.safetensors` beside it.
    LotteryTicketError where the file cannot be read, or does not fit its mask.

    Example:
        >>> result = lottery_ticket.load_run(run_id)
        >>> folder = result.client.download_artifacts(result.stored.children["winning", 0], "rounds/01")
        >>> weights = lottery_ticket.load_weights(f"{folder}/weights.safetensors")
        >>> weights["fc1.weight"].shape, int((weights["fc1.weight"] != 0).sum())
        (torch.Size([300, 784]), 188160)
    """
    stored = read_tensors(path)
    weights = {}
    for name, value in stored.items():
        parameter = _name(name.removesuffix(_SURVIVORS), path)
        if name.endswith(_SURVIVORS):
            mask = load_mask(Path(path).with_name("mask.safetensors")) if mask is None else mask
            kept = mask.get(parameter)
            if kept is None or int(kept.sum()) != value.numel():
                raise LotteryTicketError(f"{path} does not fit its mask: {parameter} has {value.numel():,} survivors")
            dense = value.new_zeros(kept.shape)
            dense[kept] = value
            weights[parameter] = dense
        else:
            weights[parameter] = value
    return weights


def _name(key: str, path: str | Path) -> str:
    """The tensor that a file calls so."""
    try:
        return unescaped(key)
    except ValueError:
        raise LotteryTicketError(f"{path} cannot be read: {key!r} is no name of a tensor") from None


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    masks: Mapping[str, str] | None = None,
    rounded: frozenset[str] | set[str] = frozenset(),
) -> None:
    """Write named tensors.

    Args:
        path: the file; replaced if it is there.
        tensors: what to write.
        masks: tensor → the bool tensor, written too, outside of which it is zero.
        rounded: the tensors to keep in bfloat16.
    """
    stored: dict[str, Tensor] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        kept = (masks or {}).get(name)
        flat = value.detach().cpu().flatten()
        if kept is not None:
            flat = flat[tensors[kept].flatten()]
        if name in rounded:
            flat = flat.bfloat16()
        stream = _deflate(flat)
        stored[name] = torch.frombuffer(bytearray(stream), dtype=torch.uint8)
        told[name] = {"shape": list(value.shape), "dtype": _NAMES[value.dtype], "kept": _NAMES[flat.dtype]}
        told[name]["crc32"] = zlib.crc32(stream)
        if kept is not None:
            told[name]["mask"] = kept
    text = json.dumps(told)
    Path(path).write_bytes(save(stored, {"tensors": _crc32(text) + text}))


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote: dense tensors in their original types.

    No code in the file is ever run. Raises LotteryTicketError where the file is not what it must be.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise LotteryTicketError("there is no such file")
        if (length := path.stat().st_size) > MOST_BYTES:
            raise LotteryTicketError(f"it is {length:,} bytes long; allowed: at most {MOST_BYTES:,}")
        with safe_open(os.fspath(path), "pt") as file:
            told = (file.metadata() or {}).get("tensors", "")
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 – not a dict
        if told[:8] != _crc32(told[8:]):
            raise LotteryTicketError("its table of tensors is damaged")
        return _decode(stored, json.loads(told[8:]), length)
    except (SafetensorError, LotteryTicketError, OSError, ValueError, RuntimeError, MemoryError, zlib.error) as error:
        told = str(error) if isinstance(error, LotteryTicketError) else one_line(error)
        raise LotteryTicketError(f"{path} cannot be read: {told}") from None


def _decode(stored: dict[str, Tensor], told: Any, length: int) -> dict[str, Tensor]:
    """The tensors of a file of so many bytes."""
    if not isinstance(told, dict) or told.keys() != stored.keys():
        raise LotteryTicketError("its table of tensors does not fit the tensors in it")
    for name, entry in told.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        sizes = shape if isinstance(shape, list) and len(shape) <= 16 else [None]
        if not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
            raise LotteryTicketError(f"tensor {name!r} has no valid shape")
        if not all(isinstance(entry.get(key, ""), str) for key in ("dtype", "kept", "mask")):
            raise LotteryTicketError(f"tensor {name!r} has an entry that is no text")
        if entry.get("dtype") not in _TYPES or entry.get("kept") not in _TYPES or stored[name].dtype != torch.uint8:
            raise LotteryTicketError(f"tensor {name!r} is of an unknown type")
        if _TYPES[entry["kept"]].itemsize > _TYPES[entry["dtype"]].itemsize:
            raise LotteryTicketError(f"tensor {name!r} is kept in a wider type than its own")
        if entry.get("crc32") != zlib.crc32(stored[name].numpy().data):
            raise LotteryTicketError(f"tensor {name!r} is damaged")
    declared = sum(math.prod(entry["shape"]) * _stands_for(_TYPES[entry["dtype"]]) for entry in told.values())
    allowed = min(MOST_BYTES, max(_ALWAYS, _EACH * length))
    if why := memory.too_much(declared, allowed, length, needed=2 * declared):
        raise LotteryTicketError(f"it {why}")
    tensors: dict[str, Tensor] = {}
    for name in sorted(told, key=lambda name: "mask" in told[name]):  # the masks first
        entry = told[name]
        kind, kept = _TYPES[entry["dtype"]], _TYPES[entry["kept"]]
        if "mask" not in entry:
            tensors[name] = _inflate(stored[name], kept, math.prod(entry["shape"])).to(kind).view(entry["shape"])
            continue
        mask = tensors.get(entry["mask"])
        if mask is None or mask.dtype != torch.bool or list(mask.shape) != entry["shape"]:
            raise LotteryTicketError(f"tensor {name!r} has no mask of its shape")
        dense = torch.zeros(entry["shape"], dtype=kind)
        dense[mask] = _inflate(stored[name], kept, int(mask.sum())).to(kind)
        tensors[name] = dense
    return {name: tensors[name] for name in told}


def _stands_for(kind: torch.dtype) -> int:
    """Bytes of memory that an element asks for; of a mask with the weight's."""
    return 1 + torch.float32.itemsize if kind == torch.bool else kind.itemsize


def _deflate(flat: Tensor) -> bytes:
    """A flat tensor as one zlib stream; see the module's docstring."""
    if flat.is_complex():
        return _deflate(torch.view_as_real(flat.resolve_conj()).flatten())
    if flat.dtype == torch.bool:
        raw: np.ndarray = np.packbits(flat.numpy())
    else:
        word = _WORD[flat.element_size()]
        words = flat.view(_integer(flat.dtype)).numpy().view(word)
        if flat.dtype.is_floating_point:
            words = (words << word(1)) | (words >> word(8 * flat.element_size() - 1))
        raw = words.view(np.uint8).reshape(-1, flat.element_size()).T
    made = zlib.compressobj(strategy=zlib.Z_RLE)  # six times as fast as the default, and smaller on such bytes
    stream = b""
    for plane in [raw] if raw.ndim == 1 else raw:  # each coded by itself: their bytes are not alike
        stream += made.compress(plane.tobytes()) + made.flush(zlib.Z_PARTIAL_FLUSH)
    return stream + made.flush()


def _inflate(stream: Tensor, kind: torch.dtype, count: int) -> Tensor:
    """The flat tensor of `count` elements that `_deflate` made a stream of."""
    if kind.is_complex:
        return torch.view_as_complex(_inflate(stream, kind.to_real(), 2 * count).view(count, 2))
    size = 1 if kind == torch.bool else kind.itemsize
    expected = math.ceil(count / 8) if kind == torch.bool else count * size
    if stream.numel() > 2 * expected + 1024:  # zlib would be given it all
        raise LotteryTicketError(f"a tensor of {count:,} elements is kept in {stream.numel():,} bytes")
    made = zlib.decompressobj()
    raw = made.decompress(stream.numpy().tobytes(), expected + 1)
    if len(raw) != expected or not made.eof or made.unused_data:
        raise LotteryTicketError(f"a tensor of {count:,} elements is kept in another number of bytes")
    if kind == torch.bool:
        return torch.from_numpy(np.unpackbits(np.frombuffer(raw, np.uint8), count=count).view(bool))
    word = _WORD[size]
    words = np.array(np.frombuffer(raw, np.uint8).reshape(size, -1).T, order="C").view(word).ravel()
    if kind.is_floating_point:
        lowest = words << word(8 * size - 1)
        words >>= word(1)
        words |= lowest
    return torch.from_numpy(words.view(f"i{size}")).view(kind)


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _integer(kind: torch.dtype) -> torch.dtype:
    return {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[kind.itemsize]
