"""What a group of appends does to topics and becomes in rows, decided before anything is written.

Pure: no clock, no file. The rules are `events.log.rules`. A plan changes the `PlannedTopic`s it is given, so a caller
that fails to write the plan must forget them.
"""

import asyncio

import msgspec

from events.log.port import Append, Appended
from events.log.rules import TopicState, advance, judge, may_join, rehearse
from gateway.errors import LogError

AppendOutcome = list[Appended] | LogError


class PlannedTopic(TopicState):
    """What the writer knows of one topic."""

    id: int = 0


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
        """Whether it is the last of a topic that is closed; valid once the plan is whole."""
        return self.topic.closed and self.first + len(self.lines) - 1 == self.topic.head


class Plan:
    """What a group writes, and what each of its calls is answered."""

    def __init__(self, topics: dict[str, PlannedTopic], results: dict[tuple[str, str], Appended]) -> None:
        """`topics` holds every topic of the group, also those that do not exist; `results` what keys still give."""
        self.topics = topics
        self.results = results
        self.rows: list[BlockRow] = []
        self.outcomes: list[tuple[asyncio.Future[list[Appended]], AppendOutcome]] = []
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
                rehearse(call.appends, self.topics, self.results)
            self.outcomes.append((call.future, [self._take(append) for append in call.appends]))
        except LogError as error:
            self.outcomes.append((call.future, error))

    def _take(self, append: Append) -> Appended:
        topic = self.topics[append.topic]
        earlier = judge(append, topic, self.results)
        if earlier is not None:
            return earlier
        if not topic.epoch:
            self.created[topic.name] = topic
        done = advance(append, topic)
        if append.data:
            self._write(append, topic, done.first)
        if append.close:
            self.closed[topic.name] = topic
        if append.key is not None:
            self.results[topic.name, append.key] = done
            self.keys.append((topic, append.key, done))
        return done

    def _write(self, append: Append, topic: PlannedTopic, first: int) -> None:
        size = sum(map(len, append.data))
        topic.total += size
        row = self._tails.get(topic.name)
        if row is not None and may_join(row.name, len(row.lines), row.size, append, size):
            row.lines += append.data
            row.size += size
            row.total = topic.total
        else:
            row = BlockRow(topic, first, append.data[:], append.name, size, topic.total)
            self._tails[topic.name] = row
            self.rows.append(row)
