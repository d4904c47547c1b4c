"""Remembers how far each topic has come, as far as this process was told, and compares that with what Redis holds.

A comparison finds news that were missed (a subscription was cut), and histories that went back: a failover to a
replica that lacked the newest events, a restored copy, a FLUSHALL. The promise that an offset names one event for
ever would be broken where such a topic went on as if nothing had happened. So it gets a new epoch, of which all its
readers are told. What only a process knew that died at the same time cannot be compared.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice

import msgspec
import structlog

from events.log.port import Commit, Interest
from events.log.redis.scripts import COMPARE

log = structlog.get_logger("log")

MAX_HEADS = 20_000
"""Maximum topics remembered; past it those are forgotten that were heard of longest ago."""
PORTION = 250
"""Topics compared by one script."""

RunScript = Callable[..., Awaitable[bytes]]
"""Runs a script with arguments and returns its reply."""


class TopicHead(msgspec.Struct, frozen=True, gc=False):
    """The newest acknowledged block of a topic; `count` is 0 where only its offset is known."""

    epoch: str
    last: int
    closed: bool
    count: int = 0
    time_ms: int = 0


NOTHING = TopicHead("", 0, False)
"""The head of a topic that does not exist."""


class TopicNews(msgspec.Struct, frozen=True, array_like=True):
    """What a script tells of one topic that it changed."""

    topic: str
    epoch: str
    head: int
    closed: bool
    count: int
    """Events of its last block."""
    time_ms: int
    name: str | None = None
    """Name of the block that is carried along; None: there is none."""
    size: int = 0
    """Bytes of that block's events, one a line."""


_pack = msgspec.msgpack.encode
_unpack_rows = msgspec.msgpack.Decoder(list[tuple[str, int, bool, bool]]).decode


class Heads:
    """The heads of the topics that this process wrote, or follows. `name` is that of the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._heads: dict[str, TopicHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def note(self, topic: str, head: TopicHead) -> None:
        """Remembers a head that was acknowledged."""
        self._heads.pop(topic, None)
        self._heads[topic] = head
        if len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]

    def note_news(self, news: Iterable[TopicNews]) -> None:
        """Remembers what a script has written."""
        for item in news:
            self.note(item.topic, TopicHead(item.epoch, item.head, item.closed, item.count, item.time_ms))

    def note_read(self, topic: str, epoch: str, last: int, closed: bool) -> None:
        """Remembers what a read has shown, unless more is known."""
        known = self._heads.get(topic)
        if known is None or known.epoch != epoch or known.last < last or known.closed != closed:
            self.note(topic, TopicHead(epoch, last, closed))

    def knows(self, topic: str) -> bool:
        """Returns whether a topic that exists is remembered."""
        return self._heads.get(topic, NOTHING) != NOTHING

    def may_follow(self, topic: str, epoch: str) -> bool:
        """Returns whether nothing is known of the topic that is of another epoch."""
        return self._heads.get(topic, NOTHING).epoch in ("", epoch)

    def note_doubt(self, topic: str) -> None:
        """Remembers to look at a topic to which something may have been appended."""
        self._heads.setdefault(topic, NOTHING)

    async def compare(self, run: RunScript, interest: Interest | None = None) -> list[Commit]:
        """Compares the heads of all topics, or of those of interest, with what is there; returns news that differ."""
        commits: list[Commit] = []
        topics = iter(list(self._heads))
        while names := list(islice(topics, PORTION)):
            known = [(name, head) for name in names if (head := self._heads.get(name)) is not None]
            portion = [item for item in known if interest is None or item[0] in interest]
            if portion:
                commits += await self._compare(run, portion)
            else:
                await asyncio.sleep(0)
        return commits

    async def _compare(self, run: RunScript, portion: Sequence[tuple[str, TopicHead]]) -> list[Commit]:
        asked = [(topic, head.epoch, head.last, head.count, head.time_ms) for topic, head in portion]
        rows = _unpack_rows(await run(COMPARE, self._name, _pack(asked)))
        commits: list[Commit] = []
        for (topic, known), (epoch, last, closed, is_lost) in zip(portion, rows, strict=True):
            if (epoch, last, closed) == (known.epoch, known.last, known.closed):
                continue
            if is_lost:
                log.error(
                    "acknowledged events were lost: the topic has a new epoch",
                    topic=topic,
                    acknowledged=known.last,
                    head=last,
                )
            if self._heads.get(topic) is known:  # else this process has written, or heard, more meanwhile
                self.note(topic, TopicHead(epoch, last, closed))
            commits.append(Commit(topic=topic, epoch=epoch or known.epoch, block=None, closed=closed))
        return commits
