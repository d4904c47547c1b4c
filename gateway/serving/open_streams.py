"""Keeps the open event streams of this process, and sends them away so that they do not all come back at once."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice
from typing import Literal, NamedTuple, Protocol

from gateway.errors import Overloaded, TrilaneError
from gateway.serving.wheel import SLOT_S, Wheel

FAIL_SLICE = 256
"""Maximum streams ended in one turn of the event loop when the log fails; the rest follow in the next."""
TICK_S = 0.005
"""Shortest time between two departures, in seconds; when more are due, several streams leave together."""
FEW = 1000
"""Streams that are looked at one by one whenever somebody wants to know their states: a third of a millisecond."""
STATES_S = 5.0
"""Seconds for which the states of more streams than that are good."""
OPENING_S = 10.0
"""Seconds that may pass between the look at a reader's right and the beginning of its stream."""
EXPIRY_NOTICE_S = 60
"""Seconds before the end of a token at which its bearer is told, on a stream or socket that is open then."""


class TokenEnd:
    """The end of a reader's token, at which its stream is cut."""

    __slots__ = ("due_at", "ends_at", "notice")

    def __init__(self, remaining_s: float, notice: Callable[[int], bytes] = lambda seconds: b"") -> None:
        """`notice` returns the bytes that say, EXPIRY_NOTICE_S before, in how many seconds that will be."""
        self.ends_at = asyncio.get_running_loop().time() + remaining_s
        self.due_at = self.ends_at - EXPIRY_NOTICE_S
        """The time of the next thing to be said."""
        self.notice = notice


StreamState = Literal["opening", "live", "replaying"]
"""The state of a stream: it has not begun, it follows what comes, or it reads from the log what it has missed."""
STATES: tuple[StreamState, ...] = ("opening", "live", "replaying")


class Audience(NamedTuple):
    """The reader of a stream whose right to read may be taken away while it is open."""

    sub: str
    topics: Sequence[str]
    """What the right is needed for."""


class Stream(Protocol):
    """A response to one reader, as a drain sees it."""

    leaves_cleanly: bool

    @property
    def key_id(self) -> str:
        """Returns the id of the stored key that its reader signed in with; empty for other credentials."""
        ...

    @property
    def audience(self) -> Audience | None: ...
    @property
    def lane(self) -> str: ...
    @property
    def state(self) -> StreamState: ...

    @property
    def resumable(self) -> bool:
        """Returns whether its reader can come back with a cursor; otherwise a drain lets it read on."""
        ...

    def leave(self) -> None:
        """Ends soon, at the end of a whole event."""
        ...

    def fail(self, error: TrilaneError) -> None:
        """Ends soon, at the end of a whole event, with words about an error of the log, or of its credential."""
        ...


