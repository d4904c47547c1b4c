"""Bodies of the upstream transport are slowed down, poured into a sink and given up, against servers of raw bytes."""

import asyncio

import httpx2
import pytest

from gateway.chat.upstreams.connection import READ_HIGH_WATER
from tests.support.raw_server import (
    CHUNKED,
    Client,
    Peer,
    Poured,
    RawServer,
    chunked,
    length_of,
    on_each_loop,
    read_all,
    says,
    until,
)

BIG = 16 << 20
IN_FLIGHT = 8 << 20
"""More than the two sockets of a loopback connection ever hold."""


# Slowing an upstream down


async def endless(peer: Peer) -> None:
    """Sends as many bytes as the client takes, up to BIG."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % BIG)
    piece = b"x" * 65_536
    while peer.sent < BIG:
        await peer.send(piece)
    await peer.gone()


async def stalled(peer: Peer) -> int:
    """Waits until the server could send nothing for a while; what it had sent by then."""
    before = -1
    while peer.sent != before:
        before = peer.sent
        await asyncio.sleep(0.06)
    return before


@on_each_loop
async def test_a_body_that_nobody_reads_holds_its_upstream() -> None:
    async with RawServer(endless) as server, Client() as client:
        body = await client.body(server.url)
        assert await stalled(server.peers[0]) < IN_FLIGHT
        first = await body.read()
        assert READ_HIGH_WATER < len(first) <= 3 * READ_HIGH_WATER
        assert len(first) + len(await read_all(body)) == BIG


@on_each_loop
async def test_a_sink_that_pauses_holds_its_upstream() -> None:
    async with RawServer(endless) as server, Client() as client:
        body = await client.body(server.url)
        sink = Poured(lambda _: body.pause())
        body.pipe(sink)
        assert await stalled(server.peers[0]) < IN_FLIGHT
        paused_at = len(sink.bytes)
        assert paused_at <= 2 * READ_HIGH_WATER
        sink._on_data = lambda _: None
        body.resume()
        assert await sink.over(5) is None
        assert len(sink.bytes) == BIG


@on_each_loop
async def test_pausing_twice_is_pausing_once() -> None:
    async with RawServer(says(*chunked(b"a", b"b"))) as server, Client() as client:
        body = await client.body(server.url)
        body.resume()
        body.pause()
        body.pause()
        body.resume()
        body.resume()
        assert await read_all(body) == b"ab"


@on_each_loop
async def test_a_body_that_is_over_can_be_paused_and_resumed() -> None:
    async with RawServer(says(b"".join(chunked(b"a")), then="close")) as server, Client() as client:
        body = await client.body(server.url)
        await read_all(body)
        await until(lambda: client.connections == 0)
        body.pause()
        body.resume()


@on_each_loop
async def test_a_connection_that_was_paused_at_its_end_can_be_used_again() -> None:
    async def polite(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"".join(chunked(b"a")))

    async with RawServer(polite) as server, Client() as client:
        body = await client.body(server.url)
        await read_all(body)
        body.pause()
        await body.aclose()
        async with asyncio.timeout(3):
            assert await client.whole(server.url) == b"a"


# Pouring


@on_each_loop
async def test_a_sink_gets_what_was_read_before_it_came() -> None:
    pour = asyncio.Event()

    async def in_halves(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n")
        await pour.wait()
        await peer.send(b"1\r\nc\r\n", b"0\r\n\r\n")
        await peer.gone()

    async with RawServer(in_halves) as server, Client() as client:
        body = await client.body(server.url)
        assert (await body.read())[:1] == b"a"
        await asyncio.sleep(0.02)  # so that what follows is there before the sink
        sink = Poured()
        body.pipe(sink)
        assert b"ab".endswith(sink.bytes)
        pour.set()
        assert await sink.over() is None
        assert b"abc".endswith(sink.bytes)
        assert sink.bytes.endswith(b"c")


@on_each_loop
async def test_a_sink_that_comes_after_the_end_gets_everything() -> None:
    async with RawServer(says(b"".join(chunked(b"a", b"b")))) as server, Client() as client:
        body = await client.body(server.url)
        await asyncio.sleep(0.02)
        sink = Poured()
        body.pipe(sink)
        assert (sink.bytes, sink.ends) == (b"ab", [None])


@on_each_loop
async def test_a_sink_that_comes_after_a_cut_gets_what_came_and_the_error() -> None:
    async with RawServer(says(CHUNKED + b"1\r\na\r\n", then="close")) as server, Client() as client:
        body = await client.body(server.url)
        await until(lambda: client.connections == 0)
        sink = Poured()
        body.pipe(sink)
        assert (sink.bytes, [type(end) for end in sink.ends]) == (b"a", [httpx2.ReadError])


@on_each_loop
async def test_a_sink_that_comes_when_the_buffer_is_full_gets_everything() -> None:
    async with RawServer(endless) as server, Client() as client:
        body = await client.body(server.url)
        await stalled(server.peers[0])
        sink = Poured()
        body.pipe(sink)
        assert await sink.over(5) is None
        assert len(sink.bytes) == BIG


@on_each_loop
async def test_a_sink_may_give_the_body_up_while_it_takes_a_piece() -> None:
    async with RawServer(endless) as server, Client() as client:
        body = await client.body(server.url)
        sink = Poured(lambda _: body.abort())
        body.pipe(sink)
        await stalled(server.peers[0])
        assert isinstance(await sink.over(), httpx2.ReadError)
        assert (len(sink.pieces), server.open) == (1, 0)


@on_each_loop
async def test_a_connection_whose_body_was_poured_is_used_again() -> None:
    async def polite(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*chunked(b"a", b"b"))

    async with RawServer(polite) as server, Client() as client:
        for _ in range(3):
            body, sink = await client.body(server.url), Poured()
            body.pipe(sink)
            assert (await sink.over(), sink.bytes) == (None, b"ab")
            await body.aclose()
        assert len(server.peers) == 1


# Giving up


@on_each_loop
async def test_giving_a_body_up_closes_its_socket_at_once() -> None:
    seen = asyncio.Event()

    async def watchful(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"1\r\na\r\n")
        await peer.gone()
        seen.set()

    async with RawServer(watchful) as server, Client() as client:
        body = await client.body(server.url)
        assert await body.read() == b"a"
        waiting = asyncio.ensure_future(body.read())
        await asyncio.sleep(0)
        body.abort()
        body.abort()
        async with asyncio.timeout(1):
            await seen.wait()
        with pytest.raises(httpx2.ReadError):
            await waiting
        assert client.connections == 0


@on_each_loop
async def test_a_sink_hears_that_its_body_was_given_up_and_nothing_after() -> None:
    async with RawServer(says(CHUNKED, b"1\r\na\r\n")) as server, Client() as client:
        body, sink = await client.body(server.url), Poured()
        body.pipe(sink)
        body.abort()
        before = len(sink.pieces)
        assert isinstance(await sink.over(), httpx2.ReadError)
        await asyncio.sleep(0.02)
        assert (len(sink.pieces), len(sink.ends)) == (before, 1)


@on_each_loop
async def test_giving_up_a_body_that_is_closed_already_does_nothing() -> None:
    async with RawServer(says(length_of(b"x"), then="close")) as server, Client() as client:
        body = await client.body(server.url)
        await read_all(body)
        await until(lambda: client.connections == 0)
        body.abort()
        await body.aclose()
