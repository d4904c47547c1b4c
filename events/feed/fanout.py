"""Writes what is next in a feed to all readers that have everything before it, one after the other.

Each reader is an index. A round brings those at the most common index to the head, a slice of them in each turn of the
event loop. What comes meanwhile makes the next round, so the more there is to write, the more goes into one write.
"""

import asyncio
from collections.abc import Iterator
from typing import Protocol

from events.log.hub import WAKE_SLICE, WRITE_BYTES, Hub, report
from events.log.source import LentConnection


class Follower(Protocol):
    """A reader of a feed."""

    sub: str
    """The user who reads."""
    index: int
    """The number of frames that it has taken; -1 while it reads the log, and does not follow yet."""
    connection: LentConnection | None
    """The connection to which the feed may write, because all before was written; None otherwise."""

    def fall(self, cursor: str) -> None:
        """Goes back to the log: the frames after this cursor are no longer here."""
        ...

    def wake(self) -> None: ...


class FrameSource(Protocol):
    """The feed whose frames are written."""

    hub: Hub
    first: int

    @property
    def head(self) -> int: ...
    def slice(self, index: int, max_bytes: int) -> tuple[bytes, int]: ...


class Fanout:
    """The readers that are written to. One that falls behind, because its connection is full, reads at its own pace."""

    __slots__ = ("_round", "readers", "written_s")

    def __init__(self) -> None:
        self.readers: dict[Follower, None] = {}
        self.written_s = 0.0
        """The time of the last write, by the event loop's clock."""
        self._round: Iterator[Follower] | None = None

    def add(self, follower: Follower) -> None:
        """Adds a reader that has all there is, and whose connection takes more."""
        self.readers[follower] = None

    def drop(self, follower: Follower) -> bool:
        """Removes a reader; returns False when it was not here."""
        if follower not in self.readers:
            return False
        del self.readers[follower]
        return True

    def write(self, frames: FrameSource) -> None:
        """Begins a round, unless one is under way; another will follow that one."""
        if self._round is None and self.readers:
            self._begin(frames)

    def _begin(self, frames: FrameSource) -> None:
        base = next(iter(self.readers)).index
        if not frames.first <= base < frames.head:  # the first is not where most are: each sees for itself
            frames.hub.wake(self.readers)
            return
        data, upto = frames.slice(base, WRITE_BYTES)
        self.written_s = asyncio.get_running_loop().time()
        self._round = iter(list(self.readers))
        self._write_slice(frames, base, upto, data, b"")

    def _write_slice(self, frames: FrameSource, base: int, upto: int, data: bytes, chunk: bytes) -> None:
        assert self._round is not None
        count = 0
        for follower in self._round:
            connection = follower.connection
            if connection is None:
                continue
            try:
                if follower.index == base:
                    follower.index = upto
                    chunk = chunk or connection.wrap(data)
                    connection.transport.write(chunk)
                elif follower.index < upto:
                    follower.wake()
            except Exception as err:
                report("a reader failed", err)
            count += 1
            if count == WAKE_SLICE:
                asyncio.get_running_loop().call_soon(self._write_slice, frames, base, upto, data, chunk)
                return
        self._round = None
        frames.hub.meter.end(frames, upto)
        if self.readers and frames.head > upto:
            asyncio.get_running_loop().call_soon(self.write, frames)
