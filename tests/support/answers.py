"""Deltas of an upstream, the records that they become, and the message that those make."""

import json
from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from gateway.chat.producers.completion_records import CompletionRecords
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_parser import CompletionParser

PROVIDER = "acme"


def deltas(*sent: dict[str, Any]) -> list[AnswerChunk]:
    """Returns one chunk of an upstream for each delta, as the parser reads it."""
    bodies = [json.dumps({"choices": [{"delta": delta}]}).encode() for delta in sent]
    parser = CompletionParser()
    chunks = parser.feed(b"".join(b"data: %b\n\n" % body for body in bodies))
    assert parser.error is None
    return chunks


def call(index: int, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    """Returns one piece of a tool call; `id` and `name` come with the first."""
    function = {"name": more.pop("name", None), "arguments": arguments}
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def completion(recorder: Recorder) -> CompletionRecords:
    return CompletionRecords(recorder, PROVIDER)


def recorded(*sent: dict[str, Any], is_over: bool = False) -> tuple[Recorder, list[bytes]]:
    """Returns a recorder to which these deltas were given, and all its records so far; `is_over` when no more come."""
    recorder = Recorder()
    first = recorder.start("m") + recorder.speaker("gpt")
    translation = completion(recorder)
    return recorder, first + translation.write(deltas(*sent)) + (translation.end() if is_over else [])


def types(records: list[bytes]) -> list[str]:
    return [json.loads(record)["type"] for record in records]


def message_parts(recorder: Recorder) -> list[dict[str, Any]]:
    """Returns the parts of the message."""
    return [json.loads(bytes(part)) for part in recorder.parts.encoded()]


def replayed(records: Iterable[bytes], base: Iterable[Raw] = ()) -> Recorder:
    """Returns the recorder as it stood after `records`."""
    recorder = Recorder(base)
    for data in records:
        recorder.replay(data)
    return recorder
