"""uvicorn's HTTP protocol, able to lend a connection to an event stream.

An event stream that writes through ASGI's `send` keeps a request's tasks and frames alive, wakes a task for every token
and passes five coroutines. Here the connection is handed to `StreamConnection`, which only writes, notices the end and
obeys flow control; everything of the request is gone once the head is sent. After a stream that ended well the
connection speaks HTTP again. Nothing else of uvicorn is replaced, and a server without this works the same, at more
CPU per token and memory per reader.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from events.log.source import CARRIER, PumpedStream

MAX_PIPELINED_BYTES = 65_536
"""What a client may send while it is being streamed to; past that its connection is closed."""


class StreamProtocol(HttpToolsProtocol):
    """One connection, while it speaks HTTP."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CARRIER: self}  # pyright: ignore - uvicorn's type knows two extensions

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.scope:
            self.scope.pop("extensions", None)  # else each connection waits for the garbage collector

    def resume(self, transport: asyncio.Transport, peers: Any) -> None:
        """As `connection_made`, for a connection that was made before: asking for its addresses costs system calls."""
        self.connections.add(self)
        self.transport, self.flow = transport, FlowControl(transport)
        self.server, self.client, self.scheme = peers

    def carry(self, stream: PumpedStream) -> "StreamConnection | None":
        """Lends the connection, unless more is to be read or answered on it than this one request."""
        cycle = self.cycle
        if self.pipeline or cycle.more_body or cycle.disconnected or cycle.scope["method"] == "HEAD":
            return None
        return StreamConnection(self, stream)


class StreamConnection(asyncio.Protocol):
    """One connection, while it carries one event stream."""

    __slots__ = ("_http", "_keep_alive", "_peers", "_pipelined", "_site", "_stream", "_takes", "transport")

    def __init__(self, http: StreamProtocol, stream: PumpedStream) -> None:
        self._http: StreamProtocol | None = http
        self._site: Any = (http.config, http.server_state, http.app_state, http.loop)
        self._peers: Any = (http.server, http.client, http.scheme)
        self.transport = http.transport
        self._stream: PumpedStream | None = stream
        self._takes = not http.flow.write_paused
        self._keep_alive = True
        self._pipelined = b""
        http.transport.set_protocol(self)

    # What the stream asks

    @property
    def writable(self) -> bool:
        return self._takes and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """One chunk of a chunked body (RFC 9112 §7.1)."""
        self.transport.write(self.wrap(data))

    @staticmethod
    def wrap(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def begin(self) -> None:
        http, self._http = self._http, None
        assert http is not None
        self._keep_alive = http.cycle.keep_alive
        http.cycle.response_complete = True  # for uvicorn the request is over; its task is about to end
        http.connections.discard(http)
        http.connections.add(cast(HttpToolsProtocol, self))
        http.scope.pop("extensions", None)
        http.parser = None  # pyright: ignore - as uvicorn does: the two hold each other

    def give_back(self) -> None:
        assert self._http is not None
        self._stream = None
        if not self.transport.is_closing():
            self._speak_http(self._http)

    def finish(self, end: bytes) -> None:
        last = b"%x\r\n%b\r\n" % (len(end), end) if end else b""
        self.transport.write(last + b"0\r\n\r\n")
        self._stream = None
        if not self._keep_alive:
            self.transport.close()
            return
        self._site[1].connections.discard(self)
        http = StreamProtocol(*self._site)
        http.resume(self.transport, self._peers)
        self._speak_http(http)
        if not self._pipelined:
            http.on_response_complete()

    def cut(self) -> None:
        self.transport.close()

    def _speak_http(self, http: StreamProtocol) -> None:
        self.transport.set_protocol(http)
        self._http = None
        if not self._takes:
            http.pause_writing()
        if self._pipelined:
            http.data_received(self._pipelined)

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        self._pipelined += data
        if len(self._pipelined) > MAX_PIPELINED_BYTES:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._takes = False
        if self._http is not None:
            self._http.pause_writing()
        elif self._stream is not None:
            self._stream.hold()

    def resume_writing(self) -> None:
        self._takes = True
        if self._http is not None:
            self._http.resume_writing()
        elif self._stream is not None:
            self._stream.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        stream, self._stream = self._stream, None
        if self._http is not None:
            self._http.connection_lost(exc)
        else:
            self._site[1].connections.discard(self)
        if stream is not None:
            stream.gone()

    # What the server asks

    def shutdown(self) -> None:
        """uvicorn wants to end: the stream may, the connection will not be used again."""
        self._keep_alive = False
