"""What an upstream says, as records and the message that they make; and a run that is over."""

import json
from typing import Any

import msgspec

from gateway.chat.producers.completion_records import CompletionRecords
from gateway.chat.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk

PROVIDER = "acme"


def deltas(*found: dict[str, Any]) -> list[AnswerChunk]:
    """One chunk of an upstream for each delta."""
    return msgspec.convert([{"choices": [{"delta": delta}]} for delta in found], list[AnswerChunk])


def call(index: int, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    """One piece of a tool call; `id` and `name` come with the first."""
    function = {"name": more.pop("name", None), "arguments": arguments}
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def completion(recorder: Recorder) -> CompletionRecords:
    return CompletionRecords(recorder, PROVIDER)


def recorded(*found: dict[str, Any]) -> tuple[Recorder, list[bytes]]:
    """A recorder to which these deltas were given, and all its records so far."""
    recorder = Recorder()
    first = recorder.start("m") + recorder.speaker("gpt")
    return recorder, first + completion(recorder).write(deltas(*found))


def types(records: list[bytes]) -> list[str]:
    return [json.loads(record)["type"] for record in records]


def kept(recorder: Recorder) -> list[dict[str, Any]]:
    """The parts of the message."""
    return [json.loads(bytes(part)) for part in recorder.parts.encoded()]
