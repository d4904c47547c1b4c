"""What a group of appends does to topics, decided before anything is written.

Pure: no clock, no file. It changes the `PlannedTopic`s it is given, so whoever fails to write the plan must forget
them.
"""

import asyncio
import secrets
from collections.abc import Collection

import msgspec

from events.log.port import Append, Appended
from gateway.errors import LogConflict, LogError, WrongOwner

MERGE_EVENTS = 256
MERGE_BYTES = 65_536
"""Appends that follow one another in a group share a row up to these bounds, so that a burst of tokens is one row."""

Outcome = list[Appended] | LogError
Keys = dict[tuple[str, str], Appended]


class PlannedTopic(msgspec.Struct):
    """What the writer knows of one topic."""

    name: str
    epoch: str = ""
    """Empty: there is no such topic."""
    owner: str = ""
    id: int = 0
    head: int = 0
    total: int = 0
    """Bytes of all events ever, up to the head."""
    closed: bool = False
    oldest: int = 1
    base: int = 0
    """Bytes of all events before the oldest."""


class AppendCall(msgspec.Struct):
    """One call of `append` that waits for its answer."""

    future: "asyncio.Future[list[Appended]]"
    appends: tuple[Append, ...]
    size: int


class BlockRow(msgspec.Struct):
    """A block to be written."""

    topic: PlannedTopic
    first: int
    lines: list[bytes]
    name: str
    size: int
    total: int

    @property
    def is_closing(self) -> bool:
        """It is the last of a topic that is closed; asked when the plan is whole."""
        return self.topic.closed and self.first + len(self.lines) - 1 == self.topic.head


class Plan:
    """What a group writes, and what each of its calls is answered."""

    def __init__(self, topics: dict[str, PlannedTopic], keys: Keys) -> None:
        """`topics` holds every topic of the group, also those that do not exist; `keys` the results known."""
        self.topics = topics
        self.known = keys
        self.rows: list[BlockRow] = []
        self.outcomes: list[tuple[asyncio.Future[list[Appended]], Outcome]] = []
        self.created: dict[str, PlannedTopic] = {}
        self.closed: dict[str, PlannedTopic] = {}
        self.keys: list[tuple[PlannedTopic, str, Appended]] = []
        self._tails: dict[str, BlockRow] = {}

    @property
    def marked(self) -> list[PlannedTopic]:
        """Topics that were made or closed without an event, so that no row shows it."""
        return [topic for topic in ({**self.created, **self.closed}).values() if topic.name not in self._tails]

    def add(self, call: AppendCall) -> None:
        """Takes all of a call, or none of it."""
        try:
            if len(call.appends) > 1:
                self._rehearse(call.appends)
            self.outcomes.append((call.future, [self._take(append) for append in call.appends]))
        except LogError as error:
            self.outcomes.append((call.future, error))

    def _rehearse(self, appends: Collection[Append]) -> None:
        """Raises what stands in the way of any of them, each judged as if those before it were done."""
        topics = {append.topic: msgspec.structs.replace(self.topics[append.topic]) for append in appends}
        keys = dict(self.known)
        for append in appends:
            topic = topics[append.topic]
            if judge(append, topic, keys) is None:
                done = advance(append, topic)
                if append.key is not None:
                    keys[append.topic, append.key] = done

    def _take(self, append: Append) -> Appended:
        topic = self.topics[append.topic]
        known = judge(append, topic, self.known)
        if known is not None:
            return known
        if not topic.epoch:
            self.created[topic.name] = topic
        done = advance(append, topic)
        if append.data:
            self._write(append, topic, done.first)
        if append.close:
            self.closed[topic.name] = topic
        if append.key is not None:
            self.known[topic.name, append.key] = done
            self.keys.append((topic, append.key, done))
        return done

    def _write(self, append: Append, topic: PlannedTopic, first: int) -> None:
        size = sum(map(len, append.data))
        topic.total += size
        row = self._tails.get(topic.name)
        if row is None or row.name != append.name or len(row.lines) >= MERGE_EVENTS or row.size + size > MERGE_BYTES:
            row = BlockRow(topic, first, append.data[:], append.name, size, topic.total)
            self._tails[topic.name] = row
            self.rows.append(row)
        else:
            row.lines += append.data
            row.size += size
            row.total = topic.total


def judge(append: Append, topic: PlannedTopic, keys: Keys) -> Appended | None:
    """The result that its key already had, or None: it may go in. Raises WrongOwner or LogConflict."""
    if append.owner and append.owner != topic.owner and topic.epoch:
        raise WrongOwner(f"topic {topic.name!r} belongs to someone else")
    if append.key is not None:
        known = keys.get((topic.name, append.key))
        if known is not None:
            return msgspec.structs.replace(known, duplicate=True)
    if topic.closed or (append.expect is not None and append.expect != topic.head + 1):
        raise LogConflict(topic.name, append.expect, topic.head + 1, closed=topic.closed)
    return None


def advance(append: Append, topic: PlannedTopic) -> Appended:
    """Lets `topic` be as it is after `append`."""
    if not topic.epoch:
        topic.epoch = secrets.token_hex(4)
        topic.owner = append.owner
    first = topic.head + 1
    topic.head += len(append.data)
    topic.closed = append.close
    return Appended(topic.epoch, first, topic.head)
