"""Speaks to Redis over a connection that the driver has opened: whole replies straight from the transport.

The driver does the handshake (TLS, password, database), and then its stream and its parser are left aside: they wake
a task for each line of a reply, which is most of what an append costs a process that writes one at a time. Replies are
those of protocol 2, undecoded.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

Command = Sequence[str | bytes | int]


class RedisWire(asyncio.Protocol):
    """Replies in the order in which they come; one task at a time waits for them."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Takes a connection over. Nothing may be under way on it."""
        driver: Any = connection  # it has no name for them outside
        self._transport: asyncio.Transport = driver._writer.transport
        self._parse_error = driver._parser.parse_error
        self._buffer = b""
        self._replies = deque[Any]()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._transport.set_protocol(self)

    def send(self, *commands: Command) -> None:
        """Sends commands at once. Raises a RedisError when the connection is lost."""
        if self._error is not None:
            raise self._error
        self._transport.write(encode(commands))

    async def reply(self) -> Any:
        """Returns the next reply; an error of the server stands in its place. Raises a RedisError or OSError."""
        while not self._replies:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        reply = self._replies.popleft()
        if isinstance(reply, RedisConnectionError):  # the server cannot be used now
            raise reply
        return reply

    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        at = 0
        try:
            while at < len(buffer):
                reply, at = self._decode(buffer, at)
                self._replies.append(reply)
                self._buffer = buffer[at:]
        except _Unfinished:
            pass
        except (ValueError, RecursionError) as err:
            self._fail(InvalidResponse(f"not the protocol of Redis: {buffer[at : at + 80]!r} ({err})"))
            self._transport.abort()
        if self._replies:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or RedisConnectionError("Connection closed by server."))

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _decode(self, buffer: bytes, at: int) -> tuple[Any, int]:
        """Returns the reply that begins there, and where the next begins. Raises _Unfinished, ValueError."""
        end = buffer.find(b"\r\n", at)
        if end < 0:
            raise _Unfinished
        kind, text, after = buffer[at : at + 1], buffer[at + 1 : end], end + 2
        match kind:
            case b"$":
                stop = after + int(text)
                if stop < after:
                    return None, after
                if len(buffer) < stop + 2:
                    raise _Unfinished
                return buffer[after:stop], stop + 2
            case b"*":
                if text == b"-1":
                    return None, after
                replies: list[Any] = []
                for _ in range(int(text)):
                    reply, after = self._decode(buffer, after)
                    replies.append(reply)
                return replies, after
            case b":":
                return int(text), after
            case b"+":
                return text, after
            case b"-":
                error: ResponseError = self._parse_error(text.decode("utf-8", "replace"))
                return error, after
            case _:
                raise ValueError("no such kind of reply")


class _Unfinished(Exception):
    """The rest of the reply is still to come."""


def encode(commands: Sequence[Command]) -> bytes:
    """Returns commands as the server reads them."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            word_bytes = word if isinstance(word, bytes) else str(word).encode()
            parts += (b"$%d\r\n" % len(word_bytes), word_bytes, b"\r\n")
    return b"".join(parts)
