"""Tests of event streams share a source to feed, servers of both kinds, and a client that sees every byte."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from events.log.source import CARRIER, Source
from gateway.serving.http import StreamProtocol
from gateway.serving.open_streams import OpenStreams
from gateway.serving.sse import EventStream

App = Callable[[Any, Any, Any], Awaitable[None]]
SLICE = 65_536
SEND_BYTES = 65_536
"""Bytes that the operating system buffers for a connection of a test's server, so that little data fills it."""
SERVERS = {"ours": StreamProtocol, "httptools": HttpToolsProtocol, "h11": H11Protocol}


on_both_ways = pytest.mark.parametrize("direct", [False, True], ids=["ASGI", "direct"])
PING_S = 15.0
HOUR_S = 3600.0


def stream(feed: "Feed", *, ping_s: float = PING_S, streams: OpenStreams | None = None, **how: Any) -> EventStream:
    return EventStream(feed, ping_s=ping_s, open_streams=OpenStreams() if streams is None else streams, **how)


class Feed(Source):
    """A source that a test fills; what it holds in the log instead has to be caught up with."""

    def __init__(self, *data: bytes, has_ended: bool = False) -> None:
        self.on_wake: Callable[[], object] = lambda: None
        self.due = bytearray(b"".join(data))
        self.log_pieces: list[bytes | Exception] = []
        self.polled_bytes = 0
        """Bytes that were polled."""
        self.polls = 0
        self.closed = 0
        self.shut = asyncio.Event()
        self._has_ended = has_ended

    @property
    def ended(self) -> bool:
        return self._has_ended and not self.due and not self.log_pieces

    @property
    def complete(self) -> bool:
        return self.ended

    def poll(self) -> bytes | None:
        self.polls += 1
        if not self.due and self.log_pieces:
            return None
        data = bytes(self.due[:SLICE])
        del self.due[:SLICE]
        self.polled_bytes += len(data)
        return data

    async def catch_up(self) -> None:
        await asyncio.sleep(0)
        piece = self.log_pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        self.due += piece

    def close(self) -> None:
        self.on_wake = lambda: None
        self.closed += 1
        self.shut.set()

    # What a test does

    def say(self, *data: bytes) -> None:
        self.due += b"".join(data)
        self.on_wake()

    def hold(self, *data: bytes | Exception) -> None:
        self.log_pieces += data
        self.on_wake()

    def end(self) -> None:
        self._has_ended = True
        self.on_wake()


class Pipe:
    """A server's connection, as `gateway.serving.http` lends it to a response: writes go to the same record."""

    def __init__(self, server: "FakeServer") -> None:
        self._server = server
        self.stream: EventStream | None = None
        self.has_begun = False
        self.closed = asyncio.Event()
        self.transport: Any = self
        """Takes what was wrapped: here the same."""

    @staticmethod
    def wrap(data: bytes) -> bytes:
        return data

    def carry(self, stream: EventStream) -> "Pipe":
        self.stream = stream
        return self

    @property
    def writable(self) -> bool:
        return self._server.taking.is_set() and not self.closed.is_set()

    def write(self, data: bytes) -> None:
        assert self.has_begun
        assert not self.closed.is_set()
        assert data
        self._server.pieces.append(data)

    def begin(self) -> None:
        assert self._server.status
        self.has_begun = True

    def give_back(self) -> None:
        assert not self.has_begun
        self.stream = None
        self.closed.set()

    def finish(self, end: bytes) -> None:
        self._server.pieces += [end] if end else []
        self._server.complete = True
        self.closed.set()

    def cut(self) -> None:
        self.closed.set()

    def gone(self) -> None:
        self.closed.set()
        if self.stream is not None:
            self.stream.gone()

    def take(self) -> None:
        if self.stream is not None:
            self.stream.pump()


