"""Extends uvicorn's HTTP protocol so that it can lend a connection to an event stream.

An event stream that writes through ASGI's `send` keeps a request's tasks and frames alive, wakes a task for every token
and passes five coroutines. Here the connection is handed to `StreamConnection`, which only writes, notices the end and
obeys flow control; everything of the request is gone once the head is sent. After a stream that ended well the
connection speaks HTTP again, in the state in which it was lent: what has come of the next requests is not lost, be it
whole, in part, or while the stream was open. Nothing else of uvicorn is replaced, and a server without this works the
same, at more CPU per token and memory per reader.
"""

import asyncio
from typing import Any, Literal, NamedTuple, cast

from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from events.log.source import CARRIER, PumpedStream
from gateway.serving.arrivals import ArrivalProtocol

MAX_PIPELINED_BYTES = 65_536
"""Maximum bytes a client may send while its stream is open; one more closes the connection."""


class ConnectionFacts(NamedTuple):
    """The part of a connection that every protocol on it shares."""

    config: Config
    server_state: ServerState
    app_state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    server: tuple[str, int | None] | None
    client: tuple[str, int] | None
    scheme: Literal["http", "https"] | None


class StreamProtocol(ArrivalProtocol):
    """The protocol of a connection while it speaks HTTP."""

    @classmethod
    def at(cls, facts: ConnectionFacts, transport: asyncio.Transport) -> "StreamProtocol":
        """Returns a protocol for an existing connection, whose addresses would cost system calls to look up again."""
        http = cls(facts.config, facts.server_state, facts.app_state, facts.loop)
        http.transport, http.flow = transport, FlowControl(transport)
        http.server, http.client, http.scheme = facts.server, facts.client, facts.scheme
        return http

    @property
    def facts(self) -> ConnectionFacts:
        site = (self.config, self.server_state, self.app_state, self.loop)
        return ConnectionFacts(*site, self.server, self.client, self.scheme)

    @property
    def has_read_on(self) -> bool:
        """Returns whether the parser has read beyond the current request; line breaks between requests do not count."""
        return self.current is not None and self.scope is not self.current.scope

    @property
    def is_uploading(self) -> bool:
        """Returns whether a part of a request's body is still to come."""
        return not self.is_idle and self.cycle.more_body

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CARRIER: self}  # pyright: ignore - uvicorn's type knows two extensions

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.current = cycle
        if cycle.waiting_for_100_continue:
            app = closing_unless_asked(app, cycle)
        super()._start_asgi_task(cycle, without_chunks(app, cycle) if _is_old(cycle) else app)

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._part_from(self.scope)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._part_from(self.scope)  # else each connection waits for the garbage collector
        if self.current is not None:
            self._part_from(self.current.scope)
        for queued, _ in self.pipeline:
            queued.on_response = lambda: None
            self._part_from(queued.scope)

    @staticmethod
    def _part_from(scope: HTTPScope | None) -> None:
        if scope is not None:
            scope.pop("extensions", None)

    def carry(self, stream: PumpedStream) -> "StreamConnection | None":
        """Lends the connection; returns None while a part of the request itself is still to be read.

        uvicorn may have paused the reading, because of a large body or of requests behind it, and resumes it when the
        application asks for more, which a stream does not; so it is resumed here.
        """
        cycle = self.current
        if cycle is None or cycle.more_body or cycle.disconnected:
            return None
        if cycle.scope["method"] == "HEAD" or _is_old(cycle):
            return None
        connection = StreamConnection(self, stream)
        self.stop_waiting()
        self.flow.resume_reading()
        return connection

    def take_over(self, *, writable: bool, unread: bytes) -> None:
        """Becomes the transport's protocol again, with reading on; `unread` are the bytes that came meanwhile."""
        self.transport.set_protocol(self)
        if writable:
            self.resume_writing()
        else:
            self.pause_writing()
        if unread:
            self.data_received(unread)

    def go_on(self, *, writable: bool, unread: bytes) -> None:
        """Speaks HTTP again after a stream; the next request is answered, or uvicorn's timeout runs until it is there.

        What the client sent meanwhile is parsed before the response counts as complete, which is the order that uvicorn
        knows; so the timeout runs for a request that has come in part, too.
        """
        self.connections.add(self)
        streamed_cycle = self.current
        self.take_over(writable=writable, unread=unread)
        if self.current is streamed_cycle and self.transport.get_protocol() is self:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1


