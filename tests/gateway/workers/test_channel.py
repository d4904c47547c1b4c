"""A channel gives every message of the other side, and ends when that side is gone or speaks another language."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest

from gateway.core.sums import Family
from gateway.workers.channel import (
    Channel,
    WorkerFailed,
    WorkerFigures,
    WorkerLeaves,
    WorkerMessage,
    WorkerReady,
    line_of,
)

pytestmark = pytest.mark.anyio

FIGURES = WorkerFigures([Family("n", "Count", "counter", False, [("n_total", {"a": 'x"\n'}, 2.5)])], 7)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Ends(NamedTuple):
    """A channel, and the bare socket at its other end."""

    channel: Channel[WorkerMessage]
    peer: socket.socket


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ours, theirs = socket.socketpair()
    channel = Channel(msgspec.json.Decoder(WorkerMessage), ours)
    await channel.open()
    with theirs:
        yield Ends(channel, theirs)
    await channel.close()


async def heard(channel: Channel[WorkerMessage]) -> list[WorkerMessage]:
    async with asyncio.timeout(10):
        return [message async for message in channel.messages()]


async def test_messages_come_as_they_were_sent(ends: Ends) -> None:
    messages = [WorkerReady(), FIGURES, WorkerFailed("no 'log'\nhere"), WorkerLeaves()]
    data = b"".join(line_of(message) for message in messages)
    for byte in (data[:5], data[5:70], data[70:]):
        ends.peer.sendall(byte)
    ends.peer.close()
    assert await heard(ends.channel) == messages


@pytest.mark.parametrize("rest", [b"", b'{"type":"re', b"\xff\n", b'{"type":"dance"}\n', b"[]\n", b"x" * 5_000_000])
async def test_what_is_no_message_ends_the_channel(ends: Ends, rest: bytes) -> None:
    async def send() -> None:
        loop = asyncio.get_running_loop()
        ends.peer.setblocking(False)
        await loop.sock_sendall(ends.peer, line_of(WorkerReady()) + rest)
        ends.peer.shutdown(socket.SHUT_WR)

    sending = asyncio.create_task(send())
    assert await heard(ends.channel) == [WorkerReady()]
    sending.cancel()
    await asyncio.wait([sending])
    if not sending.cancelled():
        sending.exception()


async def test_who_does_not_read_is_behind(ends: Ends) -> None:
    assert not ends.channel.is_behind
    while not ends.channel.is_behind:
        ends.channel.send(WorkerFailed("x" * 100_000))
    assert ends.peer.recv(10)


async def test_nothing_is_sent_to_one_that_is_gone(ends: Ends) -> None:
    ends.peer.close()
    assert await heard(ends.channel) == []
    ends.channel.send(WorkerReady())
    assert not ends.channel.is_behind
