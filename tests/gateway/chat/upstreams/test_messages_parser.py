"""A stream of Anthropic's format is read the same however its bytes are cut, and is whole or an error."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.upstreams.messages_parser import MessagesParser
from gateway.errors import UpstreamCut

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        },
    },
}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    start = {"type": "content_block_start", "index": index, "content_block": content}
    pieces = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [start, *pieces, {"type": "content_block_stop", "index": index}]


EVENTS = [
    START,
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."},
        {"type": "signature_delta", "signature": "EqQB"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "sealed"}),
    *block(
        2,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Ich "},
        {"type": "text_delta", "text": "prüfe."},
    ),
    *block(
        3,
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city": "Zü'},
        {"type": "input_json_delta", "partial_json": 'rich"}'},
    ),
    *block(4, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 31},
    },
    {"type": "message_stop"},
]


def stream(events: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n".encode() for e in events)


def read(*pieces: bytes) -> tuple[MessagesParser, dict[str, Any]]:
    """Returns the parser, and what the chunks say together."""
    parser = MessagesParser()
    chunks = [chunk for piece in pieces for chunk in parser.feed(piece)]
    chunks += parser.end()
    told: dict[str, Any] = {"text": "", "thought": "", "calls": {}, "blocks": []}
    for delta in (choice.delta for chunk in chunks for choice in chunk.choices or () if choice.delta):
        told["text"] += delta.content or ""
        told["thought"] += delta.reasoning_content or ""
        for call in delta.tool_calls or ():
            assert call.function is not None
            one = told["calls"].setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            one["id"] += call.id or ""
            one["name"] += call.function.name or ""
            one["arguments"] += call.function.arguments or ""
        if isinstance(raw := getattr(delta, "unknown", None), msgspec.Raw):
            told["blocks"] += msgspec.json.decode(raw)["thinking_blocks"]
    return parser, told


SAID = {
    "text": "Ich prüfe.",
    "thought": "Let me see.",
    "calls": {
        0: {"id": "toolu_1", "name": "look", "arguments": '{"city": "Zürich"}'},
        1: {"id": "toolu_2", "name": "now", "arguments": ""},
    },
    "blocks": [
        {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "sealed"},
    ],
}


def test_an_answer_is_read_the_same_wherever_its_bytes_are_cut() -> None:
    data = stream(EVENTS)
    for end in (*range(0, len(data), 7), len(data)):
        parser, told = read(data[:end], data[end:])
        assert told == SAID
        assert (parser.error, parser.done, parser.finish_reason) == (None, True, "tool_use")
        assert (parser.facts["id"], parser.facts["model"]) == ("msg_1", "claude")
        usage = parser.usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 31, 41)
        assert usage.prompt_tokens_details.cached_tokens == 3
    assert read(*(data[n : n + 1] for n in range(len(data))))[1] == SAID


def test_a_stream_without_its_end_is_an_error() -> None:
    data = stream(EVENTS[:8])
    assert isinstance(read(data)[0].error, UpstreamCut)
    assert read(stream(EVENTS[:-1]))[0].error is None, "the reason to stop was told"


@pytest.mark.parametrize(
    ("kind", "status"), [("overloaded_error", 502), ("rate_limit_error", 429), ("invalid_request_error", 400)]
)
def test_an_error_in_the_stream_is_that_error(kind: str, status: int) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "no more"}}
    parser, told = read(stream([*EVENTS[:10], error, *EVENTS[10:]]))
    assert parser.error is not None
    assert "no more" in parser.error.detail
    assert told["calls"] == {}
    assert parser.error.status == status


def test_what_is_no_event_is_an_error() -> None:
    parser, _ = read(b"data: {nonsense}\n\n")
    assert parser.error is not None
    assert parser.error.code == "upstream_invalid"
