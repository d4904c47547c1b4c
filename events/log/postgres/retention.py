"""Forgets what the retention says: in the background, a little at a time, and for all processes in one of them.

`events.log.rules` decides what goes. What a topic holds beyond its limits of events or bytes is deleted within a second
or so. What is too old is only no longer shown, and goes with its day's partition; no row of it is touched.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from events.log.port import Commit, Retention
from events.log.postgres.address import DatabaseError
from events.log.postgres.group import DAY_MS, TopicSize
from events.log.postgres.session import SessionPool
from events.log.postgres.witness import NEWS_S
from events.log.rules import KEY_MS, TopicState, exceeds, has_expired, report_end, trim_bounds

log = structlog.get_logger("log")

PASS_S = 1.0
"""Seconds between two passes."""
SWEEP_S = 60.0
"""Seconds between two looks at all topics, by one process for all."""
LEASE_S = 50.0
"""Seconds for which that process keeps the others from it."""
SLICE_TOPICS = 500
"""Number of topics that are looked at at once."""
SLICE_PAUSE = 3.0
"""Pause after a slice, as a multiple of the time that it took: the others come first."""
SLACK = 1 / 16
"""Fraction by which a topic may exceed its limits between sweeps."""
TRIM_ROWS = 2000
"""Maximum blocks of one topic dropped at once."""
PRUNE_ROWS = 5000
"""Maximum old keys, and old news, deleted at once."""
MAX_DUE = 10_000
"""Maximum topics noted for the next pass; the sweep finds the rest."""

FIND = "SELECT {columns} FROM trilane.topics t WHERE name = ANY (%s::text[])"
SLICE = "SELECT {columns} FROM trilane.topics t WHERE id > %s::bigint ORDER BY id LIMIT %s::integer"
COLUMNS = """name, epoch, owner, head, total, closed, oldest, base, id, updated_ms, (
    SELECT time_ms FROM trilane.blocks b WHERE b.topic_id = t.id AND b.first >= t.oldest ORDER BY first LIMIT 1)"""
TRIM = "SELECT trilane.trim(%s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::integer)"
REMOVE = "SELECT * FROM trilane.remove(%s::bigint, %s::bigint, %s::text, true, %s::bigint)"
REMOVE_IDLE = """
WITH idle AS MATERIALIZED (
    SELECT %s::bigint AS process, %s::bigint AS number, name FROM trilane.topics
    WHERE name = %s::text AND updated_ms = %s::bigint AND NOT closed FOR UPDATE)
SELECT r.o_epoch FROM idle CROSS JOIN LATERAL trilane.remove(process, number, name, false, 0) r
"""
"""SQL that removes a topic unless something was appended since it was looked at."""
LEASE = "SELECT trilane.lease('retention', %s::double precision)"
OLD_BUCKETS = "SELECT trilane.old_buckets(%s::integer)"
DROP_BUCKET = "SELECT trilane.drop_bucket(%s::integer)"
PRUNE_KEYS = """
WITH pruned AS (DELETE FROM trilane.keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM trilane.keys WHERE time_ms <= %s::bigint LIMIT %s::integer)) RETURNING 1)
SELECT count(*) FROM pruned
"""
PRUNE_NEWS = """
WITH pruned AS (DELETE FROM trilane.news WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM trilane.news WHERE made < now() - make_interval(secs => %s::double precision) LIMIT %s::integer))
    RETURNING 1)
SELECT count(*) FROM pruned
"""


class RetentionWorker:
    """Owns the task. `announce` is called with the deletions of topics."""

    def __init__(
        self,
        pool: SessionPool,
        *,
        announce: Callable[[list[Commit]], None],
        retention: Callable[[str], Retention],
        now_ms: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._announce = announce
        self._retention = retention
        self._now_ms = now_ms
        self._process = secrets.randbits(62) + 1
        self._number = 0
        self._due_names: dict[str, None] = {}
        self._task = asyncio.create_task(self._run(), name="log-retention")
        self._task.add_done_callback(report_end)

    def note_sizes(self, sizes: Iterable[TopicSize]) -> None:
        """Notes topics that have grown beyond a limit, for the next pass."""
        for size in sizes:
            state = TopicState(size.name, head=size.events, total=size.size)
            if exceeds(state, self._retention(size.name), SLACK) and len(self._due_names) < MAX_DUE:
                self._due_names[size.name] = None

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def sweep(self) -> None:
        """Applies the retention to every topic, now. Raises DatabaseError."""
        self._due_names.clear()
        await self._sweep(pause=0)

    async def _run(self) -> None:
        next_sweep = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PASS_S)
            try:
                await self._trim_due()
                if loop.time() >= next_sweep:
                    next_sweep = loop.time() + SWEEP_S
                    if (await self._pool.fetch(LEASE, (LEASE_S,)))[0][0]:
                        await self._sweep(pause=SLICE_PAUSE)
            except DatabaseError as err:
                log.warning("the retention cannot be applied", reason=str(err))

    async def _trim_due(self) -> None:
        names, self._due_names = [*self._due_names], {}
        if names:
            await self._apply(await self._pool.fetch(FIND.format(columns=COLUMNS), (names,)))

    async def _sweep(self, pause: float) -> None:
        """Looks at all topics, then drops days that are over, old keys and old news."""
        loop = asyncio.get_running_loop()
        after_id, began = 0, loop.time()
        while rows := await self._pool.fetch(SLICE.format(columns=COLUMNS), (after_id, SLICE_TOPICS)):
            await self._apply(rows)
            after_id = rows[-1][8]
            await asyncio.sleep(pause * (loop.time() - began))
            began = loop.time()
        for (bucket,) in await self._pool.fetch(OLD_BUCKETS, (self._now_ms() // DAY_MS,)):
            with contextlib.suppress(DatabaseError):  # long reads are under way: the next sweep does it
                await self._pool.fetch(DROP_BUCKET, (bucket,))
        for statement, limit in ((PRUNE_KEYS, self._now_ms() - KEY_MS), (PRUNE_NEWS, NEWS_S)):
            count = PRUNE_ROWS
            while count >= PRUNE_ROWS:
                ((count,),) = await self._pool.fetch(statement, (limit, PRUNE_ROWS))

    async def _apply(self, rows: Iterable[Any]) -> None:
        now_ms = self._now_ms()
        commits: list[Commit] = []
        for *columns, topic_id, updated_ms, oldest_ms in rows:
            topic = TopicState(*columns)
            retention = self._retention(topic.name)
            if has_expired(topic, retention, updated_ms, now_ms):
                commits += await self._remove(topic, updated_ms)
                continue
            bounds = trim_bounds(topic, retention, now_ms)
            has_old_events = oldest_ms is not None and oldest_ms < bounds.time_ms
            if has_old_events or exceeds(topic, retention):
                while (await self._pool.fetch(TRIM, (topic_id, *bounds, TRIM_ROWS)))[0][0]:
                    pass
        if commits:
            self._announce(commits)

    async def _remove(self, topic: TopicState, updated_ms: int) -> list[Commit]:
        self._number += 1
        values = (self._process, self._number, topic.name, updated_ms)
        rows = await self._pool.fetch(REMOVE if topic.closed else REMOVE_IDLE, values)
        return [Commit(topic=topic.name, epoch=epoch, block=None) for (epoch,) in rows if epoch]
