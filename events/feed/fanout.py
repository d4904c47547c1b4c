"""The readers of a feed who have all there is: what is next is encoded, framed and written to all of them in a row.

Each is an index; a round brings those who stand where most stand to the head, a slice of them in each turn of the event
loop. What comes meanwhile makes the next round, so the more there is to write, the more goes into one write.
"""

import asyncio
from collections.abc import Iterator
from typing import Protocol

from events.log.hub import WAKE_SLICE, WRITE_BYTES, Hub, report
from events.log.source import LentConnection


class Follower(Protocol):
    """Who reads a feed."""

    sub: str
    """The user it is."""
    index: int
    """How many frames it has taken; -1: it reads the log, and does not follow yet."""
    connection: LentConnection | None
    """Where the feed may write what is next, because all before it was written."""

    def fall(self, cursor: str) -> None:
        """The frames after this cursor are no longer here: read the log."""
        ...

    def wake(self) -> None: ...


class FrameSource(Protocol):
    """The frames that they read."""

    hub: Hub
    first: int

    @property
    def head(self) -> int: ...
    def slice(self, index: int, max_bytes: int) -> tuple[bytes, int]: ...


class Fanout:
    """Who is written to. Whoever falls behind, because its connection is full, is dropped and reads at its own pace."""

    __slots__ = ("_frames", "_round", "readers", "written_s")

    def __init__(self, frames: FrameSource) -> None:
        self.readers: dict[Follower, None] = {}
        self.written_s = 0.0
        """When they were last written to."""
        self._frames = frames
        self._round: Iterator[Follower] | None = None

    def add(self, follower: Follower) -> None:
        """It has all there is, and its connection takes more."""
        self.readers[follower] = None

    def drop(self, follower: Follower) -> bool:
        """False: it was not live."""
        if follower not in self.readers:
            return False
        del self.readers[follower]
        return True

    def write(self) -> None:
        """Begins a round, unless one is on its way, which will be followed by another."""
        if self._round is None and self.readers:
            self._begin()

    def _begin(self) -> None:
        frames = self._frames
        base = next(iter(self.readers)).index
        if not frames.first <= base < frames.head:  # the first is not where most are: each sees for itself
            frames.hub.wake(self.readers)
            return
        data, upto = frames.slice(base, WRITE_BYTES)
        self.written_s = asyncio.get_running_loop().time()
        self._round = iter(list(self.readers))
        self._write_slice(base, upto, data, b"")

    def _write_slice(self, base: int, upto: int, data: bytes, chunk: bytes) -> None:
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
                asyncio.get_running_loop().call_soon(self._write_slice, base, upto, data, chunk)
                return
        self._round = None
        if self.readers and self._frames.head > upto:
            asyncio.get_running_loop().call_soon(self.write)
