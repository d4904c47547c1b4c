"""Defines the port of the durable, ordered log in which every stream lives, and the words it uses.

A *topic* is a named log with one owner. Its *epoch* names one incarnation: a topic that was deleted and made anew has
another, so an offset alone never decides where a reader stands. *Offsets* count events from 1 without gaps.
Engines keep appended events in blocks (one append = one block), because tokens arrive in bursts and a row per token
would cost more than the token.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from events.log.quotas import TakeBatch, TakeReply
from gateway.errors import LogDamaged, LogUnavailable

NO_EVENTS = 1 << 52
"""Offset past every event: a read after it tells a topic's state, and touches no old event."""


class Position(msgspec.Struct, frozen=True):
    """A place in a topic: its reader has every event of `epoch` up to and including `offset`."""

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
    """Wall clock of the writer, in milliseconds since 1970: for display and age, never for order."""

    @property
    def last(self) -> int:
        return self.first + len(self.data) - 1


class Append(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request to append events of one name to one topic."""

    topic: str
    data: list[bytes]
    """One JSON text per event. An empty list appends none: the topic is only made, checked or closed."""
    name: str = "message"
    owner: str = ""
    """Owner that the topic gets when it is made. Afterwards it must be the same, or empty to leave it unchecked."""
    expect: int | None = None
    """Offset that the first of these events must get (compare-and-append); None appends at any."""
    key: str | None = None
    """Idempotency key within the topic: it gives its first result again for five minutes."""
    close: bool = False
    """Whether the topic ends with these events: later appends fail with `LogConflict(closed=True)`."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The result of one `Append`: where its events are; `last` is `first` - 1 when it had none."""

    epoch: str
    first: int
    last: int
    duplicate: bool = False


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A bounded read: what the topic holds strictly after an offset."""

    epoch: str
    """The topic's incarnation; empty when there is no such topic, and then all else is empty too."""
    owner: str = ""
    oldest: int = 1
    """Offset of the oldest event still kept; head + 1 when none is."""
    head: int = 0
    closed: bool = False
    blocks: list[Block] = []
    """Blocks in order, from the requested offset (or from `oldest`) on; they end early when a limit is reached."""


class TopicInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a listing."""

    topic: str
    owner: str
    epoch: str
    head: int
    updated_ms: int
    closed: bool


class Holding(msgspec.Struct, frozen=True):
    """What the log keeps of one owner in one family."""

    family: str
    """The first segment of the topics' names, with its slash."""
    topics: int
    stored_bytes: int
    """Bytes of all their events that are kept."""


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """News of one topic, which the process's listener gets once it is durable."""

    topic: str
    epoch: str
    block: Block | None
    """The block that was appended; None where it must be read: another process wrote, or the topic was deleted."""
    closed: bool = False


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """The limits on what is kept of a topic; None is no limit.

    Whole blocks are dropped, oldest first, when all of a block is beyond a limit.
    """

    events: int | None = None
    max_bytes: int | None = None
    age_s: float | None = None
    closed_age_s: float | None = None
    """Age of the last event at which a closed topic is deleted as a whole."""
    idle_age_s: float | None = None
    """Age of the last event at which a topic that is not closed is deleted as a whole, with its offsets."""


class StorageFact(msgspec.Struct, frozen=True):
    """One thing that a storage promises as it is set up, or does not; for whoever operates it."""

    text: str
    advice: str = ""
    """What to change; empty where the storage keeps what the log needs."""
    is_loss: bool = False
    """Whether what is acknowledged is lost, or nothing can be appended, as long as nobody changes it."""


class Listener(Protocol):
    """The function of a process that is called with every commit."""

    def __call__(self, commits: Sequence[Commit], /) -> None: ...


class WriteMeter(Protocol):
    """The function of a process that is called with the seconds that a group of appends took to be durable."""

    def __call__(self, seconds: float, /) -> None: ...


class EventLog(Protocol):
    """A durable, ordered log of many topics.

    The caller must have checked the rights of its user: an engine compares owners on append, and does nothing else.
    The caller must have checked names and data: a LF in data, or a name that was not validated, would let one
    publisher forge events in the streams of others (CWE-93). Every method is called on one event loop.

    The implementer owes:
    - `append` is atomic over all its arguments, in order: all of them become durable, or none and an error.
      Appends of one process to one topic become durable in the order of the calls.
    - Durable means: it survives the death of this process. What survives a loss of power, each engine says itself.
    - Offsets have no gaps. `expect`, owner, key and closed are checked in the same transaction as the write.
    - The listener is called with a commit on the event loop, after it is durable and before the append's future is
      done; in order per topic. Commits of other processes come with `block=None` within 100 ms, and only for the
      topics in `interest`.
    - A read that starts after the listener was called with a commit sees it.
    - Overflow: at most `max_pending_bytes` wait to be written; past that `append` fails with `LogUnavailable`.
    """

    listener: Listener
    interest: "Interest"
    on_written: WriteMeter
    """Called in any thread, for each group. Memory writes no groups."""

    @property
    def backlog(self) -> int:
        """Returns how many calls of `append` wait to be written."""
        ...

    @property
    def failure(self) -> LogUnavailable | None:
        """Returns why the log can be neither read nor written now, as far as that is known without looking."""
        return None

    async def open(self) -> None:
        """Makes the log ready. Raises ConfigurationError when its storage cannot be used."""
        ...

    async def close(self) -> None:
        """Writes what is pending, then releases everything. Idempotent."""
        ...

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Appends atomically; writing begins at once, whether the future is awaited or not.

        `patient` says that a few milliseconds of delay are welcome when that saves a commit.
        Raises LogConflict, WrongOwner, LogUnavailable (by the future). Cancelling the future does not undo the append.
        """
        ...

    def may_exist(self, topic: str) -> bool:
        """Returns a one-sided hint that saves a read: False is certain, True means that the topic may exist.

        It holds as of this moment, for all clients of this engine. The answer comes within microseconds and without
        I/O on a network; an engine that cannot know says True, and its callers are right all the same.
        """
        ...

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Returns the events strictly after offset `after`, within both limits, but at least one if there is one."""
        ...

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        """Returns the offset of the first event after `after` whose block can be read; `upto` + 1 when none is.

        For a reader to whom `read` has raised LogDamaged.
        """
        ...

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        """Returns how many events strictly after offset `after`, up to `upto`, bear each name; reads none of them."""
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
        """Returns topics whose name starts with `prefix`, last changed first; `before_ms` gives the next page."""
        ...

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Returns what is kept of an owner, or with None in all, by family; it may look at all topics."""
        ...

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch.

        Returns False when there was none.
        """
        ...

    async def scrub(self) -> str:
        """Overwrites what was deleted where the engine can; returns a sentence on what of it the storage still holds.

        Returns nothing where nothing is left. It may take as long as writing that much anew, and can be broken off.
        """
        ...

    async def names(self, after: str, limit: int) -> list[str]:
        """Returns the names of at most `limit` topics in their order, strictly after `after`, or "" for the first."""
        ...

    async def adopt(self, topic: str, part: Slice) -> None:
        """Takes over what another log holds of a topic: its epoch and owner, offsets and times, and so every cursor.

        The first part makes the topic; each further one continues it, and what is there already is passed over, so
        that a copy that broke off can be made again. One that reaches a closed head closes the topic.
        Raises LogConflict when the topic is another one here, or does not reach up to where the part begins.
        """
        ...

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Does what `take` does, within the call; None, and nothing is counted, where that takes longer than 0.2 ms."""
        ...

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Counts what limits stand on, in one step for all processes that share the log (`events.log.quotas`).

        Counters are no part of the log: they need not survive anything. Raises LogUnavailable; what was asked may then
        have been counted.
        """
        ...


class Interest(Protocol):
    """The topics whose commits by other processes are announced here: the hub's own table."""

    def __contains__(self, topic: object, /) -> bool: ...
    def __len__(self) -> int: ...


async def read_to_head(log: EventLog, topic: str, after: int = 0) -> AsyncIterator[Slice]:
    """Yields slices of a topic strictly after offset `after`, the last of which reaches the head that it shows.

    At least one slice comes, so that the epoch and the owner of an empty topic are seen, or that there is none (an
    empty epoch). Events appended meanwhile are read too. Each slice names its epoch: one that differs from the first
    says that the topic was deleted meanwhile, and perhaps made anew, so all that was read before it is void.
    Raises LogError.
    """
    while True:
        part = await log.read(topic, after)
        yield part
        if not part.blocks or part.blocks[-1].last >= part.head:
            return
        after = part.blocks[-1].last
        await asyncio.sleep(0)  # an engine that never waits must not starve the loop during a long read


async def read_past_damage(
    log: EventLog, topic: str, on_damage: Callable[[int, int], None], after: int = 0
) -> AsyncIterator[Slice]:
    """Yields slices as `read_to_head` does; calls `on_damage` with the first and last offset of what cannot be read."""
    while True:
        try:
            part = await log.read(topic, after)
        except LogDamaged:
            part = await log.read(topic, NO_EVENTS, max_events=1)
            first, after = after + 1, max(after + 1, await log.next_readable(topic, after, part.head) - 1)
            on_damage(first, after)
        else:
            after = part.blocks[-1].last if part.blocks else part.head
        yield part
        if after >= part.head:
            return
        await asyncio.sleep(0)
