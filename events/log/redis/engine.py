"""Keeps the log in Redis (6.2 or later) or Valkey, for any number of processes of any number of machines.

What an acknowledged append survives is what the server promises. With `appendonly yes` and `appendfsync always` it
survives a loss of power there; with `appendfsync everysec` (Redis's own advice) the death of the server's process, and
a loss of power but for the last second or two; without an append-only file nothing but what the last snapshot holds.
Replication is asynchronous: a failover may lose the newest events. `?wait=1` in the URL acknowledges an append only
once a replica has it. A history that went back is found by the processes that know better, and told as a new epoch
(`events.log.redis.heads`); what only a process knew that died with the server is lost without a word.

Times are the server's own unless a `clock` is given, so clocks of processes may be wrong. All keys of a log lie on one
slot of a cluster, so a log is as fast as one node, and every append is atomic. It departs from the port in nothing.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence

import msgspec
import structlog

from events.log.adoption import Adoption, adopt
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
from events.log.quotas import LIVE_S, TakeBatch, TakeReply
from events.log.redis.address import parse_address
from events.log.redis.connect import check_server
from events.log.redis.heads import Heads
from events.log.redis.news import NewsReader
from events.log.redis.outage import Outage
from events.log.redis.reader import RedisPool, RedisReader
from events.log.redis.retention import RedisRetainer
from events.log.redis.scripts import ADOPT, TAKE
from events.log.redis.writer import RedisWriter, WriteCall
from events.log.rules import Result, announce, ignore, ignore_time, refusal, size_of
from gateway.errors import ConfigurationError, LogUnavailable

log = structlog.get_logger("log")

_pack = msgspec.msgpack.encode
_unpack_reply = msgspec.msgpack.Decoder(TakeReply).decode

PATIENCE_S = 30.0
"""Seconds for which an append waits for a Redis that cannot be reached."""


class RedisLog:
    """An EventLog. `clock` gives seconds since 1970, for tests; None: the time of the server."""

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
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Raises ConfigurationError for a URL that is not one."""
        self.listener = ignore
        self.on_written = ignore_time
        self.interest = frozenset[str]()
        self._address = parse_address(url)
        self._retention = retention
        self._clock = clock
        self._max_pending_bytes = max_pending_bytes
        self._patience_s = patience_s
        self._pending_bytes = 0
        self._name = f"{secrets.token_hex(8)}.{self._address.db}"
        self._outage = Outage()
        self._heads = Heads(self._name)
        self._writer: RedisWriter | None = None
        self._reader: RedisReader | None = None

    async def open(self) -> None:
        """Connects, and checks that the server can be used. Raises ConfigurationError."""
        facts = await check_server(self._address)
        if facts.get("aof_enabled") == "0":
            log.warning(
                "Redis has no append-only file: what was appended does not survive its restart", url=self._address.shown
            )
        self._loop = asyncio.get_running_loop()
        self._pool = RedisPool(self._address, self._outage)
        self._news = NewsReader(
            self._address,
            self._name,
            announce=self._announce_commits,
            interest=lambda: self.interest,
            pool=self._pool,
            heads=self._heads,
            outage=self._outage,
        )
        self._retainer = RedisRetainer(
            self._address,
            self._name,
            pool=self._pool,
            retention=self._retention,
            clock=self._clock,
            announce=self._announce_commits,
        )
        writer = RedisWriter(
            self._address,
            self._name,
            announce=self._announce_later,
            retention=self._retention,
            clock=self._clock,
            patience_s=self._patience_s,
            heads=self._heads,
            outage=self._outage,
            on_written=lambda seconds: self.on_written(seconds),
        )
        try:
            await self._news.start()
        except TimeoutError as err:
            await self._news.stop()
            await self._pool.close()
            raise ConfigurationError(f"TRILANE_LOG={self._address.shown}: {self._outage.error().detail}") from err
        writer.start()
        self._retainer.start()
        self._writer, self._reader = writer, RedisReader(self._pool)

    async def close(self) -> None:
        """Writes what waits, announces it, and closes the connections. Idempotent."""
        writer = self._writer
        self._writer = self._reader = None
        if writer is not None:
            await self._retainer.stop()
            await writer.stop()
            await self._news.stop()
            await self._pool.close()
            await asyncio.sleep(0)  # what was written last is announced in the next turn

    @property
    def backlog(self) -> int:
        return self._writer.backlog if self._writer is not None else 0

    @property
    def failure(self) -> LogUnavailable | None:
        """Returns why Redis cannot be used; None while an outage is so short that everything may wait for its end."""
        return self._outage.failure

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
            writer.put(WriteCall(future, appends, size, writer.deadline()), patient)
        return future

    def may_exist(self, topic: str) -> bool:
        """Returns True: what exists cannot be known without asking over a network."""
        return True

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Returns the events strictly after offset `after`, within both limits, but at least one if there is one."""
        part = await self._open_reader().read(topic, after, max_events, max_bytes)
        if topic in self.interest:
            self._heads.note_read(topic, part.epoch, part.head, part.closed)
        return part

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        """Returns the next offset: Redis either holds all of a topic or does not start."""
        return min(after, upto) + 1

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
        return await self._open_reader().topics(prefix, owner, open_only, before_ms, limit)

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Returns what is kept of an owner, or in all; topics that change meanwhile may be counted twice, or not."""
        return await self._open_reader().holdings(owner)

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch."""
        writer = self._writer
        if writer is None or writer.has_ended:
            raise LogUnavailable("the log is not open")
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        writer.put(WriteCall(future, (), 0, writer.deadline(), topic), False)
        return await future

    async def scrub(self) -> str:
        """Returns what Redis itself still holds: no client can overwrite that."""
        return (
            "Redis still has it in its append-only file until that is rewritten (BGREWRITEAOF), and in snapshots and "
            "replicas' files from before"
        )

    async def names(self, after: str, limit: int) -> list[str]:
        """Returns the names of at most `limit` topics in their order, strictly after `after`."""
        return await self._open_reader().names(after, limit)

    async def adopt(self, topic: str, part: Slice) -> None:
        """Takes over what another log holds of a topic. Raises LogConflict, LogUnavailable."""
        self._open_reader()
        await adopt(self, topic, part, self._adopt)

    async def _adopt(self, adoption: Adoption) -> bool:
        done: int = await self._pool.run(
            ADOPT,
            self._name,
            self._clock_ms(),
            adoption.topic,
            adoption.epoch,
            adoption.owner,
            adoption.oldest,
            adoption.head,
            int(adoption.is_closing),
            _pack([(block.first, len(block.data), block.time_ms, block.name) for block in adoption.blocks]),
            *adoption.texts,
        )
        return bool(done)

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Returns None: a server is asked."""
        return None

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Counts for limits, in one script. Raises LogUnavailable."""
        self._open_reader()
        packed = _pack((batch.holder, batch.held, batch.settlements, batch.calls))
        return _unpack_reply(await self._pool.run(TAKE, self._clock_ms(), LIVE_S, packed))

    async def sweep(self) -> None:
        """Applies the retention to every topic, now and to the block; otherwise that happens every minute."""
        self._open_reader()
        await self._retainer.sweep()

    def _clock_ms(self) -> int:
        """Returns the time for a script; 0 where the server's own counts."""
        return int(self._clock() * 1000) if self._clock is not None else 0

    def _open_reader(self) -> RedisReader:
        if self._reader is None:
            raise LogUnavailable("the log is not open")
        return self._reader

    def _announce_later(self, commits: Sequence[Commit], results: Sequence[Result], size: int) -> None:
        """Announces in the next turn of the event loop, so that a listener that fails ends nothing else."""
        self._pending_bytes -= size
        if commits or results:
            self._loop.call_soon(self._announce, commits, results)

    def _announce(self, commits: Sequence[Commit], results: Sequence[Result]) -> None:
        announce(self.listener, commits, results)

    def _announce_commits(self, commits: Sequence[Commit]) -> None:
        """Tells the listener of what others did, where it is of interest."""
        self._announce_later(commits, [], 0)
