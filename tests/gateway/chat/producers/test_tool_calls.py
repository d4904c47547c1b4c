"""Calls of tools are put together from whatever pieces a server sends; none is offered with what did not come."""

import json
from typing import Any

import pytest

from gateway.chat.producers.completion_records import CompletionRecords
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from tests.support.answers import message_parts
from tests.support.completions import END, Read, chunk, frames

Piece = dict[str, Any]


def piece(name: str | None = None, arguments: Any = None, **more: Any) -> Piece:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**more, "function": function}


def called(*pieces: Piece | list[Piece], reason: FinishReason = "tool-calls") -> tuple[list[Any], list[Any]]:
    """Returns the calls that are offered as [name, input], and those that failed as [name, text]."""
    lists = [one if isinstance(one, list) else [one] for one in pieces]
    read = Read(frames(*(chunk({"tool_calls": one}) for one in lists)), END)
    assert read.parser.error is None
    recorder = Recorder()
    records = CompletionRecords(recorder, "up")
    written = records.write(read.chunks) + records.end() + recorder.finish(reason, {})
    chunks = [json.loads(record) for record in written]
    return (
        [[c["toolName"], c["input"]] for c in chunks if c["type"] == "tool-input-available"],
        [[c["toolName"], c["input"]] for c in chunks if c["type"] == "tool-input-error"],
    )


F, G = ["f", {"a": 1}], ["g", {"b": 2}]
A, B = '{"a":1}', '{"b":2}'
PUT_TOGETHER: dict[str, tuple[list[Any], list[Any]]] = {
    "OpenAI": ([piece("f", "", index=0, id="1"), piece(None, '{"a"', index=0), piece(None, ":1}", index=0)], [F]),
    "interleaved": (
        [
            piece("f", "", index=0, id="1"),
            piece("g", "", index=1, id="2"),
            piece(None, B, index=1),
            piece(None, A, index=0),
        ],
        [F, G],
    ),
    "ids that change": (
        [piece("f", "", index=0, id="1"), piece(None, '{"a"', index=0, id="2"), piece(None, ":1}", index=0, id="3")],
        [F],
    ),
    "ids that change, without an index": (
        [piece("f", "", id="1"), piece(None, '{"a"', id="2"), piece(None, ":1}", id="3")],
        [F],
    ),
    "ids that change up to an empty last piece": (
        [piece("f", "", index=0, id="1"), piece(None, A, index=0, id="2"), piece(None, "", index=0, id="3")],
        [F],
    ),
    "ids that change up to a last line end": (
        [piece("f", "", index=0, id="1"), piece(None, A, index=0, id="2"), piece(None, "\n", index=0, id="3")],
        [F],
    ),
    "ids that change up to an empty last piece, without an index": (
        [piece("f", "", id="1"), piece(None, A, id="2"), piece(None, "", id="3")],
        [F],
    ),
    "ids that change and a name that is repeated": (
        [piece("f", '{"a"', index=0, id="1"), piece("f", ":1}", index=0, id="2")],
        [F],
    ),
    "one index for two calls": (
        [piece("f", A, index=0, id="1"), piece("g", "", index=0, id="2"), piece(None, B, index=1)],
        [F, G],
    ),
    "one index for all": (
        [
            piece("f", "", index=0, id="1"),
            piece(None, A, index=0),
            piece("g", "", index=0, id="2"),
            piece(None, B, index=0),
        ],
        [F, G],
    ),
    "one index, no id": ([piece("f", A, index=0), piece("g", B, index=0)], [F, G]),
    "one tool twice on one index without id": ([piece("f", A, index=0), piece("f", A, index=0)], [F, F]),
    "a known id wins over the index": (
        [
            piece("f", "", index=0, id="1"),
            piece("g", "", index=1, id="2"),
            piece(None, A, index=1, id="1"),
            piece(None, B, id="2"),
        ],
        [F, G],
    ),
    "no index": ([[piece("f", A, id="1"), piece("g", B, id="2")]], [F, G]),
    "no index and no id": ([[piece("f", A), piece("g", B)]], [F, G]),
    "no index and no id, in pieces": ([piece("f", ""), piece(None, A), piece("g"), piece(None, B)], [F, G]),
    "one tool twice, no index and no id": ([[piece("f", A), piece("f", A)]], [F, F]),
    "one id for two calls": ([piece("f", A, id="call"), piece("g", B, id="call")], [F, G]),
    "one id for two calls of one tool": (
        [piece("f", A, index=0, id="call"), piece("f", '{"a":2}', index=1, id="call")],
        [F, ["f", {"a": 2}]],
    ),
    "empty ids and names": ([piece("f", "", index=0, id="1"), piece("", A, index=0, id="")], [F]),
    "the id before the name": ([piece(index=0, id="1"), piece("f", "", index=0), piece(None, A, index=0)], [F]),
    "the id before the name, without an index": ([piece(id="1"), piece("f", A), piece(id="2"), piece("g", B)], [F, G]),
    "arguments before the name": ([piece(None, '{"a"', index=0, id="1"), piece("f", ":1}", index=0)], [F]),
    "arguments before the name of a second call": (
        [piece("f", A, index=0, id="1"), piece(None, B, index=1), piece("g", None, index=1)],
        [F, G],
    ),
    "arguments of a second call on the index of a whole one": (
        [piece("f", A, index=0, id="1"), piece(None, B, index=0, id="2"), piece("g", None, index=0, id="2")],
        [F, G],
    ),
    "the name in every piece": (
        [piece("f", "", index=0), piece("f", '{"a"', index=0), piece("f", ":1}", index=0)],
        [F],
    ),
    "arguments as an object": ([piece("f", {"a": 1}, index=0)], [F]),
    "no arguments for a tool without any": ([piece("f", "", index=0, id="1")], [["f", {}]]),
    "a number in a text": ([piece("f", '{"x":1.10}')], [["f", {"x": 1.1}]]),
}


