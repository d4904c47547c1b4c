"""The rules of the log that every engine decides alike: appending, cutting a read, forgetting, refusing. Pure.

An engine loads what it knows of the topics of an append, has these functions decide, and writes what was decided in the
same transaction. It repeats none of the decisions itself (a script inside a server must copy them), so a conflict, a
duplicate or a trimmed block is the same on all of them. Clock, file and network are the engine's own.
"""

import secrets
from asyncio import Future
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import msgspec

from events.log.port import Append, Appended, Block, Commit, Listener, Retention
from gateway.errors import LogConflict, LogError, LogUnavailable, WrongOwner

KEY_MS = 300_000
"""How long an idempotency key gives its first result again."""
MERGE_EVENTS = 256
MERGE_BYTES = 65_536
"""Maximum bytes of a block that later appends of the same group may still join (MERGE_EVENTS bounds its events)."""
NO_LIMIT = -1

Keys = Mapping[tuple[str, str], Appended]
"""The results that idempotency keys still give, by topic and key."""


class TopicState(msgspec.Struct):
    """What an engine knows of one topic while it decides about appends to it."""

    name: str
    epoch: str = ""
    """Empty while there is no such topic."""
    owner: str = ""
    head: int = 0
    total: int = 0
    """Bytes of all events ever appended; the engine adds what it writes."""
    closed: bool = False
    oldest: int = 1
    """Offset of the oldest event kept; head + 1 when none is."""
    base: int = 0
    """Bytes of all events before the oldest."""


# Appending


def judge(append: Append, topic: TopicState, keys: Keys) -> Appended | None:
    """The result that the append's key already had, or None when the append may go in.

    The owner is compared first, so that nobody learns the results of another's keys; a key is looked up before `expect`
    and the close, because the append that it repeats may have been the one that moved the head or closed the topic.
    Raises WrongOwner or LogConflict.
    """
    if append.owner and append.owner != topic.owner and topic.epoch:
        raise WrongOwner(f"topic {topic.name!r} belongs to someone else")
    if append.key is not None:
        earlier = keys.get((topic.name, append.key))
        if earlier is not None:
            return msgspec.structs.replace(earlier, duplicate=True)
    if topic.closed or (append.expect is not None and append.expect != topic.head + 1):
        raise LogConflict(topic.name, append.expect, topic.head + 1, closed=topic.closed)
    return None


def advance(append: Append, topic: TopicState) -> Appended:
    """Moves `topic` to where it is after `append`, which `judge` has let in; makes it when it does not exist."""
    if not topic.epoch:
        topic.epoch = secrets.token_hex(4)
        topic.owner = append.owner
    first = topic.head + 1
    topic.head += len(append.data)
    topic.closed = append.close
    return Appended(topic.epoch, first, topic.head)


def rehearse(appends: Iterable[Append], topics: Mapping[str, TopicState], keys: Keys) -> None:
    """Raises what `judge` says against any of several appends, each judged as if those before it were done.

    Changes nothing, so an engine that rehearses first appends all of a call or none of it. A single append needs no
    rehearsal.
    """
    copies: dict[str, TopicState] = {}
    results: MutableMapping[tuple[str, str], Appended] = dict(keys)
    for append in appends:
        topic = copies.get(append.topic)
        if topic is None:
            topic = copies[append.topic] = msgspec.structs.replace(topics[append.topic])
        if judge(append, topic, results) is None:
            done = advance(append, topic)
            if append.key is not None:
                results[append.topic, append.key] = done


def is_key_valid(recorded_ms: int, now_ms: int) -> bool:
    """Whether a key recorded at that time still gives its result."""
    return recorded_ms > now_ms - KEY_MS


def may_join(name: str, count: int, size: int, append: Append, added: int) -> bool:
    """Whether an append of `added` bytes may share the block, of `count` events, just written to the same topic.

    A burst of tokens then becomes one block, and a slow stream is not affected.
    """
    return name == append.name and count < MERGE_EVENTS and size + added <= MERGE_BYTES


# Refusing


def size_of(appends: Iterable[Append]) -> int:
    """Bytes of all their events."""
    size = 0
    for append in appends:
        size += sum(map(len, append.data))
    return size


