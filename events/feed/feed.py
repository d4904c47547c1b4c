"""The topics of one subscription, merged in the order in which this process hears of them, for all who follow here.

Frames are encoded once, with their cursors in them; a reader is an index into them. Who comes with a cursor reads the
log until it stands where the feed stands (`events.feed.subscription`), and only then follows.
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
from events.log.topics import STORED, stored
from events.log.vector import VectorPosition
from gateway.errors import LogError

RETRY_S = 0.5
MAX_WAITING = 10_000
"""Blocks that may wait for a snapshot; past that the feed ends, and its readers come back with their cursors."""

MAX_FOUND = 5_000
"""Topics that the patterns of one stream may stand for; past that its readers end, and are refused when they return."""

NONE_FOUND: set[str] = set()
"""Of all feeds without patterns, which never look for topics."""

Save = Callable[[VectorPosition], Awaitable[Position]]
"""Keeps where a reader stands in the log; the position of the event that holds it."""


Skipped = tuple[int, int | None, str]
"""First and last offset (None: not known) that will not come, and why."""


class Feed:
    """`index` counts frames from when the feed was made; `stand` is where one is who has read all of them."""

    __slots__ = (
        *("hub", "topics", "stand", "strands", "finders", "followers", "live", "frames", "first", "size"),
        *("ended", "changed_s", "_shift", "_joins", "_lead", "_untold", "_waiting", "_saving", "_save"),
        *("begun", "_found", "_now_ms", "_until"),
    )

    def __init__(
        self, hub: Hub, topics: tuple[str, ...], stand: VectorPosition, save: Save, now_ms: Callable[[], int]
    ) -> None:
        self.hub = hub
        self._now_ms = now_ms
        self._until: dict[int, int] | None = None
        """Index of a frame → when nobody needs it any more."""
        self.topics = topics
        self.stand = stand
        self.strands: list[TopicTail] = []
        self.finders: tuple[Callable[[], None], ...] = ()
        """How to end looking for topics of its patterns."""
        self.followers: set[Follower] = set()
        """Who reads at its own pace, when it is woken."""
        self.live = Fanout(self)
        self.frames: list[bytes] = []
        self.first = 0
        """Index of frames[0]."""
        self.size = 0
        self.ended = False
        """It could not go on; who followed it must come back."""
        self.begun = False
        self.changed_s = 0.0
        self._shift = 0
        """Of a single topic: index less offset, as far back as `_joins`."""
        self._joins = 0
        self._lead = ""
        """The cursor of one who has taken nothing of `frames`."""
        self._untold = False
        self._found: set[str] = set() if not stand.is_fixed else NONE_FOUND
        self._waiting: list[tuple[TopicTail, str, Block | Skipped]] = []
        self._saving: asyncio.Task[None] | None = None
        self._save = save

    @property
    def head(self) -> int:
        return self.first + len(self.frames)

    @property
    def closed(self) -> bool:
        """No event will follow, in any of the topics."""
        return self.stand.is_fixed and not self._waiting and all([strand.closed for strand in self.strands])

    def strand(self) -> TopicTail:
        """One more topic; what is told of it before it is begun is read then."""
        strand = TopicTail(self, len(self.strands))
        self.strands.append(strand)
        return strand

    def begin(self, heads: Sequence[tuple[Position, bool]]) -> None:
        """Follows every strand from where its topic stands, all in one turn: no cursor may name half of them."""
        for strand, (position, closed) in zip(self.strands, heads, strict=True):
            self.stand.renew(strand.at, position.epoch)
            self.stand.offsets[strand.at] = position.offset
            self._start(strand, position, closed=closed)
        self.begun = True
        self._lead = self.stand.encode() or ""
        self._shift = -self.stand.offsets[0] if self._is_single else 0

    def _start(self, strand: TopicTail, position: Position, *, closed: bool) -> None:
        strand.start(position.epoch, position.offset, closed=closed)
        if strand.stale:
            strand.stale = False
            self.hub.refresh(stored(self.stand.names[strand.at]))

    def find(self, topic: str) -> None:
        """A topic that a pattern stands for was written to: when it is new, all of it is followed."""
        name = topic.removeprefix(STORED)
        if name in self._found or name in self.topics:
            return
        if len(self.stand.names) >= MAX_FOUND:
            self._fail()
            return
        self._found.add(name)
        self.stand.add(name)
        strand = self.strand()
        self.hub.follow(topic, strand)
        if self.begun:
            self._start(strand, Position("", 0), closed=False)

    @property
    def _is_single(self) -> bool:
        return self.stand.is_fixed and len(self.stand.names) == 1

    def index_of(self, stand: VectorPosition) -> int | None:
        """From where on one who stands there can follow; None: not yet."""
        if stand.is_at(self.stand):
            return self.head
        if not self._is_single or stand.epochs != self.stand.epochs:
            return None
        index = stand.offsets[0] + self._shift
        return index if max(self.first, self._joins) <= index <= self.head else None

    def slice(self, index: int, max_bytes: int) -> tuple[bytes, int]:
        """Frames from `index` on, up to about `max_bytes`; and how far they go."""
        some = self.frames[index - self.first :]
        if self._until is not None:
            some = self._without_old(some, index)
        if len(some) == 1 or self.size <= max_bytes:
            return b"".join(some), self.head
        total = 0
        for count, frame in enumerate(some):
            total += len(frame)
            if total > max_bytes and count:
                return b"".join(some[:count]), index + count
        return b"".join(some), self.head

    def _without_old(self, some: list[bytes], index: int) -> list[bytes]:
        """Events that nobody needs any more are nothing."""
        assert self._until is not None
        now_ms = self._now_ms()
        until = [self._until.get(at) for at in range(index, index + len(some))]
        return [b"" if end is not None and end <= now_ms else frame for frame, end in zip(some, until, strict=True)]

    # What the hub tells

    def take(self, strand: TopicTail, block: Block) -> None:
        if self._saving or not self._merge(strand, strand.epoch, block):
            self._wait(strand, strand.epoch, block)

    def skip(self, strand: TopicTail, first: int, last: int | None, reason: str) -> None:
        """Events that will never come: whoever follows is told."""
        skipped = (first, last, reason)
        if self._saving or not self._merge(strand, strand.epoch, skipped):
            self._wait(strand, strand.epoch, skipped)

    def tell(self) -> None:
        """Wakes who follows, when there is something."""
        if self._untold or self.closed:
            self._untold = False
            self.hub.wake(self.followers)
            if self.closed:
                self.hub.wake(self.live.readers)
            else:
                self.live.write()

    def leave(self, follower: Follower) -> bool:
        """False: it had left already."""
        was_here = follower in self.followers
        self.followers.discard(follower)
        return self.live.drop(follower) or was_here

    @property
    def everyone(self) -> list[Follower]:
        return [*self.followers, *self.live.readers]

    def _merge(self, strand: TopicTail, epoch: str, what: Block | Skipped) -> bool:
        """False: a snapshot must be kept first."""
        stand, at = self.stand, strand.at
        if not isinstance(what, Block):
            return self._tell_gap(at, epoch, *what)
        if stand.epochs[at] != epoch:
            stand.renew(at, epoch)
            self._move_shift(0)
        around = stand.around(at)
        if around is None:
            return False
        self._note_lead()
        stand.move(at, what.last)
        made = frames.encode(what, around)
        if until_ms := frames.until_ms(what):
            self._until = (self._until or {}) | dict.fromkeys(range(self.head, self.head + len(made)), until_ms)
        self._put(made)
        return True

    def _tell_gap(self, at: int, epoch: str, first: int, last: int | None, reason: str) -> bool:
        stand = self.stand
        epoch = "" if last is None else epoch
        if (stand.epochs[at], stand.offsets[at]) != (epoch, last or 0):
            if stand.encode() is None:
                return False
            self._note_lead()
        if stand.epochs[at] != epoch:
            stand.renew(at, epoch)
        stand.move(at, last or 0)
        text = stand.encode()
        if text is None:
            return False
        self._put([frames.gap(stand.names[at], first, last, reason, text)])
        self._move_shift(last or 0)
        return True

    def _note_lead(self) -> None:
        """Where one is who has taken all there is, before the first frame."""
        if not self.frames:
            self._lead = self.stand.encode() or self._lead

    def _move_shift(self, offset: int) -> None:
        if self._is_single:
            self._joins, self._shift = self.head, self.head - offset

    def _put(self, made: list[bytes]) -> None:
        self.frames += made
        self.size += sum(map(len, made))
        self._untold = True
        self.changed_s = asyncio.get_running_loop().time()
        if self.size > RING_MAX_BYTES or len(self.frames) > RING_MAX_FRAMES:
            self.shed(RING_MAX_BYTES // 2, RING_MAX_FRAMES // 2)

    def shed(self, max_bytes: int, max_frames: int) -> None:
        """Drops the oldest frames; who still needed them reads the log."""
        count, frames_ = 0, len(self.frames)
        while count < frames_ and (self.size > max_bytes or frames_ - count > max_frames):
            self.size -= len(self.frames[count])
            count += 1
        if not count:
            return
        fallen = [follower for follower in self.everyone if 0 <= follower.index < self.first + count]
        for follower in fallen:
            follower.fall(self.cursor_at(follower.index))
        self._lead = frames.cursor_in(self.frames[count - 1])
        del self.frames[:count]
        self.first += count
        if self._until is not None:
            self._until = {index: until for index, until in self._until.items() if index >= self.first} or None
        self.hub.wake(fallen)

    def cursor_at(self, index: int) -> str:
        """The cursor of one who has taken `index` frames."""
        return self._lead if index == self.first else frames.cursor_in(self.frames[index - self.first - 1])

    # Snapshots

    def _wait(self, strand: TopicTail, epoch: str, what: Block | Skipped) -> None:
        self._waiting.append((strand, epoch, what))
        if len(self._waiting) > MAX_WAITING:
            self._fail()
        elif self._saving is None:
            self._saving = asyncio.get_running_loop().create_task(self._keep_snapshots())

    async def _keep_snapshots(self) -> None:
        """One at least, then as long as something waits for one. Meanwhile the feed stands still."""
        try:
            while not self.stand.encode() or self._waiting:
                try:
                    self.stand.base_on(await self._save(self.stand))
                except LogError:
                    await asyncio.sleep(RETRY_S)
                    continue
                done = 0
                while done < len(self._waiting) and self._merge(*self._waiting[done]):
                    done += 1
                del self._waiting[:done]
        finally:
            self._saving = None
        self.tell()

    async def cursor(self) -> str:
        """The cursor of one who has taken all that there is."""
        while not (text := self.stand.encode()):
            if self._saving is None:
                self._saving = asyncio.get_running_loop().create_task(self._keep_snapshots())
            await asyncio.shield(self._saving)
        return text

    def _fail(self) -> None:
        self.close()
        self.ended = True
        self.hub.wake(self.everyone)

    def close(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        for strand, name in zip(self.strands, self.stand.names, strict=True):
            self.hub.leave(stored(name), strand)
        for end in self.finders:
            end()
        self.finders = ()
