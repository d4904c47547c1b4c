"""The parts of an answer as an AI SDK client keeps them: tools and what became of them, data, and steps."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.chat.records.message_parts import NOT_JSON, MessageParts
from gateway.chat.records.record import (
    ApprovalRequest,
    Data,
    ToolOutputAvailable,
    ToolOutputDenied,
    ToolOutputError,
)
from gateway.chat.records.recorder import Recorder, ToolOutcome
from tests.support.answers import message_parts, replayed, types

OUTCOMES: list[tuple[ToolOutcome, dict[str, Any]]] = [
    (ToolOutputAvailable(tool_call_id="c", output=Raw(b"[1]")), {"state": "output-available", "output": [1]}),
    (ToolOutputError(tool_call_id="c", error_text="no"), {"state": "output-error", "errorText": "no"}),
    (ToolOutputDenied(tool_call_id="c"), {"state": "output-denied"}),
    (
        ApprovalRequest(approval_id="a", tool_call_id="c"),
        {"state": "approval-requested", "approval": {"id": "a"}},
    ),
]


def data(value: int, *, name: str = "weather", data_id: str = "", transient: bool = False) -> Data:
    return Data(type=f"data-{name}", id=data_id, data=Raw(b"%d" % value), transient=transient)


def shown(parts: MessageParts) -> list[dict[str, Any]]:
    return [json.loads(bytes(part)) for part in parts.encoded()]


# Tools


@pytest.mark.parametrize(("outcome", "fields"), OUTCOMES, ids=lambda value: type(value).__name__)
def test_what_became_of_a_call_is_in_its_part_and_another_process_knows_it_too(
    outcome: ToolOutcome, fields: dict[str, Any]
) -> None:
    recorder, records = Recorder(), list[bytes]()
    recorder.tool_input("c", "f", records)
    recorder.tool_arguments("c", '{"x":1}', records)
    records += recorder.next_step()
    recorder.tool_outcome(outcome, records)
    assert message_parts(recorder) == [{"type": "tool-f", "toolCallId": "c", "input": {"x": 1}, **fields}]
    assert message_parts(replayed(records)) == message_parts(recorder)


def test_the_last_outcome_of_a_call_is_the_one_that_counts() -> None:
    recorder, records = Recorder(), list[bytes]()
    recorder.tool_input("c", "f", records)
    recorder.tool_outcome(ToolOutputAvailable(tool_call_id="c", output=Raw(b"1"), preliminary=True), records)
    recorder.tool_outcome(ToolOutputAvailable(tool_call_id="c", output=Raw(b"2")), records)
    [part] = message_parts(recorder)
    assert part["output"] == 2
    assert types(records)[-2:] == ["tool-output-available"] * 2


def test_the_outcome_of_a_call_that_is_not_known_is_recorded_and_changes_no_part() -> None:
    """The start of a call may no longer be stored in a long run."""
    recorder, records = Recorder(), list[bytes]()
    recorder.tool_outcome(ToolOutputDenied(tool_call_id="gone"), records)
    assert (types(records), message_parts(recorder)) == (["tool-output-denied"], [])


@pytest.mark.parametrize(
    ("arguments", "is_complete", "fields"),
    [
        ('{\n "x": 1.0 }', True, {"state": "input-available", "input": {"x": 1.0}}),
        ("", True, {"state": "input-available", "input": {}}),
        ('{"x"', True, {"state": "output-error", "rawInput": '{"x"', "errorText": NOT_JSON}),
        ('{"x":1}', False, {"state": "input-streaming", "input": {"x": 1}}),
        ('{"x"', False, {"state": "input-streaming", "input": {}}),
    ],
)
def test_arguments_are_json_on_one_line_or_the_text_that_they_are(
    arguments: str, is_complete: bool, fields: dict[str, Any]
) -> None:
    parts = MessageParts()
    call = parts.tool("c", "f")
    call.arguments += arguments
    call.complete = is_complete
    [part] = parts.encoded()
    assert json.loads(bytes(part)) == {"type": "tool-f", "toolCallId": "c", **fields}
    assert b"\n" not in bytes(part)


# Data


def test_later_data_of_the_same_type_and_id_takes_the_place_of_the_earlier() -> None:
    parts = MessageParts()
    parts.data(data(1, data_id="a"))
    parts.data(data(2, data_id="b"))
    parts.data(data(3, data_id="a", name="tide"))
    parts.data(data(4, data_id="a"))
    assert [(part["type"], part["data"]) for part in shown(parts)] == [
        ("data-weather", 4),
        ("data-weather", 2),
        ("data-tide", 3),
    ]


def test_data_without_an_id_is_added_each_time_and_transient_data_never() -> None:
    parts = MessageParts()
    parts.data(data(1))
    parts.data(data(2, transient=True))
    parts.data(data(3))
    assert [part["data"] for part in shown(parts)] == [1, 3]


# Steps


def test_a_step_begins_between_parts_and_never_before_the_first_or_after_the_last() -> None:
    parts = MessageParts()
    parts.step()
    parts.text("text").pieces += ["a", "b"]
    parts.step()
    parts.step()
    parts.text("reasoning").pieces += ["c"]
    parts.step()
    assert [part.get("text", part["type"]) for part in shown(parts)] == ["ab", "step-start", "c"]
