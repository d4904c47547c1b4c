"""The shape of the house is read from its sources: no circle, one meaning a type name, and files of a readable size.

Every import counts: those under `TYPE_CHECKING`, and those inside functions. A room is a folder; `gateway/errors.py`
and `gateway/settings.py` are a room of their own, the lowest.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gateway", "routes", "events", "audio")
LOWEST = {
    f"gateway.{name}"
    for name in (
        "errors",
        "settings",
        "upstream_settings",
        "tool_settings",
        "credential_settings",
        "encryption_settings",
        "limit_settings",
        "speech_settings",
        "table_places",
        "environment",
    )
}

MAX_LINES = 350
CODE = {".py", ".js", ".mjs", ".lua", ".sql", ".c", ".h", ".css"}
"""A longer file holds two ideas."""
MIN_LINES = 40
"""A shorter file belongs to another one, unless it is named below."""
SMALL_FOR_A_REASON = {
    "audio/companion.py": "a port, which no file that implements it can hold",
    "audio/decoders/decoder.py": "every decoder stands on `formats`, which therefore cannot choose one",
    "audio/model/voices.py": "chooses among the voices, and so stands in no voice's file",
    "gateway/speech_settings.py": "one file a family of settings",
    "gateway/__main__.py": "what `python -m gateway` runs",
    "events/log/sqlite/adoption.py": "beside `store`, for a command and no gateway",
    "gateway/chat/silence.py": "a rule of its own, tested without a log",
    "gateway/chat/upstreams/line_ends.py": "shared by the parsers of models and of agents",
    "gateway/core/slices.py": "work in slices, which knows nothing of what the work is",
    "gateway/commands/migrate.py": "one file a command",
    "gateway/commands/publish.py": "one file a command",
    "gateway/commands/token.py": "one file a command",
    "loadtests/audio.py": "one file a lane, named on Locust's command line",
    "loadtests/bench/engines/producers.py": "shared by what appends to our engines and to the bare servers",
    "loadtests/bench/chat/peer_litestar.py": "one file a peer, run in an environment of its own",
    "loadtests/bench/events/plain.py": "one file a peer",
    "loadtests/bench/growth/audio.py": "one file a lane",
    "loadtests/bench/harness/event_log.py": "shared by the chat and the events measurements",
    "loadtests/bench/agents/figures.py": "the README's table of a part, as each part has one",
    "loadtests/bench/tools/echo_server.py": "a server, run as a process of its own",
    "loadtests/bench/native/build.py": "builds the C programs beside it",
    "loadtests/bench/report/text.py": "shared by every table and plot",
    "loadtests/chat.py": "one file a lane, named on Locust's command line",
    "loadtests/counting_server.py": "a server, run as a process of its own",
    "loadtests/users/asking.py": "the Locust user alone: what it does needs no Locust",
    "loadtests/users/steering.py": "the Locust user alone: what it does needs no Locust",
    "loadtests/events.py": "one file a lane, named on Locust's command line",
    "loadtests/mixed.py": "all lanes, named on Locust's command line",
    "loadtests/upstream/__main__.py": "what `python -m loadtests.upstream` runs",
    "loadtests/users/question.py": "shared by the chat user and its tests",
    "routes/audio.py": "one file a family of routes",
    "routes/ops.py": "one file a family of routes",
    "routes/session.py": "one file a family of routes",
    "routes/usage.py": "one file a family of routes",
}

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def trees() -> dict[str, ast.Module]:
    return {module: ast.parse(path.read_text()) for module, path in SOURCES.items()}


def imported(module: str) -> Iterator[str]:
    """Yields the modules of ours that a module imports, wherever in its text."""
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in SOURCES:
                name = name.rpartition(".")[0]
            if name and name != module:
                yield name


def room_of(module: str) -> str:
    if module in LOWEST:
        return "lowest"
    return module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0] or module


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Returns one circle of the graph, in order; nothing when there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as err:
        return err.args[1]
    return []


def test_no_files_import_one_another_in_a_circle() -> None:
    arrows = {module: set(imported(module)) for module in SOURCES}
    assert circle(arrows) == []


def test_no_rooms_import_one_another_in_a_circle() -> None:
    arrows = defaultdict[str, set[str]](set)
    for module in SOURCES:
        arrows[room_of(module)] |= {room_of(name) for name in imported(module)} - {room_of(module)}
    assert circle(arrows) == []


def type_names(tree: ast.Module) -> Iterator[str]:
    """Yields the names of classes, type aliases and type variables that a module defines."""
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
    for module, tree in trees().items():
        for name in type_names(tree):
            if len(name) > 1:
                places[name.strip("_")].append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def sized_files() -> dict[str, int]:
    """Returns the lines of every file of sources and tests, by its path."""
    rooms = (*PACKAGES, "loadtests", "tests")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.*") if "node_modules" not in path.parts]
    paths = [path for path in paths if path.suffix in CODE]
    return {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in paths}


def test_no_file_holds_two_ideas() -> None:
    assert {name: lines for name, lines in sized_files().items() if lines > MAX_LINES} == {}


def test_no_source_file_is_a_crumb_without_a_reason() -> None:
    small = {
        name
        for name, lines in sized_files().items()
        if lines < MIN_LINES
        and name.endswith(".py")
        and not name.startswith("tests/")
        and not Path(name).name.startswith(("__init__", "test_"))
    }
    assert small == set(SMALL_FOR_A_REASON)
