"""An event stream is parsed as it arrives: bytes in, of any split; events and comments out.

Stricter than a browser, because the gateway promises more than the standard asks: lines end in LF, and ids are what
each event says, not what one before it said. Comments come out too: they are the pings.
"""

from typing import NamedTuple

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Bytes above which a line is refused: nothing that a gateway sends is a quarter as long."""


class Event(NamedTuple):
    """Holds what one frame said. `id` is empty when the frame had none."""

    name: str
    id: str
    data: str


class Comment(NamedTuple):
    """Holds a line that began with a colon: `ok` is a stream's first, `ping` says that the line is alive."""

    text: str


class SseParser:
    """Parses one connection; a cut one leaves its half event behind, as it must."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = self._id = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[Event | Comment]:
        """Returns what is complete with these bytes. Raises ValueError when a line is longer than MAX_LINE_BYTES."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line of an event stream has more than {MAX_LINE_BYTES} bytes: {self._rest[:60]!r}...")
        items: list[Event | Comment] = []
        for line in lines:
            if line:
                self._line(line.decode(errors="replace"), items)
            else:
                self._end(items)
        return items

    def _line(self, line: str, items: list[Event | Comment]) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "event":
            self._name = value
        elif not name:
            items.append(Comment(value))

    def _end(self, items: list[Event | Comment]) -> None:
        if self._data:
            items.append(Event(self._name or "message", self._id, "\n".join(self._data)))
        self._name = self._id = ""
        self._data = []
