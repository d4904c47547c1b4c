"""Delivers settled usage rows to the operator's billing: at least once, and of each user in the order of the log.

One process at a time delivers: the one whose claim is the newest event of CLAIM. It shows there that it lives; another
takes over when it has been silent. How far each user's rows are delivered is appended with the next sign of life, which
names the offset that it expects: who has lost the claim can move no cursor. What was delivered by a process that died
before it could say so is delivered again, with the ids of its rows to tell it by.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import structlog

from events.log.port import NO_EVENTS, Append, EventLog, Position, Slice, TopicInfo
from gateway.core.prices import Prices
from gateway.core.usage import SETTLED, USAGE, decode_row, now_ms, usage_topic
from gateway.core.usage_report import decimal, iso
from gateway.core.usage_rows import SLACK_MS
from gateway.core.webhook import DeliveryError, Post
from gateway.errors import LogConflict, LogDamaged, LogError

T = TypeVar("T")
CLAIM = "outbox/usage"
CURSORS = "outbox/usage/"
"""Prefix of the topics that hold how far the rows of one user each are delivered."""
BEAT_S = 3.0
SILENCE_S = 10.0
"""Seconds without a sign of life after which another process delivers."""
POLL_S = 1.0
PAUSE_S = 0.05
"""Least seconds between two batches."""
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
MAX_ROWS = 100
"""Maximum events of the log that go into one batch; those of one user at least are whole."""
FIRST_LIMIT = 1000
MAX_CACHED = 50_000
"""Users whose cursor is kept in memory; past that they are read anew."""
_encode = msgspec.json.Encoder().encode

log = structlog.get_logger("usage")


def cursor_topic(sub: str) -> str:
    """Returns the topic whose newest event is how far a user's rows are delivered, as a Position in their book."""
    return CURSORS + sub


