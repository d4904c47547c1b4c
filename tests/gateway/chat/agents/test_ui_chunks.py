"""Chunks of the UI Message Stream of an agent become records of ours."""

from typing import Any

import pytest

from tests.gateway.chat.agents.streams import RUN_ID, Played, ui

SIGNED = {"openai": {"itemId": "i"}}


def text(chunk_id: str, *pieces: str, kind: str = "text", **more: Any) -> list[dict[str, Any]]:
    deltas = [{"type": f"{kind}-delta", "id": chunk_id, "delta": piece} for piece in pieces]
    return [{"type": f"{kind}-start", "id": chunk_id}, *deltas, {"type": f"{kind}-end", "id": chunk_id, **more}]


def call(call_id: str, name: str, told: Any, **more: Any) -> list[dict[str, Any]]:
    head = {"toolCallId": call_id, "toolName": name, **more}
    return [{"type": "tool-input-start", **head}, {"type": "tool-input-available", **head, "input": told}]


def test_steps_and_texts_are_ours() -> None:
    step = {"type": "start-step"}, {"type": "finish-step"}
    play = ui(step[0], *text("x", "a", "b"), step[1], step[0], *text("x", "c"), step[1])
    assert play.brief == ["text: ab", "step-start", "text: c"]
    assert [record["id"] for record in play.records if record["type"] == "text-start"] == ["t0", "t1"]


def test_an_empty_text_is_dropped_and_signed_reasoning_is_not() -> None:
    play = ui(
        *text("x"), *text("r", kind="reasoning", providerMetadata=SIGNED), *text("y", "a", providerMetadata=SIGNED)
    )
    assert play.brief == ["reasoning: ", "text: a"]
    assert [part["providerMetadata"] for part in play.parts] == [SIGNED, SIGNED]


def test_fields_of_a_providers_text_are_passed_on_wherever_they_come() -> None:
    start, delta, end = text("x", "a")
    play = ui({**start, "providerMetadata": {"a": {"x": 1}}}, {**delta, "providerMetadata": {"a": {"y": 2}}}, end)
    assert play.parts[0]["providerMetadata"] == {"a": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("flags", "kind", "is_executed"),
    [
        ({}, "tool-f", False),
        ({"providerExecuted": True}, "tool-f", True),
        ({"dynamic": True}, "dynamic-tool", False),
        ({"providerExecuted": True, "dynamic": True}, "dynamic-tool", True),
    ],
)
def test_who_makes_a_call_is_what_the_agent_says(flags: dict[str, bool], kind: str, is_executed: bool) -> None:
    play = ui(*call("c1", "f", {"a": 1}, **flags), {"type": "tool-output-available", "toolCallId": "c1", "output": 2})
    [part] = play.parts
    assert (part["type"], part.get("providerExecuted", False), part["output"]) == (kind, is_executed, 2)
    starts = {record["type"]: record for record in play.records}
    assert {name: starts["tool-input-start"].get(name, False) for name in flags} == flags


