"""Tells who follows a topic, across processes, and only while a client wants to know.

The processes of one log talk over a topic of it. A process that wants to know about a topic requests it; every process
answers with its own readers of that topic, again when they change and every BEAT_S. An answer that is not repeated
within FRESH_S is forgotten, so the readers of a process that was killed are gone from the count by then.
Of the processes where `presence/<topic>` is followed one publishes to it: the first by name.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import msgspec
import structlog

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Appended, Block, EventLog, Position
from events.log.topics import PRESENCE, stored
from gateway.errors import LogDamaged, LogError

PEERS = "peers"
"""The topic over which processes talk."""
BEAT_S = 15.0
"""Seconds between two repetitions of what the other processes must not forget."""
FRESH_S = 40.0
"""Seconds after which what another process said is forgotten, unless it was repeated."""
MAX_TOPICS = 10_000
"""Maximum topics that are known at once; of any other topic only this process's own readers are counted."""
ANSWER_S = 0.5
"""Maximum seconds that a request waits for the answers of processes, which may be dead."""
SETTLE_S = 0.1
"""Seconds for which a process gathers changes of its readers before it sends them."""
LIST_S = 0.5
"""Seconds that a new reader waits for the list, so that the readers of every process are on it."""
MAX_LISTED = 1000
"""Maximum names in one `here` event; the others are counted."""
MAX_BATCH = 500
"""Maximum messages of a process that are one append."""


class PeerMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message from one process to the others."""

    by: str
    """The name of the process that sends it."""
    kind: Literal["new", "here", "gone", "ask", "readers"]
    topic: str = ""
    follows: bool = False
    """Whether, in `ask`, `presence/<topic>` is followed there, so that the sender can publish to it."""
    fresh: bool = False
    """Whether, in `ask`, a new reader there needs the whole list."""
    subs: dict[str, int] = {}
    """The number of streams of each user, in `readers`."""


log = structlog.get_logger("presence")

_decode = msgspec.json.Decoder(PeerMessage).decode


def presence_events(topic: str, before: frozenset[str] | None, subs: frozenset[str]) -> list[tuple[str, object]]:
    """Returns the events, with their data, that take whoever knows the users of `before` (None: nobody) to `subs`."""
    if before is None:
        names = sorted(subs)[:MAX_LISTED]
        return [("here", {"topic": topic, "here": names, "more": len(subs) - len(names)})]
    events: list[tuple[str, object]] = [("join", {"topic": topic, "sub": sub}) for sub in sorted(subs - before)]
    return events + [("leave", {"topic": topic, "sub": sub}) for sub in sorted(before - subs)]


class TopicPresence:
    """The readers of one topic, as this process knows them. Times are those of the event loop's clock."""

    def __init__(self) -> None:
        self.readers: dict[str, tuple[dict[str, int], float]] = {}
        """The number of streams of each user in each process, and when the process sent them."""
        self.requests: dict[str, float] = {}
        """The time at which each process last requested the topic."""
        self.writers: dict[str, float] = {}
        """The time at which each process last said that it follows the presence topic."""
        self.roster: frozenset[str] | None = None
        """The users that this process last published as present; None while another process publishes."""
        self.list_at = 0.0
        """The time at which the whole list is due for a new reader; 0 when none is due."""
        self.watchers: set[Callable[[], None]] = set()
        """Called when the users have changed."""
        self.watched: frozenset[str] | None = None
        """The users of whom the watchers were told last; None until the list of every process is there."""

    def forget(self, now: float) -> None:
        """Forgets everything that was not repeated in time."""
        for times in (self.requests, self.writers):
            for peer in [peer for peer, at in times.items() if now - at > FRESH_S]:
                del times[peer]
        for peer in [peer for peer, (_, at) in self.readers.items() if now - at > FRESH_S]:
            del self.readers[peer]

    def count(self) -> int:
        return sum(sum(subs.values()) for subs, _ in self.readers.values())

    def subs(self) -> frozenset[str]:
        return frozenset(sub for subs, _ in self.readers.values() for sub in subs)

    def next_events(self, topic: str) -> list[tuple[str, object]]:
        """Returns the events that take readers of the presence topic from the roster to the present users."""
        subs = self.subs()
        events = presence_events(topic, None if self.list_at else self.roster, subs)
        self.roster, self.list_at = subs, 0.0
        return events

    def tell_watchers(self, *, is_first: bool = False) -> None:
        if is_first or (self.watched is not None and self.watched != self.subs()):
            self.watched = self.subs()
            for tell in tuple(self.watchers):
                tell()


