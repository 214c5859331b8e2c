"""A network's code that is its user's own: the Python modules that are not installed."""

import os
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn


def own_code(network: nn.Module, factory: Any) -> dict[str, ModuleType]:
    """The Python modules, by name, that hold the factory and the classes of a network and are not installed."""
    makers = [factory, *(kind for layer in network.modules() for kind in type(layer).__mro__)]
    names = sorted({name for maker in makers if (name := getattr(maker, "__module__", None))})
    return {name: found for name in names if (found := sys.modules.get(name)) and not _installed(found)}


def _installed(module: ModuleType) -> bool:
    file: str | None = getattr(module, "__file__", None)
    if file is None:  # built in; or a notebook
        return module.__name__ != "__main__"
    there = Path(file).resolve()
    return any(there.is_relative_to(place) for place in _places())


@cache
def _places() -> list[Path]:
    """Where what is installed lies, and this package."""
    paths = sysconfig.get_paths()
    there = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(path).resolve() for path in (*there, os.path.dirname(__file__))]