@pytest.mark.parametrize(("pieces", "calls"), PUT_TOGETHER.values(), ids=PUT_TOGETHER)
def test_calls_are_put_together(pieces: list[Any], calls: list[Any]) -> None:
    assert called(*pieces) == (calls, [])


FAILED: dict[str, tuple[list[Any], FinishReason, list[Any]]] = {
    "no arguments ever": ([piece("f", index=0, id="1")], "tool-calls", [["f", ""]]),
    "cut before the arguments": ([piece("f", "", index=0, id="1")], "length", [["f", ""]]),
    "cut within the arguments": ([piece("f", '{"a":', index=0)], "length", [["f", '{"a":']]),
    "no JSON": ([piece("f", "a=1")], "stop", [["f", "a=1"]]),
    "NaN": ([piece("f", "NaN")], "stop", [["f", "NaN"]]),
    "two objects": ([piece("f", A, index=0), piece(None, A, index=0)], "stop", [["f", A + A]]),
    "no name": ([piece(None, A, index=0, id="1")], "tool-calls", [["unknown", A]]),
}


@pytest.mark.parametrize(("pieces", "reason", "calls"), FAILED.values(), ids=FAILED)
def test_a_call_whose_arguments_did_not_come_whole_is_not_offered(
    pieces: list[Any], reason: FinishReason, calls: list[Any]
) -> None:
    assert called(*pieces, reason=reason) == ([], calls)


def test_a_whole_call_of_an_answer_that_was_cut_is_offered() -> None:
    assert called(piece("f", A, index=0), piece("g", '{"b"', index=1), reason="length") == ([F], [["g", '{"b"']])


LEGACY: dict[str, list[Piece]] = {
    "in pieces": [{"name": "f", "arguments": ""}, {"arguments": A}],
    "at once": [{"name": "f", "arguments": A}],
    "arguments as an object": [{"name": "f", "arguments": {"a": 1}}],
    "arguments before the name": [{"arguments": '{"a"'}, {"name": "f", "arguments": ":1}"}],
    "the name in every piece": [{"name": "f", "arguments": '{"a"'}, {"name": "f", "arguments": ":1}"}],
}


@pytest.mark.parametrize("functions", LEGACY.values(), ids=LEGACY)
def test_the_one_call_of_older_servers_is_a_call_like_any_other(functions: list[Piece]) -> None:
    deltas = [{"content": None, "tool_calls": [], "function_call": function} for function in functions]
    recorder = Recorder()
    records = CompletionRecords(recorder, "up")
    records.write(Read(frames(*(chunk(delta) for delta in deltas)), END).chunks)
    records.end()
    recorder.finish("tool-calls", {})
    [part] = message_parts(recorder)
    assert (part["type"], part["state"], part["input"]) == ("tool-f", "input-available", {"a": 1})


def test_half_of_a_pair_in_arguments_is_no_fault() -> None:
    assert called(piece("f", '{"a":"\\ud83d"}')) == ([["f", {"a": "\ufffd"}]], [])
