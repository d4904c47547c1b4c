"""Keeps the feeds of this process: one per subscription, shared by all who request for the same topics."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from events.feed.bookmarks import Bookmarks
from events.feed.feed import MAX_MATCHES, Feed
from events.feed.start import StartPoint, Starts, SubscribeRequest, SubscriptionKey, start_at_once
from events.feed.subscription import Subscription
from events.log.cursor import NOWHERE
from events.log.hub import Hub
from events.log.meter import DeliveryMeter
from events.log.port import NO_EVENTS, EventLog, Position
from events.log.topics import PRESENCE, STORED, covers, is_pattern, stored
from events.log.vector import VectorPosition, tag_of
from gateway.errors import Overloaded

PAGE = 1000
"""Names of topics that are read at once while those of a pattern are looked for."""
RETRY_AFTER_S = "10"
"""Seconds after which a reader asks again for a pattern that stood for too many topics."""
RINGS_MAX_BYTES = 134_217_728
"""Maximum bytes of all feeds of this process; past it those that were quiet longest are emptied, to half of it."""


class Feeds:
    """Opens and closes subscriptions."""

    def __init__(self, log: EventLog, hub: Hub, *, max_replay: int, clock: Callable[[], float] = time.time) -> None:
        self.log = log
        self._hub = hub
        self.bookmarks = Bookmarks(log)
        self.starts = Starts(log, hub, self.bookmarks, max_replay, self.now_ms)
        self._clock = clock
        self._feeds: dict[SubscriptionKey, Feed] = {}
        self._open_tasks: dict[SubscriptionKey, asyncio.Task[None]] = {}
        self.on_open: Callable[[Sequence[str]], None] = _nothing
        """Called with the topics of every stream that begins."""
        self.on_close: Callable[[Sequence[str]], None] = _nothing
        """Called with the topics of every stream that ends."""
        self.on_change: Callable[[Sequence[str]], None] = _nothing
        """Called with the topics whose readers in this process have changed."""
        self.on_damage: Callable[[str, int, int], None] = _no_damage
        """Called with a topic, and the first and last offset of events that a reader was told cannot be read."""

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def meter(self) -> DeliveryMeter:
        return self._hub.meter

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def open(self, request: SubscribeRequest, sub: str) -> tuple[Subscription, StartPoint]:
        """Returns a subscription that is yet to begin, and where it does. Raises BadRequest, LogError."""
        feed = self._feeds.get(request.subscription) or self._make(request)
        subscription = Subscription(self, feed, sub)
        self.on_open(request.topics)
        try:
            opening = self._open_tasks.get(request.subscription)
            if opening is not None:
                await asyncio.shield(opening)
            start = await self.starts.start(feed, request)
        except BaseException:
            subscription.close()
            raise
        self.on_change(feed.position.names)
        return subscription, start

    def open_at_once(self, request: SubscribeRequest, sub: str) -> tuple[Subscription, StartPoint] | None:
        """Opens as `open` does, when nothing has to be read for it; returns None when something has."""
        feed = self._feeds.get(request.subscription)
        if feed is None or not feed.has_begun or feed.ended or request.earliest:
            return None
        start = start_at_once(feed, request.cursor)
        if start is None:
            return None
        subscription = Subscription(self, feed, sub)
        self.on_open(request.topics)
        self.on_change(feed.position.names)
        return subscription, start

    def leave(self, subscription: Subscription) -> None:
        """Takes a subscription out of its feed, and closes a feed that has none left. Idempotent."""
        feed = subscription.feed
        if not feed.leave(subscription):
            return
        self.on_close(feed.topics)
        self.on_change(feed.position.names)
        if not feed.followers and not feed.fanout.readers:
            if self._feeds.get(key := key_of(feed)) is feed:
                del self._feeds[key]
                if (opening := self._open_tasks.pop(key, None)) is not None:
                    opening.cancel()
            feed.close()

    async def close(self) -> None:
        """Ends every feed, and cuts its readers."""
        for feed in list(self._feeds.values()):
            feed.close()
        self._feeds.clear()

    def followers_of(self, topic: str) -> list[str]:
        """Returns the users that follow a topic here, by name or pattern, each as often as it has streams."""
        feeds = [feed for feed in self._feeds.values() if topic in feed.position.names]
        return [follower.sub for feed in feeds for follower in feed.everyone]

    # Opening a feed

    def _make(self, request: SubscribeRequest) -> Feed:
        topics = request.topics
        names = [name for name in topics if not is_pattern(name)]
        is_fixed = len(names) == len(topics)
        position = VectorPosition(tag_of(topics), names, [NOWHERE for _ in names], is_fixed=is_fixed)
        save = self.bookmarks.saver(topics)
        feed = Feed(self._hub, topics, position, save, self.now_ms, has_envelope=request.envelope)
        self._feeds[request.subscription] = feed
        for name in names:
            self._hub.follow(stored(name), feed.add_tail())
        opening = self._open_tasks[request.subscription] = asyncio.get_running_loop().create_task(self._open(feed))
        opening.add_done_callback(lambda task: self._end_opening(feed, task))
        return feed

    async def _open(self, feed: Feed) -> None:
        """Reads what is there before the feed begins; all later news is fed to its tails."""
        patterns = [name for name in feed.topics if is_pattern(name)]
        for pattern in patterns:
            feed.finders = (*feed.finders, self._hub.find(stored(pattern[:-1]), feed.find))
            topics: list[str] = []
            async for topic in self._matches(pattern):
                topics.append(topic)
                if len(topics) > MAX_MATCHES:
                    raise too_many(pattern)
            for start in range(0, len(topics), PAGE):
                for topic in topics[start : start + PAGE]:
                    feed.find(topic)
                await asyncio.sleep(0)
        heads: list[tuple[Position, bool]] = []
        while len(heads) < len(feed.tails):
            heads.append(await self._head(feed.position.names[len(heads)]))
        feed.begin(heads)

    async def _matches(self, pattern: str) -> AsyncIterator[str]:
        """Yields the topics in the log that a pattern stands for; those of the gateway are stepped over, not read."""
        prefix, at = stored(pattern[:-1]), len(STORED + PRESENCE) if pattern.startswith(PRESENCE) else len(STORED)
        after, is_done = f"{prefix[:-1]}.~", False  # just before the names that begin with the prefix, and its slash
        while not is_done:
            topics = await self.log.names(after, PAGE)
            is_done = len(topics) < PAGE
            for topic in topics:
                if not topic.startswith(prefix):
                    return
                if not covers((pattern,), topic.removeprefix(STORED)):
                    after, is_done = f"{topic[: topic.index('/', at)]}/~", False
                    break
                after = topic
                yield topic

    async def _head(self, name: str) -> tuple[Position, bool]:
        if not self.log.may_exist(stored(name)):
            return NOWHERE, False
        part = await self.log.read(stored(name), NO_EVENTS, max_events=1)
        return Position(part.epoch, part.head), part.closed

    def _end_opening(self, feed: Feed, task: "asyncio.Task[None]") -> None:
        key = key_of(feed)
        if self._open_tasks.get(key) is task:
            del self._open_tasks[key]
        if task.cancelled() or task.exception() is not None:
            feed.ended = True
            if self._feeds.get(key) is feed:
                del self._feeds[key]

    def tidy(self) -> None:
        """Keeps the feeds within RINGS_MAX_BYTES."""
        total = sum(feed.size for feed in self._feeds.values())
        if total <= RINGS_MAX_BYTES:
            return
        for feed in sorted(self._feeds.values(), key=lambda feed: feed.changed_s):
            total -= feed.size
            feed.shed(0, 0)
            if total <= RINGS_MAX_BYTES // 2:
                return


def too_many(pattern: str) -> Overloaded:
    """Returns the error for a pattern that stands for too much just now: quiet topics go, and then it is served."""
    return Overloaded(
        f"{pattern!r} stands for more than {MAX_MATCHES} topics now: name topics, or a narrower pattern; "
        "topics without news go after twice TRILANE_RETENTION_S",
        code="too_many_topics",
        retry_after=RETRY_AFTER_S,
    )


def key_of(feed: Feed) -> SubscriptionKey:
    """Returns the key under which a feed is kept."""
    return feed.topics, feed.has_envelope


def _no_damage(topic: str, first: int, last: int) -> None:
    """Does nothing: nobody wants to know."""


def _nothing(topics: Sequence[str]) -> None:
    """Does nothing: nobody wants to know."""
