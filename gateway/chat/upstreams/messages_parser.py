"""Reads the stream of a server that speaks Anthropic's Messages as chunks of a completion. Pure.

What a model has thought is signed, and such a server takes a conversation with calls of tools only with what was
thought before them. So each block of thinking is passed on whole as well, under the name `thinking_blocks`, which goes
back to that server alone.
"""

from typing import Any

import msgspec
from msgspec import Raw

from gateway.chat.upstreams.chunks import AnswerChunk, Choice, Chunk, ChunkDelta, ExtendedDelta, Function, ToolCall
from gateway.chat.upstreams.event_frames import EventFrames
from gateway.chat.upstreams.loose_fields import JsonFields, object_of
from gateway.chat.upstreams.refusals import in_band_error
from gateway.core.usage import TokenDetails, UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError

THINKING_BLOCKS = "thinking_blocks"
CITATIONS = "citations"
SEALED = "redacted_thinking"
_json = msgspec.json.Encoder().encode


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Raw = Raw(b"null")
    stop_reason: str | None = None


class _TokenCounts(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _StartedMessage(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    usage: _TokenCounts | None = None


class _StreamEvent(msgspec.Struct, gc=False):
    """The fields of any event."""

    type: str = ""
    index: int = 0
    message: _StartedMessage | None = None
    content_block: dict[str, Any] | None = None
    delta: _Delta | None = None
    usage: _TokenCounts | None = None
    error: dict[str, Any] | None = None


class _Thought(msgspec.Struct):
    """A block of thinking, in pieces."""

    thinking: list[str]
    signature: list[str]

    def whole(self) -> dict[str, str]:
        return {"type": "thinking", "thinking": "".join(self.thinking), "signature": "".join(self.signature)}


_event = msgspec.json.Decoder(_StreamEvent).decode


class MessagesParser:
    """An AnswerParser."""

    def __init__(self) -> None:
        self.done = False
        self.finish_reason: str | None = None
        """The upstream's own word for the end of its answer."""
        self.usage: UpstreamUsage | None = None
        self.facts: JsonFields = {}
        self.error: UpstreamError | None = None
        self._frames = EventFrames()
        self._calls: dict[int, int] = {}
        """The number of each call among the calls, by that of its block."""
        self._thoughts: dict[int, _Thought] = {}
        """The blocks of thinking that are open, by number."""
        self._counts = _TokenCounts()

    @property
    def complete(self) -> bool:
        return self.done or self.finish_reason is not None

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
            self.error = UpstreamCut("the upstream's stream ended without a stop_reason and without message_stop")
        return chunks

    def close(self) -> None:
        """Does nothing: it holds nothing that holds it."""

    def _read(self, frames: list[bytes]) -> list[AnswerChunk]:
        chunks: list[AnswerChunk] = []
        for data in frames:
            try:
                event = _event(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.error = UpstreamError("the upstream sent an event that is not valid", code="upstream_invalid")
                break
            delta = self._delta_of(event)
            if delta is not None:
                chunks.append(Chunk(choices=[Choice(delta=delta)]))
            elif event.type == "message_delta":
                chunks.append(Chunk(choices=[Choice(finish_reason=self.finish_reason)], usage=self.usage))
            if self.done or self.error is not None:
                break
        return chunks

    def _delta_of(self, event: _StreamEvent) -> ChunkDelta | None:
        """Returns what an event brings of the answer, if it brings something of it."""
        match event.type:
            case "content_block_delta" if event.delta is not None:
                return self._piece(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                return self._start(event.index, event.content_block)
            case "content_block_stop":
                thought = self._thoughts.pop(event.index, None)
                return None if thought is None else _extended({THINKING_BLOCKS: [thought.whole()]})
            case "message_start" if event.message is not None:
                self.facts |= {"id": event.message.id, "model": event.message.model}
                self._count(event.message.usage)
            case "message_delta":
                self._count(event.usage)
                word = event.delta.stop_reason if event.delta is not None else None
                self.finish_reason = word or self.finish_reason
            case "message_stop":
                self.done = True
            case "error":
                self.error = in_band_error(object_of(event.error))
            case _:
                pass  # a ping, or what a newer server adds
        return None

    def _start(self, index: int, block: dict[str, Any]) -> ChunkDelta | None:
        kind = block.get("type")
        if kind == "tool_use":
            number = self._calls[index] = len(self._calls)
            given = block.get("input")
            function = Function(name=str(block.get("name")), arguments=_json(given).decode() if given else "")
            return ChunkDelta(tool_calls=[ToolCall(index=number, id=str(block.get("id")), function=function)])
        if kind == "thinking":
            self._thoughts[index] = _Thought([], [str(block.get("signature") or "")])
            return self._piece(index, _Delta(thinking=str(block.get("thinking") or "")))
        if kind == SEALED:
            return _extended({THINKING_BLOCKS: [{"type": kind, "data": block.get("data")}]})
        return ChunkDelta(content=block["text"]) if kind == "text" and block.get("text") else None

    def _piece(self, index: int, delta: _Delta) -> ChunkDelta | None:
        if delta.text:
            return ChunkDelta(content=delta.text)
        if delta.partial_json and index in self._calls:
            call = ToolCall(index=self._calls[index], function=Function(arguments=delta.partial_json))
            return ChunkDelta(tool_calls=[call])
        if delta.type == "citations_delta":
            return _extended({CITATIONS: [delta.citation]})
        thought = self._thoughts.get(index)
        if thought is not None:
            thought.thinking.append(delta.thinking)
            thought.signature.append(delta.signature)
        return ChunkDelta(reasoning_content=delta.thinking) if delta.thinking else None

    def _count(self, counts: _TokenCounts | None) -> None:
        """Takes figures, which are those of the whole answer so far: one that is not told is what it was."""
        for name in counts.__struct_fields__ if counts is not None else ():
            if (count := getattr(counts, name)) is not None:
                setattr(self._counts, name, count)
        told = self._counts
        if told.input_tokens is None or told.output_tokens is None:
            return
        cached = told.cache_read_input_tokens or 0
        prompt = told.input_tokens + cached + (told.cache_creation_input_tokens or 0)
        self.usage = UpstreamUsage(
            prompt_tokens=prompt,
            completion_tokens=told.output_tokens,
            total_tokens=prompt + told.output_tokens,
            prompt_tokens_details=TokenDetails(cached_tokens=cached),
        )


def _extended(fields: dict[str, object]) -> ExtendedDelta:
    return ExtendedDelta(unknown=Raw(_json(fields)))
