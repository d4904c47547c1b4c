"""Runs the one thread that writes: it groups the appends that wait, commits them together, and announces them.

When it was idle it commits at once. After a commit, patient appends wait until LINGER_S after that commit began:
each commit costs some 60 µs and a pass of the event loop however little it writes, and at 2 ms that is 3 % of a core
while a token is late by less than anyone can see.
"""

import contextlib
import threading
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from events.log.port import Block, Commit, Interest, Retention
from events.log.rules import Result
from events.log.sqlite.checkpoint import Checkpointer
from events.log.sqlite.file import SqlError, SqliteFailure, failure_of, is_damage, unavailable
from events.log.sqlite.names import NameFilter
from events.log.sqlite.plan import AppendCall, Plan
from events.log.sqlite.retention import Retainer
from events.log.sqlite.store import Store
from gateway.errors import LogError, LogUnavailable

log = structlog.get_logger("log")

LINGER_S = 0.002
"""Seconds from the start of one commit until patient appends are in the next."""
GROUP_CALLS = 256
"""Maximum calls of one group."""
GROUP_BYTES = 4 << 20
"""Bytes past which a group takes no further call."""
POLL_S = 0.02
"""Seconds between two looks at the file for what other processes wrote, while any topic is followed here."""
IDLE_POLL_S = 0.05
"""Seconds after which an idle writer checks whether any topic is followed here."""
UPKEEP_S = 1.0
"""Seconds between two checks that the file is still in its place."""

Announce = Callable[[list[Commit], Sequence[Result], int], None]
"""A function of commits, results and the number of bytes that no longer wait; the writer's thread calls it."""


class WriterJob(msgspec.Struct):
    """Other work of the writer, done in order with appends; `do` returns a result, and commits to announce."""

    future: "Future[bool]"
    do: Callable[[Store, Retainer], tuple[bool, list[Commit]]]