class FakeServer:
    """Runs one request to one ASGI application; `direct` offers it the connection."""

    def __init__(self, app: App, *, direct: bool = False) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.complete = False
        self.taking = asyncio.Event()
        self.taking.set()
        self.pipe = Pipe(self)
        self._gone = asyncio.Event()
        extensions = {CARRIER: self.pipe} if direct else None
        scope = {"type": "http", "path": "/", "request_id": "req-1", "extensions": extensions}
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.taking.wait()
        assert not self.complete
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert self.status
            self.pieces += [message["body"]] if message["body"] else []
            self.complete = not message.get("more_body", False)

    def leave(self) -> None:
        """Acts as a client that is gone."""
        self._gone.set()
        self.pipe.gone()

    def stop_taking(self) -> None:
        self.taking.clear()

    def take_again(self) -> None:
        self.taking.set()
        self.pipe.take()

    async def over(self, within_s: float = 60.0) -> None:
        """Waits for the end of the response: of its task, or of the connection that it was handed to."""
        async with asyncio.timeout(within_s):
            await self._task
            if self.pipe.has_begun:
                await self.pipe.closed.wait()

    async def settled_body(self) -> bytes:
        """Lets everything that is due happen, and returns the body so far."""
        for _ in range(20):
            await asyncio.sleep(0)
        return self.body


class Uvicorn:
    """Runs an application on a real server, with one of `SERVERS` as its protocol."""

    def __init__(self, app: App, http: str, **config: Any) -> None:
        how: dict[str, Any] = {"lifespan": "off", "log_config": None, "access_log": False, "ws": "none", **config}
        protocol: type[asyncio.Protocol] = SERVERS[http]  # type: ignore[assignment]
        self._config = uvicorn.Config(app, http=protocol, **how)
        self._config.load()
        self._state = ServerState()
        self.port = 0

    def _connection(self) -> asyncio.Protocol:
        protocol_class: Any = self._config.http_protocol_class
        return protocol_class(config=self._config, server_state=self._state, app_state={})

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=listening)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        await asyncio.sleep(0)

    @property
    def connections(self) -> set[Any]:
        return self._state.connections

    @property
    def requests(self) -> int:
        """Returns the number of answers so far, as uvicorn counts them."""
        return self._state.total_requests

    def protocols(self) -> list[HttpToolsProtocol]:
        """Returns the connections that speak HTTP now."""
        return [each for each in self._state.connections if isinstance(each, HttpToolsProtocol)]

    def shut_down(self) -> None:
        """Does what uvicorn does first when it wants to end."""
        for connection in list(self._state.connections):
            connection.shutdown()

    async def call(self, path: str = "/", **how: Any) -> "Call":
        """Opens a connection with one request sent, whose head is read."""
        call = Call(self.port, **how)
        await call.ask(path)
        return call


class Call:
    """A client that knows where the chunks of a body end, and whether the body did."""

    def __init__(self, port: int, *, receive_bytes: int = 0, version: str = "1.1") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._port = port
        self._version = version
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.setblocking(False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def ask(self, path: str = "/") -> None:
        if not self.status:
            await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
            self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=4096)
        self.complete = False
        self._writer.write(f"GET {path} HTTP/{self._version}\r\nhost: localhost\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)

    async def chunk(self) -> bytes:
        """Returns the next chunk; b"" at the end of the body, or when it was cut (`complete` tells)."""
        try:
            size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
            data = await self._reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        assert data.endswith(b"\r\n")
        self.complete = size == 0
        return data[:-2]

    async def read(self, until: bytes = b"") -> bytes:
        """Returns the body up to its end, or until it ends with `until`."""
        body = b""
        while data := await self.chunk():
            body += data
            if until and body.endswith(until):
                break
        return body

    async def exactly(self, length: int) -> bytes:
        return await self._reader.readexactly(length)

    async def at_end(self) -> bool:
        """Returns whether the server closes the connection now."""
        async with asyncio.timeout(2):
            return await self._reader.read(1) == b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
