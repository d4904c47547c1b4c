"""Runs the one task that writes: while one statement is under way, the next group collects.

A statement whose reply was lost is sent again under the same number, and the server gives the first result if there
was one. A call that waited WAIT_S fails with LogUnavailable; whether a call that was sent has been done is then not
known, as with any database, but it is never done after a later one of this process.
"""

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from events.log.port import Commit, Retention
from events.log.postgres.address import DatabaseError
from events.log.postgres.group import APPEND, FIRST_DAY, MAKE_BUCKET, Group, GroupCall, GroupResult, bucket_of
from events.log.postgres.session import DatabaseSession
from events.log.postgres.witness import Witness
from events.log.rules import Result, report_end
from gateway.errors import LogUnavailable

WAIT_S = 30.0
"""Seconds that a call waits for the database before it fails."""
LINGER_S = 0.002
"""Seconds from the start of one group until patient appends are in the next."""
GROUP_CALLS = 256
"""Maximum calls of one group."""
GROUP_BYTES = 4 << 20
"""Bytes past which a group takes no further call."""
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
REMOVE = "SELECT * FROM trilane.remove(%s::bigint, %s::bigint, %s::text, false, 0)"
NO_PARTITION = "23514"

T = TypeVar("T")


class Deletion(msgspec.Struct):
    """A topic to delete, in order with the appends."""

    future: "asyncio.Future[bool]"
    topic: str
    deadline: float


