"""The port of the durable, ordered log in which every stream lives, and the words it uses.

A *topic* is a named log with one owner. Its *epoch* names one incarnation: a topic that was deleted and made anew has
another, so an offset alone never decides where a reader stands. *Offsets* count events from 1 without gaps.
Engines keep appended events in blocks (one append = one block), because tokens arrive in bursts and a row per token
would cost more than the token.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec


class Position(msgspec.Struct, frozen=True):
    """Where a reader stands: it holds every event of `epoch` up to and including `offset`."""

    epoch: str
    offset: int


class Block(msgspec.Struct, frozen=True, gc=False):
    """Consecutive events of one name, appended together."""

    first: int
    """Offset of the first event."""
    data: list[bytes]
    """One JSON text on one line per event (no LF, no CR)."""
    name: str
    time_ms: int
    """Wall clock of the writer, milliseconds since 1970. For display and age only: never for order."""

    @property
    def last(self) -> int:
        return self.first + len(self.data) - 1


class Append(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request to append events of one name to one topic."""

    topic: str
    data: list[bytes]
    """One JSON text each. None at all: the topic is only made, checked or closed."""
    name: str = "message"
    owner: str = ""
    """Set when the topic is made; afterwards it must be the same, or empty for "as it is"."""
    expect: int | None = None
    """Compare and append: the offset that the first of these events must get."""
    key: str | None = None
    """Idempotency key within the topic: the first result is given again for five minutes."""
    close: bool = False
    """No event follows these: later appends fail with `LogConflict(closed=True)`."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What became of one `Append`."""

    epoch: str
    first: int
    last: int
    duplicate: bool = False


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A bounded read: what the topic holds strictly after an offset."""

    epoch: str
    """Empty when there is no such topic; then all else is empty too."""
    owner: str = ""
    oldest: int = 1
    """Offset of the oldest event still kept; head + 1 when none is."""
    head: int = 0
    closed: bool = False
    blocks: list[Block] = []
    """In order, trimmed to start at the offset asked for (or at `oldest`); ends early when a limit is reached."""


class TopicInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a listing."""

    topic: str
    owner: str
    epoch: str
    head: int
    updated_ms: int
    closed: bool


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """News of one topic, told to the process's one listener after it is durable."""

    topic: str
    epoch: str
    block: Block | None
    """None when another process wrote it, or the topic was deleted: read the topic to see."""
    closed: bool = False


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a topic is kept; None is no limit.

    Whole blocks go, oldest first, when all of one is beyond a limit.
    """

    events: int | None = None
    max_bytes: int | None = None
    age_s: float | None = None
    closed_age_s: float | None = None
    """A closed topic is deleted as a whole when its last event is older than this."""


class Listener(Protocol):
    def __call__(self, commits: Sequence[Commit], /) -> None: ...


class EventLog(Protocol):
    """A durable, ordered log of many topics.

    The caller must have checked who asks: an engine compares owners on append, and does nothing else about rights.
    The caller must have checked names and data: a LF in data, or a name that was not validated, would let one
    publisher forge events in the streams of others (CWE-93). Every method is called on one event loop.

    The implementer owes:
    - `append` is atomic over all its arguments, in order: all of them become durable, or none and an error.
      Appends of one process to one topic become durable in the order of the calls.
    - Durable means: it survives the death of this process. What survives a loss of power, each engine says itself.
    - Offsets have no gaps. `expect`, owner, key and closed are checked in the same transaction as the write.
    - The listener hears of a commit on the event loop, after it is durable and before the append's future is done;
      in order per topic. Commits of other processes are told with `block=None` within 100 ms, for the topics in
      `wanted` only.
    - A read that starts after a commit was told sees it.
    - Overflow: at most `max_pending_bytes` wait to be written; past that `append` fails with `LogUnavailable`.
    """

    listener: Listener
    wanted: "Wanted"

    async def open(self) -> None:
        """Makes it ready. Raises ConfigurationError when the place cannot be used."""
        ...

    async def close(self) -> None:
        """Writes what is pending, then lets go of everything. Idempotent."""
        ...

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Appends atomically; the writing begins at once, awaited or not.

        `patient` says that a few milliseconds of delay are welcome when that saves a commit.
        Raises LogConflict, WrongOwner, LogUnavailable (by the future). Cancelling the future does not undo the append.
        """
        ...

    def exists(self, topic: str) -> bool:
        """Whether there is such a topic, as far as can be told within microseconds; when in doubt, True."""
        ...

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Events strictly after offset `after`, at least one when there is one, else bounded by both limits."""
        ...

    async def topics(
        self,
        prefix: str,
        *,
        owner: str | None = None,
        open_only: bool = False,
        before_ms: int | None = None,
        limit: int = 100,
    ) -> list[TopicInfo]:
        """Topics whose name starts with `prefix`, last changed first; `before_ms` pages on."""
        ...

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch. False: there was none."""
        ...


class Wanted(Protocol):
    """The topics this process wants to hear of when others write them (the hub's own table)."""

    def __contains__(self, topic: object, /) -> bool: ...
    def __len__(self) -> int: ...