def refusal(appends: Iterable[Append], size: int, pending_bytes: int, max_pending_bytes: int) -> LogError | None:
    """The error that an append fails with before anything is judged; None when it is taken.

    Names must be Unicode: JSON can carry half a surrogate pair, which no UTF-8 storage takes, and one such append would
    fail all others of its group.
    """
    if pending_bytes + size > max_pending_bytes:
        return LogUnavailable(f"more than {max_pending_bytes} bytes wait to be written")
    for append in appends:
        for text in (append.topic, append.name, append.owner, append.key or ""):
            if not text.isascii() and not _is_unicode(text):
                return LogError(f"{text!a} cannot be kept: it is not Unicode text")
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Reading


def cut(blocks: Iterable[Block], after: int, max_events: int, max_bytes: int) -> list[Block]:
    """The events of consecutive blocks strictly after offset `after`, up to both limits.

    At least one event, however large, when there is one: a reader must always get on.
    """
    result: list[Block] = []
    for block in blocks:
        skip = max(0, after + 1 - block.first)
        count, size = _count(block.data, skip, max_events, max_bytes, is_first=not result)
        if count:
            result.append(block if count == len(block.data) else _part(block, skip, count))
        max_events -= count
        max_bytes -= size
        if skip + count < len(block.data):
            break
    return result


def _count(data: Sequence[bytes], skip: int, max_events: int, max_bytes: int, *, is_first: bool) -> tuple[int, int]:
    """How many events from `skip` on fit into the limits, and their bytes."""
    rest = data[skip:] if skip else data
    count, size = len(rest), sum(map(len, rest))
    if count <= max_events and size <= max_bytes:
        return count, size
    count = size = 0
    for event in rest:
        fits = count < max_events and size + len(event) <= max_bytes
        if not fits and (count or not is_first):
            break
        count += 1
        size += len(event)
    return count, size


def _part(block: Block, skip: int, count: int) -> Block:
    data = block.data[skip : skip + count]
    return Block(first=block.first + skip, data=data, name=block.name, time_ms=block.time_ms)


# Forgetting


class TrimBounds(NamedTuple):
    """The oldest block that stays ends after `offset`, ends after `total`, and is not older than `time_ms`."""

    offset: int
    """Offset up to which events are beyond the limit of events."""
    total: int
    """Bytes ever appended up to which events are beyond the limit of bytes."""
    time_ms: int


def trim_bounds(topic: TopicState, keep: Retention, now_ms: int) -> TrimBounds:
    """What the retention of a topic means at this moment; NO_LIMIT where it sets none."""
    return TrimBounds(
        NO_LIMIT if keep.events is None else topic.head - keep.events,
        NO_LIMIT if keep.max_bytes is None else topic.total - keep.max_bytes,
        NO_LIMIT if keep.age_s is None else now_ms - int(keep.age_s * 1000),
    )


def count_trimmed(blocks: Iterable[Block], base: int, bounds: TrimBounds) -> tuple[int, int]:
    """How many of a topic's blocks go, oldest first, and the bytes ever appended up to the end of those.

    A block goes as a whole, when all of it is beyond one of the bounds; what comes after one that stays, stays.
    """
    count = 0
    for block in blocks:
        total = base + sum(map(len, block.data))
        if block.last > bounds.offset and total > bounds.total and block.time_ms >= bounds.time_ms:
            break
        count, base = count + 1, total
    return count, base


def is_over(topic: TopicState, keep: Retention, slack: float = 0) -> bool:
    """Whether a topic holds more events or bytes than it should, by more than the fraction `slack`."""
    events, size = topic.head - topic.oldest + 1, topic.total - topic.base
    return (keep.events is not None and events > keep.events * (1 + slack)) or (
        keep.max_bytes is not None and size > keep.max_bytes * (1 + slack)
    )


def has_expired(topic: TopicState, keep: Retention, updated_ms: int, now_ms: int) -> bool:
    """Whether a topic is closed and its last event so old that it is deleted as a whole."""
    return topic.closed and keep.closed_age_s is not None and updated_ms < now_ms - keep.closed_age_s * 1000


def keep_all(topic: str) -> Retention:
    """The retention of a log that forgets nothing."""
    return Retention()


# Announcing

Result = tuple["Future[Any]", Any]
"""A future that a caller holds, and what it gets: a value or a LogError."""


def announce(listener: Listener, commits: Sequence[Commit], results: Iterable[Result]) -> None:
    """Tells the listener of commits that are durable, then every caller what became of its append.

    In this order, on the event loop. A listener that fails leaves no caller waiting.
    """
    try:
        if commits:
            listener(commits)
    finally:
        for future, outcome in results:
            if future.done():
                continue
            if isinstance(outcome, LogError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def ignore(commits: Sequence[Commit]) -> None:
    """The listener of a log that nobody listens to."""
