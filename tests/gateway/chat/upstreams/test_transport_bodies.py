"""Bodies of the upstream transport come whole or are cut, whether they are read or poured into a sink."""

import httpx2
import pytest

from gateway.chat.upstreams.body import Body
from tests.support.raw_server import (
    CHUNKED,
    Client,
    Poured,
    RawServer,
    chunked,
    length_of,
    on_each_loop,
    read_all,
    says,
    until,
)

ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


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
