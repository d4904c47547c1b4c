"""Cuts a stream of bytes into lines, and keeps of a line that is too long only its head and its tail.

A server that writes 50 MB as one message costs neither the memory nor the time of its bytes. What is left of such a
message still says which request it answers.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

TAIL_BYTES = 512
SIZE_META = "dev.trilane/bytes"
"""Name in `_meta` of how many bytes a message had that was cut."""
ID = rb'"id"\s*:\s*(\d+|"(?:[^"\\]|\\.){0,200}")'
ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + ID)
METHOD = re.compile(rb'\s*\{[^{}\[\]]*"method"\s*:')
ID_LAST = re.compile(ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')
TEXT = re.compile(rb'"text"\s*:\s*"((?:[^"\\]|\\.)*)')


class Overlong(NamedTuple):
    """What is kept of a line with more bytes than may be."""

    head: bytes
    tail: bytes
    size: int


class BoundedLines:
    """Makes lines of pieces of any size."""

    def __init__(self, max_bytes: int, head_bytes: int) -> None:
        """A line may have `max_bytes`; of a longer one its first `head_bytes` are kept."""
        self._max_bytes = max_bytes
        self._head_bytes = head_bytes
        self._buffer = bytearray()
        self._size = 0
        self._head: bytes | None = None
        """The head of the line that is being read, once it is too long."""

    def feed(self, data: bytes) -> Iterator[bytes | Overlong]:
        """Yields the lines that end in `data`, without their line ends."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._add(data[start:end])
            yield self._line()
            start = end + 1
        self._add(data[start:])

    def feed_one(self, data: bytes) -> None:
        """Adds `data` to the one line that there is, line ends included."""
        self._add(data)

    def rest(self) -> bytes | Overlong:
        """Returns what came behind the last line end."""
        return self._line()

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        self._buffer += piece
        if self._head is None and self._size > self._max_bytes:
            self._head = bytes(self._buffer[: self._head_bytes])
        if self._head is not None:
            del self._buffer[:-TAIL_BYTES]

    def _line(self) -> bytes | Overlong:
        text, head, size = bytes(self._buffer), self._head, self._size
        self._buffer, self._head, self._size = bytearray(), None, 0
        return text if head is None else Overlong(head, text, size)


def cut_result(line: Overlong, request_id: bytes | None = None) -> bytes | None:
    """Returns an over-long message as the result of a tool: with the text that it begins with, and its size.

    `request_id` is the JSON of the request's id, where it is known. None when the message is no answer, or does not say
    to what.
    """
    if METHOD.match(line.head):
        return None
    if request_id is None:
        match = ID_FIRST.match(line.head) or ID_LAST.search(line.tail)
        if match is None:
            return None
        request_id = match[1]
    content = msgspec.json.encode([{"type": "text", "text": _first_text(line.head)}])
    result = b'{"resultType":"complete","content":%b,"_meta":{"%b":%d}}' % (content, SIZE_META.encode(), line.size)
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, result)


def _first_text(head: bytes) -> str:
    """Returns the text that a result begins with; the message as it stands where that is not in its head."""
    if match := TEXT.search(head):
        try:
            return msgspec.json.decode(b'"%b"' % match[1].decode("utf-8", "ignore").encode(), type=str)
        except msgspec.DecodeError:
            pass
    return head.decode("utf-8", "replace")
