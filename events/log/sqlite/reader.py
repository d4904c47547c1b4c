"""Reads the SQLite log in threads of its own: each read is one statement, and so one consistent view.

A statement that gives its rows one by one would let go of the interpreter's lock at each of them and wait for it
again. So SQLite joins the blocks into one row, and a thousand events cost one step.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import msgspec
import structlog

from events.log.port import Block, Holding, Slice, TopicInfo
from events.log.rules import MERGE_MS, cut
from events.log.sqlite.damage import list_topics, next_readable, read_around
from events.log.sqlite.file import NEWEST, Database, SqlError, SqliteFailure, connect, failure_of, is_damage
from events.log.sqlite.names import NameFilter
from gateway.errors import LogUnavailable

THREADS = 2
"""Number of threads that read, each with a connection."""
T = TypeVar("T")

log = structlog.get_logger("log")

# LIMIT 1 keeps SQLite from merging the inner query into the outer, where it would seek the start at each row.
READ = f"""
SELECT n.epoch, n.owner, n.is_closed, n.oldest, n.head,
    group_concat(b.first || ' ' || b.count || ' ' || b.time_ms || ' ' || b.name, char(10)),
    CAST(group_concat(b.data, char(10)) AS BLOB)
FROM (
    SELECT t.*, coalesce(b.first + b.count, t.oldest) - 1 AS head, t.closed OR coalesce(b.closing, 0) AS is_closed,
        coalesce(s.first, t.oldest) AS start, coalesce(s.total - length(s.data) + s.count - 1, t.base) AS start_total
    FROM topics t LEFT JOIN blocks b ON b.seq = {NEWEST} LEFT JOIN blocks s ON s.seq =
        (SELECT seq FROM blocks WHERE topic_id = t.id AND first <= :after + 1 ORDER BY first DESC LIMIT 1)
    WHERE t.name = :topic LIMIT 1
) n LEFT JOIN blocks b ON b.topic_id = n.id AND b.first >= n.start AND b.first <= max(n.start, :after + :max_events)
    AND (b.total <= n.start_total + :max_bytes OR b.first = n.start)
"""
LIST = f"""
SELECT t.name, t.owner, t.epoch, coalesce(b.first + b.count, t.oldest) - 1,
    coalesce(b.time_ms, t.updated_ms) AS changed, t.closed OR coalesce(b.closing, 0) AS is_closed
FROM topics t LEFT JOIN blocks b ON b.seq = {NEWEST}
WHERE t.name >= :prefix AND t.name < :end AND (:owner IS NULL OR t.owner = :owner) AND NOT (:open_only AND is_closed)
    AND (:before_ms IS NULL OR changed < :before_ms)
ORDER BY changed DESC, t.name LIMIT :limit
"""
COUNT_BY_NAME = """
SELECT b.name, sum(min(b.first + b.count - 1, :upto) - max(b.first, :after + 1) + 1)
FROM topics t JOIN blocks b ON b.topic_id = t.id
WHERE t.name = :topic AND b.first <= :upto AND :upto > :after AND b.first + b.count > :after + 1
    AND b.first >= coalesce(
        (SELECT first FROM blocks WHERE topic_id = t.id AND first <= :after + 1 ORDER BY first DESC LIMIT 1), 0)
