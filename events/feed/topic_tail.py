"""Merges one topic into a feed, as the hub feeds it."""

from typing import Protocol

from events.log.port import Block
from events.log.ring import Tail


class TailOwner(Protocol):
    """The feed that a tail is a part of."""

    def take(self, tail: "TopicTail", block: Block) -> None: ...
    def skip(self, tail: "TopicTail", first: int, last: int | None, reason: str) -> None:
        """Takes note of events of this topic that will never come."""
        ...

    def tell(self) -> None: ...


class _Nobody:
    """Takes the place of a feed that was closed."""

    def take(self, tail: "TopicTail", block: Block) -> None: ...
    def skip(self, tail: "TopicTail", first: int, last: int | None, reason: str) -> None: ...
    def tell(self) -> None: ...


NOBODY = _Nobody()


class TopicTail(Tail):
    """One topic of a feed. It takes no block after a hole: the hub fills that first, or it is a gap for good."""

    __slots__ = ("at", "owner")

    def __init__(self, feed: TailOwner, at: int) -> None:
        super().__init__()
        self.owner: TailOwner = feed
        self.at = at

    def accept(self, block: Block, has_hole: bool) -> bool:
        if not has_hole:
            self.owner.take(self, block)
        return not has_hole

    def feed(self, epoch: str, block: Block) -> bool:
        self._follow(epoch)
        return super().feed(epoch, block)

    def compare(self, epoch: str, oldest: int) -> None:
        self._follow(epoch)
        self.epoch = self.epoch or epoch
        if self.head + 1 < oldest:
            self.owner.skip(self, self.head + 1, oldest - 1, "evicted")
            self.head = oldest - 1

    def skip(self, last: int) -> None:
        self.owner.skip(self, self.head + 1, last, "damaged")
        super().skip(last)

    def _follow(self, epoch: str) -> None:
        """Restarts at the new beginning of a topic that was deleted and made anew."""
        if self.epoch and epoch != self.epoch:
            self.owner.skip(self, self.head + 1, None, "epoch_changed")
            self.epoch, self.head, self.closed = "", 0, False

    def flush(self) -> None:
        self.owner.tell()

    def stop(self) -> None:
        """Feeds nothing any more, and lets go of its feed, which holds it."""
        self.owner = NOBODY
