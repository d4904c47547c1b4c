"""Keeps the log in memory: for tests, for demonstrations and for `memory:`.

Owns nothing outside this process, so nothing survives its death, and no other process ever hears of it.
It departs from an engine that writes in one way: an append takes effect in the call, and is announced in the next turn
of the event loop, together with all others of the turn.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter

import msgspec

from events.log.port import (
    Append,
    Appended,
    Block,
    Commit,
    Holding,
    Interest,
    Listener,
    Retention,
    Slice,
    TopicInfo,
    WriteMeter,
)
from events.log.quotas import MemoryCounters, TakeBatch, TakeReply
from events.log.rules import (
    Result,
    TopicState,
    advance,
    announce,
    continuation,
    count_trimmed,
    cut,
    family_of,
    has_expired,
    ignore,
    ignore_time,
    is_key_valid,
    judge,
    keep_all,
    refusal,
    rehearse,
    size_of,
    trim_bounds,
)
from gateway.errors import LogError, LogUnavailable

SWEEP_S = 60
"""Seconds between two sweeps of old topics."""

_first = attrgetter("first")


class MemoryTopic(TopicState):
    """A topic and the blocks kept of it."""

    blocks: list[Block] = msgspec.field(default_factory=list[Block])
    updated_ms: int = 0


class MemoryLog:
    """An EventLog in dicts and lists. `clock` gives seconds since 1970."""

    listener: Listener
    interest: Interest
    on_written: WriteMeter

    def __init__(
        self,
        retention: Callable[[str], Retention] = keep_all,
        *,
        clock: Callable[[], float] = time.time,
        max_pending_bytes: int = 64 << 20,
    ) -> None:
        self.listener = ignore
        self.on_written = ignore_time
        self.interest = frozenset[str]()
        self._retention = retention
        self._clock = clock
        self._counters = MemoryCounters(clock)
        self._max_pending_bytes = max_pending_bytes
        self._topics: dict[str, MemoryTopic] = {}
        self._keys: dict[tuple[str, str], tuple[Appended, int]] = {}
        """The results of idempotency keys, each with the time at which it was recorded."""
        self._commits: list[Commit] = []
        self._results: list[Result] = []
        self._pending_bytes = 0
        """Bytes appended and not announced yet."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_open = False

    @property
    def backlog(self) -> int:
        return 0

    async def open(self) -> None:
        """Starts the sweep of old topics."""
        self._is_open = True
        self._schedule_sweep()

    async def close(self) -> None:
        """Announces what is pending. Appended events stay readable, so that a test can look at them."""
        self._is_open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._announce()

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Appends atomically. Raises LogConflict, WrongOwner, LogUnavailable (by the awaitable)."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Appended]] = loop.create_future()
        size = size_of(appends)
        if not self._is_open:
            future.set_exception(LogUnavailable("the log is not open"))
            return future
        if error := refusal(appends, size, self._pending_bytes, self._max_pending_bytes):
            future.set_exception(error)
            return future
        if not self._results:
            loop.call_soon(self._announce)
        try:
            self._results.append((future, self._take_all(appends)))
            self._pending_bytes += size
        except LogError as error:
            self._results.append((future, error.with_traceback(None)))
        return future

    def may_exist(self, topic: str) -> bool:
        """Returns whether there is such a topic: here the hint is exact."""
        return topic in self._topics

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Counts for limits: here those of this process are all there are."""
        return self._counters.take(batch)

    async def take(self, batch: TakeBatch) -> TakeReply:
        return self._counters.take(batch)

    @property
    def failure(self) -> LogUnavailable | None:
        """Returns None: memory does not fail."""
        return None

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Returns the events strictly after offset `after`, within both limits, but at least one if there is one."""
        state = self._topics.get(topic)
        if state is None:
            return Slice(epoch="")
        blocks = state.blocks
        return Slice(
            epoch=state.epoch,
            owner=state.owner,
            oldest=blocks[0].first if blocks else state.head + 1,
            head=state.head,
            closed=state.closed,
            blocks=cut(blocks[max(0, bisect_right(blocks, after + 1, key=_first) - 1) :], after, max_events, max_bytes),
        )

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        """Returns the next offset: memory has no damage."""
        return min(after, upto) + 1

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        """Returns how many events strictly after offset `after`, up to `upto`, bear each name."""
        counts: dict[str, int] = {}
        state = self._topics.get(topic)
        for block in state.blocks if state is not None else ():
            count = min(block.last, upto) - max(block.first, after + 1) + 1
            if count > 0:
                counts[block.name] = counts.get(block.name, 0) + count
        return counts

    async def topics(
        self,
        prefix: str,
        *,
        owner: str | None = None,
        open_only: bool = False,
        before_ms: int | None = None,
        limit: int = 100,
    ) -> list[TopicInfo]:
        """Returns topics whose name starts with `prefix`, last changed first, then by name."""
        infos = [
            TopicInfo(
                topic=name,
                owner=topic.owner,
                epoch=topic.epoch,
                head=topic.head,
                updated_ms=topic.updated_ms,
                closed=topic.closed,
            )
            for name, topic in self._topics.items()
            if name.startswith(prefix)
            and (owner is None or topic.owner == owner)
            and not (open_only and topic.closed)
            and (before_ms is None or topic.updated_ms < before_ms)
        ]
        return sorted(infos, key=lambda info: (-info.updated_ms, info.topic))[:limit]

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Returns what is kept of an owner, or in all, by family."""
        sums: dict[str, tuple[int, int]] = {}
        for name, topic in self._topics.items():
            if owner is None or topic.owner == owner:
                family = family_of(name)
                topics, stored = sums.get(family, (0, 0))
                sums[family] = topics + 1, stored + topic.total - topic.base
        return [Holding(family, *counts) for family, counts in sums.items()]

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch."""
        if topic not in self._topics:
            return False
        self._drop(topic)
        self._announce()
        return True

    async def scrub(self) -> str:
        """Returns nothing: what was deleted is gone."""
        return ""

    async def names(self, after: str, limit: int) -> list[str]:
        """Returns the names of at most `limit` topics in their order, strictly after `after`."""
        return sorted(name for name in self._topics if name > after)[:limit]

    async def adopt(self, topic: str, part: Slice) -> None:
        """Takes over what another log holds of a topic. Raises LogConflict."""
        state = self._topics.get(topic)
        if state is None:
            state = MemoryTopic(topic, epoch=part.epoch, owner=part.owner, head=part.oldest - 1)
        for block in continuation(part, state):
            state.blocks.append(block)
            state.head = block.last
            state.total += sum(map(len, block.data))
            state.updated_ms = block.time_ms
        state.closed = part.closed and state.head == part.head
        self._topics[topic] = state

    async def sweep(self) -> None:
        """Applies the retention to every topic, now; otherwise that happens at each append and every SWEEP_S."""
        self._sweep()

    def _sweep(self) -> None:
        now_ms = self._now_ms()
        self._keys = {at: result for at, result in self._keys.items() if is_key_valid(result[1], now_ms)}
        for name, topic in list(self._topics.items()):
            if has_expired(topic, self._retention(name), topic.updated_ms, now_ms):
                self._drop(name)
            else:
                self._trim(topic, now_ms)
        self._announce()

    def _schedule_sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweep()
        self._schedule_sweep()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _take_all(self, appends: tuple[Append, ...]) -> list[Appended]:
        """Appends all of a call, or raises and appends none of it."""
        now_ms = self._now_ms()
        topics: dict[str, MemoryTopic] = {}
        results: dict[tuple[str, str], Appended] = {}
        for append in appends:
            name = append.topic
            if name not in topics:
                topics[name] = self._topics.get(name) or MemoryTopic(name)
            if append.key is not None:
                self._load_key((name, append.key), results, now_ms)
        if len(appends) > 1:
            rehearse(appends, topics, results)
        return [self._take(append, topics[append.topic], results, now_ms) for append in appends]

    def _load_key(self, key: tuple[str, str], results: dict[tuple[str, str], Appended], now_ms: int) -> None:
        result = self._keys.get(key)
        if result is not None and is_key_valid(result[1], now_ms):
            results[key] = result[0]

    def _take(
        self, append: Append, topic: MemoryTopic, results: dict[tuple[str, str], Appended], now_ms: int
    ) -> Appended:
        earlier = judge(append, topic, results)
        if earlier is not None:
            return earlier
        name, data = topic.name, append.data
        if not topic.epoch:
            self._topics[name] = topic
            topic.updated_ms = now_ms
        result = advance(append, topic)
        if append.key is not None:
            results[name, append.key] = result
            self._keys[name, append.key] = result, now_ms
        block = Block(result.first, data[:], append.name, now_ms)
        self._commits.append(Commit(topic=name, epoch=result.epoch, block=block, closed=append.close))
        if data:
            topic.blocks.append(block)
            topic.total += sum(map(len, data))
            topic.updated_ms = now_ms
            self._trim(topic, now_ms)
        return result

    def _trim(self, topic: MemoryTopic, now_ms: int) -> None:
        bounds = trim_bounds(topic, self._retention(topic.name), now_ms)
        count, topic.base = count_trimmed(topic.blocks, topic.base, bounds)
        if count:
            del topic.blocks[:count]

    def _drop(self, name: str) -> None:
        topic = self._topics.pop(name)
        self._keys = {at: result for at, result in self._keys.items() if at[0] != name}
        self._commits.append(Commit(topic=name, epoch=topic.epoch, block=None))

    def _announce(self) -> None:
        commits, self._commits = self._commits, []
        results, self._results = self._results, []
        self._pending_bytes = 0
        announce(self.listener, commits, results)
