"""Cuts the bytes of an OpenAI-compatible stream into frames, and reads the chunk in each. Pure.

Decides what the openai SDK leaves open: whether the stream was *complete* (a `finish_reason` or `[DONE]` was there),
and which of the shapes in the wild is an error. What is not quite right is read all the same: frames parted by one
line end, JSON lines without `data:`, a whole completion instead of a stream, a last line without its end. A chunk that
cannot be read at all fails the stream: skipping it would lose a token in silence.
"""

from collections.abc import Callable
from typing import cast

import msgspec
from msgspec import Raw

from gateway.chat.upstreams.chunks import FACTS, AnswerChunk, Chunk, ManyChoices
from gateway.chat.upstreams.finish_reasons import finish_reason_of
from gateway.chat.upstreams.line_ends import LineEnds
from gateway.chat.upstreams.loose_chunks import LooseReader
from gateway.chat.upstreams.loose_fields import (
    MAX_COUNT,
    JsonFields,
    error_of,
    facts_of,
    finish_word,
    object_of,
    whole_number,
)
from gateway.chat.upstreams.refusals import error_body, in_band_error
from gateway.core.loose_json import UNREADABLE, loose_json, strict_raw, whole_text
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError

MAX_FRAME_BYTES = 4_194_304
"""Maximum size of one frame; a longer one fails the stream."""
GAVE_UP = "upstream_gave_up"
"""Code of the error of an answer whose `finish_reason` says that it failed."""
MAX_FACTS = 64
"""Maximum number of fields beside the text of an answer that are kept."""
MAX_FACT_BYTES = 262_144
"""Maximum size of one of them."""

_decode = msgspec.json.Decoder(Chunk).decode
_STRICTLY_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _undecodable(text: bytes) -> AnswerChunk:
    """Stands in for the strict decoder where a chunk must be read loosely."""
    raise msgspec.DecodeError


