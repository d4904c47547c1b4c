"""Writes appends in groups: while one group is on its way to Redis, the next collects.

A group is one script, over one connection, and has a number. A group whose reply was lost is sent again under its
number after the connection was made anew, and gets the reply of the first time if there was one; so nothing is written
twice, however often connections are cut. A call that has waited PATIENCE_S fails with LogUnavailable. If its group was
on its way by then, it may have been written, or be written while Redis works off what it had received; as soon as a
later group is written it can no longer be.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import structlog
from redis.exceptions import ResponseError

from events.log.port import Append, Appended, Block, Commit, Retention
from events.log.redis.address import RedisAddress
from events.log.redis.connect import Backoff, RedisConnection, dial, unavailable
from events.log.redis.heads import NOTHING, Heads, TopicNews
from events.log.redis.outage import Outage
from events.log.redis.scripts import APPEND, DELETE, Script
from events.log.rules import Result, may_join, report_end
from gateway.errors import LogConflict, LogError, LogUnavailable, WrongOwner

log = structlog.get_logger("log")

LINGER_S = 0.002
"""Seconds from the start of one group until patient appends are in the next."""
GROUP_CALLS = 256
"""Maximum calls of one group. At 32 a hundred first tokens wait half as long for each other, but 11,000 tokens a second
cost a quarter more CPU, and no longer pass."""
GROUP_BYTES = 1 << 20
"""Bytes past which a group takes no further call: Redis does nothing else meanwhile."""
CLOSE_S = 5.0
"""Maximum seconds that closing waits for what is still to be written."""

CLOSED, WRONG_OWNER = 2, 3
"""Errors of the script; every other is a conflict of offsets."""

AnnounceGroup = Callable[[Sequence[Commit], Sequence[Result], int], None]
"""A function of commits, results and the number of bytes that no longer wait."""
RawOutcome = tuple[int, list[tuple[str, int, int, bool]], int, int]
"""An outcome as the script gives it: error (0: none), results; next offset of the topic, and which append it was."""

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.Decoder(tuple[int, list[RawOutcome], list[TopicNews]]).decode


class WriteCall(msgspec.Struct):
    """One call that waits: appends, or a topic to be deleted (with a future of a bool)."""

    future: "asyncio.Future[list[Appended]] | asyncio.Future[bool]"
    appends: tuple[Append, ...]
    size: int
    deadline: float
    """The time by the monotonic clock at which it fails."""
    deleted_topic: str | None = None


class RedisWriter:
    """Owns the task that writes, and its connection. `clock` gives seconds since 1970; None: the server's time."""

    def __init__(
        self,
        address: RedisAddress,
        name: str,
        *,
        announce: AnnounceGroup,
        retention: Callable[[str], Retention],
        clock: Callable[[], float] | None,
        patience_s: float,
        heads: Heads,
        outage: Outage,
        on_written: Callable[[float], None],
    ) -> None:
        self._address = address
        self._on_written = on_written
        self._name = name
        self._announce = announce
        self._retention = retention
        self._clock = clock
        self._patience_s = patience_s
        self._heads = heads
        self._outage = outage
        self._queue: deque[WriteCall] = deque()
        self._group: list[WriteCall] = []
        """The calls that are on their way."""
        self._number = 0
        self._connection: RedisConnection | None = None
        self._backoff = Backoff()
        self._bell: asyncio.Future[None] | None = None
        self._is_patient = False
        """Whether the task sleeps so that only urgent work wakes it."""
        self._has_urgent_work = False
        self._is_stopping = False
        self._last_group = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="log-writer")
        self._task.add_done_callback(report_end)

    @property
    def has_ended(self) -> bool:
        return self._is_stopping

    @property
    def backlog(self) -> int:
        return len(self._queue)

    async def stop(self) -> None:
        """Writes what waits, for at most CLOSE_S, then closes the connection."""
        self._is_stopping = True
        now = time.monotonic()
        for call in (*self._group, *self._queue):
            call.deadline = min(call.deadline, now + CLOSE_S)
        self._ring()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2 * CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def put(self, call: WriteCall, patient: bool) -> None:
        """Takes a call; wakes the task unless the call may wait a little."""
        self._queue.append(call)
        if not patient:
            self._has_urgent_work = True
        if not (patient and self._is_patient):
            self._ring()

    def deadline(self) -> float:
        """Returns the time at which a call that is made now fails."""
        return time.monotonic() + self._patience_s

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def _run(self) -> None:
        try:
            while self._queue or not self._is_stopping:
                await self._wait()
                if self._queue and await self._connect():
                    self._group = self._collect()
                    if self._group:
                        await self._write(self._group)
                    self._group = []
        finally:
            self._is_stopping = True
            self._fail([*self._group, *self._queue], LogUnavailable("the log's writer has ended"))
            if self._connection is not None:
                await self._connection.close()

    async def _wait(self) -> None:
        if not self._queue and not self._is_stopping:
            await self._sleep(None)
        linger_s = self._last_group + LINGER_S - time.monotonic()
        if linger_s > 0 and not (self._has_urgent_work or self._is_stopping):
            self._is_patient = True
            await self._sleep(linger_s)
            self._is_patient = False

    async def _sleep(self, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._bell = loop.create_future()
        timer = loop.call_later(timeout_s, self._ring) if timeout_s is not None else None
        try:
            await self._bell
        finally:
            self._bell = None
            if timer is not None:
                timer.cancel()

    async def _connect(self) -> bool:
        """Makes sure of a connection, on which no history went back; returns False after a try that failed."""
        if self._connection is not None and self._connection.is_open:
            return True
        connection: RedisConnection | None = None
        try:
            connection = await dial(self._address)
            commits = await self._heads.compare(connection.run)
        except (LogUnavailable, ResponseError) as err:
            if connection is not None:
                await connection.close()
            self._outage.note_failure(err)
            self._expire()
            await asyncio.sleep(min(self._backoff.next_delay(), self._next_deadline()))
            return False
        self._connection = connection
        self._announce(commits, [], 0)
        self._outage.note_success()
        self._backoff = Backoff()
        return True

    def _next_deadline(self) -> float:
        return max(0.0, min([call.deadline for call in (*self._group, *self._queue)], default=0.0) - time.monotonic())

    def _expire(self) -> None:
        """Fails the calls whose time is over; none of them was sent."""
        now, late = time.monotonic(), list[WriteCall]()
        while self._queue and self._queue[0].deadline <= now:
            late.append(self._queue.popleft())
        self._fail(late, self._outage.error())

    def _fail(self, calls: Sequence[WriteCall], error: LogError) -> None:
        if calls:
            self._announce([], [(call.future, error) for call in calls], sum([call.size for call in calls]))

    def _collect(self) -> list[WriteCall]:
        self._expire()
        calls, size, queue = list[WriteCall](), 0, self._queue
        while queue and len(calls) < GROUP_CALLS and size < GROUP_BYTES:
            is_deletion = queue[0].deleted_topic is not None
            if is_deletion and calls:
                break
            call = queue.popleft()
            calls.append(call)
            size += call.size
            if is_deletion:
                break
        self._has_urgent_work = bool(queue)
        return calls

    async def _write(self, calls: Sequence[WriteCall]) -> None:
        """Has a group written, however often the connection is lost, until its time is over."""
        self._number += 1
        self._last_group = time.monotonic()
        topic = calls[0].deleted_topic
        request = [] if topic is not None else self._pack(calls)
        while True:
            try:
                if topic is not None:
                    self._settle_deletion(calls[0], topic, await self._ask(DELETE, topic))
                else:
                    seed = secrets.randbits(32)
                    reply = await self._ask(APPEND, self._now_ms(), seed, *request)
                    self._on_written(time.monotonic() - self._last_group)
                    self._settle(calls, reply)
                return
            except ResponseError as err:
                self._fail(calls, unavailable(err))
                return
            except LogUnavailable as err:
                self._outage.note_failure(err)
            while self._next_deadline() and not await self._connect():
                pass
            if not self._next_deadline():
                await self._give_up(calls)
                return

    async def _give_up(self, calls: Sequence[WriteCall]) -> None:
        """Fails calls that may have been written; the next connection looks at their topics."""
        self._fail(calls, self._outage.error(is_in_doubt=True))
        for call in calls:
            for topic in (append.topic for append in call.appends):
                self._heads.note_doubt(topic)
        if self._connection is not None:
            await self._connection.close()

    async def _ask(self, script: Script, *arguments: str | bytes | int) -> bytes:
        connection = self._connection
        assert connection is not None
        wait = self._address.wait_replicas
        then = [("WAIT", wait, self._address.wait_ms)] if wait else []
        replies = await connection.run_all(script, self._name, self._number, *arguments, then=then)
        if wait and replies[1] < wait:
            raise LogUnavailable(f"{replies[1]} of {wait} replicas have acknowledged within {self._address.wait_ms} ms")
        return replies[0]

    def _now_ms(self) -> int:
        return int(self._clock() * 1000) if self._clock is not None else 0

    def _pack(self, calls: Sequence[WriteCall]) -> list[bytes]:
        fields = _pack([[self._fields(append) for append in call.appends] for call in calls])
        lists = [append.data for call in calls for append in call.appends if append.data]
        return [fields, *(data[0] if len(data) == 1 else b"\n".join(data) for data in lists)]

    def _fields(self, append: Append) -> tuple[object, ...]:
        retention = self._retention(append.topic)
        return (
            append.topic,
            append.name,
            append.owner,
            False if append.expect is None else append.expect,
            False if append.key is None else append.key,
            append.close,
            len(append.data),
            False if retention.events is None else retention.events,
            False if retention.max_bytes is None else retention.max_bytes,
        )

    def _settle(self, calls: Sequence[WriteCall], reply: bytes) -> None:
        time_ms, outcomes, news = _unpack(reply)
        self._outage.note_success()
        self._heads.note_news(news)
        results: list[Result] = []
        written: list[tuple[Append, Appended]] = []
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome[0]:
                results.append((call.future, error_of(call.appends, outcome)))
                continue
            done = [Appended(*fields) for fields in outcome[1]]
            results.append((call.future, done))
            written += zip(call.appends, done, strict=True)
        self._announce(commits_of(written, time_ms), results, sum([call.size for call in calls]))

    def _settle_deletion(self, call: WriteCall, topic: str, reply: bytes) -> None:
        commits = [Commit(topic=topic, epoch=reply.decode(), block=None)] if reply else []
        self._heads.note(topic, NOTHING)
        self._announce(commits, [(call.future, bool(reply))], 0)


def error_of(appends: Sequence[Append], outcome: RawOutcome) -> LogError:
    """Returns the error of a call that the script refused."""
    code, _, next_offset, index = outcome
    append = appends[index]
    if code == WRONG_OWNER:
        return WrongOwner(f"topic {append.topic!r} belongs to someone else")
    return LogConflict(append.topic, append.expect, next_offset, closed=code == CLOSED)


def commits_of(written: Sequence[tuple[Append, Appended]], time_ms: int) -> list[Commit]:
    """Returns the commits of a group, for the listener; events of one topic that may share a block do."""
    commits: list[Commit] = []
    tails: dict[str, tuple[int, Block, int]] = {}
    for append, result in written:
        topic = append.topic
        if result.duplicate:
            continue
        size = sum(map(len, append.data))
        tail = tails.get(topic)
        if tail is not None:
            at, block, tail_size = tail
            if may_join(block.name, len(block.data), tail_size, append, size):
                block.data.extend(append.data)
                tails[topic] = (at, block, tail_size + size)
                if append.close:
                    commits[at] = Commit(topic=topic, epoch=result.epoch, block=block, closed=True)
                continue
        block = Block(result.first, append.data[:], append.name, time_ms)
        tails[topic] = (len(commits), block, size)
        commits.append(Commit(topic=topic, epoch=result.epoch, block=block, closed=append.close))
    return commits
