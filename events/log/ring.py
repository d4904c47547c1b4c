"""Holds the newest events of a topic in one process, for all that follow it there.

`Ring` holds frames, encoded once for all readers; a reader that needs older ones reads the log. `Watch` calls a
function for every block. Neither takes a block after a hole: the hub reads what is missing, once for all readers.
"""

from collections.abc import Callable
from typing import Protocol

from events.log.port import Block

RING_MAX_FRAMES = 4096
"""Maximum frames of a ring; past it the older half goes, and readers that need that read the log."""
RING_MAX_BYTES = 1_048_576
"""Maximum bytes of a ring; past it the older half goes, too."""

Encode = Callable[[str, Block], list[bytes]]
"""A function of (epoch, block) that returns one frame per event; an empty frame hides an event from readers."""


class Waker(Protocol):
    """A reader that can be woken."""

    def wake(self) -> None: ...


class Tail:
    """A topic's state as far as this process knows: `epoch`, `head`, `closed`. The hub feeds it every block."""

    __slots__ = ("closed", "deleted", "epoch", "head", "stale")

    def __init__(self) -> None:
        self.epoch = ""
        self.head = -1
        """Offset of the newest event fed; -1 before `start`."""
        self.closed = False
        self.deleted = False
        self.stale = False
        """Whether another process wrote before `start`, so that the first read may already be out of date."""

    def start(self, epoch: str, head: int, *, closed: bool) -> None:
        """Begins where a read of the log has ended; news fed meanwhile takes precedence."""
        if self.head < 0:
            self.epoch, self.head = epoch, head
            self.closed = closed

    def feed(self, epoch: str, block: Block) -> bool:
        """Takes the part of a block that is new; returns False, taking nothing, when events before it are missing."""
        if epoch != self.epoch and self.epoch:
            self.deleted = True
            return True
        self.epoch = epoch
        last = block.last
        if last <= self.head:
            return True
        if block.first <= self.head:
            skip = self.head + 1 - block.first
            block = Block(first=self.head + 1, data=block.data[skip:], name=block.name, time_ms=block.time_ms)
        if not self.accept(block, block.first != self.head + 1):
            return False
        self.head = last
        return True

    def accept(self, block: Block, has_hole: bool) -> bool:
        """Keeps what a subclass needs of a block, or returns False. `has_hole`: events before it are missing here."""
        raise NotImplementedError  # a ring keeps frames, a watch hands blocks on: a tail by itself keeps nothing

    def compare(self, epoch: str, oldest: int) -> None:
        """Learns what the log holds now, before the blocks of that read are fed."""
        self.deleted = epoch != self.epoch and self.epoch != ""

    def skip(self, last: int) -> None:
        """Takes note that events up to `last` will never come, because they cannot be read."""
        self.head = last

    def flush(self) -> None:
        """Takes note that the blocks of one commit or one read were fed."""


class Ring(Tail):
    """The newest frames of a topic, for all readers of one encoding."""

    def __init__(self, encode: Encode) -> None:
        super().__init__()
        self.encode = encode
        self.first = 0
        """Offset of the event in frames[0]."""
        self.frames: list[bytes] = []
        self.size = 0
        self.readers: set[Waker] = set()

    def accept(self, block: Block, has_hole: bool) -> bool:
        if has_hole and self.head >= 0:
            return False
        if not self.frames:
            self.first, self.size = block.first, 0
        frames = self.encode(self.epoch, block)
        self.frames += frames
        self.size += sum(map(len, frames))
        if self.size > RING_MAX_BYTES or len(self.frames) > RING_MAX_FRAMES:
            self._drop_older()
        return True

    def compare(self, epoch: str, oldest: int) -> None:
        super().compare(epoch, oldest)
        if self.head < oldest - 1:
            self.skip(oldest - 1)  # what is no longer kept will never come

    def skip(self, last: int) -> None:
        super().skip(last)
        self.frames.clear()
        self.size = 0

    def _drop_older(self) -> None:
        """Shrinks to half of both bounds, so that it happens seldom; a frame larger than that is left to the log."""
        count, frames = 0, len(self.frames)
        while self.size > RING_MAX_BYTES // 2 or frames - count > RING_MAX_FRAMES // 2:
            self.size -= len(self.frames[count])
            count += 1
        del self.frames[:count]
        self.first += count

    def holds(self, offset: int) -> bool:
        return bool(self.frames) and self.first <= offset <= self.head

    def take(self, after: int, max_bytes: int) -> tuple[bytes, int]:
        """Returns frames after offset `after`, which must be held, up to about `max_bytes`; and the new offset."""
        frames = self.frames[after + 1 - self.first :]
        if len(frames) == 1 or self.size <= max_bytes:
            return b"".join(frames), self.head
        total = 0
        for count, frame in enumerate(frames):
            total += len(frame)
            if total > max_bytes and total > len(frame):
                return b"".join(frames[:count]), after + count
        return b"".join(frames), self.head


class Watch(Tail):
    """Calls `on_block` for every block after where it was started.

    One that `is_standing` goes on at the beginning of a topic that is made anew: it stands for as long as its process,
    while a log forgets topics that nobody writes to, and may come back from a failover as another.
    """

    def __init__(self, on_block: Callable[[Block], None], *, is_standing: bool = False) -> None:
        super().__init__()
        self.on_block = on_block
        self.is_standing = is_standing

    def feed(self, epoch: str, block: Block) -> bool:
        self._follow(epoch)
        return super().feed(epoch, block)

    def accept(self, block: Block, has_hole: bool) -> bool:
        if not has_hole:
            self.on_block(block)
        return not has_hole

    def compare(self, epoch: str, oldest: int) -> None:
        self._follow(epoch)
        super().compare(epoch, oldest)
        self.head = max(self.head, oldest - 1)  # what is no longer kept will never come

    def _follow(self, epoch: str) -> None:
        if self.is_standing and self.epoch and epoch != self.epoch:
            self.epoch, self.head, self.closed = "", 0, False
