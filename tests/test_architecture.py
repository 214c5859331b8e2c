"""Who may import whom: the rooms of the package from the words up, without circles. Imports in functions count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lottery_ticket

PACKAGE = Path(lottery_ticket.__file__).parent

WORDS = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__", "lottery_ticket_loader", "serving"}
WORDS = (WORDS | {"shipped"}) - {"testing"}
BELOW = {
    "data": set(),
    "models": set(),
    "engine": {"data", "models"},
    "tickets": {"data", "models", "engine"},
    "method": {"data", "models", "engine"},
    "analysis": {"data", "engine", "tickets"},
    "store": {"data", "models", "tickets", "method", "analysis"},
}
"""Room → the rooms that it may import, beside itself and the words."""
BELOW["runs"] = {*BELOW}
BELOW["study"] = BELOW["reproduction"] = {*BELOW}
BELOW["cli"] = {*BELOW}

FOREIGN = {"typer": {"cli"}, "rich": {"cli"}, "optuna": {"study", "testing"}, "torchvision": {"data"}}
FOREIGN["mlflow"] = {"store", "runs", "study", "reproduction", "cli", "serving", "lottery_ticket_loader"}
"""Library → the only rooms that import it."""

HEAVY = {"torch", "mlflow", "optuna", "matplotlib", "scipy", "sklearn"}
LIGHT = WORDS - {"masks", "randomness"}
"""The words that none of these libraries is imported for."""


def room(module: str) -> str:
    """The room of `lottery_ticket.room.module`; of a module at the root its own name."""
    return module.split(".")[1] if "." in module else "lottery_ticket"


def modules() -> dict[str, Path]:
    named = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = ("lottery_ticket", *file.relative_to(PACKAGE).with_suffix("").parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


MODULES = modules()


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """The modules that a tree imports, ours by their full name; those for type checkers alone left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        yield from imports(node, module)


GRAPH = {name: set(imports(ast.parse(file.read_text()), name)) for name, file in MODULES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    here = room(name)
    ours = {room(each) for each in GRAPH[name] if each.startswith("lottery_ticket")} - {here}
    foreign = {each.split(".")[0] for each in GRAPH[name]}
    for library, rooms in FOREIGN.items():
        assert library not in foreign or here in rooms, f"{name} imports {library}"
    if here in BELOW:
        allowed = BELOW[here] | WORDS | ({"lottery_ticket"} if here == "cli" else set())
        assert ours <= allowed, f"{name} imports {ours - allowed}"
    elif here in WORDS:
        assert ours <= WORDS, f"{name} imports {ours - WORDS}"
    if here in LIGHT:
        assert not foreign & HEAVY, f"{name} imports {foreign & HEAVY}"
    assert "cli" not in ours or name == "lottery_ticket.__main__", f"{name} imports cli"


def test_every_room_is_in_the_table():
    rooms = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} - {"shipped"}
    assert rooms == BELOW.keys()


def test_no_circles():
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join((*above[above.index(name) :], name))
        if name not in done:
            for each in sorted(GRAPH[name] & MODULES.keys()):
                walk(each, (*above, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())