class CompletionParser:
    """A parser that takes bytes as they come, gives chunks, and knows how the stream stands."""

    def __init__(self, answers: int = 1) -> None:
        """Reads a stream of as many `answers` as were asked for, which is complete when all of them are."""
        self._answers = answers
        self._ended_answers: set[int] = set()
        self._first_word: str | None = None
        self._buffer = bytearray()
        self._line_ends = LineEnds()
        self._loose = LooseReader(answers)
        self._decode: Callable[[bytes], AnswerChunk] = self._first
        self._has_begun = False
        self._is_last = False
        """Whether the bytes are over, so that what cannot be read may be half of a line."""
        self._is_torn = False
        self.done = False
        """Whether `[DONE]` has come: what follows is ignored."""
        self.finish_reason: str | None = None
        """The upstream's own word for the end of its answer."""
        self.usage: UpstreamUsage | None = None
        self.facts: JsonFields = {}
        """The fields of the chunks that tell of the whole answer, beside its text, such as the model."""
        self.error: UpstreamError | None = None

    @property
    def complete(self) -> bool:
        return self.done or self.finish_reason is not None

    def feed(self, data: bytes) -> list[AnswerChunk]:
        """Returns the chunks that `data` completes. Stops at `[DONE]` and at an error, which is then in `error`."""
        if self.done or self.error is not None:
            return []
        chunks: list[AnswerChunk] = []
        if self._buffer or self._line_ends.has_cr or b"\r" in data or not data.endswith(b"\n\n"):
            data = self._whole_frames(data, chunks)
            frames = data.split(b"\n\n")
        elif data.find(b"\n") == len(data) - 2:
            frames = (data[:-2],)
        else:
            frames = data.split(b"\n\n")
        for frame in frames:
            if frame.startswith(b"data: {") and b"\n" not in frame:
                try:  # as `_chunk` does, without a call for each token
                    chunk = self._decode(frame[6:])
                except _STRICTLY_UNREADABLE:
                    self._chunk_of_any_shape(frame[6:], chunks)
                else:
                    chunks.append(chunk)
                    choices = chunk.choices
                    if choices and chunk.usage is None and not choices[0].finish_reason:
                        continue
                    self._take_facts(chunk)
                    self._take_end(chunk)
            elif frame:
                self._frame(frame, chunks)
            if self.done or self.error is not None:
                break
        return chunks

    def end(self) -> list[AnswerChunk]:
        """Returns what stands before the last blank line, or without one; without a sign of its end it was a cut."""
        chunks: list[AnswerChunk] = []
        if not self.done and self.error is None:
            self._is_last = True
            rest = bytes(self._buffer).strip(b"\n")
            self._buffer.clear()
            if rest:
                self._frame(rest, chunks)
            self._say_halves(chunks)
        if not self.complete and self.error is None:
            self.error = UpstreamCut("the upstream's stream ended without a finish_reason and without [DONE]")
        return chunks

    def close(self) -> None:
        """Reads no more: what reads a first chunk holds this parser."""
        self._decode = _undecodable

    # From bytes to frames

    def _whole_frames(self, data: bytes, chunks: list[AnswerChunk]) -> bytes:
        """Adds `data` to what is held back; returns the bytes up to the last blank line, with LF line ends only."""
        buffer = self._buffer
        if self._line_ends.has_cr or b"\r" in data:
            data = self._line_ends.only_lf(data)
        start = max(0, len(buffer) - 7)
        buffer += data
        end = buffer.rfind(b"\n\n", max(0, start))
        if end >= 0:
            frames = bytes(buffer[:end])
            del buffer[: end + 2]
            return frames
        if buffer.find(b"\ndata:", start) >= 0 or buffer.find(b"\n{", start) >= 0:
            self._lines_of_their_own(buffer, chunks)
        if len(buffer) > MAX_FRAME_BYTES:
            self.error = UpstreamError(f"a frame of the upstream is longer than {MAX_FRAME_BYTES} bytes")
        return b""

    def _lines_of_their_own(self, frame: bytearray, chunks: list[AnswerChunk]) -> None:
        """Takes the first lines off a frame that are chunks by themselves, as long as another such line follows.

        Servers that part their frames by one line end send nothing else.
        """
        while self.error is None and not self.done:
            end = frame.find(b"\n")
            text = _data_of(bytes(frame[:end]))
            if end < 0 or text is None or not frame.startswith((b"data:", b"{"), end + 1) or not _is_object(text):
                break
            del frame[: end + 1]
            self._text(text, chunks)

    # From frames to chunks

    def _frame(self, frame: bytes, chunks: list[AnswerChunk]) -> None:
        """Reads one frame of any form: comments, several data lines, an event name, JSON without a field's name."""
        lines = bytearray(frame.removeprefix(b"\xef\xbb\xbf"))
        self._lines_of_their_own(lines, chunks)
        frame = bytes(lines)
        if self.error is not None or self.done:
            return
        if frame.lstrip().startswith((b"{", b"[")):
            event, data = b"", frame.split(b"\n")
        else:
            event, data = _fields_of(frame)
        text = b"\n".join(data)
        if event == b"error":
            self._say_halves(chunks)
            self.error = in_band_error(error_body(text))
        elif len(data) > 1 and not _is_json(text):
            for line in data:
                if not self.done and self.error is None:
                    self._text(line, chunks)
        else:
            self._text(text, chunks)

    def _text(self, text: bytes, chunks: list[AnswerChunk]) -> None:
        """Reads what stands in a data field: nothing, a chunk, the mark of the end, or a word that keeps us waiting."""
        text = _data_of(text.lstrip()) or text
        if self._is_torn:
            self.error = _invalid()
        elif text.strip() == b"[DONE]":
            self._say_halves(chunks)
            self.done = True
            self.finish_reason = self.finish_reason or self._first_word
        elif text.lstrip().startswith((b"{", b"[")):
            self._chunk(text, chunks)

    def _chunk(self, text: bytes, chunks: list[AnswerChunk]) -> None:
        try:
            chunk = self._decode(text)
        except _STRICTLY_UNREADABLE:
            self._chunk_of_any_shape(text, chunks)
        else:
            chunks.append(chunk)
            self._take_facts(chunk)
            self._take_end(chunk)

    def _first(self, text: bytes) -> AnswerChunk:
        """Decodes the first chunk that can be read strictly, and keeps what it says of the whole answer."""
        chunk = _decode(text)
        self._decode = _decode
        self._has_begun = bool(chunk.choices)
        self._take_facts(chunk)
        return chunk

    def _chunk_of_any_shape(self, text: bytes, chunks: list[AnswerChunk]) -> None:
        try:
            value = loose_json(text)
            for fields in cast(list[object], value) if isinstance(value, list) else [value]:
                if isinstance(fields, dict):
                    self._read(object_of(cast(object, fields)), chunks)
        except UNREADABLE:
            if self._is_last:
                self._is_torn = True
            else:
                self.error = _invalid()

    def _read(self, fields: JsonFields, chunks: list[AnswerChunk]) -> None:
        chunk = self._loose.chunk(fields, takes_message=not self._has_begun)
        self._decode = _undecodable if self._loose.has_half else _decode
        self._has_begun = self._has_begun or any(choice.delta and choice.delta.is_visible for choice in chunk.choices)
        chunks.append(chunk)
        for name, value in facts_of(fields).items():
            self._take_fact(whole_text(name), whole_text(value) if isinstance(value, str) else strict_raw(value))
        if chunk.usage is not None:
            self._take_fact("usage", strict_raw(fields.get("usage") or msgspec.to_builtins(chunk.usage)))
        self._take_end(chunk)
        self._take_other_ends(chunk)
        error = error_of(fields)
        if error or self.complete or self.error is not None:
            self._say_halves(chunks)
        if error and not self.complete:
            self.error = in_band_error(error)

    def _say_halves(self, chunks: list[AnswerChunk]) -> None:
        if self._loose.has_half:
            chunks.append(self._loose.halves())
            self._decode = _decode

    # What a chunk says beside its text

    def _take_facts(self, chunk: AnswerChunk) -> None:
        facts = self.facts
        for name in FACTS:
            value = getattr(chunk, name)
            if value and facts.get(name) != value:
                self._take_fact(name, value)

    def _take_fact(self, name: str, value: str | Raw | None) -> None:
        has_room = name in self.facts or len(self.facts) < MAX_FACTS
        if value and has_room and len(bytes(value) if isinstance(value, Raw) else value) <= MAX_FACT_BYTES:
            self.facts[name] = value

    def _take_end(self, chunk: AnswerChunk) -> None:
        if chunk.usage is not None and _is_usage(chunk.usage):
            self.usage = chunk.usage
        word = chunk.choices[0].finish_reason if chunk.choices else None
        reason = finish_reason_of(word)
        if reason == "error" and not self.complete:
            detail = f"the upstream ended its answer with finish_reason {(word or '')[:64]!r}"
            self.error = UpstreamError(detail, code=GAVE_UP)
        elif reason is not None and reason != "error" and self._answers == 1:
            self.finish_reason = word
        elif reason is not None and reason != "error":
            self._first_word = word
            self._end_answer(0)

    def _take_other_ends(self, chunk: ManyChoices) -> None:
        for choice in chunk.others if self._answers > 1 else ():
            if finish_reason_of(finish_word(choice.get("finish_reason"))) is not None:
                self._end_answer(whole_number(choice.get("index")) or 0)

    def _end_answer(self, index: int) -> None:
        self._ended_answers.add(index)
        if len(self._ended_answers) >= self._answers:
            self.finish_reason = self._first_word


def _is_usage(usage: UpstreamUsage) -> bool:
    """Returns whether there are figures that can be: not those of a chunk that only has a place for them."""
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens or 0)
    return all(count is not None and 0 <= count <= MAX_COUNT for count in counts)


def _invalid() -> UpstreamError:
    return UpstreamError("the upstream sent a chunk that is not valid", code="upstream_invalid")


def _data_of(line: bytes) -> bytes | None:
    """Returns the data that a line brings: that of its data field, or itself when it is an object."""
    if line.startswith(b"{"):
        return line
    return line[5:].removeprefix(b" ") if line.startswith(b"data:") else None


def _fields_of(frame: bytes) -> tuple[bytes, list[bytes]]:
    """Returns the event's name and the lines of data of a frame."""
    event = b""
    data: list[bytes] = []
    for line in frame.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value.strip()
        elif line.startswith(b"{"):
            data.append(line)
    return event, data


def _is_object(text: bytes) -> bool:
    return text.strip() == b"[DONE]" or (text.lstrip().startswith(b"{") and _is_json(text))


def _is_json(text: bytes) -> bool:
    try:
        loose_json(text)
    except UNREADABLE:
        return False
    return True
