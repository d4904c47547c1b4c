"""The shape of the house, read from its sources: no circle, and one meaning a type name.

Every import counts: those under `TYPE_CHECKING`, and those inside functions. A room is a folder; `gateway/errors.py`
and `gateway/settings.py` are a room of their own, the lowest.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gateway", "routes", "events", "audio")
LOWEST = {"gateway.errors", "gateway.settings", "gateway.environment"}

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text()) for module, path in SOURCES.items()}


def imported(module: str) -> Iterator[str]:
    """Yield the modules of ours that a module imports, wherever in its text."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in TREES:
                name = name.rpartition(".")[0]
            if name and name != module:
                yield name


def room_of(module: str) -> str:
    if module in LOWEST:
        return "lowest"
    return module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0] or module


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return one circle of the graph, in order; nothing when there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as err:
        return err.args[1]
    return []


def test_no_files_import_one_another_in_a_circle() -> None:
    arrows = {module: set(imported(module)) for module in TREES}
    assert circle(arrows) == []


def test_no_rooms_import_one_another_in_a_circle() -> None:
    arrows = defaultdict[str, set[str]](set)
    for module in TREES:
        arrows[room_of(module)] |= {room_of(name) for name in imported(module)} - {room_of(module)}
    assert circle(arrows) == []


def type_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of classes, type aliases and type variables that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.strip("_")[:1].isupper() and not name.isupper():
                yield name


def test_no_type_name_stands_for_two_things() -> None:
    """`T` and its like are letters of a signature, not names of types."""
    places = defaultdict[str, list[str]](list)
    for module, tree in TREES.items():
        for name in type_names(tree):
            if len(name) > 1:
                places[name.strip("_")].append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}
