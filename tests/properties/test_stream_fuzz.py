"""Whatever an upstream sends, an answer ends once, loses no text that came, and offers no call that did not come.

Chunks are drawn with any JSON value at any key that is read, beside a text and pieces of calls that are known; their
bytes are cut anywhere, and end anyhow. `STREAM_FUZZ_EXAMPLES=20000` draws that many streams.
"""

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.chat.producers.completion_records import CompletionRecords
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.completion_parser import CompletionParser
from gateway.chat.upstreams.finish_reasons import finish_reason_of
from gateway.core.loose_json import strict_json, whole_text
from tests.support.shown import Shown

EXAMPLES = int(os.environ.get("STREAM_FUZZ_EXAMPLES", "150"))
LETTERS = st.text('ab "\\{}[]:,\n\u00e9\U0001f600\ud83d\ude00', max_size=5)
WORDS = st.sampled_from(
    ["stop", "error", "LENGTH", "null", "tool_calls", "bored", "", "function", "text", "f", "g", "{}"]
)
KEYS = [
    *("id", "object", "model", "choices", "usage", "error", "message", "code", "type", "created", "x_groq", "detail"),
    *("index", "delta", "finish_reason", "logprobs", "text", "role", "content", "reasoning", "reasoning_content"),
    *("refusal", "tool_calls", "function_call", "function", "custom", "name", "arguments", "input", "audio", "images"),
    *("thinking", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "status", "x"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(width=16) | st.just(10**40) | LETTERS | WORDS,
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.sampled_from(KEYS), value, max_size=4),
    max_leaves=8,
)
FRAME_KEYS = ["id", "model", "usage", "error", "object", "type", "code", "created", "system_fingerprint", "x", "x_groq"]
CHOICE_KEYS = ["index", "finish_reason", "logprobs", "usage", "x", "message"]
DELTA_KEYS = [
    "role",
    "audio",
    "images",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning",
    "reasoning_content",
    "x",
]
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LASTS = st.sampled_from(
    [
        b"",
        b"data: [DONE]",
        b"data: [DONE]\n\n",
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}',
        b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"MALFORMED_FUNCTION_CALL"}]}\n\ndata: [DONE]\n\n',
        b'data: {"error":{"message":"no"}}\n',
        b'data: {"choices":[{"delta":{"content":"half of a li',
        b"event: error\ndata: no\n\n",
        b"data: ping\n\n",
    ]
)


def noise(draw: st.DrawFn, keys: list[str]) -> dict[str, Any]:
    return draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=2)) if draw(st.booleans()) else {}


