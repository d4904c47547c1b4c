"""A connection to an upstream, for answers of many small pieces.

Bytes that arrived between two turns of the reader are one piece, and no generator stands between the socket and
`Body.read`. HTTP/1.1 only; a connection is closed for good as soon as a body is left unread.
"""

import asyncio
import zlib
from typing import Protocol, cast

import httptools
import httpx2

from gateway.chat.upstreams.codings import BodyDecoder, coding_of
from gateway.chat.upstreams.way_out import Origin, WayOutError, alert_in

READ_HIGH_WATER = 262_144
"""Unread bytes of one response past which its socket is read no further, until the reader has taken them."""
DECODED_PIECE = 65_536
"""Maximum bytes that a compressed body gives in one turn of the event loop, once nobody waits for them."""
MAX_HEADER_BYTES = 65_536
CUT = "the upstream closed the connection before its answer was complete"


class BodySink(Protocol):
    """Takes a body piece by piece, and is told once how it ended."""

    def data(self, data: bytes) -> None: ...
    def end(self, error: httpx2.TransportError | None) -> None: ...


class Keeper(Protocol):
    """Keeps connections for the next request."""

    def keep(self, connection: "UpstreamConnection") -> None: ...
    def forget(self, connection: "UpstreamConnection") -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: Keeper, origin: Origin) -> None:
        self.pool = pool
        self.origin = origin
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.idle_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._reset()

    def _reset(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        """Parses the answer, from the request on until the connection is lost: the two hold each other."""
        self._status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        """Whether the socket rests because the buffer is full."""
        self._held = False
        """Whether the reader wants it to rest."""
        self._pours_soon = False
        self.decoder: BodyDecoder | None = None
        self._sink: BodySink | None = None
        self.answered = False
        self.complete = False
        self.keep_alive = False
        self._error: httpx2.TransportError | None = None

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return  # nothing was asked yet
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as err:
            self._fail(httpx2.RemoteProtocolError(f"the upstream did not answer in HTTP/1.1: {err}"))
            self.abort()
        if self._sink is not None:
            self._pour(self._sink)
        else:
            self._wake()

    def eof_received(self) -> None:
        if self.answered and not self.complete and not self._has_length():
            self.complete = True  # a body without length or chunks ends with the connection

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._parser = None  # else each connection waits for the garbage collector
        self._writable.set()
        self.pool.forget(self)
        if not self.complete:
            self._fail(alert_in(exc) or httpx2.ReadError(CUT))
        if self._sink is not None:
            self._pour(self._sink)
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise httptools.HttpParserError(f"headers of more than {MAX_HEADER_BYTES} bytes")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self.headers = []
            return
        named = self.header(b"content-encoding") or ""
        coding = coding_of(named)
        if coding is None:
            self._fail(WayOutError(f"it compresses its answer as {named[:40]!r}, asked for none", is_final=True))
            raise httptools.HttpParserError
        self.decoder = BodyDecoder(coding) if coding else None
        self.answered = True

    def on_body(self, body: bytes) -> None:
        if self.decoder is not None:
            self.decoder.feed(body)
            self._decode(READ_HIGH_WATER)
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > READ_HIGH_WATER:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if not self._paused and self.transport:
            self._paused = True
            self.transport.pause_reading()

    def _decode(self, max_bytes: int) -> None:
        """Buffers what can be decoded, until more than `max_bytes` wait; then the socket rests too."""
        assert self.decoder is not None
        try:
            while self._size <= max_bytes and (data := self.decoder.read(DECODED_PIECE)):
                self._chunks.append(data)
                self._size += len(data)
        except zlib.error as err:
            self.decoder = None
            self._fail(httpx2.RemoteProtocolError(f"the upstream's compressed answer is damaged: {err}"))
            raise httptools.HttpParserError from err
        if self.decoder.has_more:
            self._stop_reading()
        elif not self._chunks:
            self._read_on()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.answered and self._error is None:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    # Called by the reader

    async def send(self, head: bytes, content: bytes) -> None:
        """Writes the request, whose head lacks only its length, and waits for the headers of its answer."""
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        assert self.transport
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(content), content))
        await self._writable.wait()
        while not self.answered:
            if self._error:
                raise self._error
            await self._wait()

    def status(self) -> int:
        return self._status

    def header(self, name: bytes) -> str | None:
        """Returns the first header of that name, which is in lower case."""
        return next((value.decode("latin-1") for field, value in self.headers if field.lower() == name), None)

    async def read(self) -> bytes:
        while not self._chunks:
            if self._has_more():
                self._decode_more(READ_HIGH_WATER)
                continue
            if self.complete:
                return b""
            if self._error:
                raise self._error
            await self._wait()
        return self._taken()

    def pipe(self, sink: BodySink) -> None:
        self._sink = sink
        self._pour(sink)

    def pause(self) -> None:
        self._held = True
        if self.transport and not self.closed:
            self.transport.pause_reading()

    def resume(self) -> None:
        self._held = False
        if self._has_more():
            self._pour_soon()
        elif self.transport and not self.closed:
            self.transport.resume_reading()

    def _pour(self, sink: BodySink) -> None:
        if self._chunks:
            sink.data(self._taken())
        if self.decoder is not None and self.decoder.has_more:
            self._pour_soon()
        elif self._sink is not None and (self.complete or self._error):
            self._sink = None
            sink.end(None if self.complete else self._error)

    def _pour_soon(self) -> None:
        if not self._pours_soon:
            self._pours_soon = True
            self._loop.call_soon(self._pour_more)

    def _pour_more(self) -> None:
        """Pours what is still compressed, a piece in each turn of the event loop."""
        self._pours_soon = False
        if self._sink is not None and not self._held:
            if self._has_more():
                self._decode_more(0)
            self._pour(self._sink)

    def _has_more(self) -> bool:
        """Returns whether there are bytes that came and are not decoded yet."""
        return self.decoder is not None and self.decoder.has_more

    def _decode_more(self, max_bytes: int) -> None:
        try:
            self._decode(max_bytes)
        except httptools.HttpParserError:
            self.complete = False
            self.abort()

    def _taken(self) -> bytes:
        """Returns what was buffered; the socket is read on."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        if self._paused:
            self._read_on()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_on(self) -> None:
        if self._paused and not self._has_more() and self.transport and not self.closed:
            self._paused = False
            self.transport.resume_reading()

    def release(self) -> None:
        """Lets go of the connection: back to the pool when the answer was read to its end, else closed."""
        is_read = self.complete and not self._chunks and not self._has_more()
        if is_read and not self.closed and self.keep_alive and self.transport:
            self.transport.resume_reading()  # whoever read this body may have paused it
            self.pool.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        self._fail(httpx2.ReadError("the request was given up"))
        self.decoder = None
        if self.transport and not self.closed:
            self.transport.abort()
        if self._sink is not None:
            self._pour(self._sink)
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: httpx2.TransportError) -> None:
        if self._error is None:
            self._error = error

    def _has_length(self) -> bool:
        names = {name.lower() for name, _ in self.headers}
        return b"content-length" in names or b"transfer-encoding" in names
