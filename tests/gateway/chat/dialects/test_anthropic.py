"""A run told in Anthropic's format says what it said: as its SDK puts the events together, and as one message."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.chat.dialects.anthropic import MessageEvents
from gateway.chat.records.recorder import Recorder
from tests.support.sse_decoder import SseDecoder

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
ARGUMENTS = st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS | st.lists(TEXTS, max_size=2), max_size=3)
PIECE = st.tuples(st.sampled_from(["text", "reasoning"]), TEXTS)
CALL = st.tuples(st.just("call"), ARGUMENTS)
STEPS = st.lists(PIECE | CALL, max_size=8)


def recorded(steps: list[tuple[str, Any]], turns: list[int]) -> tuple[list[bytes], list[tuple[Any, ...]]]:
    """Returns the records of an answer, and its blocks as they are meant.

    `turns` says of which of the calls that are open the next piece comes: servers mix them.
    """
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.next_step(), *recorder.speaker("small")]
    blocks: list[tuple[Any, ...]] = []
    waiting: list[tuple[str, list[str]]] = []
    for kind, value in steps:
        if kind == "call":
            call_id = recorder.tool_input("", "look", records)
            text = json.dumps(value, ensure_ascii=False)
            waiting.append((call_id, [text[start : start + 3] for start in range(0, len(text), 3)]))
            blocks.append(("tool_use", call_id, value))
        else:
            recorder.text(kind, value, records)  # type: ignore[arg-type]
            name = "thinking" if kind == "reasoning" else "text"
            if blocks and blocks[-1][0] == name:
                blocks[-1] = (name, blocks[-1][1] + value)
            else:
                blocks.append((name, value))
        for turn in turns[: len(waiting)]:
            call_id, pieces = waiting[turn % len(waiting)]
            if pieces:
                recorder.tool_arguments(call_id, pieces.pop(0), records)
    for call_id, pieces in waiting:
        for piece in pieces:
            recorder.tool_arguments(call_id, piece, records)
    recorder.complete_calls(records)
    records += recorder.finish(
        "tool-calls" if waiting else "stop",
        {"usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12, "cachedTokens": 4}},
    )
    return records, blocks


def plain(content: list[Any]) -> list[tuple[Any, ...]]:
    """Returns blocks, as the SDK or a whole message has them, in the form that `recorded` gives."""
    told: list[tuple[Any, ...]] = []
    for item in content:
        block = item if isinstance(item, dict) else item.to_dict()
        kind = block["type"]
        told.append((kind, block["id"], block["input"]) if kind == "tool_use" else (kind, block[kind]))
    return told


def put_together(frames: bytes) -> Any:
    """Returns the message that Anthropic's SDK makes of a stream, of which at most one block is open at a time."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    opened = None
    for event in SseDecoder("").feed(frames):
        data = json.loads(event.data)
        assert data["type"] == event.event
        if event.event == "content_block_start":
            assert opened is None
            opened = data["index"]
            assert opened == len(message.content)
        if event.event.startswith("content_block_"):
            assert data["index"] == opened
        if event.event == "content_block_stop":
            opened = None
        if event.event != "ping":
            message = accumulate_event(event=data, current_snapshot=message, json_bufs=buffers)
    assert opened is None
    return message


@settings(deadline=None)  # the first example loads what the SDK puts messages together with
@given(STEPS, st.lists(st.integers(0, 5), max_size=5))
@example([("call", {"a": "b"}), ("call", {}), ("text", "So."), ("call", {"c": 1})], [1, 0, 2])
def test_the_stream_and_the_whole_message_say_what_the_run_says(steps: list[Any], turns: list[int]) -> None:
    records, blocks = recorded(steps, turns)
    stream = MessageEvents("r", "")
    message = put_together(b"".join(stream.feed([record]) for record in records))
    assert plain(message.content) == blocks
    reason = "tool_use" if any(block[0] == "tool_use" for block in blocks) else "end_turn"
    usage = message.usage
    assert (message.model, message.stop_reason) == ("small", reason)
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (5, 4, 3)
    whole = MessageEvents("r", "", keeps_text=True)
    whole.feed(records)
    told: Any = whole.message()
    assert plain(told["content"]) == blocks
    assert (told["stop_reason"], told["model"]) == (reason, "small")


def test_arguments_that_are_no_json_are_not_lost() -> None:
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.next_step(), *recorder.speaker("small")]
    recorder.tool_arguments(recorder.tool_input("c1", "look", records), "{oops", records)
    records += recorder.finish("tool-calls", {})
    whole = MessageEvents("r", "", keeps_text=True)
    assert b"{oops" in whole.feed(records)
    told: Any = whole.message()
    assert told["content"][0]["input"] == {"unreadable": "{oops"}


@pytest.mark.parametrize("code", ["overloaded", "upstream_rate_limited", "upstream_cut"])
def test_an_answer_that_fails_has_no_end(code: str) -> None:
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.next_step(), *recorder.speaker("small")]
    recorder.text("text", "Hel", records)
    records += recorder.error("it broke", {"code": code})
    frames = MessageEvents("r", "").feed(records)
    [*_, last] = SseDecoder("").feed(frames)
    kinds = {"overloaded": "overloaded_error", "upstream_rate_limited": "rate_limit_error", "upstream_cut": "api_error"}
    assert last.event == "error"
    assert json.loads(last.data)["error"] == {"type": kinds[code], "message": "it broke", "code": code}
    assert b"message_stop" not in frames


def test_what_an_agent_does_itself_is_told_with_its_result() -> None:
    recorder = Recorder()
    recorder.executed_tools = ("look",)
    records = [*recorder.start("m"), *recorder.next_step(), *recorder.speaker("small")]
    call_id = recorder.tool_input("c1", "look", records)
    recorder.tool_arguments(call_id, "{}", records)
    recorder.complete_calls(records)
    records.append(b'{"type":"tool-output-available","toolCallId":"c1","output":{"a":1},"providerExecuted":true}')
    records += recorder.finish("stop", {})
    whole = MessageEvents("r", "", keeps_text=True)
    whole.feed(records)
    told: Any = whole.message()
    call, result = told["content"]
    assert (call["type"], call["name"], call["server_name"]) == ("mcp_tool_use", "look", "gateway")
    assert (result["type"], result["tool_use_id"], result["content"][0]["text"]) == ("mcp_tool_result", "c1", '{"a":1}')
