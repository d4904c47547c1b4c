"""Who follows a topic, across processes; kept only while somebody asks.

The processes of one log talk on a topic of it: one that wants to know of a topic says so, and every process that hears
it says who follows that topic there, again when that changes and every BEAT_S. What is not said again within FRESH_S is
forgotten, so a process that was killed is gone from the count by then.
Of the processes where `presence/<topic>` is followed, one writes it: the first by name.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from events.log.hub import Hub
from events.log.port import Append, Block, EventLog, Position
from events.log.topics import PRESENCE, stored
from gateway.errors import LogError

PEERS = "peers"
BEAT_S = 15.0
FRESH_S = 40.0
MAX_KNOWN = 10_000
"""Topics asked about at once; of any more, only this process's own readers are counted."""
ANSWER_S = 0.5
"""How long one who asks waits for processes that may be dead."""
SETTLE_S = 0.1
"""Changes within this time are told as one."""
LIST_S = 0.5
"""How long one who has just come waits for the list, so that every process is on it."""
MAX_LISTED = 1000
"""Names in one `here`; the others are counted."""


class PeerMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process says to the others."""

    by: str
    kind: Literal["new", "here", "gone", "ask", "readers"]
    topic: str = ""
    follows: bool = False
    """Of `ask`: it follows `presence/<topic>`, and can write it."""
    fresh: bool = False
    """Of `ask`: someone has just come who does not know who is there."""
    subs: dict[str, int] = {}
    """Of `readers`: user → streams."""


_decode = msgspec.json.Decoder(PeerMessage).decode


class TopicPresence:
    """What this process knows of one topic that somebody asks about."""

    def __init__(self) -> None:
        self.readers: dict[str, tuple[dict[str, int], float]] = {}
        """By process, and when it said so."""
        self.asked: dict[str, float] = {}
        """When each process last asked."""
        self.writers: dict[str, float] = {}
        """When each process last said that it follows the presence topic."""
        self.told: frozenset[str] | None = None
        """Who is there according to what this process wrote; None: it does not write."""
        self.list_at = 0.0
        """When someone who has just come is told who is there; 0: nobody has."""

    def forget(self, now: float) -> None:
        for said in (self.asked, self.writers):
            for peer in [peer for peer, at in said.items() if now - at > FRESH_S]:
                del said[peer]
        for peer in [peer for peer, (_, at) in self.readers.items() if now - at > FRESH_S]:
            del self.readers[peer]

    def count(self) -> int:
        return sum(sum(subs.values()) for subs, _ in self.readers.values())

    def subs(self) -> frozenset[str]:
        return frozenset(sub for subs, _ in self.readers.values() for sub in subs)


class Presence:
    """Made with its lane. `following` gives who follows a topic in this process."""

    def __init__(self, log: EventLog, hub: Hub, following: Callable[[str], Iterable[str]]) -> None:
        self.name = secrets.token_hex(6)
        self._log = log
        self._hub = hub
        self._following = following
        self._peers: dict[str, float] = {}
        self._known: dict[str, TopicPresence] = {}
        self._mine: Counter[str] = Counter()
        """Topics whose presence is followed here."""
        self._changed: set[str] = set()
        self._settling: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._news = asyncio.Event()

    async def open(self) -> None:
        found = await self._log.read(PEERS, 0, max_events=1)
        self._unwatch = self._hub.watch(PEERS, Position(found.epoch, found.head), self._hear)
        self._say(PeerMessage(by=self.name, kind="new"))
        self._beat = asyncio.get_running_loop().create_task(self._live(), name="presence")

    async def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        if self._settling is not None:
            self._settling.cancel()
        with contextlib.suppress(LogError):
            await self._append(PeerMessage(by=self.name, kind="gone"))
        self._unwatch()

    async def count(self, topic: str) -> int:
        """How many streams follow the topic, in all processes; complete within ANSWER_S."""
        if topic not in self._known and len(self._known) >= MAX_KNOWN:
            return len(list(self._following(topic)))
        now = self._now()
        known = self._known.setdefault(topic, TopicPresence())
        if now - known.asked.get(self.name, -FRESH_S) > FRESH_S / 2:
            known.asked[self.name] = now
            with contextlib.suppress(LogError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self._append(PeerMessage(by=self.name, kind="ask", topic=topic))
                    while any(known.readers.get(peer, ({}, 0))[1] < now for peer in self._peers):
                        self._news.clear()
                        await self._news.wait()
        known.readers[self.name] = (Counter(self._following(topic)), self._now())
        return known.count()

    # What the lane tells

    def came(self, names: Iterable[str]) -> None:
        """A stream of these topics has begun."""
        for name in names:
            if name.startswith(PRESENCE):
                topic = name.removeprefix(PRESENCE)
                self._mine[topic] += 1
                self._say(PeerMessage(by=self.name, kind="ask", topic=topic, follows=True, fresh=True))

    def left(self, names: Iterable[str]) -> None:
        """A stream of these topics has ended."""
        for name in names:
            if name.startswith(PRESENCE):
                topic = name.removeprefix(PRESENCE)
                self._mine[topic] -= 1
                if self._mine[topic] <= 0:
                    del self._mine[topic]

    def changed(self, names: Iterable[str]) -> None:
        """Who follows these here has changed."""
        if self._known:
            for name in names:
                if name in self._known:
                    self._change(name)

    # What the others say

    def _hear(self, block: Block) -> None:
        now = self._now()
        for data in block.data:
            word = _decode(data)
            if word.by != self.name:
                self._peers[word.by] = now
            match word.kind:
                case "new":
                    self._say(PeerMessage(by=self.name, kind="here"))
                case "gone":
                    self._drop(word.by)
                case "ask":
                    self._asked(word, now)
                case "readers":
                    if word.topic in self._known:
                        self._known[word.topic].readers[word.by] = (word.subs, now)
                        self._write(word.topic)
                case _:
                    pass
        self._news.set()

    def _asked(self, word: PeerMessage, now: float) -> None:
        if word.topic not in self._known and len(self._known) >= MAX_KNOWN:
            return
        known = self._known.setdefault(word.topic, TopicPresence())
        known.asked[word.by] = now
        if word.follows:
            known.writers[word.by] = now
            if word.fresh and not known.list_at:
                known.list_at = now + LIST_S
                asyncio.get_running_loop().call_later(LIST_S, self._write, word.topic)
        self._change(word.topic)

    def _drop(self, peer: str) -> None:
        self._peers.pop(peer, None)
        for topic, known in self._known.items():
            known.writers.pop(peer, None)
            if known.readers.pop(peer, None):
                self._write(topic)

    # What this process says

    def _change(self, topic: str) -> None:
        """Says soon who follows it here."""
        self._changed.add(topic)
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_S, self._report)

    def _report(self) -> None:
        self._settling = None
        topics, self._changed = self._changed, set()
        for topic in topics:
            if topic in self._known:
                self._say(PeerMessage(by=self.name, kind="readers", topic=topic, subs=Counter(self._following(topic))))

    def _write(self, topic: str) -> None:
        """Tells of who came and who left, when this is the process that does."""
        known = self._known.get(topic, TopicPresence())
        if topic not in self._mine or min(known.writers, default="") != self.name:
            known.told, known.list_at = None, 0.0
            return
        if known.list_at > self._now():
            return
        there = known.subs()
        events = list[tuple[str, object]]()
        if known.told is None or known.list_at:
            known.list_at = 0.0
            listed = sorted(there)[:MAX_LISTED]
            events.append(("here", {"topic": topic, "here": listed, "more": len(there) - len(listed)}))
        else:
            events += [("join", {"topic": topic, "sub": sub}) for sub in sorted(there - known.told)]
            events += [("leave", {"topic": topic, "sub": sub}) for sub in sorted(known.told - there)]
        known.told = there
        if events:
            topic_ = stored(PRESENCE + topic)
            self._hurry([Append(topic=topic_, name=name, data=[msgspec.json.encode(data)]) for name, data in events])

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            now = self._now()
            self._say(PeerMessage(by=self.name, kind="here"))
            for peer in [peer for peer, at in self._peers.items() if now - at > FRESH_S]:
                self._drop(peer)
            for topic in self._mine:
                self._say(PeerMessage(by=self.name, kind="ask", topic=topic, follows=True))
            for topic, known in list(self._known.items()):
                known.forget(now)
                if known.asked:
                    self._change(topic)
                    self._write(topic)
                else:
                    del self._known[topic]

    def _say(self, word: PeerMessage) -> None:
        self._hurry([self._told(word)])

    async def _append(self, word: PeerMessage) -> None:
        await self._log.append(self._told(word))

    def _told(self, word: PeerMessage) -> Append:
        return Append(topic=PEERS, name="word", data=[msgspec.json.encode(word)])

    def _hurry(self, appends: list[Append]) -> None:
        """What cannot be written is said again with the next beat."""
        self._log.append(*appends, patient=True).add_done_callback(lambda done: done.cancelled() or done.exception())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
