"""Replies are whole whatever pieces they come in; a server that hangs up or speaks something else is lost."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError

from events.log.redis.wire import RedisWire, encode

pytestmark = pytest.mark.anyio
REPLIES = (
    b"$5\r\nhello\r\n$-1\r\n$0\r\n\r\n:-7\r\n+OK\r\n*-1\r\n*0\r\n*3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n$2\r\n\r\n\r\n"
    b"-NOSCRIPT No matching script.\r\n$3\r\n\x92\xff\x00\r\n"
)


@asynccontextmanager
async def wire(*pieces: bytes) -> AsyncGenerator[RedisWire]:
    """Connects to a server that sends these pieces, each by itself, once it is asked, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = Connection(host="127.0.0.1", port=server.sockets[0].getsockname()[1], protocol=2, driver_info=None)
        await connection.connect()
        try:
            wire = RedisWire(connection)
            wire.send(("PING",))
            yield wire
        finally:
            await connection.disconnect(nowait=True)


@pytest.mark.parametrize("cut", [lambda text: [text], lambda text: [text[i : i + 1] for i in range(len(text))]])
async def test_replies_are_the_same_in_whatever_pieces_they_come(cut: Callable[[bytes], list[bytes]]) -> None:
    async with asyncio.timeout(10), wire(*cut(REPLIES)) as link:
        replies = [await link.reply() for _ in range(10)]
    assert replies[:8] == [b"hello", None, b"", -7, b"OK", None, [], [b"message", [1], b"\r\n"]]
    assert isinstance(replies[8], NoScriptError)
    assert replies[9] == b"\x92\xff\x00"


@pytest.mark.parametrize("piece", [b"", b"$5\r\nhel", b"*2\r\n:1\r\n"])
async def test_a_server_that_hangs_up_within_a_reply_is_lost(piece: bytes) -> None:
    async with asyncio.timeout(10), wire(piece) as link:
        with pytest.raises(RedisConnectionError):
            await link.reply()
        with pytest.raises(RedisConnectionError):
            link.send(("PING",))


@pytest.mark.parametrize("piece", [b"HTTP/1.1 400 Bad Request\r\n", b"$five\r\n", b"*x\r\n", b"*1\r\n" * 5000])
async def test_another_protocol_is_a_lost_connection(piece: bytes) -> None:
    async with asyncio.timeout(10), wire(piece) as link:
        with pytest.raises(InvalidResponse):
            await link.reply()


async def test_a_server_that_cannot_be_used_now_is_lost_and_replies_before_it_are_not() -> None:
    async with asyncio.timeout(10), wire(b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n") as link:
        assert await link.reply() == b"OK"
        with pytest.raises(RedisError):
            await link.reply()


def test_commands_are_encoded_with_their_length_in_bytes() -> None:
    assert encode([("SET", "ä", b"\x00\r\n"), ("WAIT", 1, 250)]) == (
        b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$3\r\n\x00\r\n\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$3\r\n250\r\n"
    )
