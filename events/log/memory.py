"""The log in memory: for tests, for demonstrations and for `memory:`.

Owns nothing outside this process, so nothing survives its death and no other process is ever told of.
It departs from an engine that writes in one way: an append takes effect in the call, and is told in the next turn
of the event loop, together with all others of the turn.
"""

import asyncio
import secrets
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter

import msgspec

from events.log.port import Append, Appended, Block, Commit, Listener, Retention, Slice, TopicInfo, Wanted
from gateway.errors import LogConflict, LogError, LogUnavailable, WrongOwner

KEY_S = 300
SWEEP_S = 60

_first = attrgetter("first")


class _TopicState(msgspec.Struct, frozen=True, kw_only=True):
    epoch: str
    owner: str
    head: int = 0
    closed: bool = False
    updated_ms: int = 0


class _StagedAppend(msgspec.Struct):
    """What one `append` does, kept apart until all of it is known to hold."""

    topics: dict[str, _TopicState] = {}
    keys: dict[tuple[str, str], tuple[Appended, int]] = {}
    commits: list[Commit] = []
    results: list[Appended] = []


def ignore(commits: Sequence[Commit]) -> None:
    """The listener of a log that nobody listens to."""


def keep_all(topic: str) -> Retention:
    """The retention of a log that forgets nothing."""
    return Retention()