def _is_old(cycle: RequestResponseCycle) -> bool:
    """Returns whether the client speaks HTTP/1.0."""
    return cycle.scope["http_version"] == "1.0"


def without_chunks(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Returns the application for a client of HTTP/1.0, which knows no chunks: the close ends a body without a length.

    uvicorn would send chunks all the same. It sends none to a body whose length it knows, so it is told that of each
    piece, when the piece is sent.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        has_length = False

        async def send_plain(message: Any) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if not has_length:
                    cycle.chunked_encoding = False
            elif not has_length:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return answer


def closing_unless_asked(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Returns the application for a client that waits to be asked for its body (RFC 9110 §10.1.1).

    After an answer that comes without asking, what the client sends next may be the body or not, so that is the last
    answer.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def send_last(message: Any) -> None:
            if cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_last)

    return answer


class StreamConnection(asyncio.Protocol):
    """The protocol of a connection while it carries one event stream.

    It never pauses reading, so that it sees its client leave. What the client sends meanwhile is kept unread. The
    protocol that lent it is dropped at `begin`, unless that `has_read_on`.
    """

    __slots__ = ("_facts", "_has_begun", "_http", "_is_writable", "_keep_alive", "_stream", "_unread", "transport")

    def __init__(self, http: StreamProtocol, stream: PumpedStream) -> None:
        self._http: StreamProtocol | None = http
        self._has_begun = False
        self._facts = http.facts
        self.transport = http.transport
        self._stream: PumpedStream | None = stream
        self._is_writable = not http.flow.write_paused
        self._keep_alive = True
        self._unread: bytearray | None = None
        http.transport.set_protocol(self)

    # Called by the stream

    @property
    def writable(self) -> bool:
        return self._is_writable and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Writes one chunk of a chunked body (RFC 9112 §7.1)."""
        self.transport.write(self.wrap(data))

    @staticmethod
    def wrap(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def begin(self) -> None:
        http = self._http
        assert http is not None
        assert http.current is not None
        cycle = http.current
        self._has_begun = True
        self._keep_alive = self._keep_alive and cycle.keep_alive
        cycle.response_complete = True  # for uvicorn the request is over; its task is about to end
        http.connections.discard(http)
        http.connections.add(cast(HttpToolsProtocol, self))
        cycle.scope.pop("extensions", None)
        if not http.has_read_on:
            http.parser = None  # pyright: ignore - as uvicorn does: the two hold each other
            self._http = None

    def give_back(self) -> None:
        http = self._http
        self._stream = None
        if http is not None and not self.transport.is_closing():
            self._http = None
            http.take_over(writable=self._is_writable, unread=self._take_unread())

    def finish(self, end: bytes) -> None:
        last = self.wrap(end) if end else b""
        self.transport.write(last + b"0\r\n\r\n")
        self._stream = None
        if not self._keep_alive:
            self.transport.close()
        if self.transport.is_closing():
            return
        self._facts.server_state.connections.discard(cast(HttpToolsProtocol, self))
        http, self._http = self._http or StreamProtocol.at(self._facts, self.transport), None
        http.go_on(writable=self._is_writable, unread=self._take_unread())

    def cut(self) -> None:
        self.transport.close()

    def _take_unread(self) -> bytes:
        unread, self._unread = self._unread, None
        return bytes(unread or b"")

    # Called by the transport

    def data_received(self, data: bytes) -> None:
        if self._unread is None:
            self._unread = bytearray()
        self._unread += data
        if len(self._unread) > MAX_PIPELINED_BYTES:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._is_writable = False
        if not self._has_begun:
            if self._http is not None:
                self._http.pause_writing()
        elif self._stream is not None:
            self._stream.hold()

    def resume_writing(self) -> None:
        self._is_writable = True
        if not self._has_begun:
            if self._http is not None:
                self._http.resume_writing()
        elif self._stream is not None:
            self._stream.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        stream, self._stream = self._stream, None
        self._facts.server_state.connections.discard(cast(HttpToolsProtocol, self))
        if self._http is not None:
            self._http.connection_lost(exc)
        if stream is not None:
            stream.gone()

    # Called by the server

    def shutdown(self) -> None:
        """Lets the stream finish; the connection will not be used again after it."""
        self._keep_alive = False
