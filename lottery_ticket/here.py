"""The current folder, which may be anybody's: its modules come after all that is installed, libraries read no settings.

Needs no library, so that it can be asked before any is imported.
"""

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from lottery_ticket.errors import InputError

_LARGEST = 2**20
"""Bytes of a `matplotlibrc`; matplotlib's own has 40,000."""


_added: set[str] = set()


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in another process, with `environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that finds modules where this one does, in this order."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)} | more


def must_say_nothing() -> None:
    """InputError where the current folder has settings that a library would take from it, or stumble over.

    Numba would unpickle what it finds in the folder that `.numba_config.yaml` names. A `matplotlibrc` changes no figure
    (`plots.style`), but matplotlib cannot be imported where it cannot be read.
    """
    if os.path.lexists(".numba_config.yaml"):
        why = "would say from where numba reads compiled code; allowed: a folder without it, or NUMBA_… variables"
        raise InputError("working folder", ".numba_config.yaml", why)
    file = Path("matplotlibrc")
    if file.is_dir() or not file.exists():
        return
    try:
        readable = file.is_file() and file.stat().st_size <= _LARGEST
        readable = readable and "\0" not in file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        readable = False
    if not readable:
        why = f"cannot be read by matplotlib; allowed: a folder without it, or a text of at most {_LARGEST:,} bytes"
        raise InputError("working folder", "matplotlibrc", why)


def find(module: str) -> str:
    """Have the modules of the current folder found, after all others; what of the module is not the folder's, in words.

    That is a file of the folder that the module is or imports, by whose name something else is found before it: which
    of the two is meant is not known. Empty where there is none.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path[:] = [place for place in sys.path if place not in _added]  # which were current before
        sys.path.append(folder)
        _added.add(folder)
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or not (files := list(_files(Path(folder), name))) or _loaded(name, files):
            continue
        seen.add(name)
        found = _found(top)
        if found and not _within(found, folder):
            return f"{files[0]} has the name of {_where(found)}, which is found before it"
        for file in files:
            waiting += _imports(file, Path(folder))
    return ""


def _loaded(module: str, files: Sequence[Path]) -> bool:
    """Whether a module is imported from one of these files: then it is that one, and so is what it imported."""
    place = getattr(sys.modules.get(module), "__file__", None)
    return place is not None and Path(place) in files


def _found(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except ValueError:  # of `__main__`
        return None


def _within(found: ModuleSpec, folder: str) -> bool:
    places = [found.origin or "", *(found.submodule_search_locations or [])]
    return any(Path(place).resolve().is_relative_to(Path(folder).resolve()) for place in places if os.path.isabs(place))


def _where(found: ModuleSpec) -> str:
    place = found.origin or next(iter(found.submodule_search_locations or []), found.name)
    return f"Python's own {found.name}" if place in ("built-in", "frozen") else place


def _files(folder: Path, module: str) -> Iterator[Path]:
    """The files of a module in a folder, and of the packages that it is in."""
    place = folder
    for part in module.split("."):
        place /= part
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _imports(file: Path, folder: Path) -> Iterator[str]:
    """The names of modules, of this folder perhaps, that the code of a file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):  # which importing it will say
        return
    package = file.relative_to(folder).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
