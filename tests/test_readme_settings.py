"""README shows every setting as it is declared, and every declared setting does something."""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.settings import VARIABLES, Limits, Settings
from gateway.upstream_settings import DefaultUpstream, UpstreamSettings
from tests.readme_settings import COMMAND, README, with_tables

ROOT = README.parent
STRUCTS = (Settings, Limits, UpstreamSettings, DefaultUpstream)
UPSTREAMS = {"upstream", "u", "generation"}
"""Names in the sources of objects whose `settings` are an upstream's."""


def test_the_tables_match_the_declared_settings() -> None:
    text = README.read_text()
    assert text == with_tables(text), f"README.md shows settings otherwise than they are declared; run: {COMMAND}"


def test_a_table_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- settings -->"):
        with_tables("no table")


def test_every_setting_says_what_it_is() -> None:
    assert [variable.name for variable in VARIABLES if not (variable.meaning and variable.permitted)] == []


# Every setting has a reader


def reads(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields (struct, field) of every attribute that a module reads of settings, by what the sources call them."""
    names = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)}
    settings = "UpstreamSettings" if "UpstreamSettings" in names and "Settings" not in names else "Settings"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            own = (attribute for attribute in ast.walk(node) if isinstance(attribute, ast.Attribute))
            yield from ((node.name, attribute.attr) for attribute in own if ast.unparse(attribute.value) == "self")
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner, _, holder = ast.unparse(node.value).rpartition(".")
            if holder == "limits":
                yield "Limits", node.attr
            elif holder.strip("_") == "settings":
                yield ("UpstreamSettings" if owner in UPSTREAMS else settings), node.attr
            elif holder == "upstream":
                yield "UpstreamSettings", node.attr


def sources() -> Iterator[Path]:
    for room in ("gateway", "routes", "events", "audio"):
        yield from (ROOT / room).rglob("*.py")


@pytest.fixture(scope="module")
def read_fields() -> set[tuple[str, str]]:
    return {field_read for path in sources() for field_read in reads(ast.parse(path.read_text()))}


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_setting_is_read_by_some_source(struct: type[msgspec.Struct], read_fields: set[tuple[str, str]]) -> None:
    unread = [field for field in struct.__struct_fields__ if (struct.__name__, field) not in read_fields]
    assert unread == [], f"no source reads these fields of {struct.__name__}; remove them, or read them"


def test_a_read_is_told_from_one_of_another_struct() -> None:
    text = "def f(settings: Settings, u): return settings.run_s, u.settings.model, settings.limits.runs, other.ping_s"
    assert set(reads(ast.parse(text))) == {
        ("Settings", "run_s"),
        ("UpstreamSettings", "model"),
        ("Settings", "limits"),
        ("Limits", "runs"),
    }
