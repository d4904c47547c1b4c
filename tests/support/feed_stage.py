"""A FeedStage holds one feed, whose news a test tells, and someone who follows it."""

import asyncio
import json
from typing import Any

from events.feed.feed import Feed
from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Block, Position
from events.log.source import LentConnection
from events.log.topics import is_pattern, stored
from events.log.vector import VectorPosition, tag_of
from gateway.errors import LogUnavailable
from tests.support.sse_decoder import Event, SseDecoder

EPOCH = "e" * 8


class Listener:
    """Follows a feed at its own pace."""

    sub = "me"
    connection: LentConnection | None = None

    def __init__(self, feed: Feed, index: int = 0) -> None:
        self.index = index
        self.wakes = 0
        self.fell_to: str | None = None
        feed.followers.add(self)

    def wake(self) -> None:
        self.wakes += 1

    def fall(self, cursor: str) -> None:
        self.index, self.fell_to = -1, cursor


class FeedStage:
    """Has a feed of some topics that has begun where all of them are empty."""

    def __init__(self, *topics: str, begins: bool = True) -> None:
        self.hub = Hub(MemoryLog())
        self.now_ms = 1_000_000
        self.snapshots: list[VectorPosition] = []
        self.failures = 0
        """Number of the next snapshots that cannot be kept."""
        self.save_s = 0.0
        names = [topic for topic in topics if not is_pattern(topic)]
        stand = VectorPosition(
            tag_of(topics), names, [Position(EPOCH, 0)] * len(names), is_fixed=len(names) == len(topics)
        )
        self.feed = Feed(self.hub, topics, stand, self._save, lambda: self.now_ms)
        for name in names:
            self.hub.follow(stored(name), self.feed.add_tail())
        if begins:
            self.feed.begin([(Position(EPOCH, 0), False)] * len(names))

    async def _save(self, stand: VectorPosition) -> Position:
        await asyncio.sleep(self.save_s)
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("disk full")
        self.snapshots.append(stand.copy())
        return Position(EPOCH, len(self.snapshots))

    def say(self, at: int, *data: object, name: str = "message", epoch: str = EPOCH) -> None:
        """Tells the feed of the next events of a topic, as the hub would."""
        strand = self.feed.tails[at]
        first = strand.head + 1 if epoch == strand.epoch else 1
        block = Block(first=first, data=[json.dumps(one).encode() for one in data], name=name, time_ms=0)
        assert strand.feed(epoch, block)
        strand.flush()

    def events(self, index: int = 0) -> list[Event]:
        """Returns all frames from `index` on, as a client reads them."""
        decoder = SseDecoder("")
        return decoder.feed(self.feed.slice(index, 1 << 30)[0])

    def data(self, index: int = 0) -> list[Any]:
        return [json.loads(event.data) for event in self.events(index)]
