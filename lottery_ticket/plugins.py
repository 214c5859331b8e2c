"""Things by name: the package's own, those of installed packages, and a user's own as `module:name`.

An installed package offers things through entry points, in a group for each kind, e.g. `lottery_ticket.arms`. Nothing
registers itself by being imported, and no name is looked up among installed packages that the package itself knows.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal, get_args

from lottery_ticket import here
from lottery_ticket.errors import InputError, one_line, unknown

Kind = Literal[
    "models", "arms", "criteria", "datasets", "augmentations", "analyses", "executors", "listeners", "samplers"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


_NO_CODE = re.compile(r"mlp:[\d-]*|(torchvision|timm|folder|hf):.*|.*\.npz", re.DOTALL)
"""Names with a colon that run no code of anybody's: networks of the package and of fixed registries, files."""


def is_code(name: str) -> bool:
    """Whether a name says where code is, `module:name`, and is none of a file or of a fixed registry."""
    return ":" in name and not _NO_CODE.fullmatch(name)


def short(name: str) -> str:
    """What a thing is called in names of runs, metrics and files: of `module:name` the name alone."""
    return name.rpartition(":")[2] if is_code(name) else name


def named(kind: Kind, name: str, ours: Mapping[str, Any], option: str, more: Sequence[str] = ()) -> Any:
    """The thing of this kind that has the name: among `ours`, in an installed package, or at `module:name`.

    InputError naming the option where there is none, it cannot be imported, or two packages call something so. `more`
    are forms of names that the caller knows beside these, for what is said then.
    """
    if name in ours:
        return ours[name]
    if is_code(name):
        return imported(name, option)
    found = installed(kind)
    if name not in found:
        raise unknown(option, name, [*ours, *found, *more, "module:name"])
    if len(found[name]) > 1:
        packages = ", ".join(sorted(package_of(each) for each in found[name]))
        raise InputError(option, name, f"is in several packages: {packages}; allowed: one of them installed")
    try:
        return found[name][0].load()
    except (Exception, SystemExit) as error:
        why = f"of the package {package_of(found[name][0])} cannot be imported: {one_line(error)}"
        raise InputError(option, name, f"{why}; allowed: what `lt plugins` lists without a fault") from error


def unfit(option: str, name: str, found: object, wanted: str) -> InputError:
    """What is said of a thing of that name that is none of its kind."""
    return InputError(option, name, f"is a {type(found).__name__}; allowed: {wanted}")


def installed(kind: Kind) -> dict[str, list[EntryPoint]]:
    """What installed packages offer of this kind, by name; nothing of it is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for each in entry_points(group=f"lottery_ticket.{kind}"):
        found.setdefault(each.name, []).append(each)
    return dict(sorted(found.items()))


def package_of(entry: EntryPoint) -> str:
    """The package that an entry point is of, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "?"


def imported(name: str, option: str) -> Any:
    """What stands at `module:name`, in the current folder too; InputError naming the option where nothing does."""
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise InputError(option, name, "is not where something is; allowed: module:name")
    if hidden := here.find(module):
        raise InputError(option, name, f"cannot be told from another: {hidden}; allowed: files of other names")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise InputError(option, name, f"cannot be imported: {one_line(error)}") from error


def place(which: Literal["folder", "store"]) -> ModuleType:
    """The module that reads tickets where they are kept: places know tickets, tickets know no place."""
    places = {"folder": "lottery_ticket.tickets.folder", "store": "lottery_ticket.store.find"}
    return importlib.import_module(places[which])
