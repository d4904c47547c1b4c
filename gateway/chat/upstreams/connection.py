"""A connection to an upstream, for answers of many small pieces, and the pool that keeps it for the next request.

Bytes that arrived between two turns of the reader are one piece, and no generator stands between the socket and
`Body.read`. HTTP/1.1 only; a connection is closed for good as soon as a body is left unread.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Protocol, cast

import httptools
import httpx2

READ_HIGH_WATER = 262_144
"""Unread bytes of one response past which its socket is read no further, until the reader has taken them."""
MAX_HEADER_BYTES = 65_536
MAX_IDLE_PER_ORIGIN = 256
KEEPALIVE_S = 30.0

Origin = tuple[str, str, int]


class BodySink(Protocol):
    """Takes a body piece by piece, and is told once how it ended."""

    def data(self, data: bytes) -> None: ...
    def end(self, error: httpx2.TransportError | None) -> None: ...


class ByteStream(Protocol):
    """The body of an answer, to be read by `read` and, from some moment on, by `pipe` alone."""

    async def read(self) -> bytes: ...
    def pipe(self, sink: BodySink) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    async def aclose(self) -> None: ...
    def abort(self) -> None: ...


class Body(httpx2.AsyncByteStream):
    """The body of one response. `read` is the fast way; httpx2 iterates the same bytes where the SDK wants them."""

    def __init__(self, connection: "UpstreamConnection") -> None:
        self._connection: UpstreamConnection | None = connection
        """The connection; None once it was let go, because it may serve another request then."""

    async def read(self) -> bytes:
        """Returns all bytes that arrived since the last call, waiting for the first; b"" at the end.

        Raises httpx2.ReadError when the connection broke before the body was complete.
        """
        return await self._connection.read() if self._connection else b""

    async def __aiter__(self):
        while data := await self.read():
            yield data

    def pipe(self, sink: "BodySink") -> None:
        """Passes every piece to `sink` from now on, as it arrives, in the event loop's own read callback."""
        if self._connection:
            self._connection.pipe(sink)

    def pause(self) -> None:
        """Reads no more until `resume`: the upstream is slowed down by TCP."""
        if self._connection and self._connection.transport and not self._connection.closed:
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        if self._connection and self._connection.transport and not self._connection.closed:
            self._connection.transport.resume_reading()

    async def aclose(self) -> None:
        """Lets go of the connection: kept for the next request when this body was read to its end, else closed."""
        connection, self._connection = self._connection, None
        if connection:
            connection.release()

    def abort(self) -> None:
        """Closes the connection now, so that the upstream stops generating."""
        connection, self._connection = self._connection, None
        if connection:
            connection.abort()


class UpstreamConnection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: "Pool", origin: Origin) -> None:
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
        self._parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._sink: BodySink | None = None
        self.answered = False
        self.complete = False
        self.keep_alive = False
        self._error: httpx2.TransportError | None = None

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
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
        self._writable.set()
        self.pool.forget(self)
        if not self.complete:
            self._fail(httpx2.ReadError("the upstream closed the connection before its answer was complete"))
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
        if self._parser.get_status_code() >= 200:
            self.answered = True
        else:
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size > READ_HIGH_WATER and not self._paused and self.transport:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.answered:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    # Called by the reader

    async def send(self, head: bytes, content: bytes) -> None:
        """Writes the request, whose head lacks only its length, and waits for the headers of its answer."""
        self._reset()
        assert self.transport
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(content), content))
        await self._writable.wait()
        while not self.answered:
            if self._error:
                raise self._error
            await self._wait()

    def status(self) -> int:
        return self._parser.get_status_code()

    def header(self, name: bytes) -> str | None:
        """Returns the first header of that name, which is in lower case."""
        return next((value.decode("latin-1") for field, value in self.headers if field.lower() == name), None)

    async def read(self) -> bytes:
        while not self._chunks:
            if self.complete:
                return b""
            if self._error:
                raise self._error
            await self._wait()
        return self._taken()

    def pipe(self, sink: BodySink) -> None:
        self._sink = sink
        self._pour(sink)

    def _pour(self, sink: BodySink) -> None:
        if self._chunks:
            sink.data(self._taken())
        if self._sink is not None and (self.complete or self._error):
            self._sink = None
            sink.end(None if self.complete else self._error)

    def _taken(self) -> bytes:
        """Returns what was buffered; the socket is read on."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        if self._paused and self.transport and not self.closed:
            self._paused = False
            self.transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> None:
        """Lets go of the connection: back to the pool when the answer was read to its end, else closed."""
        if self.complete and not self._chunks and not self.closed and self.keep_alive and self.transport:
            self.transport.resume_reading()  # whoever read this body may have paused it
            self.pool.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        self._fail(httpx2.ReadError("the request was given up"))
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


class Pool:
    """Idle connections by origin, newest first out; at most MAX_IDLE_PER_ORIGIN, each for KEEPALIVE_S."""

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[UpstreamConnection]] = {}
        self._open: set[UpstreamConnection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, origin: Origin) -> UpstreamConnection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.idle_timer:
                connection.idle_timer.cancel()
            if not connection.closed and connection.transport and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, origin: Origin, context: ssl.SSLContext | None) -> UpstreamConnection:
        _, host, port = origin
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(self, origin), host, port, ssl=context
            )
        except OSError as err:
            raise httpx2.ConnectError(f"no connection to {host}:{port}: {err}") from err
        self._open.add(connection)
        return connection

    def keep(self, connection: UpstreamConnection) -> None:
        idle = self._idle.setdefault(connection.origin, deque())
        if len(idle) >= MAX_IDLE_PER_ORIGIN:
            connection.abort()
            return
        idle.append(connection)
        connection.idle_timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, connection.abort)

    def forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if connection.idle_timer:
            connection.idle_timer.cancel()
        with contextlib.suppress(ValueError):
            self._idle.get(connection.origin, deque()).remove(connection)

    def close(self) -> None:
        for connection in list(self._open):
            connection.abort()
