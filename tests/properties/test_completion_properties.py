"""The chunks are the same however the bytes of an upstream are cut into pieces."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_parser import CompletionParser
from tests.support.completions import frames

TEXTS = st.text(max_size=12)
DELTAS = st.one_of(
    st.fixed_dictionaries({"content": TEXTS}),
    st.fixed_dictionaries({"reasoning_content": TEXTS}),
    st.fixed_dictionaries(
        {"tool_calls": st.just([{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}])}
    ),
)
CHUNKS = st.builds(
    lambda delta, ascii: json.dumps({"choices": [{"delta": delta}]}, ensure_ascii=ascii).encode("utf-8", "replace"),
    DELTAS,
    st.booleans(),
)
BETWEEN = st.sampled_from([b"", b": ping\n", b": ping\n\n", b"\n", b"event: message\n", b"id: 1\n", b"retry: 5\n\n"])
LAST = st.sampled_from(
    [
        b"",
        b"data: [DONE]\n\n",
        b"data: [DONE]",
        b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices":[{"finish_reason":"length"}]}\n\n',
        b'data: {"error":{"message":"no","code":500}}\n\n',
        b"event: error\ndata: no\n\n",
        b"data: {broken\n\n",
        b'data: {"choices":[{"delta":{"content":"cut',
    ]
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    body = b"".join(draw(BETWEEN) + frames(text) for text in draw(st.lists(CHUNKS, max_size=8)))
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return bom + (body + draw(LAST)).replace(b"\n", draw(LINE_ENDS))


def read(pieces: list[bytes]) -> tuple[list[AnswerChunk], bool, bool, str | None, tuple[Any, ...]]:
    """Returns everything that a parser says of a stream; it is fed no more once it has failed, as in the gateway."""
    parser = CompletionParser()
    chunks: list[AnswerChunk] = []
    for piece in pieces:
        chunks += parser.feed(piece)
        if parser.done or parser.error:
            break
    else:
        chunks += parser.end()
    error = parser.error
    failure = (error.code, error.status, error.detail) if error else ()
    return chunks, parser.complete, parser.done, parser.finish_reason, failure


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(at)]


@settings(max_examples=150)
@given(streams(), st.lists(st.integers(0, 5000), max_size=8))
def test_no_cut_changes_what_a_stream_says(stream: bytes, cuts: list[int]) -> None:
    assert read(pieces_of(stream, cuts)) == read([stream])


@settings(max_examples=80)
@given(streams())
def test_a_stream_that_comes_byte_by_byte_says_the_same(stream: bytes) -> None:
    assert read([stream[at : at + 1] for at in range(len(stream))]) == read([stream])


@settings(max_examples=80)
@given(st.lists(TEXTS, max_size=20), LINE_ENDS)
def test_every_character_arrives(texts: list[str], line_end: bytes) -> None:
    payloads = [json.dumps({"choices": [{"delta": {"content": text}}]}).encode() for text in texts]
    chunks, complete, _, _, error = read([frames(*payloads, b"[DONE]").replace(b"\n", line_end)])
    contents = [choice.delta.content for chunk in chunks for choice in chunk.choices or () if choice.delta]
    assert (contents, complete, error) == (texts, True, ())


@settings(max_examples=150)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_no_bytes_make_a_parser_raise(stream: bytes, cuts: list[int]) -> None:
    parser = CompletionParser()
    for piece in pieces_of(stream, cuts):
        parser.feed(piece)
    parser.end()
    assert parser.complete or parser.error is not None


@settings(max_examples=80)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
        lambda v: (
            st.lists(v, max_size=3)
            | st.dictionaries(st.sampled_from(["choices", "delta", "error", "usage", "content", "object", "code"]), v)
        ),
    )
)
def test_no_json_makes_a_parser_raise(value: Any) -> None:
    parser = CompletionParser()
    parser.feed(frames(json.dumps(value).encode()))
    parser.end()
    assert parser.error is not None
