"""An EventReader reads the events lane by raw HTTP over a socket, so that it can be cut at any byte."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.sse_decoder import Event, SseDecoder


class Refused(Exception):
    """The answer is no event stream."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:300]!r}")
        self.status = status
        self.body = body


class EventReader:
    """Reads one connection, at most a limit of bytes of it, then cuts it."""

    def __init__(self, port: int, topics: Sequence[str], cursor: str = "", **query: str) -> None:
        self.port = port
        self.decoder = SseDecoder(cursor)
        self.query = [("topic", topic) for topic in topics] + list(query.items())
        self.hello: dict[str, Any] = {}
        self.is_over = False
        """The body came to its end; else it was cut."""
        self._cursor = cursor
        self._buffer = b""
        self._chunk_left = 0

    async def __aenter__(self) -> "EventReader":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        cursor_header = f"Last-Event-ID: {self._cursor}\r\n" if self._cursor else ""
        path = f"/api/events?{urlencode(self.query, quote_via=quote, safe='*/')}"
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{cursor_header}\r\n".encode())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.transport.abort()

    @property
    def cursor(self) -> str:
        return self.decoder.last_id

    async def events(self, limit: int = 1 << 60) -> AsyncIterator[Event]:
        """Yields every event, `hello` too; ends when the body ends, is cut, or `limit` bytes came."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await self._take(limit)
            if not piece:
                return
            limit -= len(piece)
            head += piece
        head, _, self._buffer = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Refused(int(head.split()[1]), self._buffer)
        while True:
            for event in self.decoder.feed(self._dechunked()):
                if event.event == "hello":
                    self.hello = json.loads(event.data)
                yield event
            piece = b"" if self.is_over else await self._take(limit)
            if not piece:
                return
            limit -= len(piece)
            self._buffer += piece

    async def _take(self, limit: int) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await self._reader.read(min(limit, 65_536))
        return b""

    def _dechunked(self) -> bytes:
        body = b""
        while self._buffer and not self.is_over:
            if not self._chunk_left:
                size, separator, rest = self._buffer.partition(b"\r\n")
                if not separator:
                    break
                self._chunk_left, self._buffer = int(size, 16) + 2, rest
                if self._chunk_left == 2:
                    self.is_over = True
                    break
            data = self._buffer[: self._chunk_left]
            body += data[: max(0, self._chunk_left - 2)]
            self._chunk_left -= len(data)
            self._buffer = self._buffer[len(data) :]
        return body
