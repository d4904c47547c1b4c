"""What one process remembers of the newest events of a topic, shared by all who follow it there.

`Ring` holds frames, encoded once for all readers; after a hole it starts anew, and who needs what lies in between reads
the log. `Watch` calls a function for every event, so it refuses a block after a hole until the hole is filled.
"""

from collections.abc import Callable
from typing import Protocol

from events.log.port import Block

RING_MAX_FRAMES = 4096
RING_MAX_BYTES = 1_048_576
"""Past either bound the older half goes; a reader that still needed it reads the log instead."""

Encode = Callable[[str, Block], list[bytes]]
"""(epoch, block) → one frame per event; an empty frame for an event that readers do not see."""


class Waker(Protocol):
    def wake(self) -> None: ...


class Tail:
    """The newest events of a topic, as far as this process was told: `epoch`, `head`, `closed`."""

    __slots__ = ("closed", "deleted", "epoch", "head", "stale")

    def __init__(self) -> None:
        self.epoch = ""
        self.head = -1
        """Offset of the newest event known; -1 while nothing is known."""
        self.closed = False
        self.deleted = False
        self.stale = False
        """Another process wrote while nothing was known yet: what is read first may already be old."""

    def start(self, epoch: str, head: int, *, closed: bool) -> None:
        """Says what a read of the log has shown; news that came in meanwhile stands."""
        if self.head < 0:
            self.epoch, self.head = epoch, head
            self.closed = closed

    def feed(self, epoch: str, block: Block) -> bool:
        """Takes a block, less what it has already. False: events before it are missing, and it was not taken."""
        if epoch != self.epoch and self.epoch:
            self.deleted = True
            return True
        self.epoch = epoch
        if block.last <= self.head:
            return True
        if block.first <= self.head:
            keep = self.head + 1 - block.first
            block = Block(first=self.head + 1, data=block.data[keep:], name=block.name, time_ms=block.time_ms)
        if not self.accept(block, block.first != self.head + 1):
            return False
        self.head = block.last
        return True

    def accept(self, block: Block, hole: bool) -> bool:
        """Subclasses keep what they need of a block, or say False; `hole`: events before it are missing here."""
        raise NotImplementedError

    def compare(self, epoch: str, oldest: int) -> None:
        """What the log holds now, before its blocks are fed."""
        self.deleted = epoch != self.epoch and self.epoch != ""

    def told(self) -> None:
        """All of what was committed together was fed."""


class Ring(Tail):
    """The newest frames of a topic."""

    def __init__(self, encode: Encode) -> None:
        super().__init__()
        self.encode = encode
        self.first = 0
        """Offset of frames[0]."""
        self.frames: list[bytes] = []
        self.size = 0
        self.readers: set[Waker] = set()

    def accept(self, block: Block, hole: bool) -> bool:
        if hole or not self.frames:
            self.frames.clear()
            self.first, self.size = block.first, 0
        frames = self.encode(self.epoch, block)
        self.frames += frames
        self.size += sum(map(len, frames))
        if self.size > RING_MAX_BYTES or len(self.frames) > RING_MAX_FRAMES:
            self._drop_older()
        return True

    def _drop_older(self) -> None:
        """Down to half of both bounds, so that it happens seldom; a frame larger than that is left to the log."""
        count, frames = 0, len(self.frames)
        while self.size > RING_MAX_BYTES // 2 or frames - count > RING_MAX_FRAMES // 2:
            self.size -= len(self.frames[count])
            count += 1
        del self.frames[:count]
        self.first += count

    def holds(self, offset: int) -> bool:
        return bool(self.frames) and self.first <= offset <= self.head

    def take(self, after: int, max_bytes: int) -> tuple[bytes, int]:
        """Frames strictly after `after`, which must be held, up to about `max_bytes`; and the new cursor."""
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
    """Calls `see(block)` for every block after where it was started."""

    def __init__(self, see: Callable[[Block], None]) -> None:
        super().__init__()
        self.see = see

    def accept(self, block: Block, hole: bool) -> bool:
        if not hole:
            self.see(block)
        return not hole

    def compare(self, epoch: str, oldest: int) -> None:
        super().compare(epoch, oldest)
        self.head = max(self.head, oldest - 1)  # what is no longer kept will never come
