"""Followers read the events lane in this process, without a server, as a client reads its stream."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from events.feed.bookmarks import SNAPSHOTS
from events.feed.start import SubscribeRequest
from events.feed.subscription import Subscription
from events.lane import EventsLane
from events.log.memory import MemoryLog
from events.log.port import Append, Appended, Block, Commit, Retention
from events.log.rules import keep_all
from events.log.topics import stored
from gateway.access.grants import EVERYTHING, Principal
from gateway.core.process import Core
from gateway.settings import Limits, Settings
from tests.support.readers import SharedLog, settle
from tests.support.sse_decoder import Event, SseDecoder

LOCAL = Principal(sub="local", grants=EVERYTHING)


async def lane_on(log: MemoryLog | None = None, *, max_replay: int = 100_000) -> EventsLane:
    """Returns an open lane on a log in memory; nothing of it beats."""
    log = SharedLog() if log is None else log
    await log.open()
    return EventsLane(Core(log, Settings(limits=Limits(replay=max_replay))))


async def say(log: MemoryLog, topic: str, *data: object, name: str = "message") -> Appended:
    """Appends events to a topic of the events lane, as this process would."""
    lines = [json.dumps(one).encode() for one in data]
    return (await log.append(Append(topic=stored(topic), data=lines, name=name)))[0]


class PeerLog(MemoryLog):
    """One process's view of a log that several have open: it hears of the others' commits when a test says so."""

    def __init__(self, retention: Callable[[str], Retention] = keep_all, **how: Any) -> None:
        super().__init__(retention, **how)
        self.peers: list[PeerLog] = []
        self.news: dict[str, None] = {}
        """Topics that others wrote to since the last `hear`."""
        self.snapshot_s = 0.0
        """Seconds that it takes to keep a snapshot of where a reader stands."""

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        commit = super().append(*appends, patient=patient)
        return asyncio.ensure_future(self._late(commit)) if appends[0].topic.startswith(SNAPSHOTS) else commit

    async def _late(self, commit: "asyncio.Future[list[Appended]]") -> list[Appended]:
        await asyncio.sleep(self.snapshot_s)
        return await commit

    def peer(self) -> "PeerLog":
        """Returns another process's view of the same log."""
        new = PeerLog(self._retention, clock=self._clock)
        new._topics = self._topics
        new.peers = [self]
        self.peers.append(new)
        return new

    def blocks_of(self, topic: str) -> list[Block]:
        state = self._topics.get(topic)
        return state.blocks if state is not None else []

    def hear(self) -> None:
        news, self.news = self.news, {}
        commits = [Commit(topic=topic, epoch="", block=None) for topic in news if topic in self.interest]
        if commits:
            self.listener(commits)

    def _announce(self) -> None:
        for peer in self.peers:
            peer.news |= {commit.topic: None for commit in self._commits}
        super()._announce()


class Pipe:
    """Remembers what a feed writes to a connection."""

    def __init__(self) -> None:
        self.transport = self
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    @staticmethod
    def wrap(data: bytes) -> bytes:
        return data


class Follower:
    """Follows one stream of a client: `take` reads all that is due, `events` is what came, without `hello`."""

    def __init__(self, lane: EventsLane, source: Subscription, cursor: str) -> None:
        self.lane = lane
        self.source = source
        self.decoder = SseDecoder(cursor)
        self.hello: dict[str, Any] = {}
        self.events: list[Event] = []
        self.pipe: Pipe | None = None
        self.start = (source.position or source.feed.position).copy()
        """The position at which it said `hello`."""

    @property
    def cursor(self) -> str:
        return self.decoder.last_id

    @property
    def data(self) -> list[Any]:
        """Returns the published bodies in the order in which they came."""
        return [json.loads(event.data) for event in self.events if event.event not in ("gap", "bye")]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.events if event.event == "gap"]

    def feed(self, data: bytes) -> None:
        for event in self.decoder.feed(data):
            assert event.id, event
            if event.event == "hello":
                self.hello = json.loads(event.data)
            else:
                self.events.append(event)

    def poll(self) -> bool | None:
        """Takes one piece of what is due; False when nothing is, None when it must be fetched."""
        self.drain_pipe()
        data = self.source.poll()
        if data is None:
            return None
        self.feed(data)
        return bool(data)

    async def take(self, rounds: int = 20_000) -> bool:
        """Reads all that is due, without waiting for news; False when its feed is still ahead after so many steps."""
        for _ in range(rounds):
            due = self.poll()
            if due is None:
                await self.source.catch_up()
            elif not due:
                return True
        return False

    async def take_all(self) -> "Follower":
        assert await self.take(), "it never gets to where its feed is"
        return self

    def live(self) -> "Follower":
        """Makes its feed write to it from now on; `drain_pipe` reads that."""
        self.pipe = self.pipe or Pipe()
        self.source.follow(self.pipe)  # type: ignore[arg-type]
        return self

    def drain_pipe(self) -> "Follower":
        if self.pipe is not None:
            data, self.pipe.data = self.pipe.data, b""
            self.feed(data)
        return self

    def close(self) -> None:
        self.source.close()


async def follow(
    lane: EventsLane,
    topics: Iterable[str],
    cursor: str | None = None,
    *,
    who: Principal = LOCAL,
    earliest: bool = False,
    partial: bool = False,
    envelope: bool = False,
) -> Follower:
    """Returns a stream that has begun; its `hello` is read, and nothing else."""
    request = SubscribeRequest(tuple(topics), cursor, earliest, partial, envelope)
    source = await lane.subscribe(who, request, patient=True)
    assert isinstance(source, Subscription)
    follower = Follower(lane, source, cursor or "")
    assert follower.poll() is True
    assert follower.hello
    await settle()
    return follower