class Presence:
    """The presence of one process among its peers. `followers_of` gives the users that follow a topic here."""

    def __init__(self, log: EventLog, hub: Hub, followers_of: Callable[[str], Iterable[str]]) -> None:
        self.name = secrets.token_hex(6)
        self._log = log
        self._hub = hub
        self._followers_of = followers_of
        self._peers: dict[str, float] = {}
        """The time at which each of the other processes last sent something."""
        self._topics: dict[str, TopicPresence] = {}
        self._stream_counts: Counter[str] = Counter()
        """The number of streams here that follow the presence of a topic."""
        self._changes: set[str] = set()
        """The topics whose readers here have changed since the last report."""
        self._report_timer: asyncio.TimerHandle | None = None
        self._beats: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Begins to talk to the other processes; when their topic is damaged, it hears none of them."""
        self._beats = asyncio.get_running_loop().create_task(self._beat(), name="presence")
        try:
            head = await self._log.read(PEERS, NO_EVENTS, max_events=1)
        except LogDamaged as err:
            log.error("this process counts its own readers alone: the log is damaged", reason=err.detail)
            return
        self._unwatch = self._hub.watch(PEERS, Position(head.epoch, head.head), self._receive, is_standing=True)
        self._send(PeerMessage(by=self.name, kind="new"))

    async def close(self) -> None:
        if self._beats is not None:
            self._beats.cancel()
        if self._report_timer is not None:
            self._report_timer.cancel()
        with contextlib.suppress(LogError):
            await self._log.append(_append(PeerMessage(by=self.name, kind="gone")))
        self._unwatch()

    async def count(self, topic: str) -> int:
        """Returns how many streams follow the topic, in all processes that answer within ANSWER_S."""
        if topic not in self._topics and len(self._topics) >= MAX_TOPICS:
            return len(list(self._followers_of(topic)))
        now = self._now()
        presence = self._topics.setdefault(topic, TopicPresence())
        if now - presence.requests.get(self.name, -FRESH_S) > FRESH_S / 2:
            presence.requests[self.name] = now
            with contextlib.suppress(LogError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self._log.append(_append(PeerMessage(by=self.name, kind="ask", topic=topic)))
                    while any(presence.readers.get(peer, ({}, 0))[1] < now for peer in self._peers):
                        self._news.clear()
                        await self._news.wait()
        presence.readers[self.name] = (Counter(self._followers_of(topic)), self._now())
        return presence.count()

    def watch(self, topic: str, on_change: Callable[[], None]) -> Callable[[], None]:
        """Calls `on_change` when other users follow the topic than before, in any process; returns how to end it.

        `watched` says who it is. Past MAX_TOPICS nothing of the topic is known.
        """
        if topic not in self._topics and len(self._topics) >= MAX_TOPICS:
            return lambda: None
        presence = self._topics.setdefault(topic, TopicPresence())
        if not presence.watchers:
            presence.watched = None
            self._send(PeerMessage(by=self.name, kind="ask", topic=topic))
            asyncio.get_running_loop().call_later(LIST_S, partial(presence.tell_watchers, is_first=True))
        presence.watchers.add(on_change)
        return lambda: presence.watchers.discard(on_change)

    def watched(self, topic: str) -> frozenset[str] | None:
        """Returns the users who follow a topic that is watched; None while that is not known."""
        presence = self._topics.get(topic)
        return presence.watched if presence is not None else None

    # Called by the lane

    def stream_opened(self, names: Iterable[str]) -> None:
        """Notes that a stream of these topics has begun."""
        for name in names:
            if name.startswith(PRESENCE):
                topic = name.removeprefix(PRESENCE)
                self._stream_counts[topic] += 1
                self._send(PeerMessage(by=self.name, kind="ask", topic=topic, follows=True, fresh=True))

    def stream_closed(self, names: Iterable[str]) -> None:
        """Notes that a stream of these topics has ended."""
        for name in names:
            if name.startswith(PRESENCE):
                topic = name.removeprefix(PRESENCE)
                self._stream_counts[topic] -= 1
                if self._stream_counts[topic] <= 0:
                    del self._stream_counts[topic]

    def readers_changed(self, names: Iterable[str]) -> None:
        """Notes that the readers of these topics here have changed."""
        if self._topics:
            for name in names:
                if name in self._topics:
                    self._report_soon(name)

    # Messages of the other processes

    def _receive(self, block: Block) -> None:
        now = self._now()
        for data in block.data:
            try:
                message = _decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):  # of another release, or damaged
                continue
            if message.by != self.name:
                self._peers[message.by] = now
            match message.kind:
                case "new":
                    self._send(PeerMessage(by=self.name, kind="here"))
                case "gone":
                    self._forget_peer(message.by)
                case "ask":
                    self._note_request(message, now)
                case "readers":
                    if message.topic in self._topics:
                        self._topics[message.topic].readers[message.by] = (message.subs, now)
                        self._publish_changes(message.topic)
                case _:
                    pass
        self._news.set()

    def _note_request(self, message: PeerMessage, now: float) -> None:
        if message.topic not in self._topics and len(self._topics) >= MAX_TOPICS:
            return
        presence = self._topics.setdefault(message.topic, TopicPresence())
        presence.requests[message.by] = now
        if message.follows:
            presence.writers[message.by] = now
            if message.fresh and not presence.list_at:
                presence.list_at = now + LIST_S
                asyncio.get_running_loop().call_later(LIST_S, self._publish_changes, message.topic)
        self._report_soon(message.topic)

    def _forget_peer(self, peer: str) -> None:
        self._peers.pop(peer, None)
        for topic, presence in self._topics.items():
            presence.writers.pop(peer, None)
            if presence.readers.pop(peer, None):
                self._publish_changes(topic)

    # Messages and events of this process

    def _report_soon(self, topic: str) -> None:
        self._changes.add(topic)
        if self._report_timer is None:
            self._report_timer = asyncio.get_running_loop().call_later(SETTLE_S, self._report)

    def _report(self) -> None:
        """Sends the readers here of every topic in which they have changed."""
        self._report_timer = None
        topics, self._changes = self._changes & self._topics.keys(), set()
        counts = {topic: Counter(self._followers_of(topic)) for topic in topics}
        readers = [PeerMessage(by=self.name, kind="readers", topic=topic, subs=subs) for topic, subs in counts.items()]
        if readers:
            self._send(*readers)

    def _publish_changes(self, topic: str) -> None:
        """Publishes who came and who left, if this is the process that publishes."""
        presence = self._topics.get(topic, TopicPresence())
        presence.tell_watchers()
        if topic not in self._stream_counts or min(presence.writers, default="") != self.name:
            presence.roster, presence.list_at = None, 0.0
            return
        if presence.list_at > self._now():
            return
        if events := presence.next_events(topic):
            name = stored(PRESENCE + topic)
            self._append_soon(
                [Append(topic=name, name=event, data=[msgspec.json.encode(data)]) for event, data in events]
            )

    async def _beat(self) -> None:
        """Repeats what the others must not forget, and forgets what they did not repeat."""
        while True:
            await asyncio.sleep(BEAT_S)
            now = self._now()
            for peer in [peer for peer, at in self._peers.items() if now - at > FRESH_S]:
                self._forget_peer(peer)
            ask = partial(PeerMessage, by=self.name, kind="ask")
            followed = [ask(topic=topic, follows=True) for topic in self._stream_counts]
            watched = [
                ask(topic=topic)
                for topic, presence in self._topics.items()
                if presence.watchers and topic not in self._stream_counts
            ]
            self._send(PeerMessage(by=self.name, kind="here"), *followed, *watched)
            for topic, presence in list(self._topics.items()):
                presence.forget(now)
                if presence.requests:
                    if any(True for _ in self._followers_of(topic)):  # who has none is forgotten, which is the same
                        self._report_soon(topic)
                    self._publish_changes(topic)
                elif not presence.watchers:
                    del self._topics[topic]

    def _send(self, *messages: PeerMessage) -> None:
        starts = range(0, len(messages), MAX_BATCH)
        self._append_soon([_append(*messages[start : start + MAX_BATCH]) for start in starts])

    def _append_soon(self, appends: list[Append]) -> None:
        """Appends without waiting; what cannot be written is repeated with the next beat."""
        self._log.append(*appends, patient=True).add_done_callback(_ignore_outcome)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _ignore_outcome(future: asyncio.Future[list[Appended]]) -> None:
    """Looks at the outcome, so that the event loop does not report an error that nobody waits for."""
    if not future.cancelled():
        future.exception()


def _append(*messages: PeerMessage) -> Append:
    return Append(topic=PEERS, name="word", data=[msgspec.json.encode(message) for message in messages])
