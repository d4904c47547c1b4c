"""Reads the stream of a server that speaks OpenAI's Responses as chunks of a completion. Pure.

What a model has thought may come sealed, and goes back to that server alone, under the name `reasoning_items`. An item
that is none of an answer of ours, such as a call that the server makes itself, is passed on under `output_items`.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from gateway.chat.upstreams.chunks import (
    AnswerChunk,
    Choice,
    Chunk,
    ChunkDelta,
    ExtendedDelta,
    ExtendedToolCall,
    Function,
    ToolCall,
)
from gateway.chat.upstreams.event_frames import EventFrames
from gateway.chat.upstreams.loose_fields import JsonFields, object_of
from gateway.chat.upstreams.refusals import in_band_error
from gateway.core.usage import TokenDetails, UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError

REASONING_ITEMS = "reasoning_items"
OUTPUT_ITEMS = "output_items"
ANNOTATIONS = "annotations"
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Types of the calls that a client makes, and the field with what each is called with."""
FINISH_WORDS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_json = msgspec.json.Encoder().encode


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _ResponseUsage(msgspec.Struct, gc=False):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _ToldResponse(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    status: str = ""
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    usage: _ResponseUsage | None = None


class _ResponseEvent(msgspec.Struct, gc=False):
    """The fields of any event."""

    type: str = ""
    delta: str = ""
    output_index: int = 0
    summary_index: int = 0
    item: dict[str, Any] | None = None
    annotation: Raw = Raw(b"null")
    response: _ToldResponse | None = None
    error: dict[str, Any] | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None


class _StreamedCall(msgspec.Struct):
    number: int
    """Its number among the calls."""
    is_custom: bool
    has_arguments: bool = False


_event = msgspec.json.Decoder(_ResponseEvent).decode


class ResponsesParser:
    """An AnswerParser."""

    def __init__(self) -> None:
        self.done = False
        self.finish_reason: str | None = None
        """The end of the answer in the words of a completion."""
        self.usage: UpstreamUsage | None = None
        self.facts: JsonFields = {}
        self.error: UpstreamError | None = None
        self._frames = EventFrames()
        self._calls: dict[int, _StreamedCall] = {}
        """The calls by the number of their item."""
        self._thought_in = ""
        """The type of the events that tell what was thought: a server may tell it in two ways at once."""

    @property
    def complete(self) -> bool:
        return self.done

    def feed(self, data: bytes) -> list[AnswerChunk]:
        if self.done or self.error is not None:
            return []
        try:
            return self._read(self._frames.feed(data))
        except UpstreamError as err:
            self.error = err
            return []

    def end(self) -> list[AnswerChunk]:
        chunks = [] if self.done or self.error is not None else self._read(self._frames.end())
        if not self.complete and self.error is None:
            self.error = UpstreamCut("the upstream's stream ended without response.completed")
        return chunks

    def close(self) -> None:
        """Does nothing: it holds nothing that holds it."""

    def _read(self, frames: list[bytes]) -> list[AnswerChunk]:
        chunks: list[AnswerChunk] = []
        for data in frames:
            if data == b"[DONE]":
                break
            try:
                event = _event(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.error = UpstreamError("the upstream sent an event that is not valid", code="upstream_invalid")
                break
            delta = self._delta_of(event)
            if delta is not None:
                chunks.append(Chunk(choices=[Choice(delta=delta)]))
            if self.done:
                chunks.append(Chunk(choices=[Choice(finish_reason=self.finish_reason)], usage=self.usage))
            if self.done or self.error is not None:
                break
        return chunks

    def _delta_of(self, event: _ResponseEvent) -> ChunkDelta | None:
        """Returns what an event brings of the answer, if it brings something of it."""
        match event.type:
            case "response.output_text.delta":
                return ChunkDelta(content=event.delta) if event.delta else None
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                return self._thought(event.type, event.delta)
            case "response.reasoning_summary_part.added" if event.summary_index:
                return self._thought("response.reasoning_summary_text.delta", "\n\n")
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                return self._arguments(event.output_index, event.delta)
            case "response.refusal.delta":
                return ExtendedDelta(refused=event.delta)
            case "response.output_text.annotation.added":
                return _extended({ANNOTATIONS: [event.annotation]})
            case "response.output_item.added" if event.item is not None:
                return self._open(event.output_index, event.item)
            case "response.output_item.done" if event.item is not None:
                return self._end_item(event.output_index, event.item)
            case "response.created" if event.response is not None:
                self.facts |= {"id": event.response.id, "model": event.response.model}
            case "response.completed" | "response.incomplete" if event.response is not None:
                self._finish(event.response)
            case "response.failed" if event.response is not None:
                self.error = in_band_error(object_of(event.response.error))
            case "error":
                told = {"code": event.code, "message": event.message, "param": event.param}
                self.error = in_band_error(object_of(event.error) or {**told})
            case _:
                pass  # what says again what was said, or what a newer server adds
        return None

    def _thought(self, told_in: str, text: str) -> ChunkDelta | None:
        self._thought_in = self._thought_in or told_in
        return ChunkDelta(reasoning_content=text) if text and told_in == self._thought_in else None

    def _open(self, index: int, item: dict[str, Any]) -> ChunkDelta | None:
        kind = str(item.get("type"))
        if kind not in CALLS:
            return None
        call = self._calls[index] = _StreamedCall(len(self._calls), kind == "custom_tool_call")
        given = str(item.get(CALLS[kind]) or "")
        call.has_arguments = bool(given)
        function = Function(name=str(item.get("name")), arguments=given)
        return ChunkDelta(tool_calls=[self._piece(call, function, str(item.get("call_id")))])

    def _arguments(self, index: int, piece: str) -> ChunkDelta | None:
        call = self._calls.get(index)
        if call is None or not piece:
            return None
        call.has_arguments = True
        return ChunkDelta(tool_calls=[self._piece(call, Function(arguments=piece))])

    @staticmethod
    def _piece(call: _StreamedCall, function: Function, call_id: str | None = None) -> ToolCall:
        if call.is_custom:
            return ExtendedToolCall(index=call.number, id=call_id, function=function, is_custom=True, unknown=UNSET)
        return ToolCall(index=call.number, id=call_id, function=function)

    def _end_item(self, index: int, item: dict[str, Any]) -> ChunkDelta | None:
        kind = str(item.get("type"))
        if kind in CALLS:
            call = self._calls.get(index)
            if call is None:  # nobody has announced it
                return self._open(index, item)
            return None if call.has_arguments else self._arguments(index, str(item.get(CALLS[kind]) or ""))
        if kind == "message":
            return None
        if kind == "reasoning":
            return _extended({REASONING_ITEMS: [item]}) if item.get("encrypted_content") else None
        return _extended({OUTPUT_ITEMS: [item]})

    def _finish(self, response: _ToldResponse) -> None:
        self._count(response.usage)
        if response.status == "cancelled":
            self.error = UpstreamError("the upstream has given the answer up", code="upstream_aborted")
            return
        self.done = True
        if response.status == "incomplete":
            why = object_of(response.incomplete_details).get("reason")
            self.finish_reason = FINISH_WORDS.get(str(why), str(why or "length"))
        else:
            self.finish_reason = "tool_calls" if self._calls else "stop"

    def _count(self, told: _ResponseUsage | None) -> None:
        if told is None:
            return
        read, written = told.input_tokens_details or _Details(), told.output_tokens_details or _Details()
        self.usage = UpstreamUsage(
            prompt_tokens=told.input_tokens,
            completion_tokens=told.output_tokens,
            total_tokens=told.total_tokens or told.input_tokens + told.output_tokens,
            prompt_tokens_details=TokenDetails(cached_tokens=read.cached_tokens),
            completion_tokens_details=TokenDetails(reasoning_tokens=written.reasoning_tokens),
        )


def _extended(fields: dict[str, object]) -> ExtendedDelta:
    return ExtendedDelta(unknown=Raw(_json(fields)))
