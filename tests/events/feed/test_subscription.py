"""A subscription sends hello, then reads the log up to its feed, then follows the feed."""

import asyncio
import json
from typing import Any

import pytest

from events.feed.bookmarks import SNAPSHOTS
from events.feed.feeds import Feeds
from events.feed.start import SubscribeRequest
from events.feed.subscription import Subscription
from events.log.hub import WRITE_BYTES, Hub
from events.log.memory import MemoryLog
from events.log.port import Retention
from events.log.source import NEVER
from events.log.topics import stored
from events.log.vector import VectorPosition, topic_tag
from gateway.errors import Gone
from tests.contract.engines import Clock
from tests.support.followers import Pipe, say
from tests.support.readers import settle
from tests.support.sse_decoder import Event, SseDecoder
from tests.support.virtual_time import simulated

HELLO = b"event: hello\nid: start\ndata: {}\n\n"


class Stage:
    """Holds the feeds of one process on a log in memory."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.clock = Clock()
        self.log = log or MemoryLog(clock=self.clock)
        self.hub = Hub(self.log)
        self.feeds = Feeds(self.log, self.hub, max_replay=100_000, clock=self.clock)

    async def open(self, *topics: str, cursor: str | None = None) -> "Client":
        await self.log.open()
        source, start = await self.feeds.open(SubscribeRequest(topics, cursor), "me")
        return Client(source, start.position)


class Client:
    """Reads one subscription."""

    def __init__(self, source: Subscription, stand: VectorPosition | None) -> None:
        self.source = source
        self.stand = stand
        self.pieces: list[bytes] = []
        self.decoder = SseDecoder("")
        self.events: list[Event] = []

    def begin(self, ends_at: float = NEVER, auth_at: float = NEVER) -> "Client":
        self.source.begin(HELLO, self.stand, ends_at, auth_at)
        return self

    def behind(self, offset: int) -> "Client":
        """Puts the reader at an offset of the first topic, and elsewhere where its feed stands."""
        self.source.position, self.source.index = self.source.feed.position.copy(), -1
        self.source.position.offsets[0] = offset
        return self

    async def read(self) -> "Client":
        """Reads all that is due."""
        for _ in range(10_000):
            data = self.source.poll()
            if data is None:
                await self.source.catch_up()
            elif data:
                self.pieces.append(data)
                self.events += self.decoder.feed(data)
            else:
                return self
        raise AssertionError("it never gets to where its feed is")

    @property
    def data(self) -> list[Any]:
        return [json.loads(event.data) for event in self.events if event.event == "message"]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.events if event.event == kind]

    @property
    def last_id(self) -> str:
        return self.events[-1].id


# From hello to following


@simulated
async def test_hello_is_said_first_and_then_what_is_new() -> None:
    stage = Stage()
    await stage.log.open()
    await say(stage.log, "a", "old")
    client = (await stage.open("a")).begin()
    await say(stage.log, "a", "new")
    await settle()
    assert client.source.poll() == HELLO
    assert (await client.read()).data == ["new"]
    assert client.source.poll() == b""


@simulated
async def test_a_reader_with_a_cursor_reads_the_log_until_it_can_follow() -> None:
    stage = Stage()
    first = (await stage.open("a", "b")).begin()
    await say(stage.log, "a", 1, 2)
    await say(stage.log, "b", 3)
    cursor = (await first.read()).events[1].id
    first.source.close()
    client = (await stage.open("a", "b", cursor=cursor)).begin()
    assert client.source.poll() == HELLO
    assert client.source.poll() is None
    await client.read()
    assert (client.data, client.source.position) == ([2, 3], None)
    await say(stage.log, "b", 4)
    assert (await client.read()).data == [2, 3, 4]


@simulated
async def test_a_replay_comes_in_slices_and_others_have_their_turn_between() -> None:
    stage = Stage()
    await stage.log.open()
    for _ in range(40):
        await say(stage.log, "a", "x" * (WRITE_BYTES // 4))
    client = (await stage.open("a", "b")).begin().behind(0)
    reading = asyncio.ensure_future(client.read())
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(client.data) == 40
    assert max(map(len, client.pieces)) <= 2 * WRITE_BYTES
    assert turns >= 10


@simulated
async def test_events_that_the_feed_has_not_heard_of_are_not_replayed() -> None:
    stage = Stage()
    client = (await stage.open("a", "b")).begin()
    await say(stage.log, "a", 1)
    await client.read()
    behind = (await stage.open("a", "b")).begin().behind(0)
    stage.log.listener = lambda _: None
    await say(stage.log, "a", 2, 3)
    behind.source.poll()
    await behind.source.catch_up()
    assert [json.loads(event.data) for event in SseDecoder("").feed(behind.source.poll() or b"")] == [1]


@simulated
async def test_only_the_half_of_a_block_that_the_feed_has_is_replayed() -> None:
    stage = Stage()
    client = (await stage.open("a", "b")).begin()
    await say(stage.log, "a", 1, 2, 3)
    await client.read()
    source = client.source
    source.feed.position.offsets[0] = 2
    await client.behind(1).source.catch_up()
    assert [json.loads(event.data) for event in SseDecoder("").feed(source.poll() or b"")] == [2]


@simulated
async def test_an_event_that_nobody_needs_any_more_is_not_replayed() -> None:
    stage = Stage()
    first = (await stage.open("a", "b")).begin()
    await say(stage.log, "a", "old", name=f"message {int(stage.clock() * 1000) + 1000}")
    await say(stage.log, "a", "lasts")
    assert first.source.feed.head == 2
    for passes_s, data in ((0.999, ["old", "lasts"]), (0.001, ["lasts"])):
        stage.clock.now_s += passes_s
        client = (await stage.open("a", "b")).begin().behind(0)
        assert (await client.read()).data == data


# What is lost


@simulated
async def test_events_that_are_no_longer_kept_are_a_gap() -> None:
    stage = Stage(MemoryLog(lambda topic: Retention(events=2 if topic == stored("a") else None)))
    first = (await stage.open("a", "b")).begin()
    for number in range(5):
        await say(stage.log, "a", number)
    assert first.source.feed.head == 5
    client = (await stage.open("a", "b")).begin().behind(1)
    await client.read()
    assert client.of("gap") == [{"topic": "a", "from": 2, "to": 3, "reason": "evicted"}]
    assert client.data == [3, 4]
    assert client.events[1].id.partition(".")[2][8:].startswith("3."), "one who saw the gap goes on behind it"


@simulated
async def test_a_topic_that_was_deleted_and_made_anew_is_a_gap_and_goes_on() -> None:
    stage = Stage()
    first = (await stage.open("a", "b")).begin()
    await say(stage.log, "a", 1, 2)
    await first.read()
    stand = first.source.feed.position.copy()
    await stage.log.delete(stored("a"))
    await say(stage.log, "a", "new")
    await asyncio.sleep(1)
    client = await stage.open("a", "b")
    client.stand = stand
    await client.begin().read()
    assert client.of("gap") == [{"topic": "a", "from": 3, "to": None, "reason": "epoch_changed"}]
    assert client.data == ["new"]


@simulated
async def test_a_reader_that_falls_off_the_ring_reads_the_log_from_its_own_cursor() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin()
    await say(stage.log, "a", 1)
    await client.read()
    await say(stage.log, "a", 2, 3)
    client.source.feed.shed(0, 0)
    assert client.source.index == -1
    assert (await client.read()).data == [1, 2, 3]


@simulated
async def test_a_reader_whose_snapshot_is_gone_when_it_falls_is_gone_too() -> None:
    stage = Stage(MemoryLog(lambda topic: Retention(events=1 if topic.startswith(SNAPSHOTS) else None)))
    client = (await stage.open("x/*")).begin()
    await client.read()
    for number in range(3):
        await say(stage.log, f"x/{number}", number)
        await asyncio.sleep(1)
    client.source.feed.shed(0, 0)
    with pytest.raises(Gone):
        await client.read()


# What is written to directly


@simulated
async def test_only_a_reader_that_has_all_there_is_may_be_written_to() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin()
    feed, pipe = client.source.feed, Pipe()
    await say(stage.log, "a", 1)
    await settle()
    client.source.follow(pipe)  # type: ignore[arg-type]
    assert (client.source.connection, client.source in feed.followers) == (None, True)
    await client.read()
    client.source.follow(pipe)  # type: ignore[arg-type]
    assert (client.source in feed.followers, client.source in feed.fanout.readers) == (False, True)
    await asyncio.sleep(1)
    await say(stage.log, "a", 2)
    await settle()
    assert b"data: 2\n" in pipe.data
    assert client.source.written_s == feed.fanout.written_s == 1.0
    client.source.follow(None)
    assert (client.source in feed.followers, client.source in feed.fanout.readers) == (True, False)
    assert client.source.written_s == 0.0


@simulated
async def test_a_reader_of_a_closed_feed_is_told_goodbye_and_not_written_to() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin()
    await client.read()
    client.source.feed.tails[0].closed = True
    client.source.follow(Pipe())  # type: ignore[arg-type]
    assert client.source.connection is None
    await client.read()
    assert client.of("bye") == [{"code": "complete", "retry": False}]
    assert (client.source.ended, client.source.complete) == (True, True)
    assert client.last_id == client.source.cursor


@simulated
async def test_a_reader_that_falls_while_it_is_written_to_reads_at_its_own_pace() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin()
    await client.read()
    client.source.follow(Pipe())  # type: ignore[arg-type]
    client.source.fall(client.source.cursor)
    assert (client.source.connection, client.source in client.source.feed.followers) == (None, True)


# Time


@simulated
async def test_a_token_that_expires_is_told_of_once_and_then_ends_the_stream() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin(ends_at=600.0, auth_at=540.0)
    await client.read()
    assert client.source.due_at(539.0) == 540.0
    assert client.of("auth") == []
    assert client.source.due_at(540.0) == 600.0
    assert client.source.due_at(541.0) == 600.0
    await client.read()
    assert (client.of("auth"), client.source.ended) == ([{"expiresIn": 60}], False)
    client.source.due_at(600.0)
    assert (client.source.ended, client.source.complete) == (True, True)
    await say(stage.log, "a", "too late")
    assert (await client.read()).data == []


@simulated
async def test_a_reader_whose_feed_ended_is_cut_and_not_complete() -> None:
    client = (await Stage().open("a")).begin()
    client.source.feed.ended = True
    assert (client.source.ended, client.source.complete) == (True, False)


# Where it stands


@simulated
async def test_a_readers_cursor_is_where_its_client_stands() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin()
    await say(stage.log, "a", 1, 2)
    await client.read()
    assert client.source.cursor == client.last_id
    assert f"id: {client.last_id}\n".encode() in client.source.farewell()


@simulated
async def test_a_readers_cursor_is_unknown_while_what_was_read_is_not_written() -> None:
    stage = Stage()
    first = (await stage.open("a", "b")).begin()
    await say(stage.log, "a", 1)
    await first.read()
    client = (await stage.open("a", "b")).begin().behind(0)
    client.source.poll()
    assert client.source.cursor.endswith(f".{topic_tag('b')}~0")
    await client.source.catch_up()
    assert client.source.cursor == ""
    client.source.poll()
    assert client.source.cursor == first.last_id


@simulated
async def test_a_reader_that_leaves_while_it_reads_leaves_nothing_behind() -> None:
    stage = Stage()
    client = (await stage.open("a")).begin()
    woken: list[int] = []
    client.source.on_wake = lambda: woken.append(1)
    for _ in range(2):
        client.source.close()
    client.source.wake()
    assert (len(stage.feeds), len(stage.hub), woken) == (0, 0, [])
