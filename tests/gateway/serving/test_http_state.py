"""A connection that is lent to a stream and handed back is closed, timed, paused and freed as uvicorn does it."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httptools
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.serving.http import StreamProtocol
from tests.support.lending import KEEP_ALIVE_S, KIB, SECOND, THIRD, Site, assert_echoes, echo_of, on_both
from tests.support.raw_client import RawClient, request
from tests.support.raw_server import on_each_loop, until
from tests.support.streams import Uvicorn

# What is asked about the connection


@on_both
async def test_a_client_that_waits_for_100_gets_it_and_a_stream_and_is_served_on(http: str) -> None:
    site, body = Site(), b"x" * 300_000
    whole = request("POST", "/stream", body, "expect: 100-continue")
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(whole.removesuffix(body))
        assert (await client.head()).status == 100
        await client.send(body)
        answer = await client.head()
        await client.chunk(answer)
        await client.send(whole.removesuffix(body))
        site.end()
        assert (await client.rest(answer)).body == b": ok\nsaid"
        assert (await client.head()).status == 100
        await client.send(body)
        answer = await client.head()
        site.end()
        assert (await client.rest(answer)).whole
        await assert_echoes(client)


@pytest.mark.parametrize("more", [b"", request("GET", "/second"), b"GET /second HT"], ids=["none", "whole", "part"])
@on_both
async def test_a_client_that_asks_for_the_close_gets_it_after_the_stream(http: str, more: bytes) -> None:
    site = Site()
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x", "connection: close"))
        answer = await client.head()
        assert answer.headers["connection"] == "close"
        await client.chunk(answer)
        await client.send(more)
        await asyncio.sleep(0.02)
        site.end()
        assert (await client.rest(answer)).whole
        assert await client.sees_close(KEEP_ALIVE_S)
    assert site.paths == ["/stream"]


@pytest.mark.parametrize("more", [b"", request("GET", "/second"), b"GET /second HT"], ids=["none", "whole", "part"])
@pytest.mark.parametrize("primed", [True, False], ids=["before the head", "after the head"])
@on_each_loop
async def test_a_server_that_shuts_down_closes_after_the_stream(primed: bool, more: bytes) -> None:
    verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    site = Site(verdict=verdict, prime_s=5) if primed else Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x"))
        await until(lambda: site.feeds)
        if primed:
            server.shut_down()
            verdict.set_result(None)
        answer = await client.head()
        await client.chunk(answer)
        if not primed:
            server.shut_down()
        await client.send(more)
        await asyncio.sleep(0.02)
        site.end()
        assert (await client.rest(answer)).whole
        assert await client.sees_close(KEEP_ALIVE_S)
    assert site.paths == ["/stream"]


@on_each_loop
async def test_a_server_that_shuts_down_after_a_stream_closes_at_once() -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x"))
        answer = await client.head()
        site.end()
        await client.rest(answer)
        server.shut_down()
        assert await client.sees_close(KEEP_ALIVE_S)


@pytest.mark.parametrize("beginning", [b"", SECOND[:50]], ids=["nothing", "in part"])
@pytest.mark.parametrize("early", [True, False], ids=["with it", "while it runs"])
@on_both
async def test_an_idle_connection_is_closed_in_time_after_a_stream(http: str, early: bool, beginning: bytes) -> None:
    """uvicorn does so when nothing comes after the end of a response, though a request has begun."""
    site, clock = Site(), asyncio.get_running_loop().time
    async with Uvicorn(site, http, timeout_keep_alive=KEEP_ALIVE_S) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + (beginning if early else b""))
        answer = await client.head()
        await client.chunk(answer)
        if not early:
            await client.send(beginning)
        await asyncio.sleep(1.5 * KEEP_ALIVE_S)  # a stream is never idle
        site.end()
        await client.rest(answer)
        ended_at = clock()
        assert await client.sees_close(3.0)
        assert clock() - ended_at > KEEP_ALIVE_S / 2


@pytest.mark.parametrize("early", [True, False], ids=["with it", "while it runs"])
@on_both
async def test_a_request_that_was_sent_ahead_has_all_the_time_it_needs(http: str, early: bool) -> None:
    site, more = Site(), request("GET", "/slow")
    async with Uvicorn(site, http, timeout_keep_alive=KEEP_ALIVE_S) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + (more if early else b""))
        answer = await client.head()
        await client.chunk(answer)
        if not early:
            await client.send(more)
            await asyncio.sleep(0.02)
        site.end()
        await client.rest(answer)
        assert (await client.answer()).body == echo_of("GET", "/slow", b"")
        assert await client.sees_close(3.0)


@on_both
async def test_every_answer_is_counted(http: str) -> None:
    """uvicorn's limit of requests per process counts them."""
    site = Site()
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        for more in (b"", SECOND, SECOND[:50]):
            await client.send(request("POST", "/stream", b"x"))
            answer = await client.head()
            await client.chunk(answer)
            await client.send(more)
            await asyncio.sleep(0.02)
            site.end()
            await client.rest(answer)
            await client.send(SECOND.removeprefix(more))
            await client.answer()
        await until(lambda: server.requests == 6)


