"""Compressed answers of servers that were asked for none, on each event loop."""

import asyncio
import gzip

import httpx2
import pytest

from gateway.chat.upstreams.way_out import WayOutError
from tests.support.raw_server import (
    Client,
    Peer,
    Poured,
    RawServer,
    chunked,
    length_of,
    on_each_loop,
    read_all,
    until,
)


@on_each_loop
async def test_an_answer_in_gzip_is_read_and_its_connection_kept() -> None:
    async def packed(peer: Peer) -> None:
        while True:
            await peer.send(length_of(gzip.compress(await peer.request()), b"Content-Encoding: gzip"))

    async with RawServer(packed) as server, Client() as client:
        assert [await client.whole(server.url, b"x" * n) for n in (1, 400_000)] == [b"x", b"x" * 400_000]
        response = await client.post(server.url, b"text")
        assert (await response.aread(), "content-encoding" in response.headers) == (b"text", False)
        assert len(server.peers) == 1


BOMB = 8 << 20


@on_each_loop
async def test_a_bomb_is_read_in_pieces_that_a_sink_may_pause() -> None:
    bomb = gzip.compress(b"\0" * BOMB, 9)

    async def script(peer: Peer) -> None:
        await peer.request()
        head, *pieces = chunked(bomb)
        await peer.send(head.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"), *pieces)
        await peer.gone()

    async with RawServer(script) as server, Client() as client:
        body = await client.body(server.url)
        taken = 0

        def take(data: bytes) -> None:
            nonlocal taken
            assert len(data) <= 1 << 20
            taken += len(data)
            if taken == len(data):
                body.pause()

        sink = Poured(take)
        body.pipe(sink)
        await until(lambda: taken)
        paused_at = taken
        for _ in range(20):
            await asyncio.sleep(0)
        assert taken == paused_at
        sink.pieces.clear()
        body.resume()
        assert await sink.over(5) is None
        assert taken == BOMB
        await body.aclose()
        assert client.connections == 1


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip"])
@on_each_loop
async def test_a_coding_that_nobody_asked_for_is_told(coding: bytes) -> None:
    async def odd(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(b"x", b"content-encoding: " + coding))
        await peer.gone()

    async with RawServer(odd) as server, Client() as client:
        with pytest.raises(WayOutError, match=repr(coding.decode())):
            await client.post(server.url)
        await until(lambda: (client.connections, server.open) == (0, 0))


@pytest.mark.parametrize("is_poured", [False, True])
@pytest.mark.parametrize("size", [1000, 1_000_000])
@on_each_loop
async def test_a_damaged_answer_gives_what_came_and_then_an_error(size: int, is_poured: bool) -> None:
    packed = gzip.compress(b"x" * size)
    damaged = packed[:-8] + b"\xff" * 8

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(damaged, b"content-encoding: gzip"))
        await peer.gone()

    async with RawServer(script) as server, Client() as client:
        body, sink = await client.body(server.url), Poured()
        if is_poured:
            body.pipe(sink)
            assert isinstance(await sink.over(), httpx2.RemoteProtocolError)
        else:
            with pytest.raises(httpx2.RemoteProtocolError, match="compressed answer is damaged"):
                await read_all(body)
        await until(lambda: (client.connections, server.open) == (0, 0))
