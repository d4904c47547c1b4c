"""Serves one reader of the events lane: sends `hello`, reads the log until it is where its feed is, then follows that.

It holds no queue: what the reader has not taken is in the feed's frames, or in the log, or is reported as a `gap`.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from events.feed import frames
from events.feed.bookmarks import Bookmarks
from events.feed.feed import Feed
from events.log.hub import WRITE_BYTES
from events.log.meter import DeliveryMeter
from events.log.port import Block, EventLog, Slice
from events.log.source import NEVER, LentConnection, Source
from events.log.topics import stored
from events.log.vector import VectorPosition
from gateway.errors import LogDamaged, LogUnavailable, TrilaneError


class SubscriptionHost(Protocol):
    """The feeds that a subscription belongs to."""

    log: EventLog
    bookmarks: Bookmarks

    on_damage: Callable[[str, int, int], None]

    @property
    def meter(self) -> DeliveryMeter: ...
    def now_ms(self) -> int: ...
    def leave(self, subscription: "Subscription", /) -> None:
        """Forgets a subscription. Idempotent."""
        ...


class Subscription(Source):
    """The source of one reader's event stream."""

    __slots__ = (
        "_auth_at",
        "_ends_at",
        "_fall_cursor",
        "_feeds",
        "_is_over",
        "_pending",
        "connection",
        "feed",
        "index",
        "on_wake",
        "position",
        "sub",
    )

    def __init__(self, feeds: SubscriptionHost, feed: Feed, sub: str) -> None:
        self.feed = feed
        self.connection: LentConnection | None = None
        self.sub = sub
        """The user who reads."""
        self.index = -1
        self.position: VectorPosition | None = None
        """The reader's position in the log, while it does not follow the feed."""
        self.on_wake = _nobody
        self._feeds = feeds
        self._fall_cursor = ""
        self._pending = b""
        self._is_over = False
        self._ends_at = self._auth_at = NEVER
        feed.followers.add(self)

    def begin(self, hello: bytes, position: VectorPosition | None, ends_at: float, auth_at: float) -> None:
        """Sends `hello`, then goes on from `position`, or follows from here on. Times are the event loop's."""
        self._pending = hello
        self._ends_at, self._auth_at = ends_at, auth_at
        self.position = position
        if position is None:
            self.index = self.feed.head

    # Called by the event stream

    @property
    def ended(self) -> bool:
        return self._is_over or self.feed.ended

    @property
    def complete(self) -> bool:
        return self._is_over

    def poll(self) -> bytes | None:
        if self._pending:
            pending, self._pending = self._pending, b""
            return pending
        if self.index < 0:
            return None
        if self._is_over:
            return b""
        data = b""
        while not data and self.index < self.feed.head:
            data, self.index = self.feed.slice(self.index, WRITE_BYTES)
        if data:
            return data
        if self.feed.closed:
            return self._bye()
        return b""

    def due_at(self, now: float) -> float:
        """Makes due what this time brings; returns when to call it again."""
        if now >= self._auth_at:
            self._auth_at = NEVER
            self._pending += frames.control("auth", {"expiresIn": round(self._ends_at - now)}, self.cursor)
        if now >= self._ends_at:
            self._is_over = True
        return min(self._auth_at, self._ends_at)

    @property
    def written_s(self) -> float:
        return self.feed.fanout.written_s if self.connection is not None else 0.0

    def follow(self, connection: LentConnection | None) -> None:
        if connection is None:
            self.connection = None
            if self.feed.fanout.drop(self):
                self.feed.followers.add(self)
        elif self.index == self.feed.head and not self.feed.closed:
            self.connection = connection
            self.feed.followers.discard(self)
            self.feed.fanout.add(self)

    async def catch_up(self) -> None:
        """Reads one bounded slice of the log; raises Gone or LogError when that cannot be done."""
        if self._fall_cursor:
            self.position, self._fall_cursor = await self._feeds.bookmarks.position_of(self.feed, self._fall_cursor), ""
        position = self.position
        assert position is not None
        while len(position.names) < len(self.feed.position.names):
            position.add(self.feed.position.names[len(position.names)])
        index = self.feed.index_of(position)
        if index is not None:
            self.index, self.position = index, None
            return
        await self._read(position, self._next(position))
        await asyncio.sleep(0)  # an engine that never waits must not starve the loop during a long replay

    def wake(self) -> None:
        self.on_wake()

    def fall(self, cursor: str) -> None:
        self.index, self._fall_cursor = -1, cursor
        self.follow(None)

    def close(self) -> None:
        self.on_wake = _nobody
        self.connection = None
        self._feeds.leave(self)

    def _bye(self) -> bytes:
        self._is_over = True
        return frames.bye("complete", self.cursor)

    @property
    def cursor(self) -> str:
        """Returns the cursor of its client; empty while it cannot be known without the log."""
        feed = self.feed
        if self.index >= feed.first:
            return feed.cursor_at(self.index)
        return (self.position.encode() or "") if self.position is not None and not self._pending else ""

    def farewell(self) -> bytes:
        """Returns the last frame for its client when this process is leaving."""
        return frames.drain(self.cursor)

    def apology(self, error: TrilaneError) -> bytes:
        """Returns the last frame for its client when the log fails, or its credential ends."""
        return frames.apology(error, self.cursor)

    # Replay

    def _next(self, position: VectorPosition) -> int:
        """Returns the index of a topic in which the reader is behind the feed."""
        head = self.feed.position
        for at, (epoch, offset) in enumerate(zip(head.epochs, head.offsets, strict=True)):
            if position.offsets[at] != offset or position.epochs[at] != epoch:
                return at
        raise LogUnavailable("a reader is neither behind its feed nor at it")  # `index_of` would have part it

    async def _read(self, position: VectorPosition, at: int) -> None:
        try:
            part = await self._feeds.log.read(stored(position.names[at]), position.offsets[at], max_bytes=WRITE_BYTES)
        except LogDamaged:
            part = await self._read_around_damage(position, at)
        if part is None:
            return
        if part.epoch != position.epochs[at]:
            await self._change(position, at, part)
            return
        if position.offsets[at] + 1 < part.oldest:
            first = position.offsets[at] + 1
            position.move(at, part.oldest - 1)
            await self._tell_gap(position, at, first, part.oldest - 1, "evicted")
        if not part.blocks:
            await asyncio.sleep(0.001)  # the feed has not heard of it yet
        upto = self.feed.position.offsets[at] if self.feed.position.epochs[at] == part.epoch else 0
        for block in part.blocks:
            if block.first > upto:
                await asyncio.sleep(0.001)  # the feed has not heard of it yet
                break
            if (around := position.around(at)) is None:
                await self._feeds.bookmarks.keep(self.feed, position)
                break
            portion = block if block.last <= upto else _up_to(block, upto)
            position.move(at, portion.last)
            if not frames.is_expired(portion, self._feeds.now_ms()):
                self._pending += b"".join(self.feed.encode(at, portion, around))

    async def _read_around_damage(self, position: VectorPosition, at: int) -> Slice | None:
        """Reads one event before the damage; or reports as a gap what cannot be read, and returns None."""
        log, name, offset = self._feeds.log, position.names[at], position.offsets[at]
        last = self.feed.position.offsets[at]
        next_offset = await log.next_readable(stored(name), offset, last)
        if next_offset == offset + 1:
            try:
                return await log.read(stored(name), offset, max_events=1)
            except LogDamaged:
                next_offset = last + 1
        position.move(at, next_offset - 1)
        await self._tell_gap(position, at, offset + 1, next_offset - 1, "damaged")
        self._feeds.on_damage(name, offset + 1, next_offset - 1)
        return None

    async def _change(self, position: VectorPosition, at: int, part: Slice) -> None:
        """Follows a topic into another epoch: it begins, or was deleted and perhaps made anew."""
        if position.epochs[at]:
            first = position.offsets[at] + 1
            position.renew(at, "")
            await self._tell_gap(position, at, first, None, "epoch_changed")
        elif part.epoch:
            position.renew(at, part.epoch)
        else:
            await asyncio.sleep(0.001)  # the feed has not heard of it yet

    async def _tell_gap(self, position: VectorPosition, at: int, first: int, last: int | None, reason: str) -> None:
        cursor = await self._feeds.bookmarks.cursor_of(self.feed, position)
        self._pending += frames.gap(position.names[at], first, last, reason, cursor)
        self._feeds.meter.on_gap(reason)


def _up_to(block: Block, last: int) -> Block:
    return Block(first=block.first, data=block.data[: last + 1 - block.first], name=block.name, time_ms=block.time_ms)


def _nobody() -> None:
    """Does nothing: nobody is waiting."""