def test_the_whole_input_goes_before_its_pieces() -> None:
    start, available = call("c1", "f", {"a": 1})
    pieces = [{"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"a"'}]
    assert ui(start, *pieces, available).brief == ['tool-f {"a": 1} input-available']
    assert ui(available).brief == ['tool-f {"a": 1} input-available']


@pytest.mark.parametrize(
    ("chunk", "state"),
    [
        ({"type": "tool-output-available", "output": 1}, "output-available"),
        ({"type": "tool-output-error", "errorText": "no"}, "output-error"),
        ({"type": "tool-output-denied"}, "output-denied"),
    ],
)
def test_what_becomes_of_a_call(chunk: dict[str, Any], state: str) -> None:
    assert ui(*call("c1", "f", {}), {**chunk, "toolCallId": "c1"}).parts[0]["state"] == state
    assert ui({**chunk, "toolCallId": "nobody"}).brief == ["data-chunk"]


def test_an_input_that_cannot_be_read() -> None:
    failed = {"type": "tool-input-error", "toolCallId": "c1", "toolName": "f", "input": {"a": 1}, "errorText": "bad"}
    [part] = ui(failed).parts
    assert (part["state"], part["errorText"]) == ("output-error", "bad")


def test_what_is_asked_bears_our_id_and_the_agents_words_are_kept() -> None:
    ask = {"type": "tool-approval-request", "approvalId": "theirs", "toolCallId": "c1", "signature": "S"}
    play = ui(*call("c1", "f", {"a": 1}), ask)
    assert play.end == "finish tool-calls"
    [part, shown] = play.parts
    assert part["approval"] == {"id": f"ap-{RUN_ID}-1"}
    assert (shown["type"], shown["data"]["state"]) == ("data-approval", "requested")
    assert part["callProviderMetadata"]["agent"] == {
        "interruptId": "theirs",
        "asked": {"signature": "S", "id": "theirs"},
    }
    assert ui(*call("c1", "f", {}), {**ask, "isAutomatic": True}).writer.asks == []


def test_data_is_kept_unless_it_is_transient() -> None:
    play = ui(
        {"type": "data-weather", "id": "w", "data": 1},
        {"type": "data-weather", "id": "w", "data": 2},
        {"type": "data-note", "data": 3, "transient": True},
        {"type": "data-approval", "id": "ap-1", "data": {"state": "approved"}},
    )
    assert [part["data"] for part in play.parts] == [2, {"name": "approval", "value": {"state": "approved"}}]
    assert [record["transient"] for record in play.records if record["type"] == "data-note"] == [True]


def test_sources_and_files_are_parts_as_they_are() -> None:
    source = {"type": "source-url", "sourceId": "s", "url": "http://a", "title": "A"}
    file = {"type": "file", "url": "data:image/png;base64,AA==", "mediaType": "image/png"}
    assert ui(*text("x", "a"), source, file).parts[1:] == [source, file]


@pytest.mark.parametrize("kind", ["reasoning-file", "custom", "steering-message", "tool-something-new"])
def test_a_chunk_that_not_every_client_knows_is_kept_as_data(kind: str) -> None:
    [part] = ui({"type": kind, "x": 1}).parts
    assert part == {"type": "data-chunk", "data": {"type": kind, "x": 1}}


def test_metadata_of_the_message_is_passed_on_but_not_what_the_gateway_says() -> None:
    play = ui(
        {"type": "message-metadata", "messageMetadata": {"mood": "good", "model": "evil", "outcome": "finish"}},
        {"type": "message-metadata", "messageMetadata": {"usage": {"inputTokens": 3, "outputTokens": 4}}},
    )
    assert play.writer.recorder.facts == {"mood": "good"}
    assert play.translation.usage is not None
    assert (play.translation.usage.prompt_tokens, play.translation.usage.completion_tokens) == (3, 4)


@pytest.mark.parametrize(
    ("chunks", "finish", "end"),
    [
        ([], "length", "finish length"),
        ([], "unknown", "finish other"),
        ([], None, "error upstream_cut"),
        ([{"type": "finish"}], None, "finish stop"),
        ([{"type": "error", "errorText": "no"}], "stop", "error upstream_error"),
        ([{"type": "abort", "reason": "tired"}], None, "error upstream_aborted"),
        ([{"type": "abort"}, "[DONE]"], None, "error upstream_aborted"),
        (["[DONE]"], None, "error upstream_cut"),
        (["{"], None, "error upstream_invalid"),
        ([{"type": "finish", "finishReason": "error"}], None, "error upstream_error"),
    ],
)
def test_how_an_answer_ends(chunks: list[Any], finish: str | None, end: str) -> None:
    assert ui(*text("x", "a"), *chunks, finish=finish).end == end


def test_a_stream_that_is_no_stream_of_chunks_fails() -> None:
    assert Played("ui-message", [b"<html>"]).end == "error upstream_cut"
    assert Played("ui-message", [b'data: {"no":"type"}\n\n']).end == "error upstream_cut"
