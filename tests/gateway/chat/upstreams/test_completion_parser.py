"""The shapes of a completion stream in the wild: what is complete, what is cut, what each chunk brings."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.upstreams.completion_parser import MAX_FRAME_BYTES, CompletionParser
from gateway.errors import UpstreamCut
from tests.support.completions import END, HEAD, HELLO, USAGE, Read, chunk, frames

# Complete or cut

COMPLETE = {
    "OpenAI: finish_reason, then [DONE]": HELLO + END,
    "finish_reason without [DONE]": HELLO + frames(chunk(finish="stop")),
    "[DONE] without finish_reason": HELLO + frames(b"[DONE]"),
    "[DONE] without a blank line": HELLO + b"data: [DONE]",
    "[DONE] with one line end": HELLO + b"data: [DONE]\n",
    "[DONE] with CRLF and no blank line": HELLO + b"data: [DONE]\r\n",
    "[DONE] and spaces": HELLO + b"data:  [DONE] \n\n",
    "[DONE] without the space": HELLO + b"data:[DONE]\n\n",
    "no space after the colon": HELLO.replace(b"data: ", b"data:") + frames(b"[DONE]"),
    "CRLF": (HELLO + END).replace(b"\n", b"\r\n"),
    "CR": (HELLO + END).replace(b"\n", b"\r"),
    "mixed line ends": HELLO.replace(b"\n\n", b"\r\n\n") + END.replace(b"\n\n", b"\n\r\n"),
    "a BOM": b"\xef\xbb\xbf" + HELLO + END,
    "OpenRouter: comments before the first token": b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
    + HELLO
    + END,
    "comments glued to frames": HELLO.replace(b"data: ", b": ping\ndata: ") + b": bye\n" + END,
    "empty comments": b":\n\n:\n\n" + HELLO + END,
    "blank lines everywhere": b"\n\n\n" + HELLO.replace(b"\n\n", b"\n\n\n\n\n") + END,
    "an id, an event name and a retry on each frame": HELLO.replace(
        b"data: ", b"id: 7\nevent: message\nretry: 100\ndata: "
    )
    + END,
    "unknown fields": HELLO.replace(b"data: ", b"x-trace: 1\nnonsense\ndata: ") + END,
    "empty data": b"data:\n\ndata: \n\n" + HELLO + END,
    "error: null": frames(*(line[6:-1] + b', "error": null}' for line in HELLO.split(b"\n\n") if line)) + END,
    "error : null with spaces": HELLO + frames(b'{ "error" : null , "choices" : [ ] }') + END,
    "an error of nothing": frames(b'{"error":{}}', b'{"error":[]}', b'{"error":""}', b'{"error":{"code":null}}')
    + HELLO
    + END,
    "words that are no JSON": frames(b"ping", b"<html>", b"7", b'"x"', b"keep-alive", b"[]") + HELLO + END,
    "frames parted by one line end": (HELLO + END).replace(b"\n\n", b"\n"),
    "JSON lines": HELLO.replace(b"data: ", b"").replace(b"\n\n", b"\n") + chunk(finish="stop"),
    "data twice": HELLO.replace(b"data: ", b"data: data: ") + END,
    "a whole completion": b'{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}',
    "a whole completion on lines": b'{\n "choices": [\n {"message": {"content": "Hello"},\n"finish_reason": "eos"}]}\n',
    "a whole completion in a frame": frames(b'{"choices":[{"message":{"content":"Hello"}}]}', b"[DONE]"),
    "a list of chunks": b"[" + chunk({"content": "Hello"}) + b"," + chunk(finish="stop") + b"]",
    "a last message that says all of it again": HELLO
    + frames(b'{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}'),
    "a text completion": frames(b'{"choices":[{"text":"Hello","index":0}]}', b"[DONE]"),
    "content as parts": frames(chunk({"content": [{"type": "text", "text": "Hel"}, "lo"]})) + END,  # type: ignore[dict-item]
    "NaN and bad bytes": frames(b'{"choices":[{"delta":{"content":"Hello","x":"\xff","y":NaN}}]}') + END,
    "an empty object": frames(b"{}") + HELLO + END,
    "Azure: a first chunk without choices": frames(b'{"choices":[],"prompt_filter_results":[]}') + HELLO + END,
    "choices: null": frames(b'{"choices":null}') + HELLO + END,
    "delta: null": frames(b'{"choices":[{"delta":null}]}') + HELLO + END,
    "content: null": frames(chunk({"role": "assistant", "content": None})) + HELLO + END,
    "Unicode, escaped and not": frames(chunk({"content": "Hel"}), b'{"choices":[{"delta":{"content":"lo"}}]}') + END,
}


@pytest.mark.parametrize("stream", COMPLETE.values(), ids=COMPLETE.keys())
def test_a_complete_stream_is_complete(stream: bytes) -> None:
    read = Read(stream)
    assert (read.text, read.parser.complete, read.parser.error) == ("Hello", True, None)


@pytest.mark.parametrize("stream", COMPLETE.values(), ids=COMPLETE.keys())
def test_a_stream_that_comes_byte_by_byte_is_the_same(stream: bytes) -> None:
    read = Read(*(stream[at : at + 1] for at in range(len(stream))))
    assert (read.text, read.parser.complete, read.parser.error) == ("Hello", True, None)


CUT = {
    "nothing at all": b"",
    "a comment only": b": OPENROUTER PROCESSING\n\n",
    "no sign of an end": HELLO,
    "within a frame": HELLO + b'data: {"choices":[{"delta":{"content":"!"}',
    "a finish_reason in a line that is not over": HELLO + frames(chunk(finish="stop"))[:-4],
    "a finish_reason that is empty": HELLO + frames(chunk(finish="")),
    "within [DONE]": HELLO + b"data: [DON",
    "DONE in a comment": HELLO + b": [DONE]\n\n",
    "DONE as a text": HELLO + frames(chunk({"content": "[DONE]"})),
}


@pytest.mark.parametrize("stream", CUT.values(), ids=CUT.keys())
def test_a_stream_that_ends_without_saying_so_was_cut(stream: bytes) -> None:
    read = Read(stream)
    assert not read.parser.complete
    assert isinstance(read.error, UpstreamCut)


@pytest.mark.parametrize(
    "end",
    [
        b"data:[DONE]",
        b": bye\ndata: [DONE]\n",
        frames(chunk(finish="stop")).replace(b"\n", b"\r"),
    ],
    ids=["no space", "after a comment", "CR CR"],
)
def test_an_unusual_last_frame_is_an_end_too(end: bytes) -> None:
    assert Read(HELLO, end).parser.complete


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
@pytest.mark.parametrize(
    "last", [b"data: [DONE]", b'data: {"choices":[{"delta":{"content":"!"},"finish_reason":"stop"}]}']
)
def test_a_last_frame_is_read_whatever_its_end(last: bytes, end: bytes) -> None:
    read = Read(HELLO, b'data: {"choices":[{"delta":{"content":"?"}}]}\n' + last + end)
    assert (read.parser.complete, read.text[:6]) == (True, "Hello?")


CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}]}
LAST_CHUNKS = {
    "a call": chunk(CALL),
    "a legacy call": chunk({"function_call": {"name": "f", "arguments": '{"a":1}'}}),
    "reasoning": chunk({"reasoning_content": "hm"}),
    "a refusal": chunk({"refusal": "no"}),
    "a picture": chunk({"images": [{"image_url": {"url": "data:,"}}]}),
    "usage": json.dumps({**HEAD, "choices": [], "usage": USAGE}).encode(),
    "citations": chunk(citations=["http://a"]),
}


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\ndata: [DONE]", b"\n: bye\ndata: [DONE]\n"])
@pytest.mark.parametrize("last", LAST_CHUNKS.values(), ids=LAST_CHUNKS)
def test_what_a_last_frame_brings_is_the_same_whatever_its_end(last: bytes, end: bytes) -> None:
    def brought(*pieces: bytes) -> tuple[Any, ...]:
        read = Read(HELLO, *pieces)
        return read.deltas, read.parser.usage, read.parser.facts

    assert brought(b"data: " + last + end) == brought(frames(last, b"[DONE]")) != brought(frames(b"[DONE]"))


def test_half_of_a_last_line_is_a_cut_and_half_of_a_line_before_it_is_no_chunk() -> None:
    assert Read(HELLO + b'data: {"choices":[{"del').error.code == "upstream_cut"
    assert Read(HELLO + b'data: {"choices":[{"del\ndata: [DONE]').error.code == "upstream_invalid"


def test_an_error_in_a_last_line_without_an_end_is_one() -> None:
    assert Read(HELLO + b'data: {"error":{"message":"no","code":429}}').error.status == 429


def test_lines_of_a_stream_without_blank_lines_are_read_as_they_come() -> None:
    parser = CompletionParser()
    lines = [line + b"\n" for line in HELLO.split(b"\n\n") if line]
    assert [len(parser.feed(line)) for line in lines] == [0, 1, 1]


def test_what_follows_done_in_the_same_bytes_is_ignored() -> None:
    read = Read(HELLO + END + frames(chunk({"content": "more"})) + b"data: {broken\n\n")
    assert (read.text, read.parser.error) == ("Hello", None)


def test_what_follows_done_later_is_ignored_too() -> None:
    read = Read(HELLO + END, frames(chunk({"content": "more"})))
    assert read.text == "Hello"


@pytest.mark.parametrize("split", range(1, 6))
def test_a_character_cut_in_its_middle_is_whole_again(split: int) -> None:
    stream = b'data: {"choices":[{"delta":{"content":"\xf0\x9f\x98\x80\xc3\xa9"}}]}\n\n' + END
    at = stream.index(b"\xf0") + split
    assert Read(stream[:at], stream[at:]).text == "\U0001f600\u00e9"


def test_data_over_several_lines_is_one_chunk() -> None:
    pretty = json.dumps(json.loads(chunk({"content": "Hello"})), indent=1).encode()
    stream = b"".join(b"data: %b\n" % line for line in pretty.split(b"\n")) + b"\n"
    assert Read(stream + END).text == "Hello"


# What a chunk brings


def test_reasoning_comes_under_either_name() -> None:
    read = Read(frames(chunk({"reasoning_content": "hm"}), chunk({"reasoning": "so", "reasoning_details": [{}]})) + END)
    assert [delta.reasoning_content or delta.reasoning for delta in read.deltas] == ["hm", "so", None]


def test_a_refusal_is_read() -> None:
    assert Read(frames(chunk({"refusal": "no"})) + END).deltas[0].refused == "no"


def test_tool_calls_come_in_pieces_by_index() -> None:
    first = {"index": 1, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    read = Read(
        frames(
            chunk({"tool_calls": [first]}),
            chunk({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
            chunk(finish="tool_calls"),
        )
    )
    calls = [call for delta in read.deltas for call in delta.tool_calls or ()]
    assert [(c.index, c.id, c.function.name, c.function.arguments) for c in calls] == [
        (1, "c1", "f", ""),
        (1, None, None, "{}"),
    ]
    assert read.parser.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c", "function": {"name": "f", "arguments": "{}"}},
        {"index": 0, "id": "c", "type": None, "function": {"name": "f", "arguments": None}},
        {"index": 0, "id": "c", "function": None},
    ],
    ids=["Gemini: no index", "nulls", "no function"],
)
def test_tool_calls_of_lesser_servers_are_read(call: dict[str, Any]) -> None:
    read = Read(frames(chunk({"tool_calls": [call]})) + END)
    assert (read.parser.error, read.deltas[0].tool_calls[0].id) == (None, "c")


def test_usage_comes_in_a_last_chunk_without_choices() -> None:
    last = json.dumps({**HEAD, "choices": [], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}}})
    read = Read(HELLO + frames(chunk(finish="stop"), last.encode(), b"[DONE]"))
    usage = read.parser.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 2, 5)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 1


def test_usage_on_every_chunk_counts_once_and_last() -> None:
    """vLLM with continuous usage figures sends usage with every chunk."""
    each = [chunk({"content": "x"}, usage={**USAGE, "completion_tokens": n}) for n in (1, 2, 3)]
    read = Read(frames(*each) + END)
    assert read.parser.usage is not None
    assert read.parser.usage.completion_tokens == 3


def test_usage_that_is_null_erases_nothing() -> None:
    read = Read(frames(chunk(usage=USAGE), chunk(usage=None)) + END)
    assert read.parser.usage is not None


# Bounds


def test_a_frame_without_an_end_fails_the_stream() -> None:
    parser = CompletionParser()
    piece = b"data: " + b"x" * 262_144
    fed = 0
    while parser.error is None:
        assert parser.feed(piece) == []
        fed += len(piece)
        assert fed <= MAX_FRAME_BYTES + len(piece)
    assert str(MAX_FRAME_BYTES) in parser.error.detail


def test_a_frame_just_below_the_limit_is_read() -> None:
    text = "x" * (MAX_FRAME_BYTES - 1000)
    stream = frames(chunk({"content": text})) + END
    pieces = [stream[at : at + 262_144] for at in range(0, len(stream), 262_144)]
    assert Read(*pieces).text == text


def test_many_small_frames_are_not_one_long_frame() -> None:
    parser = CompletionParser()
    frame = frames(chunk({"content": "x" * 1000}))
    for _ in range(2 * MAX_FRAME_BYTES // len(frame)):
        parser.feed(frame[:-1])
        parser.feed(frame[-1:])
    assert parser.error is None


def test_a_chunk_is_decoded_to_what_was_sent() -> None:
    text = 'quote " backslash \\ newline \n tab \t \u2028 \U0001f600'
    assert Read(frames(msgspec.json.encode({"choices": [{"delta": {"content": text}}]})) + END).text == text
