"""Masks and weights as safetensors: one bit a weight for masks, room in proportion to survivors for weights.

A mask file holds, for each prunable tensor, `numpy.packbits` of the flattened mask (uint8, big-endian bits). A
weights file holds each dense tensor under its name; a pruned tensor as `NAME:values` (survivors in row-major order)
beside `NAME:bits` (its mask as above) or, where that is smaller, `NAME:positions` (int32 indices of the survivors).
The shapes stand in the metadata entry `shapes`, as JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lottery_ticket.models import Weights
from lottery_ticket.pruning import Mask


def save_mask(mask: Mask, path: str | Path) -> None:
    """Write a mask, one bit a weight."""
    shapes = {name: list(kept.shape) for name, kept in mask.items()}
    save_file({name: _pack(kept) for name, kept in mask.items()}, path, {"shapes": json.dumps(shapes)})


def load_mask(path: str | Path) -> Mask:
    """Read a mask: parameter name → dense bool tensor, True where the weight survives."""
    with safe_open(path, "pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
        return {name: _unpack(file.get_tensor(name), shape) for name, shape in shapes.items()}


def save_weights(weights: Mapping[str, Tensor], path: str | Path, mask: Mask | None = None) -> None:
    """Write weights; of the tensors in `mask` only the survivors, which must be all that is not zero."""
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, value in weights.items():
        kept = (mask or {}).get(name)
        if kept is None or bool(kept.all()):
            stored[name] = value.detach().contiguous()
            continue
        shapes[name] = list(value.shape)
        positions = kept.flatten().nonzero().flatten()
        stored[f"{name}:values"] = value.detach().flatten()[positions]
        bits = _pack(kept)
        if 4 * len(positions) < len(bits) and kept.numel() < 2**31:
            stored[f"{name}:positions"] = positions.int()
        else:
            stored[f"{name}:bits"] = bits
    save_file(stored, path, {"shapes": json.dumps(shapes)})


def load_weights(path: str | Path) -> Weights:
    """Read weights: parameter name → dense tensor, pruned weights zero."""
    with safe_open(path, "pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 – not a dict
    weights = {key: value for key, value in stored.items() if ":" not in key}
    for name, shape in shapes.items():
        values = stored[f"{name}:values"]
        dense = values.new_zeros(shape)
        if f"{name}:bits" in stored:
            dense[_unpack(stored[f"{name}:bits"], shape)] = values
        else:
            dense.view(-1)[stored[f"{name}:positions"].long()] = values
        weights[name] = dense
    return weights


def _pack(kept: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(kept.flatten().numpy()))


def _unpack(bits: Tensor, shape: list[int]) -> Tensor:
    flat = np.unpackbits(bits.numpy(), count=int(np.prod(shape))).astype(bool)
    return torch.from_numpy(flat).view(shape)
