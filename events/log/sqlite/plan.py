"""Plans what a group of appends does to topics and which rows it becomes, before anything is written.

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
    """The state of one topic, as the writer knows it."""

    id: int = 0


class AppendCall(msgspec.Struct):
    """One call of `append` that waits for its result."""

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
        """Returns whether it is the last block of a closed topic; valid once the plan is complete."""
        return self.topic.closed and self.first + len(self.lines) - 1 == self.topic.head


class Plan:
    """The rows that a group writes, and the outcome of each of its calls."""

    def __init__(self, topics: dict[str, PlannedTopic], results: dict[tuple[str, str], Appended]) -> None:
        """`topics` holds every topic of the group, even one that does not exist; `results` the keys still valid."""
        self.topics = topics
        self.results = results
        self.rows: list[BlockRow] = []
        self.outcomes: list[tuple[asyncio.Future[list[Appended]], AppendOutcome]] = []
        self.new_topics: dict[str, PlannedTopic] = {}
        self.closed_topics: dict[str, PlannedTopic] = {}
        self.keys: list[tuple[PlannedTopic, str, Appended]] = []
        self._tails: dict[str, BlockRow] = {}

    @property
    def eventless_topics(self) -> list[PlannedTopic]:
        """Returns the topics that were made or closed without an event, so that no row shows it."""
        topics = {**self.new_topics, **self.closed_topics}
        return [topic for name, topic in topics.items() if name not in self._tails]

    def add(self, call: AppendCall) -> None:
        """Adds all of a call, or none of it."""
        try:
            if len(call.appends) > 1:
                rehearse(call.appends, self.topics, self.results)
            self.outcomes.append((call.future, [self._take(append) for append in call.appends]))
        except LogError as error:
            self.outcomes.append((call.future, error.with_traceback(None)))  # its frames hold this plan

    def _take(self, append: Append) -> Appended:
        topic = self.topics[append.topic]
        earlier = judge(append, topic, self.results)
        if earlier is not None:
            return earlier
        if not topic.epoch:
            self.new_topics[topic.name] = topic
        result = advance(append, topic)
        if append.data:
            self._write(append, topic, result.first)
        if append.close:
            self.closed_topics[topic.name] = topic
        if append.key is not None:
            self.results[topic.name, append.key] = result
            self.keys.append((topic, append.key, result))
        return result

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
