"""Decides what every engine must decide alike: appending, cutting a read, forgetting, refusing. Pure.

An engine loads what it knows of the topics of an append, has these functions decide, and writes the decision in the
same transaction. It repeats none of the decisions itself (a script inside a server must copy them), so a conflict, a
duplicate or a trimmed block is the same on all of them. Clock, file and network are the engine's own.
"""

import secrets
import sys
from asyncio import Future, Task
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import msgspec

from events.log.port import Append, Appended, Block, Commit, Listener, Retention, Slice
from gateway.errors import LogConflict, LogError, LogUnavailable, WrongOwner

KEY_MS = 300_000
"""Milliseconds for which an idempotency key gives its first result again."""
MERGE_EVENTS = 256
"""Events of a block from which on no later append of the group joins it."""
MERGE_MS = 1000
"""Milliseconds within which blocks that are read together may become one, of the time of the first."""
MERGE_BYTES = 65_536
"""Maximum bytes of a block that appends of one group share."""
NO_LIMIT = -1
"""A bound that no topic is beyond."""

Keys = Mapping[tuple[str, str], Appended]
"""The results that idempotency keys still give, by topic and key."""


class TopicState(msgspec.Struct):
    """The state of one topic, as an engine knows it while it decides about appends to it."""

    name: str
    epoch: str = ""
    """The topic's epoch; empty while there is no such topic."""
    owner: str = ""
    head: int = 0
    total: int = 0
    """Bytes of all events ever appended; the engine adds what it writes."""
    closed: bool = False
    oldest: int = 1
    """Offset of the oldest event kept; head + 1 when none is."""
    base: int = 0
    """Bytes of all events before the oldest."""


def family_of(topic: str) -> str:
    """Returns the first segment of a topic's name with its slash; nothing where it has none."""
    return topic[: topic.find("/") + 1]


# Appending


def judge(append: Append, topic: TopicState, keys: Keys) -> Appended | None:
    """Returns the result that the append's key already has; None when the append may go in.

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
    """Moves `topic` to its state after `append`, which `judge` has let in; makes it when it does not exist."""
    if not topic.epoch:
        topic.epoch = secrets.token_hex(4)
        topic.owner = append.owner
    first = topic.head + 1
    topic.head += len(append.data)
    topic.closed = append.close
    return Appended(topic.epoch, first, topic.head)


def rehearse(appends: Iterable[Append], topics: Mapping[str, TopicState], keys: Keys) -> None:
    """Raises the error of the first of several appends that `judge` refuses, as if those before it were done.

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
            result = advance(append, topic)
            if append.key is not None:
                results[append.topic, append.key] = result


def is_key_valid(recorded_ms: int, now_ms: int) -> bool:
    """Returns whether a key recorded at that time still gives its result."""
    return recorded_ms > now_ms - KEY_MS


def may_join(name: str, count: int, size: int, append: Append, append_size: int) -> bool:
    """Returns whether an append of `append_size` bytes may share the block of `count` events before it.

    A burst of tokens then becomes one block, and a slow stream is not affected.
    """
    return name == append.name and count < MERGE_EVENTS and size + append_size <= MERGE_BYTES


# Refusing


def size_of(appends: Iterable[Append]) -> int:
    """Returns the bytes of all events of the appends."""
    return sum([len(data) for append in appends for data in append.data])