class GroupWriter:
    """Owns the task and its session. `retention` gives a topic's limits, `now_ms` the time for display."""

    def __init__(
        self,
        session: DatabaseSession,
        witness: Witness,
        *,
        announce: Callable[[list[Commit], Sequence[Result], int], None],
        on_group: Callable[[GroupResult], None],
        retention: Callable[[str], Retention],
        now_ms: Callable[[], int],
        on_written: Callable[[float], None],
    ) -> None:
        self.process = secrets.randbits(62) + 1
        """Number of this writer, by which the server knows its groups."""
        self._session = session
        self._witness = witness
        self._announce = announce
        self._on_group = on_group
        self._retention = retention
        self._now_ms = now_ms
        self._on_written = on_written
        self._queue: deque[GroupCall | Deletion] = deque()
        self._bell = asyncio.Event()
        self._has_urgent_work = False
        self._is_stopping = False
        self._number = 0
        self._began = 0.0
        self._failures = 0
        """Number of times in a row that no connection could be made."""
        self._buckets: set[int] = set()
        self._task = asyncio.create_task(self._run(), name="log-writer")
        self._task.add_done_callback(report_end)

    def put(self, work: GroupCall | Deletion, patient: bool) -> None:
        self._queue.append(work)
        self._has_urgent_work = self._has_urgent_work or not patient
        self._bell.set()

    @property
    def has_ended(self) -> bool:
        return self._is_stopping

    @property
    def backlog(self) -> int:
        return len(self._queue)

    async def stop(self) -> None:
        """Writes what waits, then ends."""
        self._is_stopping = True
        self._bell.set()
        await self._task
        await self._session.close()

    async def _run(self) -> None:
        try:
            while self._queue or not self._is_stopping:
                await self._wait()
                if self._queue:
                    await self._work()
        finally:
            self._is_stopping = True
            error = LogUnavailable("the log's writer has ended")
            self._announce([], [(work.future, error) for work in self._queue], 0)

    async def _wait(self) -> None:
        """Returns once there is work; patient work alone is let collect for a moment after the last group."""
        while not self._queue and not self._is_stopping:
            self._bell.clear()
            await self._bell.wait()
        linger_s = self._began + LINGER_S - asyncio.get_running_loop().time()
        if linger_s > 0 and not self._has_urgent_work and not self._is_stopping:
            self._bell.clear()
            try:
                async with asyncio.timeout(linger_s):
                    while not self._has_urgent_work and not self._is_stopping:
                        await self._bell.wait()
                        self._bell.clear()
            except TimeoutError:
                return

    async def _work(self) -> None:
        try:
            await self._session.connect()
        except DatabaseError as err:
            self._witness.note_failure(err)
            self._expire(err)
            self._failures = min(self._failures + 1, 10)
            await self._pause(self._failures)
            return
        self._failures = 0
        self._began = asyncio.get_running_loop().time()
        if isinstance(self._queue[0], Deletion):
            await self._delete(self._queue[0])
            return
        calls, size = list[GroupCall](), 0
        while self._queue and len(calls) < GROUP_CALLS and size < GROUP_BYTES:
            call = self._queue[0]
            if isinstance(call, Deletion):
                break
            calls.append(call)
            size += call.size
            self._queue.popleft()
        self._has_urgent_work = bool(self._queue)
        await self._commit(calls, size)

    def _expire(self, err: DatabaseError) -> None:
        """Fails the calls that have waited too long for a connection; at the end, all."""
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0].deadline <= now:
            work = self._queue.popleft()
            self._announce([], [(work.future, _unavailable(err))], work.size if isinstance(work, GroupCall) else 0)

    async def _commit(self, calls: Sequence[GroupCall], size: int) -> None:
        self._number += 1
        group = Group(calls, self._number, self._now_ms())
        try:
            result = await self._until_done(lambda is_retry: self._send(group, is_retry))
        except DatabaseError as err:
            error = err.log_error if not err.is_passing else _unavailable(err)
            self._announce([], [(call.future, error) for call in calls], size)
            return
        self._on_written(asyncio.get_running_loop().time() - self._began)
        if result.news_id is not None:
            self._witness.note_commit(result.news_id, result.xid, result.generation)
        self._announce(result.commits, result.results, size)
        self._on_group(result)

    async def _send(self, group: Group, is_retry: bool) -> GroupResult:
        now_ms = self._now_ms()
        buckets = [bucket_of(self._retention(topic), now_ms) for topic in group.topics]
        for bucket in {*buckets} - self._buckets:
            if bucket >= FIRST_DAY:
                await self._session.fetch(MAKE_BUCKET, (bucket,))
            self._buckets.add(bucket)
        try:
            (row,) = await self._session.fetch(APPEND, group.values(self.process, buckets, is_retry))
        except DatabaseError as err:
            if err.state == NO_PARTITION:  # it was dropped, by a process whose clock is ahead
                self._buckets.clear()
            raise
        return group.result(row)

    async def _delete(self, deletion: Deletion) -> None:
        self._queue.popleft()
        self._number += 1
        values = (self.process, self._number, deletion.topic)
        try:
            ((epoch,),) = await self._until_done(lambda is_retry: self._session.fetch(REMOVE, values))
        except DatabaseError as err:
            self._announce([], [(deletion.future, _unavailable(err))], 0)
            return
        commits = [Commit(topic=deletion.topic, epoch=epoch, block=None)] if epoch else []
        self._announce(commits, [(deletion.future, epoch is not None)], 0)

    async def _until_done(self, send: Callable[[bool], Awaitable[T]]) -> T:
        """Sends until there is an answer, for WAIT_S. Raises DatabaseError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        attempt = 0
        while True:
            try:
                answer = await send(attempt > 0)
            except DatabaseError as err:
                if not err.is_passing or loop.time() >= deadline:
                    raise
                if err.is_lost and attempt:
                    self._witness.note_failure(err)
                await self._pause(attempt)
                attempt += 1
            else:
                self._witness.note_answer()
                return answer

    async def _pause(self, attempt: int) -> None:
        """Waits longer with each attempt, and not as long as others do."""
        if attempt:
            await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1))


def _unavailable(err: DatabaseError) -> LogUnavailable:
    return LogUnavailable(f"the database did not do it within {WAIT_S:g} s: {err}")