class Bell:
    """Wakes one thread. A ring that nobody waits for ends the next wait; two such rings are one.

    `SimpleQueue.get` of CPython 3.11 and 3.12 cannot do this: when its time is up while it takes a lock that a
    timed-out call before it left open, it waits without end, and the log with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was rung already, and nobody waited since

    def wait(self, timeout_s: float) -> None:
        """Returns at a ring, at the latest after `timeout_s` seconds (more than 0)."""
        self._lock.acquire(timeout=timeout_s)


class Writer:
    """Owns the thread and its connection. `clock` gives seconds since 1970."""

    def __init__(
        self,
        path: Path,
        *,
        announce: Announce,
        interest: Callable[[], Interest],
        retention: Callable[[str], Retention],
        clock: Callable[[], float],
        busy_s: float,
        names: NameFilter | None,
        on_written: Callable[[float], None],
    ) -> None:
        self._announce = announce
        self._on_written = on_written
        self._interest = interest
        self._clock = clock
        self._store = Store(path, interest, busy_s, names)
        self._retainer = Retainer(self._store, retention, self.now_ms)
        self._checkpointer = Checkpointer(path)
        self._queue: deque[AppendCall | WriterJob] = deque()
        self._bell = Bell()
        self._asleep = 0
        """The depth of the thread's sleep. 0: it is awake; 1: only urgent work wakes it; 2: any work does."""
        self._has_urgent_work = False
        self._is_stopping = False
        self._last_commit = 0.0
        self._last_look = 0.0
        self._next_upkeep = 0.0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        self._checkpointer.start()
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits, ends both threads and closes their connections."""
        self._is_stopping = True
        self._bell.ring()
        self._thread.join()
        self._checkpointer.stop()
        self._store.close()

    def put(self, work: AppendCall | WriterJob, patient: bool) -> None:
        """Takes work; wakes the thread only when it sleeps and would not see the work soon enough."""
        self._queue.append(work)
        if not patient:
            self._has_urgent_work = True
        if self._asleep > patient:
            self._asleep = 0
            self._bell.ring()

    @property
    def has_ended(self) -> bool:
        return self._is_stopping

    @property
    def backlog(self) -> int:
        return len(self._queue)

    @property
    def failure(self) -> LogUnavailable | None:
        return unavailable(self._store.loss()) if self._store.is_lost else None

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _run(self) -> None:
        try:
            while self._queue or not self._is_stopping:
                self._wait()
                self._work()
        finally:
            self._is_stopping = True
            error = LogUnavailable("the log's writer has ended")
            self._announce([], [(work.future, error) for work in self._queue], 0)

    def _wait(self) -> None:
        linger_s = self._last_commit + LINGER_S - time.monotonic()
        if linger_s > 0:
            self._sleep(1, linger_s)
        if not self._queue:
            self._sleep(2, POLL_S if len(self._interest()) else IDLE_POLL_S)

    def _sleep(self, depth: int, timeout_s: float) -> None:
        self._asleep = depth
        # Looks again after it has declared itself asleep, so nothing can come in between unseen.
        if not (self._has_urgent_work or self._is_stopping or (depth == 2 and self._queue)):
            self._bell.wait(timeout_s)
        self._asleep = 0

    def _work(self) -> None:
        self._has_urgent_work = False
        waiting, calls, size = self._queue, list[AppendCall](), 0
        while (
            waiting and isinstance(call := waiting[0], AppendCall) and len(calls) < GROUP_CALLS and size < GROUP_BYTES
        ):
            calls.append(call)
            size += call.size
            waiting.popleft()
        self._has_urgent_work = bool(waiting)
        if calls:
            self._commit(calls, size)
        elif waiting and isinstance(job := waiting.popleft(), WriterJob):
            self._do(job)
        now = time.monotonic()
        if now >= self._next_upkeep:
            self._next_upkeep = now + UPKEEP_S
            self._store.check_file()
            self._look(now)  # even when nothing is followed, so that there is never much to catch up with
        elif now >= self._last_look + POLL_S and len(self._interest()):
            self._look(now)
        if now >= self._retainer.next_pass:
            self._retain()

    def _commit(self, calls: Sequence[AppendCall], size: int) -> None:
        self._checkpointer.wait_for_room()
        self._last_commit = time.monotonic()
        now_ms = self.now_ms()
        try:
            plan, commits = self._store.write(calls, now_ms)
        except SqliteFailure as err:
            if is_damage(err) and len(calls) > 1:  # what one call meets must not hurt the others
                for call in calls:
                    self._commit([call], call.size)
                return
            self._announce([], [(call.future, failure_of(err)) for call in calls], size)
            return
        except BaseException:  # this thread ends, and nobody must wait for it
            self._queue.extendleft(reversed(calls))
            raise
        self._on_written(time.monotonic() - self._last_commit)
        self._last_look = self._last_commit  # a write proves that nobody else wrote, or tells who did
        commits += commits_of(plan, now_ms)
        self._announce(commits, plan.outcomes, size)
        self._retainer.note_change([row.topic for row in plan.rows])
        self._checkpointer.note_commit(len(plan.rows), size)

    def _do(self, job: WriterJob) -> None:
        try:
            result, commits = job.do(self._store, self._retainer)
        except SqliteFailure as err:
            self._announce([], [(job.future, failure_of(err))], 0)
        except LogError as err:
            self._announce([], [(job.future, err)], 0)
        else:
            self._announce(commits, [(job.future, result)], 0)
            self._checkpointer.note_commit(1, 0)

    def _look(self, now: float) -> None:
        """Announces what other processes changed."""
        self._last_look = now
        with contextlib.suppress(SqlError):  # what is wrong is reported to callers that append
            if news := self._store.catch_up():
                self._announce(news, [], 0)

    def _retain(self) -> None:
        try:
            if news := self._retainer.work():
                self._announce(news, [], 0)
        except SqliteFailure as err:
            self._retainer.defer()
            log.warning("the retention cannot be applied", reason=str(err))


def commits_of(plan: Plan, now_ms: int) -> list[Commit]:
    """Returns the commits of a group, for the listener."""
    commits: list[Commit] = []
    for row in plan.rows:
        topic = row.topic
        block = Block(row.first, row.lines, row.name, now_ms)
        commits.append(Commit(topic=topic.name, epoch=topic.epoch, block=block, closed=row.is_closing))
    for topic in plan.eventless_topics:
        if topic.closed:
            nothing = Block(topic.head + 1, [], "message", now_ms)
            commits.append(Commit(topic=topic.name, epoch=topic.epoch, block=nothing, closed=True))
    return commits
