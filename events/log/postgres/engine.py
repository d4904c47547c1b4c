"""Keeps the log in a PostgreSQL database (14 or later), for any number of processes of any number of machines.

An append is durable when the server says so: with its default (`synchronous_commit = on`) it survives a loss of power
there, with `synchronous_standby_names` the loss of the server, too. A server that fails over to a copy which lacks
acknowledged events is seen: every topic gets another epoch (`events.log.postgres.witness`).

It departs from the port in nothing. Behind PgBouncer in transaction mode, which is found out, news of other processes
come by looks alone, up to 50 ms later, and statements are planned each time. This file is the face; the work is in
`writer`, `news` and `retention` beside it, and on the server in the numbered files of SQL.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence

import msgspec

from events.log.adoption import Adoption, adopt
from events.log.port import (
    Append,
    Appended,
    Block,
    Commit,
    Holding,
    Interest,
    Listener,
    Retention,
    Slice,
    TopicInfo,
    WriteMeter,
)
from events.log.postgres.address import DatabaseError, parse_address
from events.log.postgres.group import LATE, GroupCall, GroupResult, bucket_of, is_storable, refuse_text
from events.log.postgres.news import SHOWN_EPOCH, News
from events.log.postgres.retention import RetentionWorker
from events.log.postgres.schema import check_version
from events.log.postgres.session import DatabaseSession, Rows, SessionPool
from events.log.postgres.witness import Witness
from events.log.postgres.writer import WAIT_S, Deletion, GroupWriter
from events.log.quotas import LIVE_S, TakeBatch, TakeReply
from events.log.rules import Result, announce, cut, ignore, ignore_time, refusal, size_of
from gateway.errors import ConfigurationError, LogUnavailable

READERS = 3
"""Number of connections that read."""
LAST_CHARACTER = "\U0010ffff"

READ = "SELECT * FROM trilane.read(%s::text, %s::bigint, %s::bigint, %s::bigint)"
COUNT_BY_NAME = "SELECT * FROM trilane.count_by_name(%s::text, %s::bigint, %s::bigint)"
LIST = (
    f"SELECT name, owner, {SHOWN_EPOCH}, head, updated_ms, closed FROM trilane.topics t WHERE {{conditions}} {{order}}"
)
HOLDINGS = """
SELECT substr(name, 1, strpos(name, '/')), count(*)::bigint, sum(total - base)::bigint
FROM trilane.topics
"""
OF_OWNER, BY_FAMILY = "WHERE owner = %s::text", " GROUP BY 1"
NAMES = "SELECT name FROM trilane.topics WHERE name > %s::text ORDER BY name LIMIT %s::integer"
ADOPT = """
SELECT trilane.adopt(%s::bigint, %s::bigint, %s::text, %s::text, %s::text, %s::bigint, %s::bigint, %s::boolean,
    %s::bigint, %b::bigint[], %b::integer[], %b::bigint[], %b::bigint[], %b::text[], %b::bytea[], %b::integer[])
