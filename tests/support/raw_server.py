"""A RawServer sends raw bytes: a script per connection says what is sent and when, to play every fault of HTTP."""

import asyncio
import contextlib
import functools
import inspect
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

import httpx2
import pytest
import uvloop

from gateway.chat.upstreams.body import Body
from gateway.chat.upstreams.transport import HttptoolsTransport
from gateway.chat.upstreams.way_out import WayOut
from tests.support.loop_failures import run_watched

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
TEST_S = 10.0
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
"""Head of an answer in chunks."""


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a coroutine test on asyncio's own event loop and on the one that the gateway uses."""

    async def within_deadline(**fixtures: Any) -> None:
        async with asyncio.timeout(TEST_S):
            await test(**fixtures)

    @functools.wraps(test)
    def run(loop: str, **fixtures: Any) -> None:
        run_watched(LOOPS[loop], within_deadline(**fixtures))

    parameter = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*inspect.signature(test).parameters.values(), parameter])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop", LOOPS)(run)


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Lets the loop run until `condition()` is true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)


class Peer:
    """Holds one connection as the server sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """The first connection is 1."""
        self.heads: list[bytes] = []
        self._reader = reader
        self._writer = writer
        self.sent = 0

    async def request(self) -> bytes:
        """Waits for one request, and returns its body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        lines = [line.split(b":") for line in head.lower().split(b"\r\n")]
        lengths = (int(line[1]) for line in lines if line[0] == b"content-length")
        length = next(lengths, 0)
        return await self._reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        """Sends pieces, each in a segment of its own as far as that can be had."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            self.sent += len(piece)
            if len(pieces) > 1:
                await asyncio.sleep(0.001)

    async def gone(self) -> bool:
        """Waits until the client has closed."""
        try:
            return await self._reader.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Closes with a RST instead of a FIN."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Gives each connection to its script, and closes it afterwards (`async with RawServer(script) as server`)."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []
        self.open = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a connection that has just been accepted gets its task in this turn
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        peer = Peer(len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        try:
            await self._run(peer)
        except asyncio.CancelledError:
            if self._server.is_serving():  # else it was cancelled by `__aexit__`, where asyncio's streams trip over it
                raise
        finally:
            self.open -= 1
            self._tasks.discard(task)

    async def _run(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await peer.close()


def length_of(body: bytes, *headers: bytes) -> bytes:
    """Returns a whole answer with a length."""
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def chunked(*pieces: bytes) -> list[bytes]:
    """Returns a head, chunks and their end, each to be sent by itself."""
    return [CHUNKED, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]


async def polite(peer: Peer) -> None:
    """Answers every request with its own body."""
    while True:
        body = await peer.request()
        await peer.send(length_of(body))


def says(*pieces: bytes, then: str = "wait") -> Script:
    """Returns a script: one request, these bytes, and then what: "wait" for the client, "close", or "reset"."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "wait":
            await peer.gone()
        elif then == "reset":
            await asyncio.sleep(0.02)
            peer.reset()

    return script


class Client:
    """Holds the transport under test, closed at the end of its block."""

    def __init__(self, way_out: WayOut | None = None) -> None:
        self.transport = HttptoolsTransport(way_out)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.transport.aclose()
        await asyncio.sleep(0.01)

    @property
    def connections(self) -> int:
        return len(self.transport.pool)

    async def post(self, url: str, content: bytes = b"{}", connect_s: float | None = 5) -> httpx2.Response:
        extensions = {"timeout": {"connect": connect_s}}
        request = httpx2.Request("POST", url, content=content, extensions=extensions)
        return await self.transport.handle_async_request(request)

    async def body(self, url: str) -> Body:
        return body_of(await self.post(url))

    async def whole(self, url: str, content: bytes = b"{}") -> bytes:
        """Asks and reads to the end; the connection goes back to the pool."""
        body = body_of(await self.post(url, content))
        text = await read_all(body)
        await body.aclose()
        return text


def body_of(response: httpx2.Response) -> Body:
    body = response.stream
    assert isinstance(body, Body)
    return body


async def read_all(body: Body) -> bytes:
    text = b""
    while data := await body.read():
        text += data
    return text


class Poured:
    """Remembers what is poured into this sink."""

    def __init__(self, on_data: Callable[[bytes], None] = lambda _: None) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[httpx2.TransportError | None] = []
        self._on_data = on_data
        self._over = asyncio.Event()

    @property
    def bytes(self) -> bytes:
        return b"".join(self.pieces)

    def data(self, data: bytes) -> None:
        assert not self.ends
        self.pieces.append(data)
        self._on_data(data)

    def end(self, error: httpx2.TransportError | None) -> None:
        self.ends.append(error)
        self._over.set()

    async def over(self, within_s: float = 1.0) -> httpx2.TransportError | None:
        """Waits for the end, and returns its error."""
        async with asyncio.timeout(within_s):
            await self._over.wait()
        assert len(self.ends) == 1
        return self.ends[0]