def refusal(appends: Iterable[Append], size: int, pending_bytes: int, max_pending_bytes: int) -> LogError | None:
    """Returns the error with which an append fails before anything is judged; None when it is taken.

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
    """Returns the events of consecutive blocks strictly after offset `after`, up to both limits.

    It returns at least one event, however large, if there is one: a reader must always get on.
    """
    parts: list[Block] = []
    for block in blocks:
        skip = max(0, after + 1 - block.first)
        count, size = _count(block.data, skip, max_events, max_bytes, is_first=not parts)
        if count:
            parts.append(block if count == len(block.data) else _part(block, skip, count))
        max_events -= count
        max_bytes -= size
        if skip + count < len(block.data):
            break
    return parts


def _count(data: Sequence[bytes], skip: int, max_events: int, max_bytes: int, *, is_first: bool) -> tuple[int, int]:
    """Returns how many events from `skip` on fit into the limits, and their bytes."""
    rest = data[skip:] if skip else data
    count, size = len(rest), sum(map(len, rest))
    if count <= max_events and size <= max_bytes:
        return count, size
    count = size = 0
    for event in rest:
        has_room = count < max_events and size + len(event) <= max_bytes
        if not has_room and (count or not is_first):
            break
        count += 1
        size += len(event)
    return count, size


def _part(block: Block, skip: int, count: int) -> Block:
    data = block.data[skip : skip + count]
    return Block(first=block.first + skip, data=data, name=block.name, time_ms=block.time_ms)


# Copying


def continuation(part: Slice, topic: TopicState) -> list[Block]:
    """Returns the blocks of another log's slice that `topic`, a copy, lacks.

    Raises LogConflict when it is no copy of that topic, or lacks what comes before the slice.
    """
    blocks = cut([block for block in part.blocks if block.last > topic.head], topic.head, part.head, sys.maxsize)
    if part.epoch != topic.epoch or (blocks and blocks[0].first > topic.head + 1):
        raise LogConflict(topic.name, blocks[0].first if blocks else None, topic.head + 1, closed=topic.closed)
    return blocks


# Forgetting


class TrimBounds(NamedTuple):
    """The bounds of what a topic keeps.

    The oldest block that stays ends after `offset` and after `total`, and is not older than `time_ms`.
    """

    offset: int
    """Offset up to which events exceed the limit of events."""
    total: int
    """Bytes ever appended up to which events exceed the limit of bytes."""
    time_ms: int
    """Time, in milliseconds since 1970, before which blocks are too old."""


def trim_bounds(topic: TopicState, retention: Retention, now_ms: int) -> TrimBounds:
    """Returns what the retention of a topic means at this moment; NO_LIMIT where it sets none."""
    return TrimBounds(
        NO_LIMIT if retention.events is None else topic.head - retention.events,
        NO_LIMIT if retention.max_bytes is None else topic.total - retention.max_bytes,
        NO_LIMIT if retention.age_s is None else now_ms - int(retention.age_s * 1000),
    )


def count_trimmed(blocks: Iterable[Block], base: int, bounds: TrimBounds) -> tuple[int, int]:
    """Returns how many of a topic's blocks go, oldest first, and the bytes ever appended up to their end.

    A block goes as a whole, when all of it is beyond one of the bounds; every block after one that stays, stays.
    """
    count = 0
    for block in blocks:
        total = base + sum(map(len, block.data))
        if block.last > bounds.offset and total > bounds.total and block.time_ms >= bounds.time_ms:
            break
        count, base = count + 1, total
    return count, base


def exceeds(topic: TopicState, retention: Retention, slack: float = 0) -> bool:
    """Returns whether a topic exceeds its limit of events or bytes by more than the fraction `slack`."""
    events, size = topic.head - topic.oldest + 1, topic.total - topic.base
    return (retention.events is not None and events > retention.events * (1 + slack)) or (
        retention.max_bytes is not None and size > retention.max_bytes * (1 + slack)
    )


def has_expired(topic: TopicState, retention: Retention, updated_ms: int, now_ms: int) -> bool:
    """Returns whether a topic's last event is so old that the topic is deleted as a whole."""
    age_s = retention.closed_age_s if topic.closed else retention.idle_age_s
    return age_s is not None and updated_ms < now_ms - age_s * 1000


def keep_all(topic: str) -> Retention:
    """Returns the retention of a log that forgets nothing."""
    return Retention()


# Announcing

Result = tuple["Future[Any]", Any]
"""A caller's future and its outcome: a value or a LogError."""


def announce(listener: Listener, commits: Sequence[Commit], results: Iterable[Result]) -> None:
    """Calls the listener with commits that are durable, then completes the futures of the appends.

    It runs on the event loop. A listener that fails leaves no caller waiting.
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


def report_end(task: "Task[None]") -> None:
    """Has the event loop log the fault that ended a task of the log; none may."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        context = {"message": f"a task of the log has ended: {task.get_name()}", "exception": fault}
        task.get_loop().call_exception_handler(context)


def ignore_time(seconds: float) -> None:
    """Does nothing: nobody measures this log."""


def ignore(commits: Sequence[Commit]) -> None:
    """Does nothing: the listener of a log that nobody listens to."""
