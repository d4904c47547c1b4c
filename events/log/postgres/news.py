"""Tells this process which topics others have changed.

A look takes the news that have become visible since the last one: those of transactions that began after its snapshot,
or were under way in it. So a commit that was on its way is never passed over, however late it comes, and none waits for
a transaction that stays open. A notice (`NOTIFY`) only wakes: one that is lost costs POLL_S. Behind PgBouncer in
transaction mode there are no notices, and only the looks remain.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

from events.log.port import Commit, Interest
from events.log.postgres.address import DatabaseError
from events.log.postgres.session import DatabaseSession, SessionPool
from events.log.postgres.witness import IS_THERE, NEWS_S, Witness
from events.log.rules import report_end

POLL_S = 0.05
"""Seconds between two looks while any topic is followed here and no notice comes."""
IDLE_POLLS = 20
"""Number of POLL_S between two looks while none is."""
STOP_S = 0.06
"""Seconds for which the tasks may end by themselves."""
LOOK_S = 3.0
"""Seconds after which a look that is not answered tells that the server hangs."""
LOOK_PAUSE_S = 0.003
"""Minimum seconds between two looks."""
NOTICE_PAUSE_S = 0.005
"""Minimum seconds between two notices to others."""
LONGEST_PAUSE_S = 1.0
"""Maximum seconds between two tries to connect."""
RELAY_EVENTS = 500
"""Maximum events of applications that are moved into the log at once."""
MAX_NEWS = 5000
"""Maximum groups whose news one look takes; past that every topic that is followed is told instead."""
PORTION = 10_000
"""Number of topics that a walk over all of them reads at once."""

STATE = f"""
s.now::text, (SELECT generation FROM trilane.state), EXISTS (SELECT FROM trilane.outbox), {IS_THERE}
"""
GLANCE = f"SELECT {STATE} FROM pg_current_snapshot() AS s(now)"
COLUMNS = "id, xid, topics, epochs, closed, changed"
NEWEST = """
newest AS (
    SELECT DISTINCT ON (t.topic) t.topic, t.epoch, t.closed
    FROM fresh f, unnest(f.topics, f.epochs, f.closed, f.changed) AS t(topic, epoch, closed, changed)
    WHERE t.changed ORDER BY t.topic, f.id DESC
)
"""
RESULT = f"""
SELECT {STATE}, f.id, f.xid::text, ARRAY(SELECT topic FROM newest ORDER BY topic),
    ARRAY(SELECT epoch FROM newest ORDER BY topic), ARRAY(SELECT closed FROM newest ORDER BY topic),
    (SELECT count(*) FROM fresh) > {MAX_NEWS}
