"""A network's code that is its user's own: the Python modules that are not installed."""

import ast
import contextlib
import hashlib
import inspect
import os
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
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
    return [Path(path).resolve() for path in (*there, os.path.dirname(os.path.dirname(__file__)))]


def sources_of(network: nn.Module, *makers: Any) -> dict[str, str]:
    """What of its user's code a network is made of: name of a function, class or constant → digest of it.

    The makers (its factory, say), the classes of the layers, and all that their code names, as far as it is in modules
    that are not installed. Comments, layout and the rest of a file do not count.
    """
    found: dict[str, str] = {}
    waiting: list[Any] = [*makers, *(type(layer) for layer in network.modules())]
    while waiting:
        thing = waiting.pop()
        module = sys.modules.get(getattr(thing, "__module__", None) or "")
        name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
        if module is None or name in found or _installed(module):
            continue
        found[name] = _digest(thing)
        waiting += thing.__mro__[1:] if isinstance(thing, type) else []
        for named, value in _names_in(thing, module):
            if isinstance(value, type | FunctionType):
                waiting.append(value)
            elif isinstance(value, bool | int | float | str | tuple | list):
                found[f"{module.__name__}.{named}"] = hashlib.sha256(repr(value).encode()).hexdigest()[:16]
    return dict(sorted(found.items()))


def _digest(thing: Any) -> str:
    """Of the source as it is parsed; empty where there is none."""
    try:
        text = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return ""
    with contextlib.suppress(SyntaxError):  # a lambda in the middle of something
        text = ast.unparse(ast.parse(text))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _names_in(thing: Any, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What the code of a function or class names: globals of its module, and of the user's modules that it imports."""
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    codes = [each.__code__ for each in functions if isinstance(each, FunctionType)]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    mine = {name: vars(module)[name] for name in sorted(names & vars(module).keys())}
    yield from mine.items()
    for other in (value for value in mine.values() if isinstance(value, ModuleType) and not _installed(value)):
        for name in sorted(names & vars(other).keys()):
            yield f"{other.__name__}.{name}", vars(other)[name]
