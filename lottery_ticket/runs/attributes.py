"""What a network keeps in Python beside its parameters and buffers, so that two states of it can be compared."""

import itertools
import random
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST, MOST, LARGEST = 6, 20_000, 10**6
"""How deep containers are looked into, how many values are looked at, elements of the largest tensor."""

_EVERY_MODULES = {*vars(nn.Module()), "training"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None))

State = dict[str, Any]
"""Name of a value, e.g. `blocks.0.calls` → a copy of it."""


def state_of(network: nn.Module, code: Mapping[str, ModuleType]) -> State:
    """The attributes of all layers, buffers that are not persistent, attributes of the user's classes, globals.

    Args:
        network: whose layers.
        code: the Python modules of its user; see `own_code`.
    """
    state: State = {}
    seen = {id(each) for each in (*network.modules(), *network.state_dict(keep_vars=True).values())}
    for path, layer in network.named_modules():
        kept = {key: value for key, value in vars(layer).items() if key not in _EVERY_MODULES}
        kept |= {name: layer._buffers[name] for name in layer._non_persistent_buffers_set}
        for key, value in kept.items():
            _note(value, f"{path}.{key}".lstrip("."), state, seen, 0)
    for kind in {kind for layer in network.modules() for kind in type(layer).__mro__ if kind.__module__ in code}:
        for key, value in vars(kind).items():
            if not key.startswith("__"):
                _note(value, f"{kind.__name__}.{key}", state, seen, 0)
    for name, module in code.items():
        for key, value in vars(module).items():
            if not key.startswith("__"):
                _note(value, f"{name}.{key}", state, seen, DEEPEST - 2)
    return state


def changed(one: State, other: State) -> list[str]:
    """The names of the values that are not in both the same."""
    names = dict.fromkeys([*one, *other])
    return [name for name in names if name not in one or name not in other or not _same(one[name], other[name])]


def _note(value: Any, name: str, state: State, seen: set[int], depth: int) -> None:
    """Put copies of the value, or of all that it holds, into the state."""
    if len(state) >= MOST or depth > DEEPEST:
        return
    if id(value) in seen:
        return
    if isinstance(value, Tensor | np.ndarray):
        if (value.numel() if isinstance(value, Tensor) else value.size) <= LARGEST:
            state[name] = value.detach().cpu().clone() if isinstance(value, Tensor) else value.copy()
        return
    if isinstance(value, _PLAIN):
        state[name] = value
        return
    if isinstance(value, type | ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, torch.Generator):
        state[name] = value.get_state()
    elif isinstance(value, np.random.Generator):
        _note(value.bit_generator.state, name, state, seen, depth)
    elif isinstance(value, np.random.RandomState):
        _note(value.get_state(legacy=False), name, state, seen, depth)
    elif isinstance(value, random.Random):
        state[name] = str(value.getstate())
    elif isinstance(value, itertools.count | set | frozenset):
        state[name] = repr(value)
    elif isinstance(value, Mapping):
        for key, each in list(value.items()):
            _note(each, f"{name}[{key!r}]", state, seen, depth + 1)
    elif isinstance(value, list | tuple | deque):
        for index, each in enumerate(list(value)):
            _note(each, f"{name}[{index}]", state, seen, depth + 1)
    elif isinstance(value, nn.Module):
        for key, each in {**value.state_dict(), **vars(value)}.items():
            if key not in _EVERY_MODULES:
                _note(each, f"{name}.{key}", state, seen, depth + 1)
    elif not callable(value) and hasattr(value, "__dict__"):
        for key, each in list(vars(value).items()):
            _note(each, f"{name}.{key}", state, seen, depth + 1)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool(((one == other) | (one != one)).all())
    return bool(one == other or (one != one and other != other))
