"""Who follows what in this process: one feed per subscription, shared by all who ask for the same topics."""

import asyncio
import time
from collections.abc import Callable, Sequence

from events.feed.bookmarks import Bookmarks
from events.feed.feed import MAX_FOUND, Feed
from events.feed.start import StartPoint, Starts, SubscribeRequest, start_at_once
from events.feed.subscription import Subscription
from events.log.cursor import NOWHERE
from events.log.hub import Hub
from events.log.port import EventLog, Position
from events.log.topics import is_pattern, stored
from events.log.vector import VectorPosition, tag_of
from gateway.errors import BadRequest

RINGS_MAX_BYTES = 134_217_728
"""What all rings of this process may hold; past that those that were quiet longest are emptied to half of it."""


class Feeds:
    """Opens and closes subscriptions."""

    def __init__(self, log: EventLog, hub: Hub, *, max_replay: int, clock: Callable[[], float] = time.time) -> None:
        self.log = log
        self._hub = hub
        self.bookmarks = Bookmarks(log)
        self.starts = Starts(log, hub, self.bookmarks, max_replay)
        self._clock = clock
        self._feeds: dict[tuple[str, ...], Feed] = {}
        self._opening: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self.on_open: Callable[[Sequence[str]], None] = _nothing
        """Called with the topics of every stream that begins."""
        self.on_close: Callable[[Sequence[str]], None] = _nothing
        """Called with the topics of every stream that ends."""
        self.on_change: Callable[[Sequence[str]], None] = _nothing
        """Called with the topics whose readers in this process have changed."""

    def __len__(self) -> int:
        return len(self._feeds)

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def open(self, ask: SubscribeRequest, sub: str) -> tuple[Subscription, StartPoint]:
        """A subscription that is yet to begin where `StartPoint` says. Raises BadRequest, LogError."""
        feed = self._feeds.get(ask.topics) or self._make(ask.topics)
        subscription = Subscription(self, feed, sub)
        self.on_open(ask.topics)
        try:
            opening = self._opening.get(ask.topics)
            if opening is not None:
                await asyncio.shield(opening)
            start = await self.starts.start(feed, ask)
        except BaseException:
            subscription.close()
            raise
        self.on_change(feed.stand.names)
        return subscription, start

    def open_at_once(self, ask: SubscribeRequest, sub: str) -> tuple[Subscription, StartPoint] | None:
        """As `open`, when nothing has to be read for it: its feed is there, and has all that is asked for."""
        feed = self._feeds.get(ask.topics)
        if feed is None or not feed.begun or feed.ended or ask.earliest:
            return None
        start = start_at_once(feed, ask.cursor)
        if start is None:
            return None
        subscription = Subscription(self, feed, sub)
        self.on_open(ask.topics)
        self.on_change(feed.stand.names)
        return subscription, start

    def leave(self, subscription: Subscription) -> None:
        """Idempotent."""
        feed = subscription.feed
        if not feed.leave(subscription):
            return
        self.on_close(feed.topics)
        self.on_change(feed.stand.names)
        if not feed.followers and not feed.live.readers:
            if self._feeds.get(feed.topics) is feed:
                del self._feeds[feed.topics]
                if (opening := self._opening.pop(feed.topics, None)) is not None:
                    opening.cancel()
            feed.close()

    async def close(self) -> None:
        """Ends every feed; who follows one is cut."""
        for feed in list(self._feeds.values()):
            feed.close()
        self._feeds.clear()

    def following(self, topic: str) -> list[str]:
        """Who follows a topic here, by its own name or by a pattern: a user as often as it has streams."""
        feeds = [feed for feed in self._feeds.values() if topic in feed.stand.names]
        return [follower.sub for feed in feeds for follower in feed.everyone]

    # A feed begins

    def _make(self, topics: tuple[str, ...]) -> Feed:
        names = [name for name in topics if not is_pattern(name)]
        fixed = len(names) == len(topics)
        stand = VectorPosition(tag_of(topics), names, [NOWHERE for _ in names], is_fixed=fixed)
        feed = self._feeds[topics] = Feed(self._hub, topics, stand, self.bookmarks.saver(topics), self.now_ms)
        for name in names:
            self._hub.follow(stored(name), feed.strand())
        opening = self._opening[topics] = asyncio.get_running_loop().create_task(self._open(feed))
        opening.add_done_callback(lambda done: self._opened(feed, done))
        return feed

    async def _open(self, feed: Feed) -> None:
        """What is there before the feed begins is found by reading; all later news is told to its strands."""
        found = [name for name in feed.topics if is_pattern(name)]
        for pattern in found:
            prefix = stored(pattern[:-1])
            feed.finders = (*feed.finders, self._hub.find(prefix, feed.find))
            listed = await self.log.topics(prefix, limit=MAX_FOUND + 1)
            for info in listed:
                feed.find(info.topic)
            if len(listed) > MAX_FOUND:
                raise BadRequest(f"{pattern!r} stands for more than {MAX_FOUND} topics", code="too_many_topics")
        heads: list[tuple[Position, bool]] = []
        while len(heads) < len(feed.strands):
            heads.append(await self._head(feed.stand.names[len(heads)]))
        feed.begin(heads)

    async def _head(self, name: str) -> tuple[Position, bool]:
        if not self.log.may_exist(stored(name)):
            return NOWHERE, False
        found = await self.log.read(stored(name), 0, max_events=1)
        return Position(found.epoch, found.head), found.closed

    def _opened(self, feed: Feed, done: "asyncio.Task[None]") -> None:
        if self._opening.get(feed.topics) is done:
            del self._opening[feed.topics]
        if done.cancelled() or done.exception() is not None:
            feed.ended = True
            if self._feeds.get(feed.topics) is feed:
                del self._feeds[feed.topics]

    def tidy(self) -> None:
        """Keeps all rings together within their bound."""
        total = sum(feed.size for feed in self._feeds.values())
        if total <= RINGS_MAX_BYTES:
            return
        for feed in sorted(self._feeds.values(), key=lambda feed: feed.changed_s):
            total -= feed.size
            feed.shed(0, 0)
            if total <= RINGS_MAX_BYTES // 2:
                return


def _nothing(topics: Sequence[str]) -> None:
    """Nobody wants to know."""