class OutboxClaim(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the delivery, of which the newest event holds all but the cursors."""

    holder: str
    """The process that delivers; empty when it has left and the next may begin at once."""
    complete_ms: int = 0
    """The time, in milliseconds since 1970, before which every row was delivered."""


class OutboxBatch:
    """Rows that are delivered together, and where their users' cursors stand after them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.cursors: dict[str, Position] = {}
        self._newest_ms = 0

    def add(self, sub: str, part: Slice, prices: Prices) -> None:
        """Takes the rows of a part of a user's topic."""
        for block in part.blocks:
            if block.name != SETTLED:
                continue
            for data in block.data:
                row = decode_row(data, block.time_ms)
                cost = prices.cost(row)
                price = {"cost": {"currency": cost.currency, "amount": decimal(cost.nanos)}} if cost else {}
                self.rows.append({"sub": sub, **msgspec.to_builtins(row), **price})
                self._newest_ms = max(self._newest_ms, row.ended_ms)
            self.cursors[sub] = Position(part.epoch, block.last)

    def body(self) -> bytes:
        """Returns the batch as it is posted: the same bytes for the same rows."""
        return _encode({"type": "usage.settled", "timestamp": iso(self._newest_ms), "data": {"rows": self.rows}})


class UsageOutbox:
    """The delivery of one log's rows, in one process."""

    def __init__(self, event_log: EventLog, post: Post, prices: Prices, on_try: Callable[[str], None]) -> None:
        """`on_try` is called after each try, with `delivered` or `failed`."""
        self._log = event_log
        self._post = post
        self._prices = prices
        self._on_try = on_try
        self._name = secrets.token_hex(8)
        self._state = OutboxClaim(holder="")
        self._next: int | None = None
        """The offset of the next claim; None while another process delivers."""
        self._beat_at = 0.0
        self._heard: tuple[int, float] = (-1, 0.0)
        """The newest offset of the claim that was seen, and since when."""
        self._cursors: dict[str, Position] = {}
        self._looked: dict[str, int] = {}
        """The head up to which a user's topic was looked through."""

    async def run(self) -> None:
        """Delivers, whenever this process has the claim, for ever."""
        while True:
            try:
                if await self._has_claim():
                    await self._deliver_all()
            except LogConflict:
                log.info("another process delivers usage now")
                self._lose()
            except LogError as err:
                log.warning("usage cannot be delivered: the log fails", reason=err.detail)
                self._lose()
            await asyncio.sleep(POLL_S)

    async def leave(self) -> None:
        """Lets another process begin at once."""
        if self._next is not None:
            with suppress(LogError):
                await self._claim(msgspec.structs.replace(self._state, holder=""))
            self._lose()

    # The claim

    async def _has_claim(self) -> bool:
        if self._next is not None:
            return True
        part = await self._log.read(CLAIM, 0, max_events=1)
        if part.head:
            part = await self._log.read(CLAIM, part.head - 1, max_events=1)
            self._state = msgspec.json.decode(part.blocks[-1].data[-1], type=OutboxClaim)
        now = asyncio.get_running_loop().time()
        if self._heard[0] != part.head:
            self._heard = part.head, now
        if self._state.holder and now - self._heard[1] < SILENCE_S:
            return False
        self._next = part.head + 1
        await self._claim(msgspec.structs.replace(self._state, holder=self._name))
        return True

    async def _claim(self, state: OutboxClaim, *cursors: Append) -> None:
        """Appends the claim, and cursors with it. Raises LogConflict when another process has it."""
        append = Append(topic=CLAIM, data=[_encode(state)], name="claim", expect=self._next)
        await self._log.append(append, *cursors)
        self._next, self._state = (self._next or 0) + 1, state
        self._beat_at = asyncio.get_running_loop().time() + BEAT_S

    def _lose(self) -> None:
        self._next = None
        self._cursors.clear()
        self._looked.clear()

    async def _while_beating(self, work: Coroutine[Any, Any, T]) -> T:
        """Shows that this process lives while it works or waits."""
        task = asyncio.create_task(work)
        try:
            while True:
                left_s = self._beat_at - asyncio.get_running_loop().time()
                await asyncio.wait((task,), timeout=max(0.0, left_s))
                if task.done():
                    return task.result()
                await self._claim(self._state)
        finally:
            task.cancel()

    # The rows

    async def _deliver_all(self) -> None:
        """Delivers all that was settled until now."""
        began_ms, batch = now_ms(), OutboxBatch()
        for info in await self._changed():
            sub = info.topic.removeprefix(USAGE)
            async for part in self._undelivered(sub, info):
                batch.add(sub, part, self._prices)
                if len(batch.rows) >= MAX_ROWS:
                    await self._deliver(batch)
                    batch = OutboxBatch()
        if batch.rows:
            await self._deliver(batch)
        self._state = msgspec.structs.replace(self._state, complete_ms=began_ms)
        if asyncio.get_running_loop().time() >= self._beat_at:
            await self._claim(self._state)

    async def _changed(self) -> list[TopicInfo]:
        """Returns the users' topics that may have rows to deliver, in the order of their changes."""
        since_ms, limit = self._state.complete_ms - SLACK_MS, FIRST_LIMIT
        while True:
            infos = await self._log.topics(USAGE, limit=limit)
            if len(infos) < limit or infos[-1].updated_ms < since_ms:
                return [info for info in reversed(infos) if info.updated_ms >= since_ms]
            limit *= 10

    async def _undelivered(self, sub: str, info: TopicInfo) -> AsyncIterator[Slice]:
        """Yields what follows a user's cursor, part by part."""
        if self._looked.get(sub) == info.head:
            return
        cursor = await self._cursor(sub)
        after = cursor.offset if cursor.epoch == info.epoch else 0
        while after < info.head:
            try:
                part = await self._log.read(info.topic, after, max_events=MAX_ROWS)
            except LogDamaged:
                readable = await self._log.next_readable(info.topic, after, info.head)
                log.error("usage is lost: the log is damaged", topic=info.topic, first=after + 1, last=readable - 1)
                after = readable - 1
                continue
            if not part.blocks or part.epoch != info.epoch:
                break  # it was deleted meanwhile
            yield part
            after = part.blocks[-1].last
        self._looked[sub] = info.head

    async def _cursor(self, sub: str) -> Position:
        if sub in self._cursors:
            return self._cursors[sub]
        if len(self._cursors) >= MAX_CACHED:
            self._cursors.clear()
            self._looked.clear()
        part = await self._log.read(cursor_topic(sub), 0, max_events=1)
        if part.head:
            part = await self._log.read(cursor_topic(sub), part.head - 1, max_events=1)
        blocks = part.blocks
        self._cursors[sub] = msgspec.json.decode(blocks[-1].data[-1], type=Position) if blocks else Position("", 0)
        return self._cursors[sub]

    async def _deliver(self, batch: OutboxBatch) -> None:
        """Posts a batch as often as it takes, then moves the cursors behind it."""
        body, delay_s = batch.body(), FIRST_DELAY_S
        while not await self._while_beating(self._is_taken(body)):
            await self._while_beating(asyncio.sleep(delay_s * random.uniform(0.5, 1.0)))
            delay_s = min(MAX_DELAY_S, delay_s * 2)
        kept = [sub for sub in batch.cursors if await self._has_book(sub, batch.cursors[sub])]
        cursors = [
            Append(topic=cursor_topic(sub), data=[_encode(batch.cursors[sub])], name="cursor", owner=sub)
            for sub in kept
        ]
        await self._claim(self._state, *cursors)
        self._cursors |= batch.cursors
        for sub in kept:  # whoever forgets a user takes the book away first, and then looks for what they own
            if not await self._has_book(sub, batch.cursors[sub]):
                await self._log.delete(cursor_topic(sub))
        await asyncio.sleep(PAUSE_S)

    async def _has_book(self, sub: str, cursor: Position) -> bool:
        """Returns whether a user still has the book that a cursor stands in: one who was forgotten has none."""
        return (await self._log.read(usage_topic(sub), NO_EVENTS, max_events=1)).epoch == cursor.epoch

    async def _is_taken(self, body: bytes) -> bool:
        try:
            await self._post(body)
        except DeliveryError as err:
            log.warning("usage was not taken: it is delivered again", reason=str(err))
            self._on_try("failed")
            return False
        self._on_try("delivered")
        return True