@st.composite
def spoken_chunks(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """Draws a chunk with a text that nobody else sends, in one of the forms of a text."""
    text = f"<{number}>"
    part = {"type": draw(st.sampled_from(["text", "output_text"])), "text": text}
    content = draw(st.sampled_from([text, [text], part, [part], [{"text": {"value": text}}]]))
    delta = {**noise(draw, DELTA_KEYS), "content": content}
    return {**noise(draw, FRAME_KEYS), "choices": [{**noise(draw, CHOICE_KEYS), "delta": delta}]}


@st.composite
def calling_chunks(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a chunk with a piece of a call, any field of which may be missing."""
    arguments = draw(st.sampled_from(["", "{", '{"a"', ":1}", '{"a":1}', "}", "{}", "1"]) | VALUES)
    function = {"name": draw(st.sampled_from(["f", "g", ""])), "arguments": arguments}
    call = {"index": draw(st.integers(0, 2)), "id": draw(st.sampled_from(["1", "2", ""])), "function": function}
    for fields in (call, function):
        for name in draw(st.lists(st.sampled_from([*fields]), max_size=2)):
            fields.pop(name, None)
    return {"choices": [{"delta": {"tool_calls": [call]}}]}


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Any], bytes]:
    """Draws the chunks of a stream, and its bytes."""
    chunks: list[Any] = []
    for number in range(draw(st.integers(0, 6))):
        chunks.append(draw(spoken_chunks(number) | calling_chunks() | VALUES))
    blank = draw(st.sampled_from([b"\n\n", b"\n\n", b"\n", b"\n: ping\n\n", b"\n\n\n"]))
    texts = [json.dumps(chunk, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass") for chunk in chunks]
    return chunks, b"".join(b"data: %b%b" % (text, blank) for text in texts)


class Heard:
    """An answer, as a run makes it of the pieces of a stream."""

    def __init__(self, pieces: list[bytes]) -> None:
        recorder, parser = Recorder(), CompletionParser()
        translation = CompletionRecords(recorder, "up")
        self.records = recorder.start("m") + recorder.speaker("m")
        for piece in pieces:
            self.records += translation.write(parser.feed(piece))
            if parser.done or parser.error:
                break
        else:
            self.records += translation.write(parser.end())
        self.error = None if parser.complete else parser.error
        assert parser.complete or parser.error is not None
        if self.error is not None:
            self.records += recorder.error(self.error.detail, {"code": self.error.code})
            return
        self.records += translation.end()
        self.records += recorder.finish(finish_reason_of(parser.finish_reason) or "other", {})

    def chunks(self, kind: str) -> Iterator[dict[str, Any]]:
        return (chunk for chunk in map(json.loads, self.records) if chunk["type"] == kind)

    @property
    def text(self) -> str:
        return "".join(chunk["delta"] for chunk in self.chunks("text-delta"))


def sent_arguments(value: Any) -> Iterator[str]:
    """Yields every text that could be a piece of a call's arguments."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name in ("arguments", "input", "parameters"):
            yield inner if isinstance(inner, str) else strict_json(json.loads(json.dumps(inner))).decode()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from sent_arguments(inner)


def compact(text: str) -> str:
    """Returns a text as it is compared: halves of pairs, blanks and forms of numbers do not count."""
    return "".join(letter for letter in whole_text(text) if letter.isascii() and letter not in ' \n+.0"\\')


def is_made_of(text: str, pieces: set[str]) -> bool:
    reached = {0}
    for at in range(len(text)):
        if at in reached:
            reached |= {at + len(piece) for piece in pieces if piece and text.startswith(piece, at)}
    return len(text) in reached


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(at)]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams(), LASTS, LINE_ENDS, st.lists(st.integers(0, 3000), max_size=6), st.just(0) | st.integers(0, 3000))
def test_an_answer_ends_once_and_is_what_came(
    stream: tuple[list[Any], bytes], last: bytes, line_end: bytes, cuts: list[int], lost: int
) -> None:
    chunks, body = stream
    sent = (body + last).replace(b"\n", line_end)
    sent = sent[: len(sent) - lost % (len(sent) + 1)]
    heard = Heard(pieces_of(sent, cuts))
    assert heard.records == Heard([sent]).records, "no cut changes what is heard"

    ends = [chunk["type"] for kind in ("finish", "error", "abort") for chunk in heard.chunks(kind)]
    assert len(ends) == 1
    shown = [record for record in heard.records if json.loads(record)["type"] != "data-provider"]
    assert Shown(shown).ending is not None

    texts = [f"<{number}>" for number in range(len(chunks)) if b'"<%d>"' % number in sent]
    found = [text for text in texts if text in heard.text]
    assert found == (texts[: len(found)] if heard.error else texts), "no text that came is lost"
    assert heard.text.replace("half of a li", "") == heard.text

    arguments = {compact(piece) for chunk in chunks for piece in sent_arguments(chunk)}
    written: dict[str, str] = {}
    for chunk in heard.chunks("tool-input-delta"):
        written[chunk["toolCallId"]] = written.get(chunk["toolCallId"], "") + chunk["inputTextDelta"]
    for chunk in heard.chunks("tool-input-available"):
        text = written[chunk["toolCallId"]]
        assert not heard.error
        assert is_made_of(compact(text), arguments) if text else "" in arguments
