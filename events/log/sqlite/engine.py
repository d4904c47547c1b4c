"""Keeps the log in one SQLite file, for any number of processes of one machine.

Appended events survive the death of the process, kill -9 too. A loss of power may take those of the last
second or two (`SYNC_S` of `events.log.sqlite.checkpoint`), never what is older, and never a part of an append.

It departs from the port in nothing; one append is mostly one row, but appends of a burst, and blocks that are read
together, may come as one block. This file is the event loop's side: writes are made in `events.log.sqlite.writer`'s
thread, reads in those of `events.log.sqlite.reader`. The file must be on a local disk: WAL needs shared memory.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from events.log.port import (
    Append,
    Appended,
    Commit,
    Holding,
    Interest,
    Listener,
    Retention,
    Slice,
    TopicInfo,
    WriteMeter,
)
from events.log.quotas import TakeBatch, TakeReply
from events.log.rules import Result, announce, ignore, ignore_time, refusal, size_of
from events.log.sqlite.adoption import adopt
from events.log.sqlite.file import WRITE_S, prepare
from events.log.sqlite.names import open_filter
from events.log.sqlite.plan import AppendCall
from events.log.sqlite.quotas import SqliteCounters
from events.log.sqlite.reader import LAST_CHARACTER, SqliteReader
from events.log.sqlite.retention import Retainer
from events.log.sqlite.scrub import scrub
from events.log.sqlite.store import Store
from events.log.sqlite.writer import Writer, WriterJob
from gateway.errors import LogUnavailable


class SqliteLog:
    """An EventLog. `retention` is called in the writer's thread; `clock` gives seconds since 1970."""

    listener: Listener
    interest: Interest
    on_written: WriteMeter

    def __init__(
        self,
        path: str | Path,
        retention: Callable[[str], Retention],
        *,
        clock: Callable[[], float] = time.time,
        max_pending_bytes: int = 64 << 20,
        busy_s: float = WRITE_S,
    ) -> None:
        """Lets a write wait `busy_s` seconds for those of other processes before it fails with LogUnavailable."""
        self.listener = ignore
        self.on_written = ignore_time
        self.interest = frozenset[str]()
        self._path = Path(path).absolute()
        self._retention = retention
        self._clock = clock
        self._max_pending_bytes = max_pending_bytes
        self._busy_s = busy_s
        self._pending_bytes = 0
        self._writer: Writer | None = None
        self._reader: SqliteReader | None = None
        self._counters: SqliteCounters | None = None

    async def open(self) -> None:
        """Makes the file, or checks that it can be used. Raises ConfigurationError."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        prepare(self._path)
        names = open_filter(self._path)
        self._reader = SqliteReader(self._path, lambda: self.failure, names)
        self._writer = Writer(
            self._path,
            announce=self._announce_later,
            interest=lambda: self.interest,
            retention=self._retention,
            clock=self._clock,
            busy_s=self._busy_s,
            names=names,
            on_written=lambda seconds: self.on_written(seconds),
        )
        self._writer.start()

    @property
    def backlog(self) -> int:
        return self._writer.backlog if self._writer is not None else 0

    @property
    def failure(self) -> LogUnavailable | None:
        """Returns why the log can be neither read nor written: its file is no longer the one that was opened."""
        return self._writer.failure if self._writer is not None else None

    async def close(self) -> None:
        """Writes what waits, announces it, and closes the file. Idempotent."""
        writer, reader, counters = self._writer, self._reader, self._counters
        self._writer = self._reader = self._counters = None
        if counters is not None:
            await asyncio.to_thread(counters.close)
        if writer is not None and reader is not None:
            await asyncio.to_thread(lambda: (writer.stop(), reader.close()))

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Appends atomically. Raises LogConflict, WrongOwner, LogUnavailable (by the awaitable)."""
        future: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        size = size_of(appends)
        writer = self._writer
        if writer is None or writer.has_ended:
            future.set_exception(LogUnavailable("the log is not open"))
        elif error := refusal(appends, size, self._pending_bytes, self._max_pending_bytes):
            future.set_exception(error)
        else:
            self._pending_bytes += size
            writer.put(AppendCall(future, appends, size), patient)
        return future

    def may_exist(self, topic: str) -> bool:
        """Returns whether there is such a topic: mostly without SQLite, else by one look at an index."""
        return self._reader is None or self._reader.may_exist(topic)

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Returns the events strictly after offset `after`, within both limits, but at least one if there is one."""
        return await self._open_reader().read(topic, after, max_events, max_bytes)

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        """Returns the offset of the first event after `after` whose block can be read; `upto` + 1 when none is."""
        return await self._open_reader().next_readable(topic, after, upto)

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        """Returns how many events strictly after offset `after`, up to `upto`, bear each name."""
        return await self._open_reader().count_by_name(topic, after, upto)

    async def topics(
        self,
        prefix: str,
        *,
        owner: str | None = None,
        open_only: bool = False,
        before_ms: int | None = None,
        limit: int = 100,
    ) -> list[TopicInfo]:
        """Returns topics whose name starts with `prefix`, last changed first, then by name."""
        return await self._open_reader().topics(
            {
                "prefix": prefix,
                "end": prefix + LAST_CHARACTER,
                "owner": owner,
                "open_only": open_only,
                "before_ms": before_ms,
                "limit": limit,
            }
        )

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Returns what is kept of an owner, or in all, by family; looks at all topics, at a million in 0.2 s."""
        return await self._open_reader().holdings(owner)

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch."""

        def delete(store: Store, retainer: Retainer) -> tuple[bool, list[Commit]]:
            return store.delete(topic, int(self._clock() * 1000))

        return await self._do(delete)

    async def scrub(self) -> str:
        """Overwrites the pages that deleted events have left in the file, and empties the WAL."""
        self._open_reader()
        return await asyncio.to_thread(scrub, self._path)

    async def names(self, after: str, limit: int) -> list[str]:
        """Returns the names of at most `limit` topics in their order, strictly after `after`."""
        return await self._open_reader().names(after, limit)

    async def adopt(self, topic: str, part: Slice) -> None:
        """Takes over what another log holds of a topic. Raises LogConflict, LogUnavailable."""

        def take_over(store: Store, retainer: Retainer) -> tuple[bool, list[Commit]]:
            return True, adopt(store, topic, part, int(self._clock() * 1000))

        await self._do(take_over)

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Counts for limits, unless another process counts just now."""
        return self._counters.take_at_once(batch) if self._counters is not None else None

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Counts for limits, in a file of its own beside the log's. Raises LogUnavailable."""
        if self._writer is None or self._writer.has_ended:
            raise LogUnavailable("the log is not open")
        if self._counters is None:
            self._counters = SqliteCounters(self._path, self._clock)
        return await self._counters.take(batch)

    async def sweep(self) -> None:
        """Applies the retention to every topic, now and to the block; otherwise that happens every minute."""
        await self._do(lambda store, retainer: (True, retainer.sweep_all()))

    def _open_reader(self) -> SqliteReader:
        if self._reader is None:
            raise LogUnavailable("the log is not open")
        return self._reader

    async def _do(self, do: Callable[[Store, Retainer], tuple[bool, list[Commit]]]) -> bool:
        if self._writer is None or self._writer.has_ended:
            raise LogUnavailable("the log is not open")
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._writer.put(WriterJob(future, do), False)
        return await future

    def _announce_later(self, commits: list[Commit], results: Sequence[Result], size: int) -> None:
        """Announces on the event loop; the writer calls it in its own thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed and the log was not: nobody waits any more
            self._loop.call_soon_threadsafe(self._announce, commits, results, size)

    def _announce(self, commits: list[Commit], results: Sequence[Result], size: int) -> None:
        self._pending_bytes -= size
        announce(self.listener, commits, results)
