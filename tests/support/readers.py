"""Tests of readers share a plain encoder, logs that others write to, and reads that do not wait."""

import asyncio

from events.log.hub import Hub, TopicReader
from events.log.memory import MemoryLog
from events.log.port import Block, Commit, Position, Slice
from tests.contract.engines import put


def plain(epoch: str, block: Block) -> list[bytes]:
    return [b"<%b>" % data for data in block.data]


class SharedLog(MemoryLog):
    """A log that another process writes to as well, whose commits are announced without their block."""

    async def write_elsewhere(self, topic: str, *data: bytes, has_news: bool = True, **how: object) -> None:
        other = MemoryLog()
        other.__dict__.update({**self.__dict__, "listener": lambda _: None, "_commits": [], "_results": []})
        await put(other, topic, *data, **how)
        if has_news and topic in self.interest:
            self.listener([Commit(topic=topic, epoch="", block=None)])


class HeldLog(SharedLog):
    """Shows its reads what was there when they began, and answers when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()
        self.reading = 0
        self.reads = 0

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        part = await super().read(topic, after, max_events=max_events, max_bytes=max_bytes)
        self.reading += 1
        self.reads += 1
        try:
            await self.free.wait()
        finally:
            self.reading -= 1
        return part


async def open_hub(log: MemoryLog | None = None) -> tuple[MemoryLog, Hub]:
    log = log or MemoryLog()
    await log.open()
    return log, Hub(log)


async def all_due(reader: TopicReader) -> bytes:
    """Returns what a reader gets without waiting for anything new."""
    output = b""
    while (data := reader.poll()) != b"":
        if data is None:
            await reader.catch_up()
        else:
            output += data
    return output


async def settle() -> None:
    """Lets everything that is due happen."""
    for _ in range(10):
        await asyncio.sleep(0)


def joined(first: int, last: int) -> bytes:
    return b"".join(b"<%d>" % number for number in range(first, last + 1))


def after(position: Position, by: int) -> Position:
    return Position(epoch=position.epoch, offset=by)


async def start_of(log: MemoryLog, topic: str) -> Position:
    return Position(epoch=(await log.read(topic, 0)).epoch, offset=0)
