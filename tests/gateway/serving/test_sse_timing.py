"""A stream pings, and a drain asks streams to leave, at the right second of virtual time."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from gateway.serving.open_streams import OpenStreams, TokenEnd
from gateway.serving.sse import EventStream
from tests.support.streams import HOUR_S, PING_S, FakeServer, Feed, on_both_ways, stream
from tests.support.virtual_time import HANGS_S, simulated

# Pings


class TimedServer(FakeServer):
    """Notes when each piece was written."""

    def __init__(self, app: EventStream, *, direct: bool) -> None:
        self.times: list[float] = []
        super().__init__(app, direct=direct)
        self.pieces = TimedPieces(self.times)


class TimedPieces(list[bytes]):
    def __init__(self, times: list[float]) -> None:
        self._times = times

    def append(self, piece: bytes) -> None:
        self += [piece]

    def __iadd__(self, pieces: Any) -> "TimedPieces":
        self._times += [asyncio.get_running_loop().time()] * len(pieces)
        self.extend(pieces)
        return self

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self._times)]


@on_both_ways
@simulated
async def test_silence_is_broken_by_a_comment_without_a_blank_line(direct: bool) -> None:
    server = TimedServer(stream(Feed()), direct=direct)
    await asyncio.sleep(HOUR_S)
    assert set(server.pieces[1:]) == {b": ping\n"}
    assert HOUR_S / PING_S / 1.11 <= len(server.pieces) <= HOUR_S / PING_S / 0.89
    assert min(server.pieces.gaps) >= 0.89 * PING_S
    assert max(server.pieces.gaps) <= 1.11 * PING_S
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_pings_are_spread_so_that_many_streams_do_not_ping_at_once(direct: bool) -> None:
    servers = [TimedServer(stream(Feed()), direct=direct) for _ in range(50)]
    await asyncio.sleep(2 * PING_S)
    firsts = [server.times[1] for server in servers]
    assert len(set(firsts)) > 15  # of the 30 slots of the wheel that they fall into
    assert max(firsts) - min(firsts) > 0.1 * PING_S
    for server in servers:
        server.leave()
        await server.over()


@on_both_ways
@simulated
async def test_a_slow_first_event_is_covered_too(direct: bool) -> None:
    """The time counts from the headers."""
    feed = Feed()
    server = TimedServer(stream(feed), direct=direct)
    await asyncio.sleep(1.2 * PING_S)
    feed.say(b"data: 1\n\n")
    await server.settled_body()
    assert server.pieces == [b": ok\n", b": ping\n", b"data: 1\n\n"]
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_a_stream_that_says_something_is_not_pinged(direct: bool) -> None:
    feed = Feed()
    server = TimedServer(stream(feed), direct=direct)
    for _ in range(200):
        await asyncio.sleep(0.88 * PING_S)
        feed.say(b"x")
    assert await server.settled_body() == b": ok\n" + b"x" * 200
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_silence_is_never_much_longer_than_it_should_be(direct: bool) -> None:
    feed = Feed()
    server = TimedServer(stream(feed), direct=direct)
    for number in range(300):
        await asyncio.sleep(number * 0.1)
        feed.say(b"x")
    assert max(server.pieces.gaps) <= 1.21 * PING_S
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_a_ping_comes_even_when_the_source_only_says_what_nobody_sees(direct: bool) -> None:
    """A heartbeat of a run wakes its readers and shows them nothing."""
    feed = Feed()
    server = TimedServer(stream(feed), direct=direct)
    for _ in range(100):
        await asyncio.sleep(5)
        feed.say()
    assert max(server.pieces.gaps) <= 1.11 * PING_S
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_a_client_that_reads_nothing_is_owed_one_ping(direct: bool) -> None:
    server = FakeServer(stream(Feed()), direct=direct)
    await server.settled_body()
    server.stop_taking()
    before = server.body
    await asyncio.sleep(HOUR_S)
    assert server.body == before
    server.take_again()
    assert 1 <= (await server.settled_body()).removeprefix(before).count(b"ping") <= 2
    server.leave()
    await server.over()


@simulated
async def test_no_ping_is_left_behind() -> None:
    feed = Feed()
    server = FakeServer(stream(feed), direct=True)
    await server.settled_body()
    feed.end()
    await server.over()
    body = server.body
    await asyncio.sleep(HOUR_S)
    assert server.body == body


@simulated
async def test_a_ping_that_fails_is_the_last() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    feed = Feed()
    server = FakeServer(stream(feed), direct=True)
    await server.settled_body()
    pings: list[bytes] = []

    def fail(data: bytes) -> None:
        pings.append(data)
        raise OSError

    server.pipe.write = fail  # type: ignore[method-assign] - the connection breaks under the first ping
    await asyncio.sleep(HOUR_S)
    assert (pings, feed.closed) == ([b": ping\n"], 1)
    waiting: Any = getattr(asyncio.get_running_loop(), "_scheduled")  # noqa: B009 - a loop tells its timers to nobody
    assert not [timer for timer in waiting if not timer.cancelled() and timer.when() < HANGS_S]


# Draining


class Crowd:
    """Holds so many streams on one server, and notes when each of them left."""

    def __init__(self, count: int, **how: Any) -> None:
        self.streams = OpenStreams()
        self.feeds = [Feed(b"1") for _ in range(count)]
        self.departures: list[tuple[float, int]] = []
        self.servers = [
            FakeServer(
                stream(feed, streams=self.streams, farewell=lambda number=number: self._farewell(number), **how),
                direct=bool(number % 2),
            )
            for number, feed in enumerate(self.feeds)
        ]

    def _farewell(self, number: int) -> bytes:
        self.departures.append((asyncio.get_running_loop().time(), number))
        return b"bye"

    async def drain(self, window_s: float) -> list[float]:
        """Drains them, and returns when each left."""
        for server in self.servers:
            await server.settled_body()
        await self.streams.drain(window_s)
        await asyncio.gather(*(server.over() for server in self.servers))
        assert (len(self.streams), self.streams.draining) == (0, True)
        return [at_s for at_s, _ in self.departures]


@simulated
async def test_a_drain_spreads_the_departures_evenly_over_its_window() -> None:
    crowd = Crowd(10)
    assert await crowd.drain(20.0) == pytest.approx([2.0 * number for number in range(1, 11)], abs=0.2)
    assert {server.body.replace(b": ping\n", b"") for server in crowd.servers} == {b": ok\n1bye"}
    assert not any(server.complete for server in crowd.servers)
    assert [feed.closed for feed in crowd.feeds] == [1] * 10


@simulated
async def test_a_drain_without_a_window_asks_all_at_once() -> None:
    assert await Crowd(100).drain(0) == pytest.approx([0.0] * 100, abs=0.2)


@simulated
async def test_a_drain_of_nothing_is_over_at_once() -> None:
    assert await Crowd(0).drain(20.0) == []
    assert asyncio.get_running_loop().time() == 0


@simulated
async def test_a_drain_goes_in_random_order() -> None:
    """Clients that came together must not come back together."""
    crowd = Crowd(50)
    await crowd.drain(20.0)
    order = [number for _, number in crowd.departures]
    assert sorted(order) == list(range(50)) != order


@simulated
async def test_a_drain_is_over_when_the_last_stream_has_ended_by_itself() -> None:
    crowd = Crowd(5)
    loop = asyncio.get_running_loop()
    for feed in crowd.feeds:
        loop.call_later(1.0, feed.end)
    assert await crowd.drain(HOUR_S) == []
    assert loop.time() < 3.0
    assert all(server.complete for server in crowd.servers)


@simulated
async def test_a_drain_lets_those_read_on_that_could_not_come_back() -> None:
    crowd = Crowd(3, resumable=False)
    loop = asyncio.get_running_loop()
    for feed in crowd.feeds:
        loop.call_later(30.0, feed.end)
    assert await crowd.drain(20.0) == []
    assert all(server.complete for server in crowd.servers)


# The end of a token


def noticed(seconds: int) -> bytes:
    return b"[%d s]" % seconds


@pytest.mark.parametrize(("remaining_s", "told_at_s"), [(300.0, 240.0), (60.0, 0.0), (20.0, 0.0), (0.5, 0.0)])
@on_both_ways
@simulated
async def test_a_reader_is_told_that_its_token_expires_and_then_cut(
    direct: bool, remaining_s: float, told_at_s: float
) -> None:
    loop, feed = asyncio.get_running_loop(), Feed()
    app = stream(feed, token_end=TokenEnd(remaining_s, noticed), apology=lambda error: b"over", end=b"[DONE]")
    server, began = TimedServer(app, direct=direct), loop.time()
    await asyncio.sleep(told_at_s + 0.2)
    notice = noticed(round(remaining_s - told_at_s))
    assert server.body.endswith(notice)
    feed.say(b"more")
    assert not server.complete
    await server.over(HOUR_S)
    assert remaining_s <= loop.time() - began <= remaining_s + 0.2
    assert server.body.endswith(b"over")
    assert not server.complete
    assert (server.body.count(notice), feed.closed) == (1, 1)


@on_both_ways
@simulated
async def test_a_reader_whose_token_is_good_for_long_is_told_nothing(direct: bool) -> None:
    feed = Feed()
    server = TimedServer(stream(feed, token_end=TokenEnd(2 * HOUR_S, notice=noticed), end=b"[DONE]"), direct=direct)
    await asyncio.sleep(HOUR_S)
    feed.end()
    await server.over()
    assert server.complete
    assert server.body.replace(b": ping\n", b"") == b": ok\n[DONE]"


@on_both_ways
@simulated
async def test_a_reader_that_does_not_read_is_cut_with_its_token_too(direct: bool) -> None:
    feed = Feed()
    server = TimedServer(stream(feed, token_end=TokenEnd(30.0, notice=noticed)), direct=direct)
    await asyncio.sleep(0.1)
    server.stop_taking()
    feed.say(b"x" * 1_000_000)
    await asyncio.sleep(40.0)
    server.take_again()
    await server.over()
    assert feed.closed == 1
    assert not server.complete
