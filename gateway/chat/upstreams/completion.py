"""The bytes of an OpenAI-compatible stream → the few fields of each chunk that we need. Pure.

Decides what the openai SDK leaves open: whether the stream was *complete* (a `finish_reason` or `[DONE]` was seen),
and which of the shapes in the wild is an error. A chunk that cannot be decoded fails the stream: skipping it would
lose a token in silence.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError, UpstreamRefused

MAX_FRAME_BYTES = 4_194_304
"""One frame; a longer one fails the stream."""
SHOWN_CHARS = 300


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: Function | None = None


class ChunkDelta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    """DeepSeek, vLLM, llama.cpp."""
    reasoning: str | None = None
    """OpenRouter, Ollama."""
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    delta: ChunkDelta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: UpstreamUsage | None = None
    error: Raw | UnsetType = UNSET
    object: str | None = None
    message: str | None = None
    code: int | str | None = None


class UpstreamErrorBody(msgspec.Struct):
    message: str = ""
    code: int | str | None = None
    type: str | None = None


_decode = msgspec.json.Decoder(Chunk).decode

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]
FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}


def refusal(status: int, message: str, retry_after: str | None = None) -> UpstreamRefused:
    """What a status of 400 or more from an upstream means for our client.

    429 stays 429 with its `retry-after`; the rest is our 502. The text of a 401 or 403 is not passed on: some
    providers repeat part of the key in it.
    """
    if status == 429:
        name, retryable, ours = "rate_limited", True, 429
    elif status in (401, 403):
        name, retryable, ours, message = "unauthorized", False, 502, "the upstream does not accept the gateway's key"
    elif status == 404:
        name, retryable, ours = "not_found", False, 502
    elif status < 500:
        name, retryable, ours = "bad_request", False, 502
    else:
        name, retryable, ours = "unavailable", True, 502
    detail = message[:SHOWN_CHARS] or f"the upstream answered {status}"
    return UpstreamRefused(detail, code=f"upstream_{name}", status=ours, retryable=retryable, retry_after=retry_after)


class CompletionParser:
    """Feed it bytes as they come; it gives chunks, and knows how the stream stands."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._has_cr = False
        self._after_cr = False
        self.done = False
        """`[DONE]` was seen: what follows is ignored."""
        self.finish_reason: str | None = None
        self.usage: UpstreamUsage | None = None
        self.error: UpstreamError | None = None

    @property
    def complete(self) -> bool:
        return self.done or self.finish_reason is not None

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes. Stops at `[DONE]` and at an error, which is then in `error`."""
        if self.done or self.error is not None:
            return []
        if self._buffer or self._has_cr or b"\r" in data or not data.endswith(b"\n\n"):
            data = self._whole_frames(data)
            if not data:
                return []
        chunks: list[Chunk] = []
        for frame in data.split(b"\n\n"):
            if frame.startswith(b"data: {") and b"\n" not in frame:
                self._chunk(frame[6:], chunks)
            elif frame:
                self._frame(frame, chunks)
            if self.done or self.error:
                break
        return chunks

    def end(self) -> None:
        """The bytes are over: without a sign of completeness this is a cut."""
        for line in bytes(self._buffer).split(b"\n"):  # the last blank line is often left out
            field, _, value = line.partition(b":")
            self.done = self.done or (field == b"data" and value.strip() == b"[DONE]")
        if not self.complete and self.error is None:
            self.error = UpstreamCut("the upstream's stream ended without a finish_reason and without [DONE]")

    def _whole_frames(self, data: bytes) -> bytes:
        """Adds `data` to what is held back; gives the bytes up to the last blank line, with LF line ends only."""
        buffer = self._buffer
        if self._has_cr or b"\r" in data:
            self._has_cr = True
            data = self._only_lf(data)
        start = max(0, len(buffer) - 1)
        buffer += data
        end = buffer.rfind(b"\n\n", start)
        if end < 0:
            if len(buffer) > MAX_FRAME_BYTES:
                self.error = UpstreamError(f"a frame of the upstream is longer than {MAX_FRAME_BYTES} bytes")
            return b""
        frames = bytes(buffer[:end])
        del buffer[: end + 2]
        return frames

    def _only_lf(self, data: bytes) -> bytes:
        """CRLF and CR become LF; of a CRLF that was split, the LF that comes later is left out."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _frame(self, frame: bytes, chunks: list[Chunk]) -> None:
        """One frame of any legal form: comments, several data lines, an event name."""
        event = b""
        data: list[bytes] = []
        for line in frame.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                event = value
        text = b"\n".join(data)
        if text.strip() == b"[DONE]":
            self.done = True
        elif event == b"error":
            self.error = _in_band(text)
        elif text:
            self._chunk(text, chunks)

    def _chunk(self, text: bytes, chunks: list[Chunk]) -> None:
        try:
            chunk = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = UpstreamError("the upstream sent a chunk that is not valid", code="upstream_invalid")
            return
        if (chunk.error is not UNSET and bytes(chunk.error) != b"null") or chunk.object == "error":
            self.error = _in_band(text)
            return
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.choices and chunk.choices[0].finish_reason:
            self.finish_reason = chunk.choices[0].finish_reason
        chunks.append(chunk)


class _Wrapped(msgspec.Struct):
    error: Raw | UnsetType = UNSET


def error_body(text: bytes) -> UpstreamErrorBody:
    """What an error says, in any of its shapes: `{"error": {...}}`, a flat object, a bare string, or no JSON at all."""
    try:
        wrapped = msgspec.json.decode(text, type=_Wrapped).error
    except (msgspec.DecodeError, RecursionError):
        wrapped = UNSET
    try:
        body = msgspec.json.decode(text if isinstance(wrapped, UnsetType) else wrapped, type=UpstreamErrorBody | str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = text.decode("utf-8", "replace")
    return UpstreamErrorBody(message=body) if isinstance(body, str) else body


def _in_band(text: bytes) -> UpstreamError:
    """An error told inside the stream."""
    body = error_body(text)
    code = int(body.code) if isinstance(body.code, str) and body.code.isdecimal() else body.code
    if isinstance(code, int) and 400 <= code < 600:
        return refusal(code, body.message)
    if "rate_limit" in f"{code} {body.type}".lower():
        return refusal(429, body.message)
    detail = body.message[:SHOWN_CHARS] or "the upstream reported an error"
    return UpstreamError(detail, code="upstream_error")