# Writing


@pytest.mark.parametrize("more", [b"", SECOND, SECOND[:50]], ids=["none", "whole", "part"])
@on_each_loop
async def test_a_connection_that_takes_no_more_at_the_end_of_a_stream_does_not_after_it(more: bytes) -> None:
    """The next answer waits until its reader reads; then both are whole."""
    end = b"e" * 4_000_000
    site = Site(end=end)
    async with Uvicorn(site, "ours") as server, RawClient(server.port, receive_bytes=4096) as client:
        await client.send(request("POST", "/stream", b"x") + more)
        answer = await client.head()
        site.end()
        await until(lambda: server.protocols())
        [protocol] = server.protocols()
        assert protocol.flow.write_paused
        await client.send(SECOND.removeprefix(more))
        body = (await client.rest(answer)).body
        assert (body, answer.whole) == (b": ok\nsaid" + end, True)
        assert (await client.answer()).body == echo_of("POST", "/second", b"y" * 2000)
        assert not protocol.flow.write_paused
        await assert_echoes(client)


@pytest.mark.parametrize("more", [b"", SECOND, SECOND[:50]], ids=["none", "whole", "part"])
@on_each_loop
async def test_a_connection_that_took_no_more_when_it_was_lent_takes_more_after_it(more: bytes) -> None:
    """The transport says so between the head and the beginning of the stream, and takes it back while it runs."""
    site, transports = Site(), []

    async def full(scope: Any, receive: Any, send: Any) -> None:
        transport: asyncio.Transport = scope["extensions"]["trilane.carrier"].transport

        async def send_and_fill(message: Any) -> None:
            await send(message)
            if scope["path"] == "/stream" and not transports:
                transports.append(transport)
                transport.get_protocol().pause_writing()

        await site(scope, receive, send_and_fill)

    async with Uvicorn(full, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + more)
        answer = await client.head()
        site.feeds[0].say(b"1")
        assert await client.silent()
        transports[0].get_protocol().resume_writing()
        assert await client.chunk(answer) == b": ok\n1"
        site.end()
        await client.rest(answer)
        await client.send(SECOND.removeprefix(more))
        assert (await client.answer()).body == echo_of("POST", "/second", b"y" * 2000)
        await assert_echoes(client)


@pytest.mark.parametrize("size", [KIB, 64 * KIB + 1])
@pytest.mark.parametrize("more", [b"", SECOND, SECOND[:50]], ids=["none", "whole", "part"])
@on_each_loop
async def test_a_connection_that_is_closing_when_it_is_lent_leaves_nothing_behind(size: int, more: bytes) -> None:
    site = Site()

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["trilane.carrier"].transport.close()
        await site(scope, receive, send)

    async with Uvicorn(closing, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/unread", b"x" * size) + more)
        assert await client.sees_close()
        await until(lambda: site.feeds and site.feeds[0].closed == 1)
        await until(lambda: not server.connections)


@pytest.mark.parametrize("more", [b"", SECOND, SECOND[:50]], ids=["none", "whole", "part"])
@on_each_loop
async def test_a_connection_that_is_closing_when_a_stream_ends_serves_no_more(more: bytes) -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + more)
        await client.chunk(await client.head())
        [connection] = server.connections
        connection.transport.close()
        site.end()
        assert await client.sees_close()
        await until(lambda: not server.connections)
    assert (site.paths, site.feeds[0].closed) == (["/stream"], 1)


# Memory


def alive() -> Counter[str]:
    """Returns how many of the objects that speak HTTP there are."""
    kinds = (StreamProtocol, RequestResponseCycle, httptools.HttpRequestParser)
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))


@contextlib.contextmanager
def without_collector() -> Iterator[Counter[str]]:
    """Yields the objects alive before; nothing that goes waits for a garbage collector."""
    gc.collect()
    gc.disable()
    try:
        yield alive()
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [KIB, 300_000])
@on_each_loop
async def test_an_open_stream_keeps_nothing_of_its_request(size: int) -> None:
    site = Site()
    with without_collector() as before:
        async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
            await client.send(request("POST", "/stream", b"x" * size))
            await client.chunk(await client.head())
            await until(lambda: alive() == before)


@pytest.mark.parametrize("more", [b"", SECOND, SECOND + THIRD, SECOND[:50]], ids=["none", "whole", "two", "part"])
@on_each_loop
async def test_a_client_that_has_left_leaves_nothing_behind(more: bytes) -> None:
    site = Site()
    with without_collector() as before:
        async with Uvicorn(site, "ours") as server:
            async with RawClient(server.port) as client:
                await client.send(request("POST", "/stream", b"x") + more)
                await client.chunk(await client.head())
            await site.feeds[0].shut.wait()
            await until(lambda: alive() == before)
