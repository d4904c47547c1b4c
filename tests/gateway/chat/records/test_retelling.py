"""The earlier part of an answer is told again, so that a client makes the same parts of it and runs no tool twice."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gateway.chat.records.record import NewerRecord, decode_record
from gateway.chat.records.retelling import outcome_of, records_of
from tests.support.chats import message, tool

STEP = {"type": "start-step"}
END = {"type": "finish-step"}
START = {"type": "tool-input-start", "toolCallId": "c", "toolName": "pay"}
DELTA = {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": '{"n":1}'}


ASKED = {"type": "tool-approval-request", "approvalId": "p", "toolCallId": "c"}


def told(*parts: str | dict[str, Any]) -> list[dict[str, Any]]:
    records = records_of(message("a", "assistant", *parts).parts)
    newer = [record for record in map(decode_record, records) if isinstance(record, NewerRecord)]
    assert {record.type for record in newer} <= {"file", "source-url"}
    return [json.loads(record) for record in records]


def text(kind: str, text_id: str, words: str, **more: Any) -> list[dict[str, Any]]:
    start, delta, end = ({"type": f"{kind}-{what}", "id": text_id, **more} for what in ("start", "delta", "end"))
    return [start, {**delta, "delta": words}, end]


def called(state: str, **more: Any) -> dict[str, Any]:
    return tool("c", "pay", state, input={"n": 1}, **more)


META = {"acme": {"x": 1}}
FILE = {"type": "file", "mediaType": "image/png", "url": "data:,"}
SOURCE = {"type": "source-url", "sourceId": "s", "url": "http://a"}
DATA = {"type": "data-x", "id": "d", "data": {"n": 1.50}}

PARTS: dict[str, tuple[list[str | dict[str, Any]], list[dict[str, Any]]]] = {
    "a text": (["hi"], text("text", "e0", "hi")),
    "an empty text": ([""], [{"type": "text-start", "id": "e0"}, {"type": "text-end", "id": "e0"}]),
    "fields of a provider": (
        [{"type": "reasoning", "text": "hm", "providerMetadata": META}],
        text("reasoning", "e0", "hm", providerMetadata=META),
    ),
    "a file, a source and data": ([FILE, SOURCE, DATA], [FILE, SOURCE, DATA]),
    "two steps": (["a", {"type": "step-start"}, "b"], [*text("text", "e0", "a"), END, STEP, *text("text", "e2", "b")]),
    "a step at the front": ([{"type": "step-start"}, "a"], text("text", "e1", "a")),
    "a call that is open": (
        [called("input-available")],
        [START, {**START, "type": "tool-input-available", "input": {"n": 1}}],
    ),
    "a call that was cut": ([tool("c", "pay", "input-streaming")], [START]),
    "a call with its output": (
        [called("output-available", output=[1])],
        [START, DELTA, {"type": "tool-output-available", "toolCallId": "c", "output": [1]}],
    ),
    "a call without an output": (
        [called("output-available")],
        [START, DELTA, {"type": "tool-output-available", "toolCallId": "c", "output": None}],
    ),
    "a call that failed": (
        [called("output-error", errorText="broke")],
        [START, DELTA, {"type": "tool-output-error", "toolCallId": "c", "errorText": "broke"}],
    ),
    "a call that was denied": (
        [called("output-denied", approval={"id": "p", "approved": False})],
        [START, DELTA, ASKED, {"type": "tool-output-denied", "toolCallId": "c"}],
    ),
    "a call that was allowed": (
        [called("approval-responded", approval={"id": "p", "approved": True})],
        [START, DELTA, ASKED],
    ),
    "arguments that are no JSON": (
        [tool("c", "pay", "output-error", rawInput="{n", errorText="no JSON")],
        [START, {**START, "type": "tool-input-error", "input": "{n", "errorText": "no JSON"}],
    ),
    "a dynamic tool of the provider": (
        [called("output-available", output=1) | {"type": "dynamic-tool", "toolName": "pay", "providerExecuted": True}],
        [
            {**START, "dynamic": True, "providerExecuted": True},
            {**START, "type": "tool-input-available", "dynamic": True, "providerExecuted": True, "input": {"n": 1}},
            {
                "type": "tool-output-available",
                "toolCallId": "c",
                "output": 1,
                "dynamic": True,
                "providerExecuted": True,
            },
        ],
    ),
    "a call with fields of its provider": (
        [called("input-available", callProviderMetadata=META, title="Pay")],
        [
            {**START, "providerMetadata": META, "title": "Pay"},
            {**START, "type": "tool-input-available", "input": {"n": 1}, "providerMetadata": META, "title": "Pay"},
        ],
    ),
    "a part that is not known": (["a", {"type": "custom", "kind": "x"}], text("text", "e0", "a")),
}


@pytest.mark.parametrize(("parts", "records"), PARTS.values(), ids=PARTS.keys())
def test_parts_become_the_records_that_make_them(
    parts: list[str | dict[str, Any]], records: list[dict[str, Any]]
) -> None:
    assert told(*parts) == [STEP, *records, END]


AVAILABLE = {**START, "type": "tool-input-available", "input": {"n": 1}}
OUTPUT = {"type": "tool-output-available", "toolCallId": "c", "output": 1}
WHOLE: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "an open call": (called("input-available"), [AVAILABLE]),
    "a client's own call with its result": (
        called("output-available", output=1),
        [{**AVAILABLE, "providerExecuted": True}, {**OUTPUT, "providerExecuted": False}],
    ),
    "a client's own call that failed": (
        called("output-error", errorText="broke"),
        [
            {**AVAILABLE, "providerExecuted": True},
            {"type": "tool-output-error", "toolCallId": "c", "errorText": "broke", "providerExecuted": False},
        ],
    ),
    "a call of the gateway": (
        called("output-available", output=1, providerExecuted=True),
        [{**AVAILABLE, "providerExecuted": True}, {**OUTPUT, "providerExecuted": True}],
    ),
    "arguments that are no JSON": (
        tool("c", "pay", "output-error", rawInput="{n", errorText="no JSON"),
        [{**START, "type": "tool-input-error", "input": "{n", "errorText": "no JSON"}],
    ),
    "a call that was cut": (tool("c", "pay", "input-streaming"), [START]),
}


@pytest.mark.parametrize(("part", "records"), WHOLE.values(), ids=WHOLE.keys())
def test_no_input_is_told_as_still_to_come_where_that_would_be_kept(
    part: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    parts = message("a", "assistant", part).parts
    assert [json.loads(record) for record in records_of(parts, has_streamed_inputs=False)] == [STEP, *records, END]


def test_no_parts_are_no_records() -> None:
    assert told() == []


def test_numbers_stay_as_they_were_written() -> None:
    part = Raw(b'{"type":"tool-f","toolCallId":"c","state":"output-available","input":{"n":1.10},"output":1e400}')
    assert b'"output":1e400' in b"".join(records_of([part]))
    assert b'{\\"n\\":1.10}' in b"".join(records_of([part]))


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("output-available", "tool-output-available"),
        ("output-error", "tool-output-error"),
        ("output-denied", "tool-output-denied"),
        ("approval-responded", None),
        ("input-available", None),
    ],
)
def test_a_result_is_a_record_by_itself(state: str, kind: str | None) -> None:
    record = outcome_of(Raw(msgspec.json.encode(called(state, output=1, errorText="x"))))
    assert (record and json.loads(record)["type"]) == kind