"""
TAKE = "SELECT trilane.take(%s::double precision, %s::double precision, %s::text, %s::jsonb)"
ORDER = "ORDER BY updated_ms DESC, name LIMIT %s::bigint"


class PostgresLog:
    """An EventLog. `clock` gives seconds since 1970, for display and age, never for order; None: the server's clock."""

    listener: Listener
    interest: Interest
    on_written: WriteMeter

    def __init__(
        self,
        url: str,
        retention: Callable[[str], Retention],
        *,
        clock: Callable[[], float] | None = None,
        max_pending_bytes: int = 64 << 20,
    ) -> None:
        """Raises ConfigurationError when `url` is none."""
        self.listener = ignore
        self.on_written = ignore_time
        self.interest = frozenset[str]()
        self._address = parse_address(url)
        self._retention = retention
        self._clock = clock
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0
        self._witness = Witness()
        self._pool: SessionPool | None = None

    async def open(self) -> None:
        """Connects, and makes the tables in an empty database. Raises ConfigurationError."""
        session = DatabaseSession(self._address)
        try:
            await check_version(self._address, session)
            await self._witness.check(session)
        except BaseException as err:
            await session.close()
            if isinstance(err, DatabaseError):
                raise ConfigurationError(f"TRILANE_LOG: the database cannot be used: {err}") from err
            raise
        session.on_connect = self._witness.check
        self._loop = asyncio.get_running_loop()
        self._pool = SessionPool(self._address, READERS, self._witness.check)
        self._writer = GroupWriter(
            session,
            self._witness,
            announce=self._announce,
            on_group=self._note_group,
            retention=self._retention,
            now_ms=self._now_ms,
            on_written=lambda seconds: self.on_written(seconds),
        )
        self._retainer = RetentionWorker(
            self._pool, announce=self._announce_news, retention=self._retention, now_ms=self._now_ms
        )
        self._news = News(
            DatabaseSession(self._address, self._witness.check),
            self._pool,
            self._witness,
            process=self._writer.process,
            announce=self._announce_news,
            interest=lambda: self.interest,
            relay_values=self._relay_values,
        )
        await self._news.ready()

    @property
    def backlog(self) -> int:
        return self._writer.backlog if self._pool is not None else 0

    @property
    def failure(self) -> LogUnavailable | None:
        """Returns why the server cannot be reached now; it is tried again all the time."""
        return self._witness.failure

    async def close(self) -> None:
        """Writes what waits, announces it, and closes all connections. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await self._writer.stop()
            await self._retainer.stop()
            await self._news.stop()
            await pool.close()

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Appends atomically. Raises LogConflict, WrongOwner, LogUnavailable (by the awaitable)."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Appended]] = loop.create_future()
        size = size_of(appends)
        if self._pool is None or self._writer.has_ended:
            future.set_exception(LogUnavailable("the log is not open"))
        elif not appends:
            future.set_result([])
        elif error := (refusal(appends, size, self._pending_bytes, self._max_pending_bytes) or refuse_text(appends)):
            future.set_exception(error)
        else:
            self._pending_bytes += size
            self._writer.put(GroupCall(future, appends, size, loop.time() + WAIT_S), patient)
        return future

    def may_exist(self, topic: str) -> bool:
        """Returns True: only the server knows."""
        return True

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Returns the events strictly after offset `after`, within both limits, but at least one if there is one."""
        rows = await self._fetch(READ, topic, after, max_events, max_bytes)
        if not rows or rows[0][0] is None:
            return Slice(epoch="")
        epoch, owner, closed, oldest, head, firsts, counts, times, names, data = rows[0]
        blocks = list[Block]()
        if firsts:
            lines, at = data.split(b"\n"), 0
            for first, count, time_ms, name in zip(firsts, counts, times, names, strict=True):
                blocks.append(Block(first, lines[at : at + count], name, time_ms))
                at += count
        return Slice(
            epoch=epoch,
            owner=owner,
            oldest=oldest,
            head=head,
            closed=closed,
            blocks=cut(blocks, after, max_events, max_bytes),
        )

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        """Returns the next offset: the server says which of its files are damaged, not which events."""
        return min(after, upto) + 1

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        """Returns how many events strictly after offset `after`, up to `upto`, bear each name."""
        return {name: count for name, count in await self._fetch(COUNT_BY_NAME, topic, after, upto)}

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
        conditions: dict[str, object] = {"name >= %s::text": prefix, "name < %s::text": prefix + LAST_CHARACTER}
        if owner is not None:
            conditions["owner = %s::text"] = owner
        if before_ms is not None:
            conditions["updated_ms < %s::bigint"] = before_ms
        where = " AND ".join([*conditions, "NOT closed"] if open_only else conditions)
        rows = await self._fetch(LIST.format(conditions=where, order=ORDER), *conditions.values(), limit)
        return [
            TopicInfo(
                topic=name,
                owner=owner_,
                epoch=epoch,
                head=head,
                updated_ms=updated_ms,
                closed=closed,
            )
            for name, owner_, epoch, head, updated_ms, closed in rows
        ]

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Returns what is kept of an owner, or in all, by family."""
        if owner is None:
            return [Holding(*row) for row in await self._fetch(HOLDINGS + BY_FAMILY)]
        return [Holding(*row) for row in await self._fetch(HOLDINGS + OF_OWNER + BY_FAMILY, owner)]

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch."""
        if self._pool is None or self._writer.has_ended:
            raise LogUnavailable("the log is not open")
        if not is_storable(topic):
            return False
        future: asyncio.Future[bool] = self._loop.create_future()
        self._writer.put(Deletion(future, topic, self._loop.time() + WAIT_S), False)
        return await future

    async def scrub(self) -> str:
        """Returns what PostgreSQL itself still holds: no client can overwrite that."""
        return (
            "PostgreSQL still has it on disk until it has vacuumed the tables and used the space again, and in "
            "archived WAL and backups from before"
        )

    async def names(self, after: str, limit: int) -> list[str]:
        """Returns the names of at most `limit` topics in their order, strictly after `after`."""
        return [name for (name,) in await self._fetch(NAMES, after, limit)]

    async def adopt(self, topic: str, part: Slice) -> None:
        """Takes over what another log holds of a topic. Raises LogConflict, LogUnavailable."""
        await adopt(self, topic, part, self._adopt)

    async def _adopt(self, adoption: Adoption) -> bool:
        blocks = adoption.blocks
        bucket = min(LATE, bucket_of(self._retention(adoption.topic), self._now_ms()))
        ((is_done,),) = await self._fetch(
            ADOPT,
            secrets.randbits(62) + 1,
            0,
            adoption.topic,
            adoption.epoch,
            adoption.owner,
            adoption.oldest,
            adoption.head,
            adoption.is_closing,
            self._now_ms(),
            [block.first for block in blocks],
            [len(block.data) for block in blocks],
            adoption.sizes,
            [block.time_ms for block in blocks],
            [block.name for block in blocks],
            adoption.texts,
            [bucket] * len(blocks),
        )
        return bool(is_done)

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Returns None: a server is asked."""
        return None

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Counts for limits, in one statement. Raises LogUnavailable."""
        asked = {"held": batch.held, "settlements": batch.settlements, "calls": batch.calls}
        now_s = self._clock() if self._clock is not None else 0.0
        ((reply,),) = await self._fetch(TAKE, now_s, LIVE_S, batch.holder, msgspec.json.encode(asked).decode())
        return msgspec.convert(reply, TakeReply)

    async def sweep(self) -> None:
        """Applies the retention to every topic, now and to the block; otherwise that happens every minute."""
        try:
            await self._retainer.sweep()
        except DatabaseError as err:
            raise err.log_error from err

    async def _fetch(self, sql: str, *values: object) -> Rows:
        if self._pool is None:
            raise LogUnavailable("the log is not open")
        if not all([is_storable(value) for value in values if isinstance(value, str)]):
            return []  # so there can be no such topic
        if self._pool.is_full and self.failure is not None:
            raise self.failure  # those that wait already are enough
        try:
            return await self._pool.fetch(sql, values)
        except DatabaseError as err:
            if err.is_lost:
                self._witness.note_failure(err)
            raise err.log_error from err

    def _now_ms(self) -> int:
        if self._clock is None:
            return self._witness.server_ms()
        return int(self._clock() * 1000)

    def _relay_values(self) -> tuple[int, int]:
        now_ms = self._now_ms()
        return now_ms, bucket_of(self._retention("event/"), now_ms)

    def _note_group(self, result: GroupResult) -> None:
        self._retainer.note_sizes(result.sizes)
        if result.news_id is not None:
            self._news.note_write()

    def _announce_news(self, commits: list[Commit]) -> None:
        self._announce(commits, [], 0)

    def _announce(self, commits: list[Commit], results: Sequence[Result], size: int) -> None:
        """Tells the listener, and then the callers. A listener that fails ends none of the log's tasks."""
        self._pending_bytes -= size
        try:
            announce(self.listener, commits, results)
        except Exception as err:
            self._loop.call_exception_handler({"message": "the log's listener failed", "exception": err})
