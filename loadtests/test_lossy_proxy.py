"""The faulty proxy passes everything on, but for the mistake that it was told to make."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from loadtests.bench.harness.processes import search_path
from loadtests.lossy_proxy import BLOCK, LossyProxy, Mistakes
from loadtests.ports import free_port

EVENT = b"data: " + b"x" * 392 + b"\n\n"
"""An event of 400 bytes."""
EVENTS = 12
NGINX = """
worker_processes 1; daemon off; master_process off; pid nginx.pid; error_log stderr;
events { worker_connections 16; }
http {
  access_log off; proxy_temp_path proxy; client_body_temp_path body;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 127.0.0.1:@LISTEN;
    location / { proxy_pass http://127.0.0.1:@PORT; proxy_ignore_headers X-Accel-Buffering; }
  }
}
"""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Runs a server for one test, and yields its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def head(kind: str, *more: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"content-type: {kind}", *more, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends twelve events, 30 ms apart, to the end of the connection."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(head("text/event-stream", "x-accel-buffering: no", "connection: close"))
    for _ in range(EVENTS):
        writer.write(EVENT)
        await writer.drain()
        await asyncio.sleep(0.03)


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own head and body."""
    while True:
        request_head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in request_head.split(b"\r\n") if line.startswith(b"content-length")), 0)
        body = request_head + await reader.readexactly(length)
        writer.write(head("text/plain", f"content-length: {len(body)}") + body)


async def arrivals(port: int, request: bytes = b"GET / HTTP/1.0\r\n\r\n") -> list[tuple[float, bytes]]:
    """Returns all that comes until the end, each read with its time in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    began, pieces = time.monotonic(), list[tuple[float, bytes]]()
    while data := await reader.read(65_536):
        pieces.append((time.monotonic() - began, data))
    writer.close()
    return pieces


async def exchange(proxy: LossyProxy, request: bytes) -> bytes:
    """Returns the body of one answer that has a length."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return body


def through(
    handler: Handler, mistakes: Mistakes, request: bytes = b"GET / HTTP/1.0\r\n\r\n"
) -> list[tuple[float, bytes]]:
    async def run() -> list[tuple[float, bytes]]:
        async with serving(handler) as port, LossyProxy("127.0.0.1", port, mistakes) as proxy:
            return await arrivals(proxy.port, request)

    return asyncio.run(run())


def test_without_a_mistake_everything_passes_as_it_comes() -> None:
    pieces = through(dripping, Mistakes())
    whole = b"".join(data for _, data in pieces)
    assert whole.partition(b"\r\n\r\n")[2] == EVENT * EVENTS
    assert len(pieces) >= EVENTS
    assert pieces[0][0] < 0.03 * EVENTS / 2


def test_requests_of_one_connection_are_answered_one_after_the_other() -> None:
    async def run() -> None:
        async with serving(echoing) as port, LossyProxy("127.0.0.1", port, Mistakes()) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            requests = [b"POST /%d HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc" % number for number in range(3)]
            writer.write(b"".join(requests))
            for request in requests:
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(request)) == request
            writer.close()

    asyncio.run(run())


def test_a_chunked_answer_ends_with_its_last_chunk() -> None:
    async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("text/plain", "transfer-encoding: chunked") + chunk(b"one") + chunk(b"two"))
        writer.write(b"0\r\nx-trailer: dropped\r\n\r\n")
        await reader.read()  # stays open: the end of the body is not that of the connection

    whole = b"".join(
        data for _, data in through(chunked, Mistakes(), b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
    ).partition(b"\r\n\r\n")[2]
    assert whole.endswith(b"0\r\n\r\n")
    assert b"one" in whole
    assert b"two" in whole


def test_a_client_that_leaves_takes_the_other_connection_with_it() -> None:
    departure = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("text/event-stream"))
        try:
            await reader.read()
        finally:
            departure.set()

    async def run() -> None:
        async with serving(waiting) as port, LossyProxy("127.0.0.1", port, Mistakes()) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            async with asyncio.timeout(5):
                await departure.wait()

    asyncio.run(run())


