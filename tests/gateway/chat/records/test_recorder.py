"""Deltas become records, and those become what a client shows and what is stored."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gateway.chat.records.record import (
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    TextDelta,
    TextEnd,
    TextKind,
    TextStart,
    encode_record,
)
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk
from tests.support.answers import call, completion, message_parts, recorded, replayed, types
from tests.support.shown import Shown

TEXT_RECORDS: dict[TextKind, tuple[Any, Any, Any]] = {
    "text": (TextStart, TextDelta, TextEnd),
    "reasoning": (ReasoningStart, ReasoningDelta, ReasoningEnd),
}


def finished(*sent_deltas: dict[str, Any]) -> Shown:
    recorder, records = recorded(*sent_deltas, is_over=True)
    return Shown(records + recorder.finish("stop", {"usage": {}}))


# Texts


def test_a_plain_answer_is_the_smallest_good_stream() -> None:
    recorder, records = recorded({"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {})
    records += recorder.finish("stop", {"usage": {"total": 5}})
    assert [json.loads(chunk) for chunk in records] == [
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
    recorder, records = recorded({"content": text}, {"reasoning": text})
    assert [part["text"] for part in Shown(records + recorder.finish("stop", {})).parts] == [text, text]
    assert [part["text"] for part in message_parts(recorder)] == [text, text]


@pytest.mark.parametrize(
    "nothing",
    [[], [{"choices": []}], [{"choices": None}], [{"choices": [{"delta": None}]}], [{"usage": {"prompt_tokens": 1}}]],
)
def test_what_no_client_could_see_makes_no_chunk(nothing: list[dict[str, Any]]) -> None:
    recorder = Recorder()
    assert completion(recorder).write(msgspec.convert(nothing, list[AnswerChunk])) == []
    assert (recorder.emitted, recorder.parts.encoded()) == (0, [])


def test_what_was_visible_is_counted() -> None:
    recorder, _ = recorded(
        {"content": "a"}, {"reasoning": "b"}, call(0, "{", id="c", name="f"), call(0, "}"), {"content": ""}
    )
    assert recorder.emitted == 4


# Tools


def test_a_tool_call_in_pieces_is_one_part() -> None:
    shown = finished(call(0, "", id="c1", name="find"), call(0, '{"q":'), call(0, ' "x"}'))
    assert shown.parts == [
        {"type": "tool-find", "toolCallId": "c1", "state": "input-available", "input": {"q": "x"}},
    ]


def test_a_tool_call_ends_the_text_before_it() -> None:
    _, records = recorded({"content": "look: "}, call(0, "{}", id="c1", name="f"))
    assert types(records)[3:] == ["text-start", "text-delta", "text-end", "tool-input-start", "tool-input-delta"]


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


def test_a_call_that_never_gets_a_name_is_one_that_failed() -> None:
    [part] = finished(call(0, "{}", id="c")).parts
    assert (part["type"], part["state"]) == ("tool-unknown", "output-error")


@pytest.mark.parametrize("arguments", ["", "{}"])
def test_a_call_without_arguments_has_an_empty_input(arguments: str) -> None:
    shown = finished(call(0, arguments, id="c", name="f"))
    assert (shown.parts[0]["state"], shown.parts[0]["input"]) == ("input-available", {})


PRETTY = ['{\n  "a": 1,\n  "b": [\n    2\n  ]\n}', '{"a":\r\n1}', "[\n1,\r2\t]", '\n{"a":1}\n']


@pytest.mark.parametrize("arguments", PRETTY)
def test_arguments_over_several_lines_stay_on_one_line(arguments: str) -> None:
    recorder, records = recorded(call(0, arguments, id="c", name="f"))
    shown = Shown(records + recorder.finish("tool-calls", {}))
    assert shown.parts[0]["input"] == json.loads(arguments)


@pytest.mark.parametrize("arguments", PRETTY)
def test_arguments_over_several_lines_are_stored_on_one_line(arguments: str) -> None:
    recorder, _ = recorded(call(0, arguments, id="c", name="f"))
    recorder.finish("tool-calls", {})
    assert [b"\n" in bytes(part) or b"\r" in bytes(part) for part in recorder.parts.encoded()] == [False]


def test_numbers_and_order_in_arguments_stay_as_the_model_wrote_them() -> None:
    arguments = '{"z":1.10,"a":12345678901234567890123,"e":1e300}'
    recorder, _ = recorded(call(0, arguments, id="c", name="f"))
    assert arguments.encode() in recorder.finish("tool-calls", {})[0]


INVALID = ['{"a":', "{'a': 1}", "not json", "{} {}", '{"a":1}}', "\ufeff{}", "NaN"]


@pytest.mark.parametrize("arguments", INVALID)
def test_arguments_that_are_no_json_are_told_as_an_error(arguments: str) -> None:
    recorder, records = recorded(call(0, arguments, id="c", name="f"))
    shown = Shown(records + recorder.finish("tool-calls", {}))
    assert (shown.parts[0]["state"], shown.parts[0]["rawInput"]) == ("output-error", arguments)
    assert shown.parts[0]["errorText"]


def test_a_call_with_invalid_arguments_is_stored_as_it_was_shown() -> None:
    recorder, records = recorded(call(0, '{"a":', id="c", name="f"))
    assert message_parts(recorder)[0]["state"] == "input-streaming"
    shown = Shown(records + recorder.finish("tool-calls", {}))
    assert message_parts(recorder)[0]["state"] == shown.parts[0]["state"] == "output-error"


@pytest.mark.parametrize("end", ["finish", "error"])
def test_arguments_that_are_nested_too_deeply_are_no_json(end: str) -> None:
    """A model that repeats itself writes such arguments."""
    recorder, records = recorded(call(0, "[" * 5000, id="c", name="f"))
    records += recorder.finish("stop", {}) if end == "finish" else recorder.error("no", {})
    assert Shown(records).ending is not None
    assert message_parts(recorder)[0]["toolCallId"] == "c"


# Stored bytes


@pytest.mark.parametrize("text", ["a", "\n", '"\\', "\0", "\u2028", "\U0001f600", "é", "</script>", ""])
@pytest.mark.parametrize("kind", ["text", "reasoning"])
def test_a_delta_from_the_template_has_the_bytes_of_the_encoded_record(kind: TextKind, text: str) -> None:
    """A token is put together without its Struct; nothing that reads the log may be able to tell."""
    start, delta, end = TEXT_RECORDS[kind]
    recorder, records = Recorder(), list[bytes]()
    recorder.text(kind, text, records)
    recorder.text(kind, text, records)
    recorder.close_text(records)
    text_id = f"{kind[0]}0"
    expected = [start(id=text_id), *[delta(id=text_id, delta=text)] * 2, end(id=text_id)]
    assert records == [encode_record(record) for record in expected]


def test_a_delta_with_fields_of_its_provider_goes_on_with_the_text_before_it() -> None:
    recorder, records = Recorder(), list[bytes]()
    recorder.text("text", "a", records)
    recorder.text_with_fields("text", "b", Raw(b'{"acme":{"x":1}}'), records)
    recorder.text("text", "c", records)
    assert types(records) == ["text-start", *["text-delta"] * 3]
    assert message_parts(recorder) == [
        {"type": "text", "text": "abc", "state": "done", "providerMetadata": {"acme": {"x": 1}}}
    ]


# Steps


def test_steps_are_parted_in_the_message_and_texts_keep_ids_of_their_own() -> None:
    recorder = Recorder()
    records = recorder.start("m")
    recorder.text("text", "a", records)
    records += recorder.next_step()
    recorder.text("text", "b", records)
    records += recorder.finish("stop", {})
    assert types(records) == [
        "start",
        *["start-step", "text-start", "text-delta", "text-end", "finish-step"] * 2,
        "finish",
    ]
    assert [part.get("text") for part in message_parts(recorder)] == ["a", None, "b"]
    assert message_parts(replayed(records)) == message_parts(recorder)
