"""Bodies of the upstream transport: how they end, how they are slowed down, given up, and poured into a sink."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from gateway.chat.upstreams.connection import READ_HIGH_WATER, Body
from tests.support.raw_server import Client, Peer, Poured, RawServer, chunked, length_of, on_each_loop, read_all, until

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
BIG = 16 << 20
IN_FLIGHT = 8 << 20
"""More than the two sockets of a loopback connection ever hold."""


def says(*pieces: bytes, then: str = "wait") -> Callable[[Peer], Awaitable[None]]:
    """A script: one request, these bytes, and then what: "wait" for the client, "close", or "reset"."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "wait":
            await peer.gone()
        elif then == "reset":
            await asyncio.sleep(0.02)
            peer.reset()

    return script


# Whole bodies

WHOLE = {
    "a length": ([length_of(b"hello")], "wait"),
    "a length, byte by byte": ([bytes([byte]) for byte in length_of(b"hello")], "wait"),
    "a length and a close": ([length_of(b"hello")], "close"),
    "chunks": (chunked(b"he", b"l", b"lo"), "wait"),
    "chunks at once": ([b"".join(chunked(b"he", b"l", b"lo"))], "wait"),
    "chunks, byte by byte": ([bytes([byte]) for byte in b"".join(chunked(b"he", b"llo"))], "wait"),
    "a chunk in halves": ([CHUNKED, b"5\r\nhel", b"lo\r\n0\r\n\r\n"], "wait"),
    "a chunk size in halves": ([CHUNKED + b"00", b"5\r", b"\nhello\r\n0\r\n", b"\r\n"], "wait"),
    "chunks with extensions and trailers": ([CHUNKED + b"5;a=b\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"], "wait"),
    "until the connection closes": ([ENDLESS, b"hel", b"lo"], "close"),
    "until the connection closes, HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\nhello"], "close"),
}


@pytest.mark.parametrize(("pieces", "then"), WHOLE.values(), ids=WHOLE.keys())
@on_each_loop
async def test_a_body_comes_whole(pieces: list[bytes], then: str) -> None:
    async with RawServer(says(*pieces, then=then)) as server, Client() as client:
        body = await client.body(server.url)
        assert await read_all(body) == b"hello"
        assert await body.read() == b""


@pytest.mark.parametrize(("pieces", "then"), WHOLE.values(), ids=WHOLE.keys())
@on_each_loop
async def test_a_body_is_poured_whole(pieces: list[bytes], then: str) -> None:
    async with RawServer(says(*pieces, then=then)) as server, Client() as client:
        sink = Poured()
        (await client.body(server.url)).pipe(sink)
        assert await sink.over() is None
        assert sink.bytes == b"hello"


@pytest.mark.parametrize("answer", [length_of(b""), b"".join(chunked()), b"HTTP/1.1 204 No Content\r\n\r\n"])
@on_each_loop
async def test_an_empty_body_ends_at_once(answer: bytes) -> None:
    async with RawServer(says(answer)) as server, Client() as client:
        assert await client.whole(server.url) == b""
        assert client.connections == 1


@on_each_loop
async def test_the_client_of_the_sdk_reads_the_same_bytes() -> None:
    async with RawServer(says(*chunked(b"he", b"llo"))) as server, Client() as client:
        response = await client.post(server.url)
        assert b"".join([piece async for piece in response.aiter_bytes()]) == b"hello"


# Cut bodies


async def read_into(body: Body, sink: Poured) -> None:
    while data := await body.read():
        sink.data(data)


CUT = {
    "before its first byte": ([CHUNKED], "close", b""),
    "within a chunk": ([CHUNKED, b"5\r\nhel"], "close", b"hel"),
    "after a chunk": ([CHUNKED, b"3\r\nhel\r\n"], "close", b"hel"),
    "within the last chunk": ([CHUNKED, b"3\r\nhel\r\n0\r\n"], "close", b"hel"),
    "before its length": ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"hel"], "close", b"hel"),
    "by a reset, with chunks": ([CHUNKED, b"3\r\nhel\r\n"], "reset", b"hel"),
    "by a reset, without a length": ([ENDLESS, b"hel"], "reset", b"hel"),
}


@pytest.mark.parametrize(("pieces", "then", "first"), CUT.values(), ids=CUT.keys())
@on_each_loop
async def test_a_body_that_is_cut_gives_what_came_and_then_an_error(
    pieces: list[bytes], then: str, first: bytes
) -> None:
    async with RawServer(says(*pieces, then=then)) as server, Client() as client:
        body = await client.body(server.url)
        sink = Poured()
        with pytest.raises(httpx2.ReadError):
            await read_into(body, sink)
        assert sink.bytes == first
        with pytest.raises(httpx2.ReadError):
            await body.read()
        await body.aclose()
        assert client.connections == 0


@pytest.mark.parametrize(("pieces", "then", "first"), CUT.values(), ids=CUT.keys())
@on_each_loop
async def test_a_sink_hears_of_a_cut(pieces: list[bytes], then: str, first: bytes) -> None:
    async with RawServer(says(*pieces, then=then)) as server, Client() as client:
        sink = Poured()
        (await client.body(server.url)).pipe(sink)
        assert isinstance(await sink.over(), httpx2.ReadError)
        assert sink.bytes == first


BROKEN_CHUNKS = [CHUNKED, b"3\r\nhel\r\n", b"no size\r\n"]


@on_each_loop
async def test_chunks_that_are_none_end_a_body_with_an_error() -> None:
    async with RawServer(says(*BROKEN_CHUNKS)) as server, Client() as client:
        body = await client.body(server.url)
        assert await body.read() == b"hel"
        with pytest.raises(httpx2.RemoteProtocolError):
            await body.read()
        await until(lambda: server.open == 0)


@on_each_loop
async def test_a_sink_hears_of_chunks_that_are_none() -> None:
    async with RawServer(says(*BROKEN_CHUNKS)) as server, Client() as client:
        sink = Poured()
        (await client.body(server.url)).pipe(sink)
        assert isinstance(await sink.over(), httpx2.RemoteProtocolError)
        assert sink.bytes == b"hel"


# Slowing an upstream down


async def endless(peer: Peer) -> None:
    """As many bytes as the client takes, up to BIG."""
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
    is_seen = asyncio.Event()

    async def watchful(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"1\r\na\r\n")
        await peer.gone()
        is_seen.set()

    async with RawServer(watchful) as server, Client() as client:
        body = await client.body(server.url)
        assert await body.read() == b"a"
        waiting = asyncio.ensure_future(body.read())
        await asyncio.sleep(0)
        body.abort()
        body.abort()
        async with asyncio.timeout(1):
            await is_seen.wait()
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
