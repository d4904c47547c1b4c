"""The contract is tested on every engine; this module opens them."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from events.log.memory import MemoryLog
from events.log.port import Append, Appended, Commit, EventLog, Retention, Slice, read_to_head
from events.log.postgres.engine import PostgresLog
from events.log.redis.engine import RedisLog
from events.log.sealed.engine import SealedLog
from events.log.sqlite.engine import SqliteLog
from gateway.core.engines import make_log
from gateway.encryption_settings import EncryptionKey
from gateway.settings import Settings
from tests.support.loop_failures import run_watched

LONG = bool(os.environ.get("LONG_TESTS"))
KEY = EncryptionKey("k1", bytes(range(32)))
TEST_S = 120.0 if LONG else 30.0


class SweepingLog(EventLog, Protocol):
    """Adds to the port what every engine offers to tests and operators."""

    async def sweep(self) -> None: ...


class SweepingSealedLog(SealedLog):
    """Any log, sealed."""

    def __init__(self, storage: SweepingLog, keys: Sequence[EncryptionKey]) -> None:
        super().__init__(storage, keys)
        self.sweep = storage.sweep
        self.open = storage.open  # without the record of its keys, which would be one topic more


def keep_all(topic: str) -> Retention:
    return Retention()


@dataclass
class Clock:
    """Advances only when a test says so."""

    now_s: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Engine:
    """Describes one kind of log in one place; every `open` returns another instance there, if `is_shared`."""

    name: str
    folder: Path
    clock: Clock = field(default_factory=Clock)
    server_url: str = ""
    """The server's URL, of an engine that has one."""

    @property
    def is_shared(self) -> bool:
        return self.name not in ("memory", "sealed")

    @property
    def is_exact(self) -> bool:
        """Returns whether its hint that a topic may exist is right both ways."""
        return self.name in ("memory", "sealed", "sqlite")

    @property
    def path(self) -> Path:
        return self.folder / "log.db"

    @property
    def url(self) -> str:
        """Returns what `TRILANE_LOG` must be for another process to have the same log open."""
        if self.name == "redis":
            return f"{self.server_url}?prefix={blake2b(str(self.folder).encode(), digest_size=8).hexdigest()}"
        if self.name == "postgres":
            return self.server_url
        return f"sqlite:///{self.path}"

    def make(self, retention: Callable[[str], Retention] = keep_all, **settings: Any) -> SweepingLog:
        if self.name == "sealed":
            return SweepingSealedLog(MemoryLog(retention, clock=self.clock, **settings), [KEY])
        if self.name == "memory":
            return MemoryLog(retention, clock=self.clock, **settings)
        if self.name == "redis":
            return RedisLog(self.url, retention, clock=self.clock, **settings)
        if self.name == "postgres":
            return PostgresLog(self.url, retention, clock=self.clock, **settings)
        return SqliteLog(self.path, retention, clock=self.clock, **settings)

    @contextlib.asynccontextmanager
    async def open(
        self, retention: Callable[[str], Retention] = keep_all, **settings: Any
    ) -> AsyncGenerator[SweepingLog]:
        log = self.make(retention, **settings)
        await log.open()
        try:
            yield log
        finally:
            await log.close()


class CommitList(list[Commit]):
    """Remembers the commits that a log tells its listener."""

    def __init__(self, log: EventLog) -> None:
        self._news = asyncio.Event()
        log.listener = self.hear

    def hear(self, commits: Sequence[Commit]) -> None:
        self.extend(commits)
        self._news.set()

    async def until(self, condition: Callable[[], object], within_s: float = 20.0) -> None:
        """Waits for commits until `condition()` is true."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncGenerator[EventLog]:
    """Yields the log that a gateway would open at `url`."""
    log = make_log(Settings(log=url))
    await log.open()
    try:
        yield log
    finally:
        await log.close()


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a coroutine test on its own event loop, which loses no exception, under a deadline."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        async def within_deadline() -> None:
            async with asyncio.timeout(TEST_S):
                await test(*args, **fixtures)

        run_watched(asyncio.new_event_loop, within_deadline())

    return run


async def put(log: EventLog, topic: str, *lines: bytes, **how: Any) -> Appended:
    """Appends one block and returns the result."""
    return (await log.append(Append(topic=topic, data=list(lines), **how)))[0]


def flat(part: Slice) -> list[tuple[int, str, bytes]]:
    """Returns (offset, name, data) of each event."""
    return [(block.first + n, block.name, line) for block in part.blocks for n, line in enumerate(block.data)]


async def whole(log: EventLog, topic: str, after: int = 0) -> list[tuple[int, str, bytes]]:
    """Returns all events of a topic, in as many reads as that takes."""
    return [event async for part in read_to_head(log, topic, after) for event in flat(part)]
