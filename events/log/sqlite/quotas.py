"""Keeps the counters of limits in a small file beside the log's, for all processes of the machine.

A file of its own, because counters need no disk: nothing here waits for one (`synchronous=OFF`), and neither does a
commit of the log ever wait for a count, nor the other way round. It may be deleted while nothing runs; after a loss of
power it may be damaged, and is then made anew. Each batch is one short transaction of a `CounterFile`.

A small batch is made on the event loop: it takes 0.1 ms, waits for nobody, and a thread would cost three times that to
wake. A large one, and one that another process keeps waiting, is made on a thread, by a connection of its own.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from events.log.quotas import HEARTBEAT_S, TakeBatch, TakeReply
from events.log.sqlite.counter_file import CounterFile
from events.log.sqlite.file import SqlError, is_damage, unavailable
from gateway.errors import LogUnavailable

BUSY_S = 2.0
"""Seconds that a batch waits for those of other processes."""
SUFFIX = "-limits"
SMALL = 64
"""Maximum counters that a batch made on the event loop names, one of them as often as it is named."""


class SqliteCounters:
    """The counters of a log's file. `clock` gives seconds since 1970."""

    def __init__(self, log_path: Path, clock: Callable[[], float]) -> None:
        path = log_path.with_name(log_path.name + SUFFIX)
        self._here, self._there = CounterFile(path, clock, 0), CounterFile(path, clock, BUSY_S)
        self._clock = clock
        self._next_sweep_s = 0.0
        self._was_damaged = False
        """Whether the file was made anew since this thread's connection was opened."""
        self._thread = ThreadPoolExecutor(1, "log-counters")

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Makes a small batch in the caller's thread; None when that must wait, or cannot be done."""
        if self._was_damaged:
            self._was_damaged = False
            self._here.close()
        size = len(batch.held) + len(batch.settlements) + sum(map(len, batch.calls))
        if size > SMALL or not self._here.is_open or self._is_sweep_due():
            return None
        try:
            return self._here.take(batch)
        except (SqlError, msgspec.DecodeError):
            return None  # most likely another process counts just now; the thread finds out

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Makes a batch. Raises LogUnavailable."""
        if (reply := self.take_at_once(batch)) is not None:
            return reply
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, batch)

    def _take(self, batch: TakeBatch) -> TakeReply:
        try:
            reply = self._there.take(batch)
            if self._is_sweep_due():
                self._there.sweep()
                self._next_sweep_s = self._clock() + HEARTBEAT_S
        except (SqlError, msgspec.DecodeError) as err:
            self._there.close()
            if isinstance(err, SqlError) and not is_damage(err):
                raise unavailable(err) from err
            self._there.remove()
            self._was_damaged = True
            raise LogUnavailable("the counters of limits were damaged, and begin anew") from err
        with contextlib.suppress(SqlError):  # another process counts; there is a next time
            self._here.open()
        return reply

    def _is_sweep_due(self) -> bool:
        return not 0 < self._next_sweep_s - self._clock() <= HEARTBEAT_S

    def close(self) -> None:
        self._thread.shutdown()
        self._here.close()
        self._there.close()
