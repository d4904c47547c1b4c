"""Reads the Redis log over a few connections: each read is one script, and so one consistent view.

A read that meets an outage is tried again for READ_S, so that a short one is not noticed; during a long outage each
read fails after one try. A thousand events cost one step: the script joins blocks, and they are parted here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ResponseError

from events.log.port import Block, Holding, Slice, TopicInfo
from events.log.redis.address import RedisAddress
from events.log.redis.connect import Backoff, RedisConnection, dial, unavailable
from events.log.redis.outage import Outage
from events.log.redis.scripts import COUNT, HOLDINGS, LIST, READ, Script
from events.log.rules import MERGE_MS, cut
from gateway.errors import LogUnavailable

CONNECTIONS = 4
"""Maximum connections that read."""
READ_S = 10.0
"""Seconds for which a read is tried again while Redis cannot be reached."""
LOOKED_AT = 2000
"""Topics that one script looks at when it lists some."""
COUNTED_BLOCKS = 500
"""Blocks whose names one script counts."""
HELD_TOPICS = 1000
"""Topics of one owner that are summed up at once."""
NAMED_TOPICS = 5000
"""Topics below a prefix up to which they are found by their names, and sorted here."""

MAX_OF_ONE_SECOND = NAMED_TOPICS
"""Topics of the last second of a list that are read beside those asked for, to be sorted; more are not."""

T = TypeVar("T")
ListRow = tuple[str, str, str, int, int, bool]
_unpack_sums = msgspec.msgpack.Decoder(tuple[int, int]).decode
_unpack_list = msgspec.msgpack.Decoder(tuple[int, list[ListRow], int]).decode


class RedisPool:
    """The connections that read, made when they are needed."""

    def __init__(self, address: RedisAddress, outage: Outage) -> None:
        self._address = address
        self._outage = outage
        self._idle: list[RedisConnection] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._is_open = True

    @property
    def prefix(self) -> str:
        return self._address.prefix

    async def close(self) -> None:
        self._is_open = False
        await self._close_idle()

    async def run(self, script: Script, *arguments: str | bytes | int) -> Any:
        """Runs a script that may run twice; returns its reply. Raises LogUnavailable."""
        return await self._try(lambda connection: connection.run(script, *arguments))

    async def ask(self, *command: str | bytes | int) -> Any:
        """Sends a command that may be sent twice; returns its reply. Raises LogUnavailable."""

        async def ask(connection: RedisConnection) -> Any:
            (reply,) = await connection.ask(command)
            if isinstance(reply, ResponseError):
                raise reply
            return reply

        return await self._try(ask)

    async def _try(self, ask: Callable[[RedisConnection], Awaitable[T]]) -> T:
        deadline, backoff = time.monotonic() + READ_S, Backoff()
        while True:
            await self._outage.wait_until_over(READ_S, deadline)
            try:
                async with self._slots:
                    return await self._try_once(ask)
            except ResponseError as err:
                raise unavailable(err) from err
            except LogUnavailable:
                delay_s = backoff.next_delay()
                if not self._is_open or time.monotonic() + delay_s > deadline:
                    raise
            await asyncio.sleep(delay_s)

    async def _try_once(self, ask: Callable[[RedisConnection], Awaitable[T]]) -> T:
        if not self._is_open:
            raise LogUnavailable("the log is not open")
        connection = self._idle.pop() if self._idle else await dial(self._address)
        try:
            return await ask(connection)
        finally:
            if not connection.is_open:
                await self._close_idle()  # most likely they were lost as well
            elif self._is_open:
                self._idle.append(connection)
            else:
                await connection.close()

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()


class RedisReader:
    """Reads topics by scripts."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool

    async def read(self, topic: str, after: int, max_events: int, max_bytes: int) -> Slice:
        reply = await self._pool.run(READ, topic, after, max_events, max_bytes)
        if reply is None:
            return Slice(epoch="")
        epoch, owner, oldest, head, closed, count, heads, data = reply
        blocks = cut(blocks_of(heads, data), after, max_events, max_bytes) if count else []
        return Slice(
            epoch=epoch.decode(),
            owner=owner.decode(),
            oldest=int(oldest),
            head=int(head),
            closed=closed == b"1",
            blocks=blocks,
        )

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        counts: dict[str, int] = {}
        while after >= 0:
            after, *pairs = await self._pool.run(COUNT, topic, after, upto, COUNTED_BLOCKS)
            after = int(after)
            for name, count in zip(pairs[::2], pairs[1::2], strict=True):
                counts[name.decode()] = counts.get(name.decode(), 0) + int(count)
        return counts

    async def names(self, after: str, limit: int) -> list[str]:
        start = b"(" + after.encode() if after else b"-"
        names = await self._pool.ask("ZRANGEBYLEX", f"{self._pool.prefix}n", start, "+", "LIMIT", 0, limit)
        return [name.decode() for name in names]

    async def topics(
        self, prefix: str, owner: str | None, open_only: bool, before_ms: int | None, limit: int
    ) -> list[TopicInfo]:
        """Reads from each index that may hold such topics as many as are wanted at most, and merges them."""
        row_by_topic: dict[str, ListRow] = {}
        for index in await self._indexes(prefix, owner, open_only):
            for row in await self._list(index, prefix, owner, open_only, before_ms, limit):
                row_by_topic[row[0]] = row  # one that changes meanwhile may come twice
        rows = sorted(row_by_topic.values(), key=lambda row: (-row[4], row[0]))
        return [
            TopicInfo(topic=topic, owner=owner, epoch=epoch, head=head, updated_ms=updated_ms, closed=closed)
            for topic, owner, epoch, head, updated_ms, closed in rows[:limit]
        ]

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Sums up each family, HELD_TOPICS at a time."""
        holdings: list[Holding] = []
        for family in [name.decode() for name in await self._pool.ask("SMEMBERS", f"{self._pool.prefix}f")]:
            topics = stored_bytes = 0
            for index in [f"u:{family}\0{owner}"] if owner is not None else [f"o:{family}", f"c:{family}"]:
                rank, count = 0, HELD_TOPICS
                while count == HELD_TOPICS:
                    count, size = _unpack_sums(await self._pool.run(HOLDINGS, index, rank, HELD_TOPICS))
                    rank, stored_bytes = rank + count, stored_bytes + size
                topics += rank
            if topics:
                holdings.append(Holding(family, topics, stored_bytes))
        return holdings

    async def _indexes(self, prefix: str, owner: str | None, open_only: bool) -> list[str]:
        family, slash, rest = prefix.partition("/")
        if slash:
            families = [family + slash]
        else:
            names = [name.decode() for name in await self._pool.ask("SMEMBERS", f"{self._pool.prefix}f")]
            families = [name for name in names if name.startswith(prefix) or not name]
        if owner:
            return [f"u:{name}\0{owner}" for name in families]
        if rest and await self._count_names(prefix) <= NAMED_TOPICS:
            return ["n"]
        kinds = ("o",) if open_only else ("o", "c")
        return [f"{kind}:{name}" for name in families for kind in kinds]

    async def _count_names(self, prefix: str) -> int:
        start = prefix.encode()
        return await self._pool.ask("ZLEXCOUNT", f"{self._pool.prefix}n", b"[" + start, b"(" + start + b"\xff")

    async def _list(
        self, index: str, prefix: str, owner: str | None, open_only: bool, before_ms: int | None, limit: int
    ) -> list[ListRow]:
        rank, last_second, rows = 0, "", list[ListRow]()
        while rank >= 0 and len(rows) < limit + MAX_OF_ONE_SECOND:
            rank, more, second = _unpack_list(
                await self._pool.run(
                    LIST,
                    index,
                    prefix,
                    owner or "",
                    int(owner is None),
                    int(open_only),
                    "" if before_ms is None else before_ms,
                    rank,
                    max(1, limit - len(rows)),
                    LOOKED_AT,
                    last_second,
                )
            )
            last_second = str(second) if second >= 0 else ""
            rows += more
        return rows


def blocks_of(heads: bytes, data: bytes) -> list[Block]:
    """Returns the blocks of a reply of `READ`; neighbours of one name, and of one second, become one."""
    lines = data.split(b"\n")
    blocks: list[Block] = []
    at = 0
    for head in heads.decode().split("\n"):
        first, count, time_ms, name = head.split(" ", 3)
        start, at = at, at + int(count)
        last = blocks[-1] if blocks else None
        if last is not None and last.name == name and abs(int(time_ms) - last.time_ms) < MERGE_MS:
            last.data.extend(lines[start:at])
        else:
            blocks.append(Block(int(first), lines[start:at], name, int(time_ms)))
    return blocks