GROUP BY b.name
"""
HOLDINGS = f"""
SELECT substr(t.name, 1, instr(t.name, '/')) AS family, count(*), sum(coalesce(b.total, t.base) - t.base)
FROM topics t LEFT JOIN blocks b ON b.seq = {NEWEST} WHERE t.owner = coalesce(?, t.owner) GROUP BY family
"""
NAMES = "SELECT name FROM topics WHERE name > ? ORDER BY name LIMIT ?"
PORTION = 1000
"""Number of names that are read at once."""
MAX_PORTIONS = 1000
"""Maximum portions of names; past that the filter is of little use."""
LAST_CHARACTER = "\U0010ffff"


class SqliteReader:
    """Owns the threads that read, and a connection for each."""

    def __init__(self, path: Path, failure: Callable[[], LogUnavailable | None], names: NameFilter | None) -> None:
        """Reads nothing while there is a `failure`. Fills `names` with what the log holds, and owns them."""
        self._failure = failure
        self._threads = ThreadPoolExecutor(THREADS, "log-reader")
        self._idle: SimpleQueue[Database] = SimpleQueue()
        for _ in range(THREADS):
            self._idle.put(connect(path))
        self._quick = connect(path, busy_s=0)
        self._is_open = True
        self._names = names
        if names is not None:
            self._threads.submit(self._fill, names)

    def close(self) -> None:
        """Closes the connections, after the reads that are under way."""
        self._is_open = False
        self._threads.shutdown()
        for _ in range(THREADS):
            self._idle.get().close()
        self._quick.close()
        if self._names is not None:
            self._names.close()

    def may_exist(self, topic: str) -> bool:
        """Looks in the caller's thread, without waiting for anybody; a file that cannot be read at once gives True."""
        if self._failure() is not None:
            return True
        if self._names is not None and not self._names.may_hold(topic):
            return False
        try:
            return self._quick.execute("SELECT 1 FROM topics WHERE name = ?", (topic,)).fetchone() is not None
        except SqlError:
            return True

    def _fill(self, names: NameFilter) -> None:
        """Adds the names of all topics, unless they are too many."""
        db, last = self._idle.get(), ""
        try:
            for _ in range(MAX_PORTIONS):
                rows = db.execute(NAMES, (last, PORTION)).fetchall() if self._is_open else []
                names.add(name for (name,) in rows)
                if len(rows) < PORTION:
                    names.is_complete = self._is_open
                    return
                last = rows[-1][0]
        except SqlError as err:
            log.warning("topics will be looked up one by one", reason=str(err))
        finally:
            self._idle.put(db)

    async def read(self, topic: str, after: int, max_events: int, max_bytes: int) -> Slice:
        values = {"topic": topic, "after": after, "max_events": max_events, "max_bytes": max_bytes}

        def slice_around(db: Database) -> Slice:
            part = read_around(db, topic, after, max_events)
            return msgspec.structs.replace(part, blocks=cut(part.blocks, after, max_events, max_bytes))

        def read(db: Database) -> Slice:
            try:
                row = db.execute(READ, values).fetchone()
            except SqliteFailure as err:
                if not is_damage(err):
                    raise
                return slice_around(db)
            if row[0] is None:
                return Slice(epoch="")
            epoch, owner, closed, oldest, head, heads, data = row
            try:
                blocks = cut(blocks_of(heads, data), after, max_events, max_bytes) if heads else []
            except ValueError:
                return slice_around(db)
            return Slice(epoch=epoch, owner=owner, oldest=oldest, head=head, closed=bool(closed), blocks=blocks)

        return await self._run(read)

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        values = {"topic": topic, "after": after, "upto": upto}
        return await self._run(lambda db: dict[str, int](db.execute(COUNT_BY_NAME, values).fetchall()))

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        return await self._run(lambda db: next_readable(db, topic, after, upto))

    async def topics(self, values: dict[str, str | int | None]) -> list[TopicInfo]:
        def read(db: Database) -> list[TopicInfo]:
            try:
                rows = db.execute(LIST, values).fetchall()
            except SqliteFailure as err:
                if not is_damage(err):
                    raise
                return list_topics(db, values)
            return [
                TopicInfo(topic=name, owner=owner, epoch=epoch, head=head, updated_ms=changed, closed=bool(closed))
                for name, owner, epoch, head, changed, closed in rows
            ]

        return await self._run(read)

    async def holdings(self, owner: str | None) -> list[Holding]:
        return await self._run(lambda db: [Holding(*row) for row in db.execute(HOLDINGS, (owner,)).fetchall()])

    async def names(self, after: str, limit: int) -> list[str]:
        return await self._run(lambda db: [name for (name,) in db.execute(NAMES, (after, limit)).fetchall()])

    async def _run(self, query: Callable[[Database], T]) -> T:
        def run() -> T:
            db = self._idle.get()
            try:
                return query(db)
            except SqliteFailure as err:
                raise failure_of(err) from err
            finally:
                self._idle.put(db)

        if not self._is_open:
            raise LogUnavailable("the log is not open")
        if failure := self._failure():
            raise failure
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


def blocks_of(heads: str, data: bytes) -> list[Block]:
    """Returns the blocks of the joined rows; neighbours of one name, and of one second, become one block."""
    lines = data.split(b"\n")
    blocks: list[Block] = []
    at = 0  # the lines of a damaged block may be too few or too many
    for head in heads.split("\n"):
        first, count, time_ms, name = head.split(" ", 3)
        start, at = at, at + int(count)
        time = int(time_ms)
        if blocks and blocks[-1].name == name and abs(time - blocks[-1].time_ms) < MERGE_MS:
            blocks[-1].data.extend(lines[start:at])
        else:
            blocks.append(Block(int(first), lines[start:at], name, time))
    if at != len(lines):
        raise ValueError(f"{len(lines)} events, where the log says {at}")
    return blocks
