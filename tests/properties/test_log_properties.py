"""Any sequence of calls leaves each engine's log as a plain model of it says."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from events.log.port import Append, Appended, Retention, Slice
from gateway.errors import LogConflict, LogError, WrongOwner
from tests.contract.engines import CommitList, Engine, SweepingLog, flat, whole

KEEP = Retention(events=12, max_bytes=60, age_s=100, closed_age_s=200)
KEY_S = 300
TOPICS = ("a", "b", "c")
T = TypeVar("T")


@dataclass
class ModelBlock:
    first: int
    data: list[bytes]
    name: str
    time_s: float

    @property
    def last(self) -> int:
        return self.first + len(self.data) - 1

    @property
    def size(self) -> int:
        return sum(map(len, self.data))


@dataclass
class ModelTopic:
    owner: str
    epoch: str = ""
    head: int = 0
    closed: bool = False
    changed_s: float = 0
    blocks: list[ModelBlock] = field(default_factory=list)
    keys: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    def copy(self) -> "ModelTopic":
        return ModelTopic(
            self.owner, self.epoch, self.head, self.closed, self.changed_s, list(self.blocks), dict(self.keys)
        )

    def append(self, append: Append, now_s: float) -> tuple[int, int, bool]:
        """Returns (first, last, duplicate), or raises what the log must raise."""
        if append.owner not in ("", self.owner):
            raise WrongOwner
        if append.key in self.keys and self.keys[append.key][2] > now_s - KEY_S:
            return *self.keys[append.key][:2], True
        if self.closed or append.expect not in (None, self.head + 1):
            raise LogConflict(append.topic, append.expect, self.head + 1, closed=self.closed)
        block = ModelBlock(self.head + 1, append.data, append.name, now_s)
        if append.data:
            self.blocks.append(block)
            self.changed_s = now_s
        self.changed_s = self.changed_s or now_s
        self.head, self.closed = block.last, append.close
        if append.key is not None:
            self.keys[append.key] = (block.first, block.last, now_s)
        return block.first, block.last, False

    def trim(self, now_s: float) -> None:
        while self.blocks:
            oldest = self.blocks[0]
            newer = sum(block.size for block in self.blocks[1:])
            if oldest.last > self.head - 12 and newer < 60 and oldest.time_s >= now_s - 100:
                return
            del self.blocks[0]


class Model:
    """The log as it should be."""

    def __init__(self) -> None:
        self.topics: dict[str, ModelTopic] = {}

    def append(self, appends: list[Append], now_s: float) -> list[tuple[int, int, bool]]:
        topics = {name: topic.copy() for name, topic in self.topics.items()}
        results: list[tuple[int, int, bool]] = []
        for append in appends:
            topic = topics.setdefault(append.topic, ModelTopic(append.owner))
            results.append(topic.append(append, now_s))
        self.topics = topics
        return results

    def sweep(self, now_s: float) -> None:
        for name, topic in list(self.topics.items()):
            if topic.closed and topic.changed_s < now_s - 200:
                del self.topics[name]
            topic.trim(now_s)


lines = st.lists(st.sampled_from([b"", b"1", b'{"x":1}', b"x" * 25, "é😀".encode()]), max_size=4)


@st.composite
def append_groups(draw: st.DrawFn) -> list[Append]:
    """Draws one to three appends; neighbours in one topic have different names, so that they stay blocks of their
    own.
    """
    group: list[Append] = []
    for n in range(draw(st.integers(1, 3))):
        group.append(
            Append(
                topic=draw(st.sampled_from(TOPICS)),
                data=draw(lines),
                name=f"n{n}",
                owner=draw(st.sampled_from(["", "", "me", "you"])),
                expect=draw(st.sampled_from([None, None, None, 1, 2, 5, -1])),
                key=draw(st.sampled_from([None, None, "k", "l"])),
                close=draw(st.sampled_from([False] * 9 + [True])),
            )
        )
    return group


class LogMachine(RuleBasedStateMachine):
    """Calls a log and its model, and compares both after each step."""

    engine_name = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = Engine(self.engine_name, Path(self.folder.name))
        self.model = Model()
        self.log: SweepingLog
        self.commits: CommitList

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        async def within_deadline() -> T:
            async with asyncio.timeout(20):
                return await call()

        return self.runner.run(within_deadline())

    @initialize()
    def open(self) -> None:
        self.log = self.engine.make(lambda _: KEEP)
        self.run(self.log.open)
        self.commits = CommitList(self.log)

    def teardown(self) -> None:
        self.run(self.log.close)
        self.runner.close()
        self.folder.cleanup()

    @rule(group=append_groups(), right=st.booleans(), patient=st.booleans())
    def append(self, group: list[Append], right: bool, patient: bool) -> None:
        head = self.model.topics[group[0].topic].head if group[0].topic in self.model.topics else 0
        if right:
            changed = {name: getattr(group[0], name) for name in group[0].__struct_fields__} | {"expect": head + 1}
            group = [Append(**changed), *group[1:]]
        expected: Any
        try:
            expected = self.model.append(group, self.engine.clock.now_s)
        except LogError as error:
            expected = error
        self.commits.clear()
        outcome = self.run(lambda: self._outcome(group, patient))
        if isinstance(expected, LogError):
            assert type(outcome) is type(expected), (outcome, expected)
            if isinstance(expected, LogConflict) and isinstance(outcome, LogConflict):
                assert (outcome.actual, outcome.closed) == (expected.actual, expected.closed)
            assert not self.commits
        else:
            assert [(one.first, one.last, one.duplicate) for one in outcome] == expected
            self._check_epochs(group, outcome)
            self._check_news(group, outcome)

    async def _outcome(self, group: list[Append], patient: bool) -> Any:
        try:
            return await self.log.append(*group, patient=patient)
        except LogError as error:
            return error

    def _check_epochs(self, group: list[Append], results: list[Appended]) -> None:
        for append, result in zip(group, results, strict=True):
            topic = self.model.topics[append.topic]
            topic.epoch = topic.epoch or result.epoch
            assert result.epoch == topic.epoch

    def _check_news(self, group: list[Append], results: list[Appended]) -> None:
        own = [
            (append.topic, result.first, append.name, append.data)
            for append, result in zip(group, results, strict=True)
            if append.data and not result.duplicate
        ]
        blocks = [(one.topic, one.block) for one in self.commits if one.block is not None and one.block.data]
        news = [(topic, block.first, block.name, block.data) for topic, block in blocks]
        assert sorted(news) == sorted(own)

    @rule(topic=st.sampled_from(TOPICS))
    def delete(self, topic: str) -> None:
        assert self.run(lambda: self.log.delete(topic)) == (topic in self.model.topics)
        self.model.topics.pop(topic, None)

    @rule(seconds=st.sampled_from([0, 1, 50, 99, 101, 201, 301]))
    def time_passes(self, seconds: int) -> None:
        self.engine.clock.now_s += seconds

    @precondition(lambda self: self.engine.is_shared)
    @rule()
    def reopen(self) -> None:
        self.run(self.log.close)
        self.open()

    @rule(
        topic=st.sampled_from(TOPICS),
        after=st.integers(0, 30),
        max_events=st.integers(1, 6),
        max_bytes=st.integers(0, 80),
    )
    def read_a_part(self, topic: str, after: int, max_events: int, max_bytes: int) -> None:
        self._sweep()
        part = self.run(lambda: self.log.read(topic, after, max_events=max_events, max_bytes=max_bytes))
        due = self._due(topic, after)
        events = flat(part)
        assert events == due[: len(events)]
        assert len(events) <= max_events
        assert bool(events) == bool(due)
        assert len(events) <= 1 or sum(len(line) for _, _, line in events) <= max_bytes

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self._sweep()
        for name in TOPICS:
            part: Slice = self.run(lambda name=name: self.log.read(name, 0))
            topic = self.model.topics.get(name)
            if topic is None:
                assert part == Slice(epoch="")
                continue
            assert (part.epoch, part.owner, part.head) == (topic.epoch, topic.owner, topic.head)
            assert part.closed == topic.closed
            assert part.oldest == (topic.blocks[0].first if topic.blocks else topic.head + 1)
            assert flat(part) == self._due(name, 0)
        infos = self.run(lambda: self.log.topics(""))
        expected = sorted(self.model.topics.items(), key=lambda item: (-item[1].changed_s, item[0]))
        assert [(one.topic, one.head, one.closed, one.updated_ms) for one in infos] == [
            (name, topic.head, topic.closed, int(topic.changed_s * 1000)) for name, topic in expected
        ]

    def _sweep(self) -> None:
        """Sweeps the log: engines may trim at once or later, but have done so after a sweep."""
        self.run(self.log.sweep)
        self.model.sweep(self.engine.clock.now_s)

    def _due(self, name: str, after: int) -> list[tuple[int, str, bytes]]:
        topic = self.model.topics.get(name)
        events = [
            (block.first + n, block.name, line)
            for block in (topic.blocks if topic else [])
            for n, line in enumerate(block.data)
        ]
        return [event for event in events if event[0] > after]


class MemoryMachine(LogMachine):
    engine_name = "memory"


class SqliteMachine(LogMachine):
    engine_name = "sqlite"


calls = st.lists(
    st.tuples(
        st.sampled_from(TOPICS),
        st.lists(st.sampled_from([b"1", b"x" * 40_000, b""]), min_size=1, max_size=3),
        st.sampled_from(["n1", "n2"]),
        st.sampled_from([None, None, 1, 3]),
        st.booleans(),
        st.integers(0, 1),
        st.sampled_from([False, False, True]),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(calls)
def test_two_writers_that_wait_for_nothing_leave_one_log_without_gaps(calls: list[Any]) -> None:
    """Whatever the log joins into rows and transactions, each call got what stands at the offsets it was given."""

    async def write(engine: Engine) -> None:
        async with engine.open() as one, engine.open() as other:
            waiting: list[tuple[Any, Any]] = []
            for call in calls:
                topic, data, name, expect, patient, which, pause = call
                append = Append(topic=topic, data=data, name=name, expect=expect)
                waiting.append((append, (one, other)[which].append(append, patient=patient)))
                if pause:
                    await asyncio.sleep(0)
            lines: dict[str, dict[int, tuple[str, bytes]]] = {topic: {} for topic in TOPICS}
            for append, future in waiting:
                (outcome,) = await asyncio.gather(future, return_exceptions=True)
                if isinstance(outcome, LogConflict):
                    assert append.expect not in (None, outcome.actual)
                    continue
                (result,) = outcome
                assert append.expect in (None, result.first)
                assert result.last - result.first + 1 == len(append.data)
                mine = {result.first + n: (append.name, line) for n, line in enumerate(append.data)}
                assert not mine.keys() & lines[append.topic].keys()
                lines[append.topic] |= mine
            for topic in TOPICS:
                events = {at: (name, line) for at, name, line in await whole(one, topic)}
                assert events == lines[topic]
                assert sorted(events) == list(range(1, len(events) + 1))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write(Engine("sqlite", Path(folder))))


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
