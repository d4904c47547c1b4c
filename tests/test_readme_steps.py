"""README's way through the life of a chat request leads where it says, and is short."""

import ast
import re

import pytest

from tests.readme_settings import README

STEP = re.compile(r"^\d\. \[`(?P<path>[\w/.]+)`\]\((?P<link>[\w/.]+)\), (?P<names>[^:]+):", re.MULTILINE)
STEPS = [
    (step["path"], step["link"], re.findall(r"`(\w+)`", step["names"])) for step in STEP.finditer(README.read_text())
]
MAX_LINES = 280


def lines_of(path: str, name: str) -> int:
    """Returns the lines of a function, and of all methods of that name in the file."""
    functions = [
        node
        for node in ast.walk(ast.parse((README.parent / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in functions)


@pytest.mark.parametrize(("path", "link", "names"), STEPS, ids=[path for path, _, _ in STEPS])
def test_every_step_is_a_link_to_functions_that_are_there(path: str, link: str, names: list[str]) -> None:
    assert path == link
    assert names
    assert [name for name in names if not lines_of(path, name)] == []


def test_a_chat_request_is_read_in_a_few_lines_of_eight_files() -> None:
    assert len(STEPS) == 8
    assert sum(lines_of(path, name) for path, _, names in STEPS for name in names) <= MAX_LINES
