"""Patches of documents (RFC 6902), and what is kept of a state."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.chat.agents.documents import Documents, below, patch_without_messages, patched, without_messages


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("document", "operation", "after"),
    [
        ({}, {"op": "add", "path": "/a", "value": 1}, {"a": 1}),
        ([1, 3], {"op": "add", "path": "/1", "value": 2}, [1, 2, 3]),
        ([1], {"op": "add", "path": "/-", "value": 2}, [1, 2]),
        ({"a": 1}, {"op": "add", "path": "", "value": 2}, 2),
        ({"a": [1, 2]}, {"op": "replace", "path": "/a/0", "value": 9}, {"a": [9, 2]}),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/a"}, {"b": 2}),
        ({"a/b": 1, "c~d": 2}, {"op": "remove", "path": "/a~1b"}, {"c~d": 2}),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a/b", "path": "/c"}, {"a": {}, "c": 1}),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 1}, {"a": 1}),
    ],
)
def test_a_patch_that_fits(document: Any, operation: dict[str, Any], after: Any) -> None:
    assert patched(document, [operation]) == after


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "remove", "path": "/b"},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "add", "path": "/l/x", "value": 1},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "a", "value": 1},
        {"op": "grow", "path": "/a"},
        {"path": "/a"},
        {"op": "add"},
    ],
)
def test_a_patch_that_does_not_fit_is_shown_and_no_more_is_kept_of_its_document(operation: dict[str, Any]) -> None:
    documents = Documents()
    documents.replace("state", "s", raw({"a": 1, "l": []}))
    documents.patch("state", "s", raw([operation]))
    documents.patch("state", "s", raw([{"op": "add", "path": "/c", "value": 1}]))
    assert documents.changed() == []


def test_the_conversation_is_left_out_of_a_state() -> None:
    assert json.loads(bytes(without_messages(raw({"a": 1, "messages": []})))) == {"a": 1}
    assert without_messages(raw([1])) == raw([1])
    rest = {"op": "add", "path": "/a", "value": 1}
    patch = patch_without_messages(raw([{"op": "add", "path": "/messages/0", "value": 1}, rest]))
    assert patch is not None
    assert json.loads(bytes(patch)) == [rest]


def test_a_patch_of_a_part_is_one_of_the_whole() -> None:
    moved = below(raw([{"op": "move", "from": "/a", "path": "/b"}]), "/content")
    assert json.loads(bytes(moved)) == [{"op": "move", "from": "/content/a", "path": "/content/b"}]
