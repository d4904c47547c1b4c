"""The AG-UI dialect: each record in the events that AG-UI has for it."""

import json
from typing import Any

import pytest

from gateway.chat.dialects.agui import AguiEvents
from tests.support.dialect_views import RUN, AguiClient, events_of, lines_of

START, FINISH = {"type": "start", "messageId": "m"}, {"type": "finish", "finishReason": "stop"}
CALL = {"type": "tool-input-start", "toolCallId": "k1", "toolName": "look"}
PIECE = {"type": "tool-input-delta", "toolCallId": "k1", "inputTextDelta": '{"a":'}
CALLED = {"type": "tool-input-available", "toolCallId": "k1", "toolName": "look", "input": {"a": 1}}


def frames_of(*records: dict[str, Any]) -> bytes:
    return AguiEvents("r", RUN).feed(
        lines_of([json.dumps(record, separators=(",", ":")).encode() for record in records])
    )


def told(*records: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the events of records between the start of a run and its end; its client finds them in order."""
    frames = frames_of(START, *records, FINISH)
    AguiClient().feed(frames)
    return events_of(frames)[1:-1]


@pytest.mark.parametrize(
    ("record", "event"),
    [
        ({"type": "data-state", "id": "state", "data": {"a": 1}}, {"type": "STATE_SNAPSHOT", "snapshot": {"a": 1}}),
        ({"type": "data-state-delta", "data": [], "transient": True}, {"type": "STATE_DELTA", "delta": []}),
        (
            {"type": "data-activity", "id": "p1", "data": {"activityType": "plan", "content": {"at": 1}}},
            {"type": "ACTIVITY_SNAPSHOT", "messageId": "p1", "activityType": "plan", "content": {"at": 1}},
        ),
        ({"type": "data-chart", "data": [1]}, {"type": "CUSTOM", "name": "chart", "value": [1]}),
        (
            {"type": "source-url", "sourceId": "s1", "url": "https://a.example"},
            {"type": "CUSTOM", "name": "source-url", "value": {"sourceId": "s1", "url": "https://a.example"}},
        ),
        (
            {"type": "data-provider", "data": {"acme": {"signature": "x"}}},
            {"type": "CUSTOM", "name": "provider", "value": {"signature": "x"}},
        ),
    ],
)
def test_data_has_the_event_that_the_protocol_has_for_it(record: dict[str, Any], event: dict[str, Any]) -> None:
    assert told(record) == [event]


@pytest.mark.parametrize("record", [{"type": "data-custom-tool", "data": "k1"}, {"type": "from-the-future"}])
def test_what_no_client_of_ag_ui_needs_is_not_told(record: dict[str, Any]) -> None:
    assert told(record) == []


def test_a_step_of_an_agent_is_ended_with_the_run() -> None:
    begun = {"type": "data-step", "id": "plan", "data": {"state": "started"}}
    ended = {"type": "data-step", "id": "plan", "data": {"state": "finished"}}
    events = [{"type": "STEP_STARTED", "stepName": "plan"}, {"type": "STEP_FINISHED", "stepName": "plan"}]
    assert told(begun) == told(begun, begun, ended) == told(begun, ended, ended) == events


def test_what_a_provider_adds_to_a_piece_stands_beside_it() -> None:
    piece = {"type": "text-delta", "id": "t", "delta": "No.", "providerMetadata": {"acme": {"refusal": True}}}
    [_, content, _] = told(piece)
    assert (content["delta"], content["metadata"]) == ("No.", {"provider": {"refusal": True}})


def test_an_empty_piece_opens_no_message() -> None:
    assert told({"type": "text-start", "id": "t"}, {"type": "text-delta", "id": "t", "delta": ""}) == []
    assert (
        len(told({"type": "text-delta", "id": "t", "delta": "a"}, {"type": "text-delta", "id": "t", "delta": ""})) == 3
    )


def test_a_call_belongs_to_the_text_before_it_and_its_result_comes_once() -> None:
    text = {"type": "text-delta", "id": "t", "delta": "Let me look."}
    output = {"type": "tool-output-available", "toolCallId": "k1", "output": "a tree"}
    client = AguiClient()
    client.feed(frames_of(START, text, CALL, PIECE, CALLED, CALLED, output, output, FINISH))
    said, result = client.messages
    assert (said["content"], said["toolCalls"][0]["id"]) == ("Let me look.", "k1")
    assert (result["role"], result["toolCallId"], result["content"]) == ("tool", "k1", "a tree")


def test_arguments_that_came_in_no_pieces_are_told_whole() -> None:
    [_, arguments, _] = told(CALL, CALLED)
    assert arguments == {"type": "TOOL_CALL_ARGS", "toolCallId": "k1", "delta": '{"a":1}'}


def test_arguments_that_are_no_json_have_a_result_so_that_nobody_makes_the_call() -> None:
    wrong = {
        "type": "tool-input-error",
        "toolCallId": "k1",
        "toolName": "look",
        "input": '{"a":',
        "errorText": "no JSON",
    }
    [*_, result] = told(CALL, PIECE, wrong)
    assert (result["type"], result["content"]) == ("TOOL_CALL_RESULT", "no JSON")


def test_an_ask_that_was_answered_is_no_interrupt_any_more() -> None:
    asked = [
        CALL,
        CALLED,
        {"type": "tool-approval-request", "approvalId": "ap-r-1", "toolCallId": "k1"},
        {"type": "data-approval", "id": "ap-r-1", "data": {"toolCallId": "k1", "state": "requested"}},
    ]
    answered = {"type": "data-approval", "id": "ap-r-1", "data": {"toolCallId": "k1", "state": "approved"}}
    [interrupt] = events_of(frames_of(START, *asked, FINISH))[-1]["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["toolCallId"]) == ("ap-r-1.k1", "k1")
    assert events_of(frames_of(START, *asked, answered, FINISH))[-1]["outcome"] == {"type": "success"}


def test_a_message_that_the_answer_has_taken_is_the_users() -> None:
    before, after = {"type": "text-delta", "id": "t", "delta": "One"}, {"type": "text-delta", "id": "u", "delta": "Two"}
    steer = {"type": "data-steer", "id": "u2", "data": {"parts": [{"type": "text", "text": "shorter!"}]}}
    client = AguiClient()
    client.feed(frames_of(START, before, steer, after, FINISH))
    assert [(message["role"], message["content"]) for message in client.messages] == [
        ("assistant", "One"),
        ("user", "shorter!"),
        ("assistant", "Two"),
    ]


def test_an_answer_stopped_in_the_middle_of_a_call_is_an_error() -> None:
    stopped = {"type": "abort", "reason": "stopped"}
    last = events_of(frames_of(START, CALL, PIECE, stopped))[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "aborted")
    assert events_of(frames_of(START, CALL, CALLED, stopped))[-1]["outcome"] == {"type": "cancelled"}


def test_the_id_of_a_record_is_that_of_its_last_event() -> None:
    frames = frames_of(START, {"type": "reasoning-delta", "id": "t", "delta": "Hm"}).decode().split("\n\n")
    assert ["\nid: " in frame for frame in frames[:-1]] == [True, False, False, True]
