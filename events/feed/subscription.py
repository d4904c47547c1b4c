"""One reader of the events lane: it says `hello`, reads the log until it stands where its feed stands, and follows.

It holds no queue: what it has not taken is in the feed's ring, or in the log, or is told as a `gap`.
"""

import asyncio
from typing import Protocol

from events.feed import frames
from events.feed.bookmarks import Bookmarks
from events.feed.feed import Feed
from events.log.hub import WRITE_BYTES
from events.log.port import Block, EventLog, Slice
from events.log.source import NEVER, LentConnection, Source
from events.log.topics import stored
from events.log.vector import VectorPosition
from gateway.errors import LogUnavailable

AUTH_NOTICE_S = 60
"""How long before its token expires a reader is told."""


class SubscriptionHost(Protocol):
    """What a subscription needs of the feeds that it belongs to."""

    log: EventLog
    bookmarks: Bookmarks

    def now_ms(self) -> int: ...
    def leave(self, subscription: "Subscription", /) -> None:
        """Forget it. Idempotent."""
        ...


class Subscription(Source):
    __slots__ = (
        "_auth_at",
        "_ends_at",
        "_feeds",
        "_fell",
        "_over",
        "_pending",
        "connection",
        "feed",
        "index",
        "on_wake",
        "stand",
        "sub",
    )

    def __init__(self, feeds: SubscriptionHost, feed: Feed, sub: str) -> None:
        self.feed = feed
        self.connection: LentConnection | None = None
        self.sub = sub
        """Who reads."""
        self.index = -1
        self.stand: VectorPosition | None = None
        """Where it stands in the log, while it does not follow the feed."""
        self.on_wake = _nobody
        self._feeds = feeds
        self._fell = ""
        self._pending = b""
        self._over = False
        self._ends_at = self._auth_at = NEVER
        feed.followers.add(self)

    def begin(self, hello: bytes, stand: VectorPosition | None, ends_at: float, auth_at: float) -> None:
        """Says hello; then goes on from `stand`, or follows from here on. Times are the event loop's."""
        self._pending = hello
        self._ends_at, self._auth_at = ends_at, auth_at
        self.stand = stand
        if stand is None:
            self.index = self.feed.head

    # What the response asks

    @property
    def ended(self) -> bool:
        return self._over or self.feed.ended

    @property
    def complete(self) -> bool:
        return self._over

    def poll(self) -> bytes | None:
        if self._pending:
            pending, self._pending = self._pending, b""
            return pending
        if self.index < 0:
            return None
        if self._over:
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
        """Makes due what the clock says; and when to ask again."""
        if now >= self._auth_at:
            self._auth_at = NEVER
            self._pending += frames.said("auth", {"expiresIn": round(self._ends_at - now)}, self.cursor)
        if now >= self._ends_at:
            self._over = True
        return min(self._auth_at, self._ends_at)

    @property
    def written_s(self) -> float:
        return self.feed.live.written_s if self.connection is not None else 0.0

    def follow(self, connection: LentConnection | None) -> None:
        if connection is None:
            self.connection = None
            if self.feed.live.drop(self):
                self.feed.followers.add(self)
        elif self.index == self.feed.head and not self.feed.closed:
            self.connection = connection
            self.feed.followers.discard(self)
            self.feed.live.add(self)

    async def catch_up(self) -> None:
        """Reads one bounded slice of the log; raises Gone or LogError when that cannot be done."""
        if self._fell:
            self.stand, self._fell = await self._feeds.bookmarks.stand_of(self.feed, self._fell), ""
        stand = self.stand
        assert stand is not None
        while len(stand.names) < len(self.feed.stand.names):
            stand.add(self.feed.stand.names[len(stand.names)])
        index = self.feed.index_of(stand)
        if index is not None:
            self.index, self.stand = index, None
            return
        await self._read(stand, self._next(stand))
        await asyncio.sleep(0)  # an engine that never waits must not starve the loop during a long replay

    def wake(self) -> None:
        self.on_wake()

    def fall(self, cursor: str) -> None:
        self.index, self._fell = -1, cursor
        self.follow(None)

    def close(self) -> None:
        self.on_wake = _nobody
        self.connection = None
        self._feeds.leave(self)

    def _bye(self) -> bytes:
        self._over = True
        return frames.bye("complete", self.cursor)

    @property
    def cursor(self) -> str:
        """Where its client stands; empty while that cannot be said without the log."""
        feed = self.feed
        if self.index >= feed.first:
            return feed.cursor_at(self.index)
        return (self.stand.encode() or "") if self.stand is not None and not self._pending else ""

    def farewell(self) -> bytes:
        """What its client is told when this process is leaving."""
        return frames.drain(self.cursor)

    # Replay

    def _next(self, stand: VectorPosition) -> int:
        """A topic in which it stands behind the feed."""
        target = self.feed.stand
        for at, (epoch, offset) in enumerate(zip(target.epochs, target.offsets, strict=True)):
            if stand.offsets[at] != offset or stand.epochs[at] != epoch:
                return at
        raise LogUnavailable("a reader stands nowhere")  # index_of would have said so

    async def _read(self, stand: VectorPosition, at: int) -> None:
        found = await self._feeds.log.read(stored(stand.names[at]), stand.offsets[at], max_bytes=WRITE_BYTES)
        if found.epoch != stand.epochs[at]:
            await self._change(stand, at, found)
            return
        if stand.offsets[at] + 1 < found.oldest:
            first = stand.offsets[at] + 1
            stand.move(at, found.oldest - 1)
            await self._tell_gap(stand, at, first, found.oldest - 1, "evicted")
        if not found.blocks:
            await asyncio.sleep(0.001)  # the feed has not heard of it yet
        upto = self.feed.stand.offsets[at] if self.feed.stand.epochs[at] == found.epoch else 0
        for block in found.blocks:
            if block.first > upto:
                await asyncio.sleep(0.001)  # the feed has not heard of it yet
                break
            if (around := stand.around(at)) is None:
                await self._feeds.bookmarks.keep(self.feed, stand)
                break
            some = block if block.last <= upto else _first(block, upto)
            stand.move(at, some.last)
            if not frames.is_over(some, self._feeds.now_ms()):
                self._pending += b"".join(frames.encode(some, around))

    async def _change(self, stand: VectorPosition, at: int, found: Slice) -> None:
        """The topic begins; or was deleted, and perhaps made anew."""
        if stand.epochs[at]:
            first = stand.offsets[at] + 1
            stand.renew(at, "")
            await self._tell_gap(stand, at, first, None, "epoch_changed")
        elif found.epoch:
            stand.renew(at, found.epoch)
        else:
            await asyncio.sleep(0.001)  # the feed has not heard of it yet

    async def _tell_gap(self, stand: VectorPosition, at: int, first: int, last: int | None, reason: str) -> None:
        cursor = await self._feeds.bookmarks.text_of(self.feed, stand)
        self._pending += frames.gap(stand.names[at], first, last, reason, cursor)


def _first(block: Block, last: int) -> Block:
    return Block(first=block.first, data=block.data[: last + 1 - block.first], name=block.name, time_ms=block.time_ms)


def _nobody() -> None:
    """Nobody is waiting."""
