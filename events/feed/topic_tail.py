"""One topic of a feed, as the hub tells of it."""

from typing import Protocol

from events.log.port import Block
from events.log.ring import Tail


class Merging(Protocol):
    """The feed that it is a part of."""

    def take(self, strand: "TopicTail", block: Block) -> None: ...
    def skip(self, strand: "TopicTail", first: int, last: int | None, reason: str) -> None:
        """Events of this topic that will never come."""
        ...

    def tell(self) -> None: ...


class TopicTail(Tail):
    """One topic of a feed. Takes no block after a hole: the hub fills it first, or it is a gap for good."""

    __slots__ = ("at", "feed_of")

    def __init__(self, feed: Merging, at: int) -> None:
        super().__init__()
        self.feed_of = feed
        self.at = at

    def accept(self, block: Block, hole: bool) -> bool:
        if not hole:
            self.feed_of.take(self, block)
        return not hole

    def feed(self, epoch: str, block: Block) -> bool:
        self._follow(epoch)
        return super().feed(epoch, block)

    def compare(self, epoch: str, oldest: int) -> None:
        self._follow(epoch)
        self.epoch = self.epoch or epoch
        if self.head + 1 < oldest:
            self.feed_of.skip(self, self.head + 1, oldest - 1, "evicted")
            self.head = oldest - 1

    def _follow(self, epoch: str) -> None:
        """A topic that was deleted and made anew is followed from its new beginning."""
        if self.epoch and epoch != self.epoch:
            self.feed_of.skip(self, self.head + 1, None, "epoch_changed")
            self.epoch, self.head, self.closed = "", 0, False

    def flush(self) -> None:
        self.feed_of.tell()
