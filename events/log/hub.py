"""Feeds the topics that are followed in this process: one hub receives every commit, and feeds the tails.

A reader is a cursor and a wake-up; it holds no queue. It registers before it reads the log, so no event can fall
between replay and live: what the log did not show yet is fed to the ring, and what the ring lacks is in the log.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from events.log.meter import DeliveryMeter
from events.log.port import NO_EVENTS, Block, Commit, EventLog, Position, Slice
from events.log.ring import Encode, Ring, Tail, Waker, Watch
from events.log.source import Source
from gateway.errors import Gone, LogDamaged, LogError

WAKE_SLICE = 256
"""Maximum readers woken in one turn of the event loop; the rest follow in the next, so others keep their latency."""
RETRY_S = 0.1
"""Seconds between two tries to read a log that cannot be read."""
WRITE_BYTES = 65_536
"""Maximum bytes of one write (or one frame, when that is larger)."""


class Hub:
    """Rings and watches by topic. Owns the log's `listener` and is its `interest`."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._tails: dict[str, list[Tail]] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._news: set[str] = set()
        """Topics that another process wrote to since they were last read here."""
        self._finders: list[tuple[str, Callable[[str], None]]] = []
        """Prefixes, each with what is called for every topic of that prefix that is written to."""
        self.on_damage: Callable[[str, int, int], None] = _no_damage
        """Called with a topic, and the first and last offset of events that its tails were told cannot be read."""
        self.meter = DeliveryMeter()
        log.listener = self._on_commits
        log.interest = self

    def __contains__(self, topic: object) -> bool:
        """Returns whether the topic is followed here. Engines call this from threads of their own, too."""
        return topic in self._tails or any(str(topic).startswith(prefix) for prefix, _ in self._finders)

    def __len__(self) -> int:
        return len(self._tails) + len(self._finders)

    def open_new(self, topic: str, encode: Encode) -> "TopicReader":
        """Returns a reader of a topic that does not exist yet, because its name is fresh and random: no replay."""
        ring = self._ring(topic, encode)
        ring.start("", 0, closed=False)
        return TopicReader(self, topic, ring, 0)

    async def open(self, topic: str, encode: Encode, after: Position | None) -> "TopicReader":
        """Returns a reader that starts strictly after `after` (None: at the oldest event).

        Raises Gone with code `unknown_topic`, `epoch_changed`, `evicted` or `unknown_cursor`.
        """
        reader = TopicReader(self, topic, self._ring(topic, encode), after.offset if after else 0)
        try:
            await reader.replay(after)
        except BaseException:
            reader.close()
            raise
        return reader

    def watch(
        self, topic: str, after: Position, on_block: Callable[[Block], None], *, is_standing: bool = False
    ) -> Callable[[], None]:
        """Calls `on_block` for each block after `after` that any process appends from now on; returns how to end it.

        Register before your own append: what others append between the two then comes too. It ends with the topic,
        unless it `is_standing`: then it goes on with what is made anew under that name.
        """
        tail = Watch(on_block, is_standing=is_standing)
        tail.start(after.epoch, after.offset, closed=False)
        self.follow(topic, tail)

        def end() -> None:
            self.leave(topic, tail)
            tail.on_block = _unwatched  # whoever watches holds this function, and is not to be held by it

        return end

    def follow(self, topic: str, tail: Tail) -> None:
        """Feeds `tail` from now on; end it with `leave`."""
        self._tails.setdefault(topic, []).append(tail)

    def find(self, prefix: str, on_write: Callable[[str], None]) -> Callable[[], None]:
        """Calls `on_write` with a topic of that prefix each time it is written to; returns how to end it."""
        finder = (prefix, on_write)
        self._finders.append(finder)
        return lambda: self._finders.remove(finder)

    def leave(self, topic: str, tail: Tail) -> None:
        """Feeds `tail` no longer. Idempotent."""
        tails = self._tails.get(topic, [])
        if tail in tails:
            tails.remove(tail)
        if not tails:
            self._tails.pop(topic, None)

    async def close(self) -> None:
        """Ends all fetches; the log is closed by its owner."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    def _ring(self, topic: str, encode: Encode) -> Ring:
        tails = self._tails.setdefault(topic, [])
        for tail in tails:
            if isinstance(tail, Ring) and tail.encode == encode and not tail.deleted:
                return tail
        ring = Ring(encode)
        tails.append(ring)
        return ring

    def _on_commits(self, commits: Sequence[Commit]) -> None:
        tails = self._tails
        fed_tails: dict[Tail, None] = {}
        for commit in commits:
            for prefix, on_write in self._finders:
                if commit.topic.startswith(prefix):
                    on_write(commit.topic)
            for tail in tails.get(commit.topic, ()):
                if commit.block is None:
                    self.refresh(commit.topic)
                    continue
                if _feed(tail, commit.epoch, commit.block):
                    tail.closed = tail.closed or commit.closed
                else:
                    self.refresh(commit.topic)
                fed_tails[tail] = None
        for tail in fed_tails:
            self._flush(tail)

    def _flush(self, tail: Tail) -> None:
        if isinstance(tail, Ring):
            self.wake(tail.readers)
        else:
            tail.flush()

    def wake(self, readers: Collection[Waker]) -> None:
        """Wakes readers, WAKE_SLICE of them in each turn of the event loop."""
        if len(readers) <= WAKE_SLICE:
            for reader in tuple(readers):  # a reader that is woken by the end leaves at once
                _wake(reader)
        else:
            self._wake_slice(iter(list(readers)))

    def _wake_slice(self, readers: Iterator[Waker]) -> None:
        batch = list(islice(readers, WAKE_SLICE))
        for reader in batch:
            _wake(reader)
        if batch:
            asyncio.get_running_loop().call_soon(self._wake_slice, readers)

    def refresh(self, topic: str) -> None:
        """Reads what another process wrote, once for all tails of the topic, however often this is called meanwhile."""
        self._news.add(topic)
        if topic not in self._fetches:
            self._fetches[topic] = asyncio.get_running_loop().create_task(self._fetch(topic))

    async def _fetch(self, topic: str) -> None:
        """Reads until no news came in meanwhile; a log that cannot be read is tried again."""
        try:
            while topic in self._news and topic in self._tails:
                self._news.discard(topic)
                try:
                    await self._fetch_new(topic)
                except LogDamaged as err:  # not even where its blocks begin can be read: trying again is no use
                    report(f"the topic {topic!r} cannot be read", err)
                except LogError:
                    self._news.add(topic)
                    await asyncio.sleep(RETRY_S)
        finally:
            self._news.discard(topic)
            self._fetches.pop(topic, None)

    async def _fetch_new(self, topic: str) -> None:
        for tail in list(self._tails.get(topic, ())):
            has_more = tail.head >= 0
            tail.stale = not has_more
            while has_more and not tail.deleted:
                after, epoch = tail.head, tail.epoch
                part = await self._read_around_damage(topic, tail)
                if tail.epoch != epoch:  # the topic began meanwhile, so what was read is older than what was fed
                    continue
                tail.compare(part.epoch, part.oldest)  # may move the head back, to before a topic that was made anew
                for block in part.blocks:
                    _feed(tail, part.epoch, block)
                tail.closed = tail.closed or (part.closed and tail.head >= part.head)
                has_more = bool(part.blocks) or tail.head != after
            self._flush(tail)

    async def _read_around_damage(self, topic: str, tail: Tail) -> Slice:
        """Reads what follows a tail; what cannot be read of it is skipped, and told."""
        while True:
            try:
                return await self.log.read(topic, tail.head)
            except LogDamaged:
                state = await self.log.read(topic, NO_EVENTS, max_events=1)
                tail.compare(state.epoch, state.oldest)
                first = tail.head + 1
                if tail.deleted or first > state.head:
                    return state
                last = await self.log.next_readable(topic, tail.head, state.head) - 1
                tail.skip(max(first, last))
                self.on_damage(topic, first, tail.head)


class TopicReader(Source):
    """A cursor on one topic. `next` gives frames; `ended` is true when no more will come."""

    def __init__(self, hub: Hub, topic: str, ring: Ring, cursor: int) -> None:
        self.hub = hub
        self.topic = topic
        self.ring = ring
        self.cursor = cursor
        self._pending = b""
        self.on_wake: Callable[[], object] = _nobody
        """Called when something may be due; its user sets it."""
        ring.readers.add(self)

    @property
    def ended(self) -> bool:
        """Returns whether no more frames will come."""
        return self.ring.deleted or self.complete

    @property
    def complete(self) -> bool:
        """Returns whether all of a closed topic was read."""
        ring = self.ring
        return ring.closed and self.cursor >= ring.head >= 0 and not self._pending and not ring.deleted

    def wake(self) -> None:
        self.on_wake()

    def close(self) -> None:
        self.on_wake = _nobody
        self.ring.readers.discard(self)
        if not self.ring.readers:
            self.hub.leave(self.topic, self.ring)

    def poll(self) -> bytes | None:
        """Returns the frames due now, about WRITE_BYTES; b"" when none are; None when `catch_up` must fetch them."""
        if self._pending:
            pending, self._pending = self._pending, b""
            return pending
        ring, data = self.ring, b""
        while not data and self.cursor < ring.head and not ring.deleted:
            if not ring.holds(self.cursor + 1):
                return None
            data, self.cursor = ring.take(self.cursor, WRITE_BYTES)
        return data

    async def catch_up(self) -> None:
        """Fetches the next slice from the log; raises Gone when it is no longer kept there."""
        await self.replay(Position(epoch=self.ring.epoch, offset=self.cursor))

    async def next(self) -> bytes:
        """Waits for frames as `poll` gives them; returns b"" when woken for another reason, or ended."""
        data = await self._poll()
        if data or self.ended:
            return data
        news = asyncio.get_running_loop().create_future()
        self.on_wake = lambda: news.done() or news.set_result(None)
        try:
            await news
        finally:
            self.on_wake = _nobody
        return await self._poll()

    async def _poll(self) -> bytes:
        while (data := self.poll()) is None:
            await self.catch_up()
        return data

    async def replay(self, after: Position | None) -> None:
        """Reads one bounded slice of the log into `_pending`; raises Gone when events after `after` are not there."""
        part = await self.hub.log.read(self.topic, self.cursor, max_bytes=WRITE_BYTES)
        if not part.epoch:
            raise Gone(f"there is no stream {self.topic!r}", code="unknown_topic")
        if after is not None and after.offset and after.epoch != part.epoch:
            raise Gone("this stream was deleted and made anew", code="epoch_changed")
        if self.cursor > part.head:
            raise Gone(f"offset {self.cursor} is past the newest event {part.head}", code="unknown_cursor")
        if self.cursor + 1 < part.oldest and (after is not None or part.oldest > 1):
            raise Gone(f"events up to {part.oldest - 1} are no longer kept", code="evicted")
        await asyncio.sleep(0)  # an engine that never waits must not starve the loop during a long replay
        self.ring.start(part.epoch, part.head, closed=part.closed)
        if self.ring.stale:
            self.ring.stale = False
            self.hub.refresh(self.topic)
        self._pending = b"".join([frame for block in part.blocks for frame in self.ring.encode(part.epoch, block)])
        if part.blocks:
            self.cursor = part.blocks[-1].last


def _feed(tail: Tail, epoch: str, block: Block) -> bool:
    """Feeds one tail; one that fails at a block is over, and no other is affected."""
    try:
        return tail.feed(epoch, block)
    except Exception as err:
        tail.deleted = True
        report("a reader's encoder failed", err)
        return True


def _wake(reader: Waker) -> None:
    """Wakes one reader; one that fails keeps the news from no other."""
    try:
        reader.wake()
    except Exception as err:
        report("a reader failed", err)


def report(message: str, error: Exception) -> None:
    """Has the event loop log an error that must end nothing else."""
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


def _no_damage(topic: str, first: int, last: int) -> None:
    """Does nothing: nobody wants to know."""


def _nobody() -> None:
    """Does nothing: nobody is waiting."""


def _unwatched(block: Block) -> None:
    """Does nothing: nobody watches any more."""
