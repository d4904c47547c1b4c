"""Cuts the bytes of an event stream (HTML Living Standard, 9.2) into the data of its events. Pure.

Departs from the standard in one point: data before the end of the stream is read although its blank line is missing.
"""

from gateway.chat.upstreams.line_ends import LineEnds
from gateway.errors import UpstreamError

MAX_EVENT_BYTES = 16_777_216
"""Maximum size of one event; a longer one fails the stream. Snapshots hold a whole conversation, which has no more."""


class EventFrames:
    """Takes bytes as they come and gives the data of each event that they complete; names and ids say nothing here."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._line_ends = LineEnds()

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the data of the events that `data` completes. Raises UpstreamError for one that is too large."""
        buffer = self._buffer
        if self._line_ends.has_cr or b"\r" in data:
            data = self._line_ends.only_lf(data)
        if not buffer and data.endswith(b"\n\n"):
            return _events(data)
        start = max(0, len(buffer) - 1)
        buffer += data
        end = buffer.rfind(b"\n\n", start)
        if end < 0:
            if len(buffer) > MAX_EVENT_BYTES:
                raise UpstreamError(
                    f"an event of the upstream is larger than {MAX_EVENT_BYTES} bytes: have an agent send less, such "
                    "as no `rawEvent`",
                    code="upstream_event_too_large",
                )
            return []
        frames = bytes(buffer[:end])
        del buffer[: end + 2]
        return _events(frames)

    def end(self) -> list[bytes]:
        """Returns the data that stands before the end of the bytes without a blank line."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return _events(rest)


def _events(frames: bytes) -> list[bytes]:
    events: list[bytes] = []
    for frame in frames.split(b"\n\n"):
        if frame.startswith(b"data: ") and b"\n" not in frame:
            events.append(frame[6:])
        elif frame and (data := _data_of(frame)):
            events.append(data)
    return events


def _data_of(frame: bytes) -> bytes:
    """Returns the data of a frame of any form; none of a comment."""
    lines: list[bytes] = []
    for line in frame.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)
