"""A stream of the events lane is right from its first byte to its last, written either way; time is virtual."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from events.feed.start import SubscribeRequest
from events.lane import HEAD_S, EventsLane
from events.log.port import Append
from events.log.topics import stored
from events.publish import Publication
from gateway.access.grants import EVERYTHING, Grants, Principal
from gateway.core.process import Core
from gateway.errors import Forbidden, LogUnavailable
from gateway.serving.sse import EventStream
from gateway.settings import Settings
from tests.support.readers import HeldLog
from tests.support.sse_decoder import Event, SseDecoder
from tests.support.streams import FakeServer, on_both_ways
from tests.support.virtual_time import simulated

ME = Principal(sub="me", grants=EVERYTHING)


class Place:
    """Holds an events lane on a log that can be held up."""

    def __init__(self, **settings: Any) -> None:
        self.log = HeldLog()
        self.core = Core(self.log, Settings(**settings))
        self.lane = EventsLane(self.core)

    async def say(self, topic: str, *data: object, **how: Any) -> None:
        events = [Publication(topic=topic, data=msgspec.Raw(json.dumps(one).encode()), **how) for one in data]
        await self.lane.publish(ME, events)
        await asyncio.sleep(0)

    async def follow(self, *topics: str, cursor: str | None = None, direct: bool, who: Principal = ME) -> FakeServer:
        source = await self.lane.subscribe(who, SubscribeRequest(topics, cursor))
        assert source is not None
        stream = EventStream(source, ping_s=15, open_streams=self.core.streams, leaves_cleanly=True)
        return FakeServer(stream, direct=direct)


@asynccontextmanager
async def place(**settings: Any) -> AsyncIterator[Place]:
    here = Place(**settings)
    async with here.core.opened(), here.lane.opened():
        yield here


async def new_events(server: FakeServer) -> list[Event]:
    return SseDecoder().feed(await server.settled_body())


@on_both_ways
@simulated
async def test_a_stream_says_hello_and_then_what_is_published(direct: bool) -> None:
    async with place() as here:
        server = await here.follow("a", "b", direct=direct)
        await here.say("a", 1, 2)
        await here.say("b", {"x": "y\nz"}, event="note")
        hello, *events = await new_events(server)
        assert json.loads(hello.data)["topics"] == ["a", "b"]
        assert [(event.event, json.loads(event.data)) for event in events] == [
            ("message", 1),
            ("message", 2),
            ("note", {"x": "y\nz"}),
        ]
        server.leave()
        await server.over()
        assert len(here.core.streams) == len(here.lane.feeds) == 0


@on_both_ways
@simulated
async def test_the_first_bytes_do_not_wait_for_the_log(direct: bool) -> None:
    async with place() as here:
        await here.say("a", 1)
        here.log.free.clear()
        before = asyncio.get_running_loop().time()
        server = await here.follow("a", direct=direct)
        assert await server.settled_body() == b": ok\n"
        assert asyncio.get_running_loop().time() - before <= 2 * HEAD_S
        await asyncio.sleep(1)
        here.log.free.set()
        await server.settled_body()
        await here.say("a", 2)
        hello, event = await new_events(server)
        assert (hello.event, event.data) == ("hello", "2")


@on_both_ways
@simulated
async def test_a_log_that_does_not_answer_is_busy_within_two_seconds(direct: bool) -> None:
    async with place() as here:
        await here.say("a", 1)
        here.log.free.clear()
        before = asyncio.get_running_loop().time()
        server = await here.follow("a", direct=direct)
        await server.over()
        assert asyncio.get_running_loop().time() - before <= 2
        [event] = SseDecoder().feed(server.body)
        assert (event.event, json.loads(event.data), server.complete) == ("busy", {"code": "log_unavailable"}, True)
        here.log.free.set()
        assert len(here.core.streams) == len(here.lane.feeds) == 0


@on_both_ways
@simulated
async def test_a_log_that_fails_late_is_busy_and_the_end(direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place() as here:
        await here.say("a", 1)
        here.log.free.clear()
        server = await here.follow("a", direct=direct)
        await server.settled_body()

        async def failing(*_: object, **__: object) -> None:
            raise LogUnavailable("gone")

        monkeypatch.setattr(here.lane.feeds.starts, "start", failing)
        here.log.free.set()
        await server.over()
        [event] = SseDecoder().feed(server.body)
        assert (event.event, json.loads(event.data), server.complete) == ("busy", {"code": "log_unavailable"}, True)
        assert len(here.core.streams) == len(here.lane.feeds) == 0


@on_both_ways
@simulated
async def test_a_client_that_leaves_before_the_log_answers_leaves_nothing(direct: bool) -> None:
    async with place() as here:
        await here.say("a", 1)
        here.log.free.clear()
        server = await here.follow("a", direct=direct)
        await server.settled_body()
        server.leave()
        await server.over()
        await asyncio.sleep(1)
        assert len(here.core.streams) == len(here.lane.feeds) == 0
        here.log.free.set()


@on_both_ways
@simulated
async def test_a_connection_ends_well_after_its_age(direct: bool) -> None:
    async with place(max_age_s=100) as here:
        loop = asyncio.get_running_loop()
        lives: list[float] = []
        for _ in range(20):
            began = loop.time()
            server = await here.follow("a", direct=direct)
            await server.over(200)
            lives.append(loop.time() - began)
            hello = SseDecoder().feed(server.body)[0]
            assert abs(json.loads(hello.data)["maxAge"] - lives[-1]) < 1.5
            assert server.complete
        assert 80 <= min(lives) < max(lives) <= 101
        assert max(lives) - min(lives) > 3


@on_both_ways
@simulated
async def test_a_token_that_expires_is_told_of_and_ends_the_stream(direct: bool) -> None:
    async with place() as here:
        who = Principal(sub="me", grants=EVERYTHING, expires_at=time.time() + 90)
        server = await here.follow("a", direct=direct, who=who)
        await asyncio.sleep(25)
        assert [event.event for event in await new_events(server)] == ["hello"]
        await asyncio.sleep(10)
        assert [event.event for event in await new_events(server)] == ["hello", "auth"]
        await server.over(60)
        assert server.complete


@on_both_ways
@simulated
async def test_when_nothing_more_can_come_the_stream_says_bye(direct: bool) -> None:
    async with place() as here:
        server = await here.follow("a", "b", direct=direct)
        await here.say("a", 1)
        for topic in ("a", "b"):
            await here.log.append(Append(topic=stored(topic), data=[b"9"], close=True))
        await server.over()
        events = SseDecoder().feed(server.body)
        assert [event.event for event in events] == ["hello", *["message"] * 3, "bye"]
        assert json.loads(events[-1].data)["retry"] is False
        assert server.complete
        assert await here.lane.subscribe(ME, SubscribeRequest(("a", "b"), events[-1].id)) is None
        assert await here.lane.subscribe(ME, SubscribeRequest(("a", "b"), events[1].id)) is not None


@on_both_ways
@simulated
async def test_a_reader_that_does_not_read_delays_nobody_and_loses_nothing(direct: bool) -> None:
    async with place() as here:
        slow, quick = [await here.follow("a", direct=direct) for _ in range(2)]
        await slow.settled_body()
        slow.stop_taking()
        if direct:
            assert slow.pipe.stream is not None
            slow.pipe.stream.hold()
        for number in range(50):
            await here.say("a", *[{"n": number, "pad": "x" * 1000}] * 100)
        assert len(await new_events(quick)) == 5001
        assert len(SseDecoder().feed(slow.body)) <= 130
        slow.take_again()
        for _ in range(2000):
            await asyncio.sleep(0.01)
        events = await new_events(slow)
        assert [json.loads(event.data)["n"] for event in events[1:]] == [n for n in range(50) for _ in range(100)]


@simulated
async def test_what_a_token_does_not_allow_is_refused() -> None:
    grants = Grants(subscribe=["team/*", "x"], publish=["x"])
    who = Principal(sub="bob", grants=grants)
    grantable: list[tuple[str, ...]] = [(), ("user/bob",), ("team/a",), ("team/*", "x"), ("team/a/*",), ("presence/x",)]
    forbidden: list[tuple[str, ...]] = [
        ("user/eve",),
        ("team",),
        ("*",),
        ("x", "y"),
        ("x/*",),
        ("presence/y",),
        ("user/*",),
    ]
    async with place() as here:
        for topics in grantable:
            assert await here.lane.subscribe(who, SubscribeRequest(topics)) is not None
        for topics in forbidden:
            with pytest.raises(Forbidden):
                await here.lane.subscribe(who, SubscribeRequest(topics))


@pytest.mark.parametrize("make", [lambda: "nonsense", lambda: "e00000000.abcd.1", lambda: "x" * 4096])
@simulated
async def test_a_cursor_that_is_none_is_told_and_the_stream_goes_on(make: Callable[[], str]) -> None:
    async with place() as here:
        await here.say("a", 1)
        server = await here.follow("a", cursor=make(), direct=True)
        await here.say("a", 2)
        hello, event = await new_events(server)
        assert not json.loads(hello.data)["recovered"]
        assert event.data == "2"
