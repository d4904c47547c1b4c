"""A client gets the same event stream, byte for byte, from our protocol and from uvicorn's own two, over sockets."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.errors import Gone, UpstreamRefused
from gateway.serving.open_streams import OpenStreams
from gateway.serving.sse import EventStream
from tests.support.raw_server import on_each_loop, until
from tests.support.streams import SERVERS, Call, Feed, Uvicorn, stream

BIG = 4 << 20
IN_FLIGHT = 1 << 20
"""More bytes than the server's buffer, one write and the two sockets of the connection hold together."""
EVENT = b"data: " + b"x" * 4088 + b"\n\n"


def on_each_server(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on every server, and on asyncio's own event loop and the gateway's."""
    return pytest.mark.parametrize("http", SERVERS)(on_each_loop(test))


class Site:
    """An application whose streams a test controls: one per request, in order."""

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.streams = OpenStreams()
        self.feeds: list[Feed] = []
        self.responses: list[EventStream] = []
        self.waiting: list[Feed] = []

    def next_is(self, feed: Feed) -> Feed:
        self.waiting.append(feed)
        return feed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        feed = self.waiting.pop(0) if self.waiting else Feed()
        self.feeds.append(feed)
        response = stream(feed, streams=self.streams, **self.how)
        self.responses.append(response)
        await response(scope, receive, send)


@on_each_server
async def test_a_stream_is_the_same_bytes_on_every_server(http: str) -> None:
    site = Site(end=b"data: [DONE]\n\n")
    async with Uvicorn(site, http) as server, await server.call() as call:
        assert await call.chunk() == b": ok\n"
        [feed] = site.feeds
        feed.say(b"data: 1\n\n")
        assert await call.chunk() == b"data: 1\n\n"
        feed.hold(b"data: 2\n\n")
        assert await call.chunk() == b"data: 2\n\n"
        feed.say(b"data: 3\n\n")
        feed.end()
        assert await call.read() == b"data: 3\n\ndata: [DONE]\n\n"
        assert call.complete
        assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert call.headers["transfer-encoding"] == "chunked"


@on_each_server
async def test_a_large_stream_comes_whole(http: str) -> None:
    text = b"".join(b"%07d\n" % number for number in range(300_000))
    site = Site()
    site.next_is(Feed(text, has_ended=True))
    async with Uvicorn(site, http) as server, await server.call() as call:
        assert await call.read() == b": ok\n" + text
        assert call.complete


@on_each_server
async def test_a_connection_is_used_again_after_a_finished_stream(http: str) -> None:
    site = Site()
    async with Uvicorn(site, http) as server, await server.call() as call:
        for number in range(3):
            await call.chunk()
            site.feeds[-1].say(b"%d" % number)
            site.feeds[-1].end()
            assert await call.read() == b"%d" % number
            assert call.complete
            await call.ask()
        assert len(site.feeds) == 4
        assert [feed.closed for feed in site.feeds] == [1, 1, 1, 0]


@on_each_server
async def test_streams_of_one_connection_do_not_write_into_each_other(http: str) -> None:
    """The first one's source says more after its end."""
    site = Site()
    first = site.next_is(Feed(b"1", has_ended=True))
    async with Uvicorn(site, http) as server, await server.call() as call:
        assert await call.read() == b": ok\n1"
        await call.ask()
        assert await call.chunk() == b": ok\n"
        first.say(b"from the first")
        site.feeds[1].say(b"2")
        site.feeds[1].end()
        assert await call.read() == b"2"


@on_each_server
async def test_a_stream_that_leaves_is_cut_and_its_connection_closed(http: str) -> None:
    site = Site(end=b"data: [DONE]\n\n", farewell=lambda: b"retry: 7\ndata: {}\n\n")
    async with Uvicorn(site, http) as server, await server.call() as call:
        await call.chunk()
        site.feeds[0].say(b"data: 1\n\n")
        await call.chunk()
        site.responses[0].leave()
        assert await call.read() == b"retry: 7\ndata: {}\n\n"
        assert not call.complete
        assert await call.at_end()
        assert site.feeds[0].closed == 1


@on_each_server
async def test_history_that_is_gone_is_a_cut_too(http: str) -> None:
    site = Site(end=b"data: [DONE]\n\n")
    async with Uvicorn(site, http) as server, await server.call() as call:
        await call.chunk()
        site.feeds[0].hold(Gone(code="evicted"))
        assert await call.read() == b""
        assert not call.complete
        assert await call.at_end()
        assert site.feeds[0].closed == 1


@on_each_server
async def test_a_client_that_is_gone_closes_the_source_at_once(http: str) -> None:
    site = Site()
    async with Uvicorn(site, http) as server:
        call = await server.call()
        await call.chunk()
        [feed] = site.feeds
        await call.close()
        async with asyncio.timeout(3):
            await feed.shut.wait()
        assert (feed.closed, len(site.streams)) == (1, 0)
        feed.say(b"to nobody")


@on_each_server
async def test_a_refusal_is_a_problem_document_and_the_connection_stays(http: str) -> None:
    loop = asyncio.get_running_loop()
    verdict: asyncio.Future[None] = loop.create_future()
    site = Site(verdict=verdict, prime_s=5)
    loop.call_later(0.02, verdict.set_exception, UpstreamRefused("slow down", status=429, retry_after="7"))
    async with Uvicorn(site, http) as server, await server.call() as call:
        assert (call.status, call.headers["retry-after"]) == (429, "7")
        assert call.headers["content-type"] == "application/problem+json"
        assert b'"status":429' in await call.exactly(int(call.headers["content-length"]))
        site.how = {}
        await call.ask()
        assert (call.status, await call.chunk()) == (200, b": ok\n")


@on_each_server
async def test_a_client_that_leaves_before_the_verdict_closes_the_source(http: str) -> None:
    site = Site(verdict=asyncio.get_running_loop().create_future(), prime_s=5)
    feed = site.next_is(Feed())
    async with Uvicorn(site, http) as server:
        call = Call(server.port)
        asking = asyncio.ensure_future(call.ask())
        await until(lambda: site.feeds)
        asking.cancel()
        await call.close()
        async with asyncio.timeout(3):
            await feed.shut.wait()


@on_each_server
async def test_pings_come_through(http: str) -> None:
    site = Site(ping_s=0.03)
    async with Uvicorn(site, http) as server, await server.call() as call:
        assert [await call.chunk() for _ in range(4)] == [b": ok\n", b": ping\n", b": ping\n", b": ping\n"]
        site.feeds[0].say(b"data: 1\n\n")
        assert (await call.read(until=b"data: 1\n\n")).endswith(b"data: 1\n\n")


# Clients that do not read


async def wait_until_stalled(feed: Feed) -> int:
    """Waits until nothing was polled from the source for a while; returns the bytes polled."""
    before = -1
    while feed.polled_bytes != before:
        before = feed.polled_bytes
        await asyncio.sleep(0.05)
    return before


@on_each_server
async def test_a_client_that_stops_reading_costs_little_and_loses_nothing(http: str) -> None:
    site = Site()
    slow = site.next_is(Feed(EVENT * (BIG // len(EVENT))))
    async with Uvicorn(site, http) as server, await server.call(receive_bytes=4096) as call:
        assert await wait_until_stalled(slow) < IN_FLIGHT
        async with await server.call() as other:
            await other.chunk()
            for number in range(20):
                site.feeds[1].say(b"data: %d\n\n" % number)
                async with asyncio.timeout(3):
                    assert await other.chunk() == b"data: %d\n\n" % number
        slow.end()
        body = await call.read()
        assert (len(body), call.complete) == (len(b": ok\n") + BIG, True)
        assert body.removeprefix(b": ok\n") == EVENT * (BIG // len(EVENT))


@on_each_server
async def test_a_client_that_stopped_reading_and_is_gone_closes_the_source(http: str) -> None:
    site = Site()
    feed = site.next_is(Feed(EVENT * (BIG // len(EVENT))))
    async with Uvicorn(site, http) as server:
        call = await server.call(receive_bytes=4096)
        await wait_until_stalled(feed)
        await call.close()
        async with asyncio.timeout(3):
            await feed.shut.wait()
        assert feed.polled_bytes < IN_FLIGHT


@on_each_server
async def test_a_client_that_stops_reading_can_be_asked_to_leave(http: str) -> None:
    """It gets what was written, then the farewell; it cannot hold the server up once its connection is closed."""
    site = Site(farewell=lambda: b"bye")
    feed = site.next_is(Feed(EVENT * (BIG // len(EVENT))))
    async with Uvicorn(site, http) as server, await server.call(receive_bytes=4096) as call:
        await wait_until_stalled(feed)
        site.responses[0].leave()
        body = await call.read()
        assert body.endswith(b"bye")
        assert not call.complete
        assert await call.at_end()


# The protocol's own part


@on_each_server
async def test_only_our_protocol_lends_its_connection(http: str) -> None:
    carriers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        carriers.append((scope.get("extensions") or {}).get("trilane.carrier"))
        await stream(Feed(has_ended=True))(scope, receive, send)

    async with Uvicorn(app, http) as server, await server.call() as call:
        await call.read()
    assert (carriers[0] is not None) == (http == "ours")


@pytest.mark.parametrize("length", [1, 15, 16, 255, 4096, 65_536, 1_000_000])
@on_each_loop
async def test_a_chunk_of_any_length_is_one_chunk(length: int) -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, await server.call() as call:
        await call.chunk()
        site.feeds[0].say(b"x" * length)
        body = b""
        while len(body) < length:
            body += await call.chunk()
        assert body == b"x" * length


@on_each_server
async def test_an_old_client_gets_the_same_bytes(http: str) -> None:
    """HTTP/1.0 knows no chunks: ours sends none, and the close is the end. uvicorn's own with httptools sends them."""
    site = Site(end=b"END")
    site.next_is(Feed(b"1", has_ended=True))
    async with Uvicorn(site, http) as server, await server.call(version="1.0") as call:
        assert ("transfer-encoding" in call.headers) == (http == "httptools")
        if http == "httptools":
            assert await call.read() == b": ok\n1END"
        else:
            assert await call.exactly(9) == b": ok\n1END"
        assert await call.at_end()


@on_each_loop
async def test_an_old_client_is_sent_each_event_at_once_and_is_noticed_when_it_leaves() -> None:
    site = Site(end=b"END")
    async with Uvicorn(site, "ours") as server, await server.call(version="1.0") as call:
        assert call.headers["connection"] == "close"
        assert await call.exactly(5) == b": ok\n"
        for number in range(3):
            site.feeds[0].say(b"data: %d\n\n" % number)
            assert await call.exactly(9) == b"data: %d\n\n" % number
        await call.close()
        await until(lambda: site.feeds[0].closed)
    assert len(site.streams) == 0


@pytest.mark.parametrize("headers", [[], [(b"Content-Length", b"6")]], ids=["no length", "a length"])
@on_each_loop
async def test_an_old_client_gets_a_whole_answer_with_its_length_or_the_close_as_its_end(
    headers: list[tuple[bytes, bytes]],
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with Uvicorn(answer, "ours") as server, await server.call(version="1.0") as call:
        assert "transfer-encoding" not in call.headers
        assert await call.exactly(6) == b"onetwo"
        assert await call.at_end()


@on_each_loop
async def test_an_old_client_sees_a_cut_as_a_close() -> None:
    site = Site()
    site.next_is(Feed(b"1"))
    async with Uvicorn(site, "ours") as server, await server.call(version="1.0") as call:
        assert await call.exactly(6) == b": ok\n1"
        site.responses[0].leave()
        assert await call.at_end()