@pytest.mark.parametrize("mistakes", [Mistakes(), Mistakes(True, True, True)], ids=["none", "all"])
def test_a_websocket_passes_whatever_the_mistakes(mistakes: Mistakes) -> None:
    async def run() -> None:
        async with serve(_echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with (
                LossyProxy("127.0.0.1", port, mistakes) as proxy,
                connect(f"ws://127.0.0.1:{proxy.port}/api/audio", proxy=None) as socket,
            ):
                for message in ("a word", b"\x00" * 70_000):
                    await socket.send(message)
                    assert await socket.recv() == message

    asyncio.run(run())


async def _echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


def bodies(pieces: list[tuple[float, bytes]]) -> list[bytes]:
    """Returns what came of the body with each read, less the head."""
    (_, first), *rest = pieces
    return [first.partition(b"\r\n\r\n")[2], *(data for _, data in rest)]


def test_a_buffering_proxy_holds_the_head_and_every_block_back() -> None:
    pieces = through(dripping, Mistakes(buffer=True))
    assert b"".join(bodies(pieces)) == EVENT * EVENTS
    assert [len(data) for _, data in pieces[:-1]] == [BLOCK]
    assert pieces[0][0] > 0.03 * (BLOCK // len(EVENT) - 1)


@pytest.mark.skipif(shutil.which("nginx", path=search_path()) is None, reason="nginx is not installed")
def test_nginx_holds_the_same_back(tmp_path: Path) -> None:
    """It proves that the switch does what it claims."""

    async def run() -> list[tuple[float, bytes]]:
        listen = free_port()
        async with serving(dripping) as port:
            config = tmp_path / "nginx.conf"
            config.write_text(NGINX.replace("@LISTEN", str(listen)).replace("@PORT", str(port)))
            nginx = await asyncio.create_subprocess_exec(
                "nginx", "-p", str(tmp_path), "-c", str(config), env={"PATH": search_path()}, stderr=subprocess.DEVNULL
            )
            try:
                return await _patiently(listen)
            finally:
                nginx.terminate()
                await nginx.wait()

    assert bodies(asyncio.run(run())) == bodies(through(dripping, Mistakes(buffer=True)))


async def _patiently(port: int) -> list[tuple[float, bytes]]:
    for _ in range(100):
        try:
            return await arrivals(port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    raise AssertionError("nginx did not start")


def test_comments_are_stripped_however_they_are_cut() -> None:
    async def pinging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("text/event-stream; charset=utf-8", "connection: close"))
        for piece in (b": ok\n", b": pi", b"ng\ndata: a", b": b\n", b"\n: ping\n", b"data: last"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    pieces = through(pinging, Mistakes(no_pings=True))
    assert b"".join(data for _, data in pieces).partition(b"\r\n\r\n")[2] == b"data: a: b\n\ndata: last"


def test_a_readers_place_is_stripped_and_nothing_else() -> None:
    async def run() -> bytes:
        async with serving(echoing) as port, LossyProxy("127.0.0.1", port, Mistakes(no_resume=True)) as proxy:
            query = "topic=a&topic=b&lastEventId=c1&last_event_id=c1&after=c1&session=s&cursor=c1&from=earliest"
            return await exchange(
                proxy, f"GET /api/events?{query} HTTP/1.1\r\nLast-Event-ID: c1\r\nAccept: */*\r\n\r\n".encode()
            )

    assert asyncio.run(run()) == b"GET /api/events?topic=a&topic=b&from=earliest HTTP/1.1\r\nAccept: */*\r\n\r\n"


def test_a_gateway_that_is_not_there_is_a_bad_gateway() -> None:
    async def run() -> list[tuple[float, bytes]]:
        async with LossyProxy("127.0.0.1", 1, Mistakes()) as proxy:
            return await arrivals(proxy.port)

    assert asyncio.run(run())[0][1].startswith(b"HTTP/1.1 502 ")
