"""A stream of OpenAI's Responses is read the same however its bytes are cut, and is whole or an error."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.upstreams.responses_parser import ResponsesParser
from gateway.chat.upstreams.responses_upstream import response_body
from gateway.errors import UpstreamCut, UpstreamRefused

USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 31,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 41,
}
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


def response(status: str, **more: Any) -> dict[str, Any]:
    return {"response": {"id": "resp_1", "model": "gpt", "status": status, "output": [], **more}}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def item(index: int, of: dict[str, Any], *between: dict[str, Any], **whole: Any) -> list[dict[str, Any]]:
    added = event("output_item.added", output_index=index, item=of)
    return [added, *between, event("output_item.done", output_index=index, item={**of, **whole})]


FUNCTION = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": ""}
CUSTOM = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "sql", "input": ""}
EVENTS = [
    event("created", **response("in_progress")),
    event("in_progress", **response("in_progress")),
    *item(
        0,
        {"type": "reasoning", "id": "rs_1", "summary": []},
        event("reasoning_summary_part.added", output_index=0, summary_index=0),
        event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Let me "),
        event("reasoning_text.delta", output_index=0, delta="(the same, in full)"),
        event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="see."),
        event("reasoning_summary_part.added", output_index=0, summary_index=1),
        event("reasoning_summary_text.delta", output_index=0, summary_index=1, delta="Yes."),
        encrypted_content="sealed",
    ),
    *item(1, SEARCH),
    *item(
        2,
        {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
        event("output_text.delta", output_index=2, delta="Ich "),
        event("output_text.delta", output_index=2, delta="prüfe."),
        event("output_text.done", output_index=2, text="Ich prüfe."),
    ),
    *item(
        3,
        FUNCTION,
        event("function_call_arguments.delta", output_index=3, delta='{"city": "Zü'),
        event("function_call_arguments.delta", output_index=3, delta='rich"}'),
        event("function_call_arguments.done", output_index=3, arguments='{"city": "Zürich"}'),
        arguments='{"city": "Zürich"}',
    ),
    *item(4, CUSTOM, event("custom_tool_call_input.delta", output_index=4, delta="select 1"), input="select 1"),
    *item(5, {**FUNCTION, "call_id": "call_3", "name": "now"}, arguments="{}"),
    event("completed", **response("completed", usage=USAGE)),
]
SAID = {
    "text": "Ich prüfe.",
    "thought": "Let me see.\n\nYes.",
    "calls": {
        0: {"id": "call_1", "name": "look", "arguments": '{"city": "Zürich"}', "is_custom": False},
        1: {"id": "call_2", "name": "sql", "arguments": "select 1", "is_custom": True},
        2: {"id": "call_3", "name": "now", "arguments": "{}", "is_custom": False},
    },
    "unknown": [{"reasoning_items": [SEALED]}, {"output_items": [SEARCH]}],
}


def stream(events: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n".encode() for e in events)


def read(*pieces: bytes) -> tuple[ResponsesParser, dict[str, Any]]:
    """Returns the parser, and what the chunks say together."""
    parser = ResponsesParser()
    chunks = [chunk for piece in pieces for chunk in parser.feed(piece)]
    chunks += parser.end()
    told: dict[str, Any] = {"text": "", "thought": "", "calls": {}, "unknown": []}
    for delta in (choice.delta for chunk in chunks for choice in chunk.choices or () if choice.delta):
        told["text"] += delta.content or ""
        told["thought"] += delta.reasoning_content or ""
        for call in delta.tool_calls or ():
            assert call.function is not None
            one = told["calls"].setdefault(call.index, {"id": "", "name": "", "arguments": "", "is_custom": False})
            one["id"] += call.id or ""
            one["name"] += call.function.name or ""
            one["arguments"] += call.function.arguments or ""
            one["is_custom"] = getattr(call, "is_custom", False)
        if isinstance(raw := getattr(delta, "unknown", None), msgspec.Raw):
            told["unknown"].append(msgspec.json.decode(raw))
    return parser, told


def test_an_answer_is_read_the_same_wherever_its_bytes_are_cut() -> None:
    data = stream(EVENTS)
    for end in (*range(0, len(data), 11), len(data)):
        parser, told = read(data[:end], data[end:])
        assert told == SAID
        assert (parser.error, parser.done, parser.finish_reason) == (None, True, "tool_calls")
    parser, told = read(*(data[n : n + 1] for n in range(len(data))))
    assert told == SAID
    assert (parser.facts["id"], parser.facts["model"]) == ("resp_1", "gpt")
    usage = parser.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 31, 41)
    assert (usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens) == (3, 8)


def test_a_stream_without_its_end_is_an_error() -> None:
    for count in (1, 9, len(EVENTS) - 1):
        assert isinstance(read(stream(EVENTS[:count]))[0].error, UpstreamCut)


@pytest.mark.parametrize(
    ("last", "word"),
    [
        (event("completed", **response("completed")), "stop"),
        (event("incomplete", **response("incomplete", incomplete_details={"reason": "max_output_tokens"})), "length"),
        (
            event("incomplete", **response("incomplete", incomplete_details={"reason": "content_filter"})),
            "content_filter",
        ),
    ],
)
def test_an_end_is_told_in_the_words_of_a_completion(last: dict[str, Any], word: str) -> None:
    parser, _ = read(stream([EVENTS[0], last]))
    assert (parser.error, parser.finish_reason) == (None, word)


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (
            event("failed", **response("failed", error={"code": "rate_limit_exceeded", "message": "no more"})),
            429,
        ),
        ({"type": "error", "code": "server_error", "message": "no more", "param": None}, 502),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "no more"}}, 400),
    ],
)
def test_an_error_in_the_stream_is_that_error(last: dict[str, Any], status: int) -> None:
    parser, _ = read(stream([*EVENTS[:4], last]))
    assert parser.error is not None
    assert "no more" in parser.error.detail
    assert parser.error.status == status


def test_an_answer_that_was_stopped_there_is_an_error() -> None:
    parser, _ = read(stream([EVENTS[0], event("incomplete", **response("cancelled"))]))
    assert parser.error is not None
    assert parser.error.code == "upstream_aborted"


def test_a_refusal_is_one() -> None:
    parser = ResponsesParser()
    [chunk] = parser.feed(stream([event("refusal.delta", output_index=0, delta="I cannot.")]))
    assert chunk.choices is not None
    assert getattr(chunk.choices[0].delta, "refused", "") == "I cannot."


def test_what_is_no_event_is_an_error() -> None:
    parser, _ = read(b"data: {nonsense}\n\n")
    assert parser.error is not None
    assert parser.error.code == "upstream_invalid"


def test_what_a_server_has_sealed_goes_back_before_what_it_said() -> None:
    call = {"id": "call_2", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    turn = {"role": "assistant", "content": "Ich prüfe.", "tool_calls": [call], "reasoning_items": [SEALED]}
    result = {"role": "tool", "tool_call_id": "call_2", "content": "1"}
    assert response_body({"messages": [turn, result]}, "gpt")["input"] == [
        SEALED,
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ich prüfe."}]},
        {"type": "custom_tool_call", "input": "select 1", "call_id": "call_2", "name": "sql"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "1"},
    ]


def test_nothing_is_kept_at_the_server_and_no_tool_is_strict_unless_it_says_so() -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    body = response_body({"messages": [], "tools": tools, "max_tokens": 9, "reasoning_effort": "low"}, "gpt")
    assert (body["store"], body["stream"], body["max_output_tokens"]) == (False, True, 9)
    assert (body["reasoning"], body["include"]) == ({"effort": "low"}, ["reasoning.encrypted_content"])
    assert body["tools"] == [{"type": "function", "name": "look", "parameters": {}, "strict": False}]


@pytest.mark.parametrize(
    "request_fields",
    [
        {"stop": ["END"]},
        {"seed": 7},
        {"n": 2},
        {"messages": [{"role": "user", "content": [{"type": "video_url"}]}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "hosted"}},
        {"response_format": {"type": "grammar"}},
    ],
)
def test_what_the_format_cannot_say_is_refused_by_its_name(request_fields: dict[str, Any]) -> None:
    with pytest.raises(UpstreamRefused) as refusal:
        response_body({"messages": [], **request_fields}, "gpt")
    assert refusal.value.detail.startswith(f"{list(request_fields)[-1]}: ")
    assert refusal.value.status == 400
