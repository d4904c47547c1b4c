"""What is under way on an open connection when the listener closes is answered before a server drains."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.serving import server as server_module
from gateway.serving.server import Server, server_config
from gateway.settings import load

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
BOUND_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def kept_collector() -> Iterator[None]:
    """Undoes what a server does to the garbage collector of its process."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class EchoUnit:
    """A unit that answers with the body of the request, and refuses once it drains."""

    has_websockets = True
    failure = None

    def __init__(self) -> None:
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for said in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{said}.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await self.may_end.wait()
            return
        body = (await receive())["body"]
        while len(body) < int(dict(scope["headers"]).get(b"content-length", b"0")):
            body += (await receive())["body"]
        length = (b"content-length", b"%d" % len(body))
        status = 503 if self.has_begun.is_set() else 200
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def on_start(self) -> None: ...

    def on_shutdown(self) -> None: ...

    async def drain(self) -> None:
        self.has_begun.set()
        await self.may_end.wait()


class Draining:
    """A server whose listener is closed by `close`."""

    def __init__(self) -> None:
        self.unit = EchoUnit()
        settings = load({})
        self.server = Server(server_config(self.unit, settings, "127.0.0.1", 0), self.unit, settings)
        self._links: list[asyncio.StreamWriter] = []

    async def connect(self, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        before = len(self.server.server_state.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._links.append(writer)
        writer.write(first)
        while len(self.server.server_state.connections) == before:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.001)
        return reader, writer

    async def close(self) -> None:
        self.server.should_exit = True
        while self.server.servers[0].is_serving():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        self.unit.may_end.set()
        for writer in self._links:
            writer.close()


@pytest.fixture
async def draining() -> AsyncIterator[Draining]:
    stage = Draining()
    serving = asyncio.create_task(stage.server.serve())
    async with asyncio.timeout(BOUND_S):
        while not stage.server.started:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        yield stage
        await stage.end()
        await serving


async def head_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode().lower()


@pytest.mark.parametrize(
    ("before", "after", "body"),
    [
        (b"", GET, b""),
        (GET[:10], GET[10:], b""),
        (b"", POST + b"body", b"body"),
        (POST, b"body", b"body"),
        (POST + b"bo", b"dy", b"body"),
    ],
    ids=["nothing yet", "half a head", "nothing yet of a post", "a head without its body", "half a body"],
)
async def test_a_request_that_is_under_way_is_served(
    draining: Draining, before: bytes, after: bytes, body: bytes
) -> None:
    reader, writer = await draining.connect(before)
    await draining.close()
    writer.write(after)
    head = await head_of(reader)
    assert head.startswith("http/1.1 200")
    assert (await reader.read()) == body  # and behind it the connection ends
    await draining.unit.has_begun.wait()


async def test_the_next_request_of_a_kept_connection_is_served_and_is_its_last(draining: Draining) -> None:
    reader, writer = await draining.connect(GET)
    assert "connection: close" not in await head_of(reader)
    await draining.close()
    writer.write(GET)
    head = await head_of(reader)
    assert head.startswith("http/1.1 200")
    assert head.count("connection: close") == 1
    assert await reader.read() == b""


async def test_a_handshake_that_is_under_way_is_one(draining: Draining) -> None:
    """`Connection: close` beside `Connection: Upgrade` would make some clients give up."""
    reader, writer = await draining.connect(HANDSHAKE[:20])
    await draining.close()
    writer.write(HANDSHAKE[20:])
    head = await head_of(reader)
    assert head.startswith("http/1.1 101")
    assert [line for line in head.split("\r\n") if line.startswith("connection:")] == ["connection: upgrade"]


async def test_a_connection_that_brings_nothing_is_closed(draining: Draining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    kept, _ = await draining.connect(GET)
    await head_of(kept)
    fresh, _ = await draining.connect()
    await draining.close()
    assert (await kept.read(), await fresh.read()) == (b"", b"")
    await draining.unit.has_begun.wait()


async def test_a_body_that_takes_too_long_holds_up_nobody(draining: Draining, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("ANSWER_S", "IDLE_S", "UPLOAD_S"):
        monkeypatch.setattr(server_module, bound, 0.2)
    reader, writer = await draining.connect(POST)
    await draining.close()
    await draining.unit.has_begun.wait()
    writer.write(b"body")
    assert (await head_of(reader)).startswith("http/1.1 503")
    assert await reader.read() == b"body"


async def test_nothing_is_waited_for_where_nothing_can_come(
    draining: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("ANSWER_S", "IDLE_S", "UPLOAD_S"):
        monkeypatch.setattr(server_module, bound, 10 * BOUND_S)
    await draining.close()
    await draining.unit.has_begun.wait()


async def test_an_order_to_cut_waits_for_no_request(draining: Draining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_S", 10 * BOUND_S)
    await draining.connect()
    await draining.close()
    draining.server.cut_now()
    await draining.unit.has_begun.wait()