class MemoryLog:
    """An EventLog in dicts and lists. `clock` gives seconds since 1970."""

    listener: Listener
    wanted: Wanted

    def __init__(
        self,
        retention: Callable[[str], Retention] = keep_all,
        *,
        clock: Callable[[], float] = time.time,
        max_pending_bytes: int = 64 << 20,
    ) -> None:
        self.listener = ignore
        self.wanted = frozenset[str]()
        self._retention = retention
        self._clock = clock
        self._max_pending_bytes = max_pending_bytes
        self._topics: dict[str, _TopicState] = {}
        self._blocks: dict[str, list[Block]] = {}
        self._bytes: dict[str, int] = {}
        self._keys: dict[tuple[str, str], tuple[Appended, int]] = {}
        self._untold: list[Commit] = []
        self._answers: list[tuple[asyncio.Future[list[Appended]], list[Appended] | LogError]] = []
        self._pending_bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_open = False

    async def open(self) -> None:
        """Starts the sweep of old topics."""
        self._is_open = True
        self._sweep_later()

    async def close(self) -> None:
        """Tells what is not told yet. What was appended stays readable, so that a test can look at it."""
        self._is_open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._tell()

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Appends atomically. Raises LogConflict, WrongOwner, LogUnavailable (by the awaitable)."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Appended]] = loop.create_future()
        size = sum([len(line) for append in appends for line in append.data])
        refused = self._refusal(size)
        if refused is not None:
            future.set_exception(refused)
            return future
        try:
            change = self._plan(appends)
        except LogError as error:
            self._answer(loop, future, error)
            return future
        self._pending_bytes += size
        self._answer(loop, future, change.results)
        self._apply(change)
        return future

    def exists(self, topic: str) -> bool:
        """Whether there is such a topic."""
        return topic in self._topics

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Events strictly after offset `after`, at least one when there is one, else bounded by both limits."""
        state = self._topics.get(topic)
        if state is None:
            return Slice(epoch="")
        blocks = self._blocks[topic]
        return Slice(
            epoch=state.epoch,
            owner=state.owner,
            oldest=blocks[0].first if blocks else state.head + 1,
            head=state.head,
            closed=state.closed,
            blocks=cut(blocks[max(0, bisect_right(blocks, after + 1, key=_first) - 1) :], after, max_events, max_bytes),
        )

    async def topics(
        self,
        prefix: str,
        *,
        owner: str | None = None,
        open_only: bool = False,
        before_ms: int | None = None,
        limit: int = 100,
    ) -> list[TopicInfo]:
        """Topics whose name starts with `prefix`, last changed first, then by name."""
        found = [
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
        return sorted(found, key=lambda info: (-info.updated_ms, info.topic))[:limit]

    async def delete(self, topic: str) -> bool:
        """Removes a topic and its events; its name may be used again, with another epoch."""
        found = topic in self._topics
        if found:
            self._drop(topic)
            self._tell()
        return found

    async def sweep(self) -> None:
        """Applies the retention to every topic, now; otherwise it happens at each append and every minute."""
        self._sweep()
        self._tell()

    def _sweep(self) -> None:
        now_ms = self._now_ms()
        self._keys = {at: known for at, known in self._keys.items() if known[1] > now_ms - KEY_S * 1000}
        for name, topic in list(self._topics.items()):
            age_s = self._retention(name).closed_age_s
            if topic.closed and age_s is not None and topic.updated_ms < now_ms - age_s * 1000:
                self._drop(name)
            else:
                self._trim(name)

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_and_tell)

    def _sweep_and_tell(self) -> None:
        self._sweep()
        self._tell()
        self._sweep_later()

    def _drop(self, name: str) -> None:
        gone = self._topics.pop(name)
        del self._blocks[name], self._bytes[name]
        self._keys = {at: known for at, known in self._keys.items() if at[0] != name}
        self._untold.append(Commit(topic=name, epoch=gone.epoch, block=None))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _refusal(self, size: int) -> LogUnavailable | None:
        if not self._is_open:
            return LogUnavailable("the log is not open")
        if self._pending_bytes + size > self._max_pending_bytes:
            return LogUnavailable(f"more than {self._max_pending_bytes} bytes wait to be told")
        return None

    def _plan(self, appends: Collection[Append]) -> _StagedAppend:
        change = _StagedAppend()
        now_ms = self._now_ms()
        for append in appends:
            topic = change.topics.get(append.topic) or self._topics.get(append.topic)
            if topic is None:
                topic = _TopicState(epoch=secrets.token_hex(4), owner=append.owner)
            change.results.append(self._plan_one(append, topic, change, now_ms))
        return change

    def _plan_one(self, append: Append, topic: _TopicState, change: _StagedAppend, now_ms: int) -> Appended:
        name, first = append.topic, topic.head + 1
        if append.owner and append.owner != topic.owner:
            raise WrongOwner(f"topic {name!r} belongs to someone else")
        if append.key is not None:
            known = change.keys.get((name, append.key)) or self._keys.get((name, append.key))
            if known is not None and known[1] > now_ms - KEY_S * 1000:
                return msgspec.structs.replace(known[0], duplicate=True)
        if topic.closed or append.expect not in (None, first):
            raise LogConflict(name, append.expect, first, closed=topic.closed)
        block = Block(first=first, data=list(append.data), name=append.name, time_ms=now_ms)
        done = Appended(epoch=topic.epoch, first=first, last=block.last)
        change.topics[name] = msgspec.structs.replace(
            topic, head=block.last, closed=append.close, updated_ms=now_ms if block.data else topic.updated_ms or now_ms
        )
        if append.key is not None:
            change.keys[name, append.key] = (done, now_ms)
        change.commits.append(Commit(topic=name, epoch=topic.epoch, block=block, closed=append.close))
        return done

    def _apply(self, change: _StagedAppend) -> None:
        self._topics.update(change.topics)
        self._keys.update(change.keys)
        self._untold += change.commits
        for commit in change.commits:
            blocks = self._blocks.setdefault(commit.topic, [])
            self._bytes.setdefault(commit.topic, 0)
            if commit.block is not None and commit.block.data:
                blocks.append(commit.block)
                self._bytes[commit.topic] += _size(commit.block)
        for name in change.topics:
            self._trim(name)

    def _trim(self, name: str) -> None:
        """Whole blocks go, oldest first, while all of the oldest one is beyond a limit."""
        keep, blocks, head = self._retention(name), self._blocks[name], self._topics[name].head
        left = self._bytes[name]
        oldest_ms = -1 if keep.age_s is None else self._now_ms() - keep.age_s * 1000
        count = 0
        for block in blocks:
            after = left - _size(block)
            past_bytes = keep.max_bytes is not None and after >= keep.max_bytes
            past_events = keep.events is not None and block.last <= head - keep.events
            if not (past_bytes or past_events or block.time_ms < oldest_ms):
                break
            left = after
            count += 1
        del blocks[:count]
        self._bytes[name] = left

    def _answer(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[list[Appended]],
        outcome: list[Appended] | LogError,
    ) -> None:
        if not self._answers:
            loop.call_soon(self._tell)
        self._answers.append((future, outcome))

    def _tell(self) -> None:
        commits, self._untold = self._untold, []
        answers, self._answers = self._answers, []
        self._pending_bytes = 0
        try:
            if commits:
                self.listener(commits)
        finally:
            for future, outcome in answers:
                _settle(future, outcome)


def _settle(future: asyncio.Future[list[Appended]], outcome: list[Appended] | LogError) -> None:
    if future.done():
        return
    if isinstance(outcome, LogError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _size(block: Block) -> int:
    return sum(map(len, block.data))


def cut(blocks: Sequence[Block], after: int, max_events: int, max_bytes: int) -> list[Block]:
    """The events of `blocks` after offset `after`, up to both limits, but at least one when there is one."""
    taken: list[Block] = []
    for block in blocks:
        data: list[bytes] = []
        first = max(block.first, after + 1)
        for line in block.data[first - block.first :]:
            max_events -= 1
            max_bytes -= len(line)
            if (max_events < 0 or max_bytes < 0) and (taken or data):
                break
            data.append(line)
        if data:
            taken.append(Block(first=first, data=data, name=block.name, time_ms=block.time_ms))
        if max_events < 0 or max_bytes < 0:
            break
    return taken
