"""Cuts the bytes of an OpenAI-compatible stream into frames, and reads the chunk in each. Pure.

Decides what the openai SDK leaves open: whether the stream was *complete* (a `finish_reason` or `[DONE]` was there),
and which of the shapes in the wild is an error. A chunk that cannot be decoded fails the stream: skipping it would
lose a token in silence.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.upstreams.chunks import KNOWN_FIELDS, AnswerChunk, Chunk, ExtendedDelta, PlainDelta
from gateway.chat.upstreams.refusals import in_band_error
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError

MAX_FRAME_BYTES = 4_194_304
"""Maximum size of one frame; a longer one fails the stream."""

_decode_plain = msgspec.json.Decoder(Chunk[PlainDelta]).decode
_decode_extended = msgspec.json.Decoder(Chunk[ExtendedDelta]).decode


class _RawChoice(msgspec.Struct):
    delta: dict[str, Raw] | None = None


class _RawChunk(msgspec.Struct):
    choices: list[_RawChoice] | None = None


_decode_raw = msgspec.json.Decoder(_RawChunk).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CompletionParser:
    """A parser that takes bytes as they come, gives chunks, and knows how the stream stands."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._has_cr = False
        self._after_cr = False
        self.done = False
        """Whether `[DONE]` has come: what follows is ignored."""
        self.finish_reason: str | None = None
        self.usage: UpstreamUsage | None = None
        self.error: UpstreamError | None = None

    @property
    def complete(self) -> bool:
        return self.done or self.finish_reason is not None

    def feed(self, data: bytes) -> list[AnswerChunk]:
        """Returns the chunks that `data` completes. Stops at `[DONE]` and at an error, which is then in `error`."""
        if self.done or self.error is not None:
            return []
        if self._buffer or self._has_cr or b"\r" in data or not data.endswith(b"\n\n"):
            data = self._whole_frames(data)
            if not data:
                return []
        chunks: list[AnswerChunk] = []
        for frame in data.split(b"\n\n"):
            if frame.startswith(b"data: {") and b"\n" not in frame:
                self._chunk(frame[6:], chunks)
            elif frame:
                self._frame(frame, chunks)
            if self.done or self.error:
                break
        return chunks

    def end(self) -> None:
        """Notes that the bytes are over: without a sign of completeness this is a cut."""
        for line in bytes(self._buffer).split(b"\n"):  # the last blank line is often left out
            field, _, value = line.partition(b":")
            self.done = self.done or (field == b"data" and value.strip() == b"[DONE]")
        if not self.complete and self.error is None:
            self.error = UpstreamCut("the upstream's stream ended without a finish_reason and without [DONE]")

    def _whole_frames(self, data: bytes) -> bytes:
        """Adds `data` to what is held back; returns the bytes up to the last blank line, with LF line ends only."""
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
        """Makes LF of CRLF and CR; of a CRLF that was split, the LF that comes later is left out."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _frame(self, frame: bytes, chunks: list[AnswerChunk]) -> None:
        """Reads one frame of any legal form: comments, several data lines, an event name."""
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
            self.error = in_band_error(text)
        elif text:
            self._chunk(text, chunks)

    def _chunk(self, text: bytes, chunks: list[AnswerChunk]) -> None:
        try:
            chunk = _decode_plain(text)
        except _UNREADABLE as err:
            chunk = _extended(text) if isinstance(err, msgspec.ValidationError) else None
        if chunk is None:
            self.error = UpstreamError("the upstream sent a chunk that is not valid", code="upstream_invalid")
            return
        if (chunk.error is not UNSET and bytes(chunk.error) != b"null") or chunk.object == "error":
            self.error = in_band_error(text)
            return
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.choices and chunk.choices[0].finish_reason:
            self.finish_reason = chunk.choices[0].finish_reason
        chunks.append(chunk)


def _extended(text: bytes) -> AnswerChunk | None:
    """Returns a chunk with fields that we do not know, which it carries; None when it is not valid."""
    try:
        chunk = _decode_extended(text)
        deltas = [choice.delta for choice in _decode_raw(text).choices or ()]
    except _UNREADABLE:
        return None
    for choice, delta in zip(chunk.choices or (), deltas, strict=True):
        if choice.delta is not None:
            choice.delta.unknown = _unknown(delta or {})
    return chunk


def _unknown(delta: dict[str, Raw]) -> Raw | UnsetType:
    """Returns the fields of a delta that we do not know; `null` is a field that is not there."""
    fields = {name: raw for name, raw in delta.items() if name not in KNOWN_FIELDS and bytes(raw) != b"null"}
    try:
        msgspec.json.decode(msgspec.json.encode(fields))
    except _UNREADABLE:  # such as half of a surrogate pair, which no client could read
        return UNSET
    # On one line, because the log's events and the frames of a stream are lines.
    return Raw(msgspec.json.format(msgspec.json.encode(fields), indent=-1)) if fields else UNSET