class OpenStreams:
    """The open responses of this process. Bounded: past its capacity `admit` refuses."""

    lane = ""

    def __init__(self, slot_s: float = SLOT_S, capacity: int = 1_000_000) -> None:
        """Admits `capacity` streams at once, at most."""
        self.draining = False
        self._lanes: list[str] = []
        self._states: dict[tuple[str, ...], float] = {}
        self._states_until = 0.0
        self._capacity = capacity
        self.wheel = Wheel(slot_s)
        """The timer that all of them share."""
        self._streams: set[Stream] = set()
        self._revocations: dict[str, TrilaneError] = {}
        """The errors with which the streams of revoked keys end, by the key's id."""
        self._removals: dict[tuple[str, str], tuple[TrilaneError, float]] = {}
        """The errors with which streams of users end that have no right to a topic any more, and when that was."""
        self._departure = asyncio.Event()

    def __len__(self) -> int:
        return len(self._streams)

    def of(self, lane: str) -> "LaneStreams":
        """Returns the streams of one lane, which opens its own through it."""
        self._lanes.append(lane)
        return LaneStreams(self, lane)

    def states(self) -> dict[tuple[str, ...], float]:
        """Returns how many streams of each lane are in each state. Of very many this is up to STATES_S old.

        It may be called in any thread.
        """
        now = time.monotonic()
        if len(self._streams) <= FEW or now >= self._states_until:
            states: dict[tuple[str, ...], float] = {(lane, state): 0.0 for lane in self._lanes for state in STATES}
            for stream in list(self._streams):
                key = (stream.lane, stream.state)
                states[key] = states.get(key, 0) + 1
            self._states, self._states_until = states, now + STATES_S
        return self._states

    def admit(self) -> None:
        """Raises Overloaded when no more can be opened, because this process is full or draining."""
        if self.draining:
            raise Overloaded("this process is shutting down", code="draining", retry_after="1")
        if len(self._streams) >= self._capacity:
            raise Overloaded(
                f"all {self._capacity} streams of this process are open (TRILANE_LIMIT_STREAMS)", retry_after="1"
            )

    def add(self, stream: Stream) -> None:
        self._streams.add(stream)
        if stream.key_id in self._revocations:  # since its reader signed in
            stream.fail(self._revocations[stream.key_id])
        if self._removals and stream.audience is not None:
            for topic in stream.audience.topics:
                if (removed := self._removals.get((stream.audience.sub, topic))) is not None:
                    _dismiss(stream, removed[0])  # since its right was looked at

    def discard(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._departure.set()

    def fail(self, error: TrilaneError) -> None:
        """Ends every stream, those that cannot resume too, with words about an error of the log."""
        self._fail_slice(error, iter(list(self._streams)))

    def revoke(self, key_id: str, error: TrilaneError) -> None:
        """Ends every stream of a key with words about an error, now and for good.

        They are looked for: a table of them would cost every stream memory, and a key is seldom revoked.
        """
        self._revocations[key_id] = error
        self._fail_slice(error, iter([stream for stream in self._streams if stream.key_id == key_id]))

    def remove(self, sub: str, topics: Set[str], error: TrilaneError) -> None:
        """Ends every stream by which a user reads one of these topics, and any that is just being opened."""
        now = time.monotonic()
        self._removals = {key: kept for key, kept in self._removals.items() if now - kept[1] < OPENING_S}
        self._removals |= {(sub, topic): (error, now) for topic in topics}
        for stream in list(self._streams):
            audience = stream.audience
            if audience is not None and audience.sub == sub and not topics.isdisjoint(audience.topics):
                _dismiss(stream, error)

    def readmit(self, sub: str, topics: Set[str]) -> None:
        """Takes back `remove` for streams that are opened from now on."""
        for topic in topics:
            self._removals.pop((sub, topic), None)

    def _fail_slice(self, error: TrilaneError, streams: Iterator[Stream]) -> None:
        batch = list(islice(streams, FAIL_SLICE))
        for stream in batch:
            stream.fail(error)
        if batch:
            asyncio.get_running_loop().call_soon(self._fail_slice, error, streams)

    async def drain(self, window_s: float) -> None:
        """Asks every stream that can resume to leave, in random order, evenly over the window, or sooner."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + window_s
        staying = [stream for stream in self._streams if stream.resumable]
        random.shuffle(staying)
        while staying:
            if len(self._streams) < len(staying):  # some have left by themselves
                staying = [stream for stream in staying if stream in self._streams]
                continue
            share_s = max(0.0, end - loop.time()) / len(staying)
            due_at = loop.time() + max(share_s, TICK_S if share_s else 0.0)
            while loop.time() < due_at and staying[-1] in self._streams:
                await self._wait_for_departure(due_at - loop.time())
            for _ in range(max(1, round(TICK_S / share_s)) if share_s else 1):
                if staying:
                    staying.pop().leave()

    async def _wait_for_departure(self, timeout_s: float) -> None:
        """Waits until a stream has ended by itself."""
        self._departure.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._departure.wait()


class LaneStreams:
    """The open streams of one lane, among those of all: the capacity is everyone's."""

    __slots__ = ("_all", "add", "admit", "discard", "lane", "wheel")

    def __init__(self, streams: OpenStreams, lane: str) -> None:
        self._all = streams
        self.lane = lane
        self.wheel = streams.wheel
        self.admit, self.add, self.discard = streams.admit, streams.add, streams.discard

    @property
    def draining(self) -> bool:
        return self._all.draining


def _dismiss(stream: Stream, error: TrilaneError) -> None:
    """Ends a stream as `fail` does, and properly: its reader is not to come back."""
    stream.leaves_cleanly = True
    stream.fail(error)
