"""A request must arrive: its head in time and in size, its body at a pace; only the client's own delay counts."""

import asyncio
from typing import Any

import pytest

from gateway.serving import arrivals
from gateway.serving.websocket import SocketProtocol
from tests.support.lending import Site
from tests.support.raw_client import RawClient, request
from tests.support.raw_server import on_each_loop, until
from tests.support.streams import Uvicorn

WAIT_S = 0.3
GET = request("GET", "/")
CHUNKED = b"POST /slow HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
HEAD = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000\r\n\r\n"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "HEAD_S", WAIT_S)
    monkeypatch.setattr(arrivals, "LOOK_S", WAIT_S)
    monkeypatch.setattr(arrivals, "LINGER_S", 0.5)


LATE: dict[str, tuple[bytes, ...]] = {
    "a part of the first line": (GET[:3],),
    "a head without its end": (GET[:-2],),
    "another byte now and then": tuple(GET[at : at + 1] for at in range(12)),
    "a body that never comes": (HEAD,),
    "a body that stops": (HEAD + b"x" * 50,),
    "a body that trickles": (HEAD, *[b"x"] * 12),
    "a chunked body that trickles": (
        CHUNKED,
        *[b"1\r\nx\r\n"] * 12,
    ),
    "trailers that trickle": (
        CHUNKED + b"0\r\n",
        *[b"a: b\r\n"] * 12,
    ),
}


@pytest.mark.parametrize("pieces", LATE.values(), ids=LATE)
@on_each_loop
async def test_a_client_that_is_late_is_told_and_cut(pieces: tuple[bytes, ...]) -> None:
    began = asyncio.get_running_loop().time()
    async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as client:
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0.04)
            if asyncio.get_running_loop().time() - began > 2.5 * WAIT_S:
                break
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert b'"code":"too_slow"' in answer.body
        assert await client.sees_close()
        await until(lambda: not server.connections)
    assert WAIT_S <= asyncio.get_running_loop().time() - began < 6 * WAIT_S


@pytest.mark.parametrize("first", [b"", GET], ids=["first of all", "behind an answer"])
@pytest.mark.parametrize("more", [b"", b"\r\n", b"\r\n" * 50])
@on_each_loop
async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(first: bytes, more: bytes) -> None:
    async with Uvicorn(Site(), "ours", timeout_keep_alive=1) as server, RawClient(server.port) as client:
        await client.send(first)
        assert not first or (await client.answer()).status == 200
        await client.send(more)
        assert await client.sees_close(2)


@on_each_loop
async def test_a_part_of_a_head_behind_an_answer_is_bounded_as_the_first_is() -> None:
    async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as client:
        await client.send(GET)
        assert (await client.answer()).status == 200
        await client.send(GET[:20])
        assert (await client.answer()).status == 408
        assert await client.sees_close()


@on_each_loop
async def test_a_head_without_end_is_refused_while_it_is_small() -> None:
    async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        for _ in range(40):
            await client.send(b"x-more: " + b"y" * 2000 + b"\r\n")
            await asyncio.sleep(0.001)
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (431, "application/problem+json")
        assert b"larger than 65536 bytes" in answer.body


@pytest.mark.parametrize("first", [b"", GET], ids=["first of all", "behind an answer"])
@on_each_loop
async def test_the_piece_with_which_a_head_begins_counts_too(first: bytes) -> None:
    """It may come all at once, after a moment in which the process was busy: the end must not make it good."""
    async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as client:
        await client.send(first)
        assert not first or (await client.answer()).status == 200
        await client.send(GET[:-2] + b"a: b\r\n" * 15_000)
        await asyncio.sleep(0.05)
        await client.send(b"\r\n")
        assert (await client.answer()).status == 431


@on_each_loop
async def test_trailers_are_not_kept() -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(CHUNKED + b"1\r\nx\r\n0\r\n")
        for _ in range(100):
            await client.send(b"authorization: " + b"y" * 2000 + b"\r\n")
        await client.send(b"\r\n")
        assert b"1" in (await client.answer()).body
        [protocol] = server.protocols()
        assert [name for name, _ in protocol.scope["headers"]] == [b"host", b"transfer-encoding"]


@on_each_loop
async def test_a_slow_body_that_keeps_its_pace_is_taken() -> None:
    async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as client:
        await client.send(HEAD)
        for _ in range(20):
            await client.send(b"x" * 200)
            await asyncio.sleep(WAIT_S / 5)
        assert (await client.answer()).status == 200


@on_each_loop
async def test_the_time_that_an_answer_takes_is_not_the_clients() -> None:
    """Neither for a whole request, nor while the next has come in part, nor for a stream."""
    for more in (b"", GET[:10]):
        async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as client:
            await client.send(request("GET", "/slow") + more)
            assert (await client.answer()).status == 200
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("GET", "/stream") + GET[:10])
        answer = await client.head()
        await asyncio.sleep(3 * WAIT_S)
        site.end()
        assert b"said" in (await client.rest(answer)).body
        await client.send(GET[10:])
        assert (await client.answer()).status == 200


@on_each_loop
async def test_a_client_is_not_late_while_nothing_is_read_from_it() -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with Uvicorn(app, "ours") as server, RawClient(server.port) as client:
        asyncio.get_running_loop().call_later(3 * WAIT_S, gate.set)
        await client.send(request("POST", "/", b"x" * 200_000))
        assert (await client.answer()).status == 200
    gate.clear()
    async with Uvicorn(app, "ours") as server, RawClient(server.port) as client:
        asyncio.get_running_loop().call_later(3 * WAIT_S, gate.set)
        await client.send(request("POST", "/", b"x" * 9, "expect: 100-continue")[:-9])
        assert (await client.head()).status == 100
        await client.send(b"x" * 9)
        assert (await client.answer()).status == 200


@on_each_loop
async def test_a_connection_that_became_a_websocket_is_not_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.sleep(3 * WAIT_S)
        await send({"type": "websocket.send", "text": "still here"})

    lines = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
    handshake = request("GET", "/", b"", *lines, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
    async with Uvicorn(app, "ours", ws=SocketProtocol) as server, RawClient(server.port) as client:
        for part in (handshake[:50], handshake[50:]):
            await client.send(part)
            await asyncio.sleep(0.01)
        assert (await client.head()).status == 101
        assert (await client.exactly(12))[2:] == b"still here"


@on_each_loop
async def test_the_last_descriptors_are_not_for_clients(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrivals.ArrivalProtocol, "_next_warning_s", 0.0)
    async with Uvicorn(Site(), "ours") as server, RawClient(server.port) as first:
        await first.send(GET)
        assert (await first.answer()).status == 200
        highest = max(protocol.transport.get_extra_info("socket").fileno() for protocol in server.protocols())
        monkeypatch.setattr(arrivals, "max_descriptor", lambda: highest + 1)
        for _ in range(3):
            async with RawClient(server.port) as late:
                assert await late.sees_close()
        await first.send(GET)
        assert (await first.answer()).status == 200
    assert capsys.readouterr().out.count("no file descriptors left") == 1


def test_a_limit_of_descriptors_leaves_some_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, expected in ((1024, 924), (120, 60), (-1, 1 << 30)):
        monkeypatch.setattr(arrivals.resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        arrivals.max_descriptor.cache_clear()
        assert arrivals.max_descriptor() == expected
    monkeypatch.undo()
    arrivals.max_descriptor.cache_clear()
