"""Merges the topics of one subscription, in the order in which this process hears of them, for all who follow here.

Frames are encoded once, with their cursors in them; a reader is an index into them. Whoever comes with a cursor reads
the log until it is where the feed is (`events.feed.subscription`), and only then follows.
Where a cursor needs a snapshot (`events.log.vector`), the feed keeps it in the log before it lets the next event out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from events.feed import frames
from events.feed.fanout import Fanout, Follower
from events.feed.topic_tail import TopicTail
from events.log.hub import Hub
from events.log.port import Block, Position
from events.log.ring import RING_MAX_BYTES, RING_MAX_FRAMES
from events.log.topics import STORED, covers, stored
from events.log.vector import VectorPosition
from gateway.errors import LogError

RETRY_S = 0.5
"""Seconds between two tries to keep a snapshot."""
MAX_WAITING = 10_000
"""Maximum blocks that wait for a snapshot; past that the feed ends, and its readers come back with their cursors."""

MAX_MATCHES = 5_000
"""Maximum topics that match the patterns of one stream; past that its readers end, and are refused when they return."""

NO_MATCHES: set[str] = set()
"""The matches of every feed without patterns: shared, and always empty."""

Save = Callable[[VectorPosition], Awaitable[Position]]
"""A function that keeps a snapshot of a position in the log, and returns the position of the event that holds it."""

SkippedRange = tuple[int, int | None, str]
"""The first and last offset (None: not known) of events that will not come, and the reason."""


class Feed:
    """The merged frames of some topics. `position` is that of a reader who has taken all of them.

    An `index` is a number of frames, counted from when the feed was made.
    """

    __slots__ = (
        *("hub", "topics", "position", "tails", "finders", "followers", "fanout", "frames", "first", "size"),
        *("ended", "changed_s", "_shift", "_join_index", "_lead", "_has_news", "_backlog", "_snapshot_task", "_save"),
        *("has_begun", "has_envelope", "_matches", "_now_ms", "_until"),
    )

    def __init__(
        self,
        hub: Hub,
        topics: tuple[str, ...],
        position: VectorPosition,
        save: Save,
        now_ms: Callable[[], int],
        *,
        has_envelope: bool = False,
    ) -> None:
        self.hub = hub
        self.has_envelope = has_envelope
        """Whether the data of each event says whence it comes."""
        self._now_ms = now_ms
        self._until: dict[int, int] | None = None
        """The time (ms since 1970) past which nobody needs a frame, by the frame's index."""
        self.topics = topics
        self.position = position
        self.tails: list[TopicTail] = []
        self.finders: tuple[Callable[[], None], ...] = ()
        """The functions that end the search for topics of its patterns."""
        self.followers: set[Follower] = set()
        """The readers that read at their own pace, when woken."""
        self.fanout = Fanout()
        self.frames: list[bytes] = []
        self.first = 0
        """The index of frames[0]."""
        self.size = 0
        self.ended = False
        """Whether it could not go on, so that its readers must come back."""
        self.has_begun = False
        self.changed_s = 0.0
        self._shift = 0
        """In a feed of a single topic, the difference of index and offset, as far back as `_join_index`."""
        self._join_index = 0
        self._lead = ""
        """The cursor of a reader who has taken none of `frames`."""
        self._has_news = False
        self._matches: set[str] = set() if not position.is_fixed else NO_MATCHES
        self._backlog: list[tuple[TopicTail, str, Block | SkippedRange]] = []
        self._snapshot_task: asyncio.Task[None] | None = None
        self._save = save

    @property
    def head(self) -> int:
        return self.first + len(self.frames)

    @property
    def closed(self) -> bool:
        """Returns whether no event will follow, in any of the topics."""
        return self.position.is_fixed and not self._backlog and all([tail.closed for tail in self.tails])

    def add_tail(self) -> TopicTail:
        """Adds a topic, and returns its tail; what is fed to it before `begin` is read then."""
        tail = TopicTail(self, len(self.tails))
        self.tails.append(tail)
        return tail

    def begin(self, heads: Sequence[tuple[Position, bool]]) -> None:
        """Follows every topic from its head, all in one turn: no cursor may name half of them."""
        for tail, (position, closed) in zip(self.tails, heads, strict=True):
            self.position.renew(tail.at, position.epoch)
            self.position.offsets[tail.at] = position.offset
            self._start(tail, position, closed=closed)
        self.has_begun = True
        self._lead = self.position.encode() or ""
        self._shift = -self.position.offsets[0] if self._is_single else 0

    def _start(self, tail: TopicTail, position: Position, *, closed: bool) -> None:
        tail.start(position.epoch, position.offset, closed=closed)
        if tail.stale:
            tail.stale = False
            self.hub.refresh(stored(self.position.names[tail.at]))

    def find(self, topic: str) -> None:
        """Adds a topic if it matches a pattern and is new here; it is followed from its beginning."""
        name = topic.removeprefix(STORED)
        if name in self._matches or name in self.topics or not covers(self.topics, name):
            return
        if len(self.position.names) >= MAX_MATCHES:
            self._fail()
            return
        self._matches.add(name)
        self.position.add(name)
        tail = self.add_tail()
        self.hub.follow(topic, tail)
        if self.has_begun:
            self._start(tail, Position("", 0), closed=False)

    @property
    def _is_single(self) -> bool:
        return self.position.is_fixed and len(self.position.names) == 1

    def index_of(self, position: VectorPosition) -> int | None:
        """Returns the index from which a reader at this position can follow; None when it cannot yet."""
        if position.is_at(self.position):
            return self.head
        if not self._is_single or position.epochs != self.position.epochs:
            return None
        index = position.offsets[0] + self._shift
        return index if max(self.first, self._join_index) <= index <= self.head else None

    def slice(self, index: int, max_bytes: int) -> tuple[bytes, int]:
        """Returns the frames from `index` on, up to about `max_bytes`, and the index after them."""
        part = self.frames[index - self.first :]
        if self._until is not None:
            part = self._without_old(part, index)
        if len(part) == 1 or self.size <= max_bytes:
            return b"".join(part), self.head
        total = 0
        for count, frame in enumerate(part):
            total += len(frame)
            if total > max_bytes and count:
                return b"".join(part[:count]), index + count
        return b"".join(part), self.head

    def count_expired(self, index: int) -> int:
        """Returns how many of the frames from `index` on nobody will be sent, because they have expired."""
        if self._until is None:
            return 0
        now_ms = self._now_ms()
        return sum(at >= index and until_ms <= now_ms for at, until_ms in self._until.items())

    def _without_old(self, part: list[bytes], index: int) -> list[bytes]:
        """Replaces the frames of expired events by nothing."""
        assert self._until is not None
        now_ms = self._now_ms()
        until = [self._until.get(at) for at in range(index, index + len(part))]
        return [b"" if end is not None and end <= now_ms else frame for frame, end in zip(part, until, strict=True)]

    # Called by the tails, which the hub feeds

    def take(self, tail: TopicTail, block: Block) -> None:
        if self._snapshot_task or not self._merge(tail, tail.epoch, block):
            self._wait(tail, tail.epoch, block)

    def skip(self, tail: TopicTail, first: int, last: int | None, reason: str) -> None:
        """Tells every follower of events that will never come."""
        gap = (first, last, reason)
        if self._snapshot_task or not self._merge(tail, tail.epoch, gap):
            self._wait(tail, tail.epoch, gap)

    def tell(self) -> None:
        """Wakes the followers, when there is something new."""
        if self._has_news or self.closed:
            self._has_news = False
            self.hub.wake(self.followers)
            if self.closed:
                self.hub.wake(self.fanout.readers)
            else:
                self.fanout.write(self)

    def leave(self, follower: Follower) -> bool:
        """Removes a follower; returns False when it had left already."""
        was_here = follower in self.followers
        self.followers.discard(follower)
        return self.fanout.drop(follower) or was_here

    @property
    def everyone(self) -> list[Follower]:
        return [*self.followers, *self.fanout.readers]

    def _merge(self, tail: TopicTail, epoch: str, item: Block | SkippedRange) -> bool:
        """Adds the frames of a block or gap; returns False when a snapshot must be kept first."""
        position, at = self.position, tail.at
        if not isinstance(item, Block):
            return self._tell_gap(at, epoch, *item)
        if position.epochs[at] != epoch:
            position.renew(at, epoch)
            self._move_shift(0)
        around = position.around(at)
        if around is None:
            return False
        self._note_lead()
        position.move(at, item.last)
        block_frames = self.encode(at, item, around)
        if until_ms := frames.until_ms(item):
            self._until = (self._until or {}) | dict.fromkeys(range(self.head, self.head + len(block_frames)), until_ms)
        if item.time_ms >= self.hub.meter.next_ms:
            self.hub.meter.begin(self, self.head, item.time_ms)
        self._put(block_frames)
        return True

    def encode(self, at: int, block: Block, around: Sequence[str]) -> list[bytes]:
        """Returns the frames of a block of the topic at an index, as the readers of this feed get them."""
        return frames.encode(block, around, self.position.names[at] if self.has_envelope else "")

    def _tell_gap(self, at: int, epoch: str, first: int, last: int | None, reason: str) -> bool:
        position = self.position
        epoch = "" if last is None else epoch
        if (position.epochs[at], position.offsets[at]) != (epoch, last or 0):
            if position.encode() is None:
                return False
            self._note_lead()
        if position.epochs[at] != epoch:
            position.renew(at, epoch)
        position.move(at, last or 0)
        text = position.encode()
        if text is None:
            return False
        self._put([frames.gap(position.names[at], first, last, reason, text)])
        self.hub.meter.on_gap(reason)
        self._move_shift(last or 0)
        return True

    def _note_lead(self) -> None:
        """Notes the cursor before the first frame."""
        if not self.frames:
            self._lead = self.position.encode() or self._lead

    def _move_shift(self, offset: int) -> None:
        if self._is_single:
            self._join_index, self._shift = self.head, self.head - offset

    def _put(self, new_frames: list[bytes]) -> None:
        self.frames += new_frames
        self.size += sum(map(len, new_frames))
        self._has_news = True
        self.changed_s = asyncio.get_running_loop().time()
        if self.size > RING_MAX_BYTES or len(self.frames) > RING_MAX_FRAMES:
            self.shed(RING_MAX_BYTES // 2, RING_MAX_FRAMES // 2)

    def shed(self, max_bytes: int, max_frames: int) -> None:
        """Drops the oldest frames; readers that still need them read the log."""
        count, total = 0, len(self.frames)
        while count < total and (self.size > max_bytes or total - count > max_frames):
            self.size -= len(self.frames[count])
            count += 1
        if not count:
            return
        late_followers = [follower for follower in self.everyone if 0 <= follower.index < self.first + count]
        for follower in late_followers:
            follower.fall(self.cursor_at(follower.index))
        self._lead = frames.cursor_in(self.frames[count - 1])
        del self.frames[:count]
        self.first += count
        if self._until is not None:
            self._until = {index: until for index, until in self._until.items() if index >= self.first} or None
        self.hub.wake(late_followers)

    def cursor_at(self, index: int) -> str:
        """Returns the cursor of a reader who has taken `index` frames."""
        return self._lead if index == self.first else frames.cursor_in(self.frames[index - self.first - 1])

    # Snapshots

    def _wait(self, tail: TopicTail, epoch: str, item: Block | SkippedRange) -> None:
        self._backlog.append((tail, epoch, item))
        if len(self._backlog) > MAX_WAITING:
            self._fail()
        elif self._snapshot_task is None:
            self._snapshot_task = asyncio.get_running_loop().create_task(self._keep_snapshots())

    async def _keep_snapshots(self) -> None:
        """Keeps a snapshot, and more as long as something waits for one. Meanwhile the feed stands still."""
        try:
            while not self.position.encode() or self._backlog:
                try:
                    self.position.base_on(await self._save(self.position))
                except LogError:
                    await asyncio.sleep(RETRY_S)
                    continue
                count = 0
                while count < len(self._backlog) and self._merge(*self._backlog[count]):
                    count += 1
                del self._backlog[:count]
        finally:
            self._snapshot_task = None
        self.tell()

    async def cursor(self) -> str:
        """Returns the cursor of a reader who has taken everything."""
        while not (text := self.position.encode()):
            if self._snapshot_task is None:
                self._snapshot_task = asyncio.get_running_loop().create_task(self._keep_snapshots())
            await asyncio.shield(self._snapshot_task)
        return text

    def _fail(self) -> None:
        self.close()
        self.ended = True
        self.hub.wake(self.everyone)

    def close(self) -> None:
        if self._snapshot_task is not None:
            self._snapshot_task.cancel()
            self._snapshot_task = None
        for tail, name in zip(self.tails, self.position.names, strict=True):
            self.hub.leave(stored(name), tail)
            tail.stop()
        for end in self.finders:
            end()
        self.finders = ()