FROM pg_current_snapshot() AS s(now) LEFT JOIN (SELECT id, xid FROM fresh ORDER BY id DESC LIMIT 1) f ON true
"""
LOOK = f"""
WITH fresh AS MATERIALIZED (
    (SELECT {COLUMNS} FROM trilane.news WHERE xid >= %s::text::xid8 AND process <> %s::bigint
    ORDER BY xid LIMIT {MAX_NEWS + 1})  -- in this order, so that the index is used before there are statistics, too
    UNION ALL (SELECT {COLUMNS} FROM trilane.news
    WHERE xid = ANY (%s::text[]::xid8[]) AND xid < %s::text::xid8 AND process <> %s::bigint
    ORDER BY xid LIMIT {MAX_NEWS + 1})
), {NEWEST} {RESULT}
"""
LOOK_BACK = f"""
WITH fresh AS MATERIALIZED (
    SELECT {COLUMNS} FROM trilane.news WHERE made > now() - make_interval(secs => %s::double precision)
    LIMIT {MAX_NEWS + 1}
), {NEWEST} {RESULT}
"""
SHOWN_EPOCH = "trilane.shown(t.epoch, t.generation, (SELECT generation FROM trilane.state))"
WALK = f"SELECT name, {SHOWN_EPOCH}, closed FROM trilane.topics t WHERE name > %s::text ORDER BY name LIMIT %s::integer"
RELAY = "SELECT trilane.relay(%s::bigint, %s::integer, %s::integer)"
NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify('trilane', %s::text)"
"""Wakes without a wait for the disk: what the others will read is there already."""


class News:
    """Owns the connection that listens, and the tasks that look and that wake others."""

    def __init__(
        self,
        session: DatabaseSession,
        pool: SessionPool,
        witness: Witness,
        *,
        process: int,
        announce: Callable[[list[Commit]], None],
        interest: Callable[[], Interest],
        relay_values: Callable[[], tuple[int, int]],
    ) -> None:
        """`relay_values` gives the time in milliseconds, and the bucket of what applications publish."""
        self._session = session
        self._pool = pool
        self._witness = witness
        self._process = process
        self._announce = announce
        self._interest = interest
        self._relay_values = relay_values
        self._seen = ""
        """The snapshot of the last look."""
        self._seen_at = 0.0
        self._generation = witness.generation
        self._has_written = asyncio.Event()
        self._is_ready = asyncio.Event()
        self._is_stopping = False
        self._tasks = [asyncio.create_task(self._follow(), name="log-news"), asyncio.create_task(self._wake_others())]
        for task in self._tasks:
            task.add_done_callback(report_end)

    async def ready(self) -> None:
        """Returns once this process would hear of others, or the first try has failed."""
        await self._is_ready.wait()

    def note_write(self) -> None:
        """Has the other processes woken soon."""
        self._has_written.set()

    async def stop(self) -> None:
        """Ends both tasks."""
        self._is_stopping = True
        self._session.cut()
        await asyncio.wait(self._tasks, timeout=STOP_S)  # a statement must not be cancelled: that asks the server
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def _wake_others(self) -> None:
        while True:
            await self._has_written.wait()
            self._has_written.clear()
            if self._is_stopping:
                return
            with contextlib.suppress(DatabaseError):  # they look by themselves
                await self._pool.fetch(NOTIFY, (str(self._process),))
            await asyncio.sleep(NOTICE_PAUSE_S)

    async def _follow(self) -> None:
        attempt = 0
        while not self._is_stopping:
            try:
                await self._listen()
                while not self._is_stopping:
                    await self._look()
                    attempt = 0
                    self._is_ready.set()
                    await self._wait()
            except DatabaseError as err:
                self._is_ready.set()
                if self._is_stopping:
                    return
                if attempt or not err.is_lost:
                    self._witness.note_failure(err)
                    await asyncio.sleep(min(LONGEST_PAUSE_S, 0.05 * 2**attempt) * random.uniform(0.5, 1))
                attempt = min(attempt + 1, 10)

    async def _listen(self) -> None:
        await self._session.connect()
        if not self._session.is_pooled:
            await self._session.fetch("LISTEN trilane")
        if self._seen:
            await self._look_back()

    async def _wait(self) -> None:
        """Returns when a look is due."""
        await asyncio.sleep(LOOK_PAUSE_S)
        for _ in range(IDLE_POLLS):
            if len(self._interest()) or self._is_stopping:
                break
            await asyncio.sleep(POLL_S)
        if not len(self._interest()) or self._is_stopping:
            return
        if self._session.is_pooled:
            await asyncio.sleep(POLL_S)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + POLL_S
        while (rest_s := due - loop.time()) > 0:
            senders = await self._session.wait(rest_s)
            if any(sender != str(self._process) for sender in senders):
                return

    async def _look(self) -> None:
        if not self._seen:
            ((self._seen,),) = await self._session.fetch("SELECT pg_current_snapshot()::text")
            self._seen_at = asyncio.get_running_loop().time()
        has_outbox: bool = True
        while has_outbox:
            row = await self._find()
            has_outbox = row[2]
            if not row[3]:  # behind a pooler another server may answer on the same connection
                await self._witness.check(self._session)
            await self._tell(row)
            if has_outbox:
                ((moved,),) = await self._session.fetch(RELAY, (*self._relay_values(), RELAY_EVENTS))
                self.note_write()
                has_outbox = moved > 0  # another process may be doing it

    async def _find(self) -> Sequence[Any]:
        """Returns what has changed since the last look; while nothing is followed, only that time has passed."""
        if not len(self._interest()):
            (glance,) = await self._session.fetch(GLANCE, self._witness.values, LOOK_S)
            if not len(self._interest()):  # who follows a topic since may have read it before the glance
                return glance
        _, newest, under_way = self._seen.split(":")
        ids = under_way.split(",") if under_way else []
        values = (newest, self._process, ids, newest, self._process, *self._witness.values)
        (row,) = await self._session.fetch(LOOK, values, LOOK_S)
        return row

    async def _look_back(self) -> None:
        """Takes, after a connection was lost, all that may have come meanwhile: too much rather than too little."""
        away_s = asyncio.get_running_loop().time() - self._seen_at
        (row,) = await self._session.fetch(LOOK_BACK, (away_s + 60, *self._witness.values))
        if away_s + 120 > NEWS_S:
            await self._walk()
        await self._tell(row)

    async def _tell(self, row: Sequence[Any]) -> None:
        """Announces what a look has found, of what is followed here."""
        self._seen, generation, *_ = row
        self._seen_at = asyncio.get_running_loop().time()
        self._witness.note_answer()
        news_id, xid, topics, epochs, closed, is_too_much = row[4:] or (None, "", (), (), (), False)
        if news_id is not None:
            self._witness.note_commit(news_id, xid, generation)
        # Looked up only now: whoever follows a topic from here on reads it later than we did, and sees this.
        interest = self._interest()
        commits = [
            Commit(topic=topic, epoch=epoch, block=None, closed=is_closed)
            for topic, epoch, is_closed in zip(topics, epochs, closed, strict=True)
            if topic in interest
        ]
        if commits:
            self._announce(commits)
        if is_too_much or generation != self._generation:
            self._generation = self._witness.generation = generation
            await self._walk()

    async def _walk(self) -> None:
        """Announces every topic that is followed here."""
        name, interest = "", self._interest()
        while rows := await self._session.fetch(WALK, (name, PORTION)):
            commits = [
                Commit(topic=name, epoch=epoch, block=None, closed=closed)
                for name, epoch, closed in rows
                if name in interest
            ]
            if commits:
                self._announce(commits)
            name = rows[-1][0]
