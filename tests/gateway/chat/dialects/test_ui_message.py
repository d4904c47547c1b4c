"""Deltas → chunks → what a client shows, and back: how another process takes a run over."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from events.log.port import Block
from gateway.chat.dialects.ui_message import CHUNK, ChunkWriter, UIFrames, resume_writer
from gateway.chat.upstreams.completion import Chunk
from tests.support.shown import Shown


def deltas(*found: dict[str, Any]) -> list[Chunk]:
    """One chunk of an upstream for each delta."""
    return msgspec.convert([{"choices": [{"delta": delta}]} for delta in found], list[Chunk])


def call(index: int, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    """One piece of a tool call; `id` and `name` come with the first."""
    function = {"name": more.pop("name", None), "arguments": arguments}
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def written(*found: dict[str, Any]) -> tuple[ChunkWriter, list[bytes]]:
    """A writer that was given these deltas, and all its chunks so far."""
    writer = ChunkWriter()
    return writer, writer.start("m") + writer.speaker("gpt") + writer.write(deltas(*found))


def finished(*found: dict[str, Any]) -> Shown:
    writer, chunks = written(*found)
    return Shown(chunks + writer.finish("stop", {"usage": {}}))


def types(chunks: list[bytes]) -> list[str]:
    return [json.loads(chunk)["type"] for chunk in chunks]


def stored(writer: ChunkWriter) -> list[dict[str, Any]]:
    return [json.loads(bytes(part)) for part in writer.parts.encoded()]


# Texts


def test_a_plain_answer_is_the_smallest_good_stream() -> None:
    writer, chunks = written({"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {})
    chunks += writer.finish("stop", {"usage": {"total": 5}})
    assert [json.loads(chunk) for chunk in chunks] == [
        {"type": "start", "messageId": "m"},
        {"type": "start-step"},
        {"type": "message-metadata", "messageMetadata": {"model": "gpt"}},
        {"type": "text-start", "id": "t0"},
        {"type": "text-delta", "id": "t0", "delta": "Hel"},
        {"type": "text-delta", "id": "t0", "delta": "lo"},
        {"type": "text-end", "id": "t0"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop", "messageMetadata": {"usage": {"total": 5}}},
    ]


def test_reasoning_and_text_take_turns_as_parts_of_their_own() -> None:
    shown = finished(
        {"reasoning_content": "a"}, {"reasoning": "b"}, {"content": "c"}, {"reasoning": "d"}, {"content": "e"}
    )
    assert [(part["type"], part["text"]) for part in shown.parts] == [
        ("reasoning", "ab"),
        ("text", "c"),
        ("reasoning", "d"),
        ("text", "e"),
    ]


def test_reasoning_and_text_of_one_delta_come_in_that_order() -> None:
    shown = finished({"content": "said", "reasoning_content": "thought"})
    assert [part["text"] for part in shown.parts] == ["thought", "said"]


def test_a_refusal_is_shown_as_text() -> None:
    assert finished({"refusal": "I can't"}).parts == [{"type": "text", "text": "I can't", "state": "done"}]


@pytest.mark.parametrize("text", ["\n", "\r\n\r\n", '"\\', "\0", "\u2028", "\U0001f600", "data: [DONE]\n\nid: 1"])
def test_any_text_stays_on_one_line_and_comes_back(text: str) -> None:
    writer, chunks = written({"content": text}, {"reasoning": text})
    assert [part["text"] for part in Shown(chunks + writer.finish("stop", {})).parts] == [text, text]
    assert [part["text"] for part in stored(writer)] == [text, text]


@pytest.mark.parametrize(
    "nothing",
    [[], [{"choices": []}], [{"choices": None}], [{"choices": [{"delta": None}]}], [{"usage": {"prompt_tokens": 1}}]],
)
def test_what_no_client_could_see_makes_no_chunk(nothing: list[dict[str, Any]]) -> None:
    writer = ChunkWriter()
    assert writer.write(msgspec.convert(nothing, list[Chunk])) == []
    assert (writer.parts.emitted, writer.parts.encoded()) == (0, [])


def test_what_was_visible_is_counted() -> None:
    writer, _ = written(
        {"content": "a"}, {"reasoning": "b"}, call(0, "{", id="c", name="f"), call(0, "}"), {"content": ""}
    )
    assert writer.parts.emitted == 4


# Tools


def test_a_tool_call_in_pieces_is_one_part() -> None:
    shown = finished(call(0, "", id="c1", name="find"), call(0, '{"q":'), call(0, ' "x"}'))
    assert shown.parts == [
        {"type": "tool-find", "toolCallId": "c1", "state": "input-available", "input": {"q": "x"}},
    ]


def test_a_tool_call_ends_the_text_before_it() -> None:
    _, chunks = written({"content": "look: "}, call(0, "{}", id="c1", name="f"))
    assert types(chunks)[3:] == ["text-start", "text-delta", "text-end", "tool-input-start", "tool-input-delta"]


def test_parallel_tool_calls_may_be_interleaved() -> None:
    shown = finished(
        call(0, '{"a"', id="c0", name="f"),
        call(1, '{"b"', id="c1", name="g"),
        call(0, ":1}"),
        call(1, ":2}"),
    )
    assert [(part["type"], part["input"]) for part in shown.parts] == [("tool-f", {"a": 1}), ("tool-g", {"b": 2})]


def test_several_tool_calls_may_come_in_one_delta() -> None:
    both = call(0, "{}", id="c0", name="f")["tool_calls"] + call(1, "{}", id="c1", name="g")["tool_calls"]
    assert [part["toolCallId"] for part in finished({"tool_calls": both}).parts] == ["c0", "c1"]


def test_calls_that_share_an_index_but_not_an_id_all_become_available() -> None:
    """Servers that leave the index out; each call comes whole."""
    shown = finished(call(0, '{"a":1}', id="c0", name="f"), call(0, '{"b":2}', id="c1", name="g"))
    assert [(part["toolCallId"], part["state"]) for part in shown.parts] == [
        ("c0", "input-available"),
        ("c1", "input-available"),
    ]


def test_an_id_that_is_repeated_on_every_piece_makes_no_new_call() -> None:
    shown = finished(call(0, "[1", id="c", name="f"), call(0, ",2]", id="c", name="f"))
    assert [part["input"] for part in shown.parts] == [[1, 2]]


def test_calls_without_an_id_get_one_of_ours() -> None:
    shown = finished(call(0, "{}", name="f"), call(1, "{}", name="g"))
    ids = [part["toolCallId"] for part in shown.parts]
    assert len(set(ids)) == 2
    assert all(ids)


def test_a_piece_of_a_call_that_has_no_name_is_left_out() -> None:
    assert finished(call(0, "{}", id="c")).parts == []


@pytest.mark.parametrize("arguments", ["", "{}"])
def test_a_call_without_arguments_has_an_empty_input(arguments: str) -> None:
    shown = finished(call(0, arguments, id="c", name="f"))
    assert (shown.parts[0]["state"], shown.parts[0]["input"]) == ("input-available", {})


PRETTY = ['{\n  "a": 1,\n  "b": [\n    2\n  ]\n}', '{"a":\r\n1}', "[\n1,\r2\t]", '\n{"a":1}\n']


@pytest.mark.parametrize("arguments", PRETTY)
def test_arguments_over_several_lines_stay_on_one_line(arguments: str) -> None:
    writer, chunks = written(call(0, arguments, id="c", name="f"))
    shown = Shown(chunks + writer.finish("tool-calls", {}))
    assert shown.parts[0]["input"] == json.loads(arguments)


@pytest.mark.parametrize("arguments", PRETTY)
def test_arguments_over_several_lines_are_stored_on_one_line(arguments: str) -> None:
    writer, _ = written(call(0, arguments, id="c", name="f"))
    writer.finish("tool-calls", {})
    assert [b"\n" in bytes(part) or b"\r" in bytes(part) for part in writer.parts.encoded()] == [False]


def test_numbers_and_order_in_arguments_stay_as_the_model_wrote_them() -> None:
    arguments = '{"z":1.10,"a":12345678901234567890123,"e":1e300}'
    writer, _ = written(call(0, arguments, id="c", name="f"))
    assert arguments.encode() in writer.finish("tool-calls", {})[0]


INVALID = ['{"a":', "{'a': 1}", "not json", "{} {}", '{"a":1}}', "\ufeff{}", "NaN"]


@pytest.mark.parametrize("arguments", INVALID)
def test_arguments_that_are_no_json_are_told_as_an_error(arguments: str) -> None:
    writer, chunks = written(call(0, arguments, id="c", name="f"))
    shown = Shown(chunks + writer.finish("tool-calls", {}))
    assert (shown.parts[0]["state"], shown.parts[0]["rawInput"]) == ("output-error", arguments)
    assert shown.parts[0]["errorText"]


def test_a_call_with_invalid_arguments_is_stored_as_it_was_shown() -> None:
    writer, chunks = written(call(0, '{"a":', id="c", name="f"))
    assert stored(writer)[0]["state"] == "input-streaming"
    shown = Shown(chunks + writer.finish("tool-calls", {}))
    assert stored(writer)[0]["state"] == shown.parts[0]["state"] == "output-error"


@pytest.mark.parametrize("end", ["finish", "error"])
def test_arguments_that_are_nested_too_deeply_are_no_json(end: str) -> None:
    """A model that repeats itself."""
    writer, chunks = written(call(0, "[" * 5000, id="c", name="f"))
    chunks += writer.finish("stop", {}) if end == "finish" else writer.error("no", {})
    assert Shown(chunks).ending is not None
    assert stored(writer)[0]["toolCallId"] == "c"


# The ends


@pytest.mark.parametrize("reason", ["stop", "length", "content-filter", "tool-calls", "error", "other"])
def test_a_finish_says_why(reason: Any) -> None:
    writer, chunks = written({"content": "a"})
    shown = Shown(chunks + writer.finish(reason, {"usage": {"inputTokens": 1}}))
    assert shown.ending is not None
    assert (shown.ending["finishReason"], shown.metadata) == (reason, {"model": "gpt", "usage": {"inputTokens": 1}})


def test_an_error_closes_the_text_and_says_what_happened_before_it_ends() -> None:
    writer, chunks = written({"content": "half"})
    told = writer.error("the upstream was cut", {"code": "upstream_cut", "retryable": True, "emitted": 1})
    assert types(told) == ["text-end", "message-metadata", "error"]
    shown = Shown(chunks + told)
    assert shown.ending == {"type": "error", "errorText": "the upstream was cut"}
    assert shown.metadata["code"] == "upstream_cut"
    assert shown.parts == stored(writer) == [{"type": "text", "text": "half", "state": "done"}]


def test_an_abort_closes_the_text_and_says_why() -> None:
    writer, chunks = written({"reasoning": "hm"})
    told = writer.abort("stopped", {})
    assert types(told) == ["reasoning-end", "message-metadata", "abort"]
    assert Shown(chunks + told).ending == {"type": "abort", "reason": "stopped"}


@pytest.mark.parametrize("end", ["error", "abort"])
def test_a_tool_call_that_was_cut_never_becomes_available(end: str) -> None:
    """A client must not run a tool with half of its arguments, nor with the whole of an answer that failed."""
    writer, chunks = written(call(0, '{"amount": 1', id="c", name="pay"), call(1, "{}", id="d", name="pay"))
    chunks += writer.error("cut", {}) if end == "error" else writer.abort("stopped", {})
    assert [part["state"] for part in Shown(chunks).parts] == ["input-streaming"] * 2
    assert [part["state"] for part in stored(writer)] == ["input-streaming"] * 2


def test_an_end_without_anything_before_it_is_complete() -> None:
    for end in ("finish", "error", "abort"):
        writer, chunks = written()
        chunks += getattr(writer, end)("other", {})
        shown = Shown(chunks)
        assert shown.ending is not None
        assert (shown.ending["type"], shown.parts, stored(writer)) == (end, [], [])


def test_an_answer_that_is_continued_keeps_its_earlier_parts() -> None:
    earlier = Raw(b'{"type":"tool-f","toolCallId":"c","state":"output-available","input":{},"output":1}')
    writer = ChunkWriter([earlier])
    writer.write(deltas({"content": "so: 1"}))
    assert [part["type"] for part in stored(writer)] == ["tool-f", "step-start", "text"]
    assert bytes(writer.parts.encoded()[0]) == bytes(earlier)


# Frames


def test_each_chunk_is_one_frame_with_its_cursor() -> None:
    block = Block(first=7, data=[b'{"type":"a"}', b'{"type":"b"}'], name=CHUNK, time_ms=0)
    assert UIFrames("run")("ep", block) == [
        b'id: run.ep.7\ndata: {"type":"a"}\n\n',
        b'id: run.ep.8\ndata: {"type":"b"}\n\n',
    ]


@pytest.mark.parametrize("name", ["run", "heartbeat", "message", ""])
def test_other_events_of_a_run_are_hidden_but_counted(name: str) -> None:
    assert UIFrames("run")("ep", Block(first=1, data=[b"{}"] * 3, name=name, time_ms=0)) == [b""] * 3


def test_readers_of_one_run_share_their_frames() -> None:
    assert UIFrames("run") == UIFrames("run") != UIFrames("other")


# Taking over


RESUMED: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "text": [{"content": "a"}, {"content": "b"}],
    "turns": [{"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}],
    "a tool": [{"content": "a"}, call(0, "", id="c", name="f"), call(0, '{"x":'), call(0, "1}")],
    "two tools": [call(0, "{", id="c", name="f"), call(1, "[", id="d", name="g"), call(0, "}"), call(1, "]")],
    "a tool without an id": [call(0, "{}", name="f")],
    "text during a tool": [call(0, "{", id="c", name="f"), {"content": "a"}, call(0, "}")],
}


@pytest.mark.parametrize("found", RESUMED.values(), ids=RESUMED.keys())
@pytest.mark.parametrize("end", ["error", "abort", "finish"])
def test_another_process_ends_a_run_as_its_own_would(found: list[dict[str, Any]], end: str) -> None:
    writer, chunks = written(*found)
    resumed = resume_writer(chunks)
    assert stored(resumed) == stored(writer)
    assert resumed.parts.emitted == writer.parts.emitted
    assert getattr(resumed, end)("other", {}) == getattr(writer, end)("other", {})
    assert stored(resumed) == stored(writer)


def test_taking_over_a_continued_answer_keeps_its_earlier_parts() -> None:
    earlier = [Raw(b'{"type":"text","text":"before"}')]
    chunks = ChunkWriter(earlier).write(deltas({"content": "after"}))
    assert [part.get("text") for part in stored(resume_writer(chunks, earlier))] == ["before", None, "after"]


def test_chunks_of_a_newer_version_do_not_stop_it() -> None:
    chunks = [b'{"type":"reset-step"}', b'{"type":"data-x","data":[1],"id":"i"}', b'{"type":"text-delta","delta":"a"}']
    assert stored(resume_writer(chunks))[0]["text"] == "a"
