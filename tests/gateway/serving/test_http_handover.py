"""A connection that is lent to a stream and handed back loses nothing that was sent before, during or behind it.

Where uvicorn does right by itself, the same test runs on its own protocol, which lends nothing, as the reference.
"""

import asyncio

import pytest

from gateway.errors import UpstreamRefused
from gateway.serving.http import MAX_PIPELINED_BYTES
from tests.support.lending import GONE_S, KIB, NOTE, SECOND, THIRD, Site, assert_echoes, echo_of, on_both
from tests.support.raw_client import CRLF, RawClient, request
from tests.support.raw_server import on_each_loop, until
from tests.support.streams import Uvicorn

SIZES = [KIB, 63 * KIB, 64 * KIB, 64 * KIB + 1, 65 * KIB, 300_000, 5_000_000]

# Bodies of any size before it


@pytest.mark.parametrize("size", SIZES)
@on_both
async def test_a_connection_serves_on_after_a_stream_that_answered_a_body(http: str, size: int) -> None:
    site, body = Site(), b"x" * size
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        for _ in range(2):
            await client.send(request("POST", "/stream", body))
            answer = await client.head()
            assert await client.chunk(answer) == b": ok\n"
            site.end()
            await client.rest(answer)
            assert (answer.body, answer.whole) == (b": ok\nsaid", True)
            await assert_echoes(client, body)


@pytest.mark.parametrize("size", SIZES[:-1])
@on_both
async def test_a_connection_serves_on_after_a_stream_that_did_not_read_its_body(http: str, size: int) -> None:
    """This is uvicorn's own doing: what nobody read is dropped."""
    site, body = Site(), b"x" * size
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/unread", body))
        answer = await client.head()
        site.end()
        assert (await client.rest(answer)).body == b": ok\nsaid"
        await assert_echoes(client, body)


@pytest.mark.parametrize("size", SIZES)
@on_each_loop
async def test_the_departure_of_a_client_is_seen_whatever_it_sent_before(size: int) -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x" * size))
        await client.chunk(await client.head())
        await client.close()
        async with asyncio.timeout(GONE_S):
            await site.feeds[0].shut.wait()


@pytest.mark.parametrize("size", SIZES)
@on_each_loop
async def test_a_departure_before_the_verdict_is_seen_whatever_was_sent_before(size: int) -> None:
    site = Site(verdict=asyncio.get_running_loop().create_future(), prime_s=5)
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x" * size))
        await until(lambda: site.feeds)
        await client.close()
        async with asyncio.timeout(GONE_S):
            await site.feeds[0].shut.wait()


@pytest.mark.parametrize("more", [b"", request("GET", "/second"), b"GET /second HT"], ids=["none", "whole", "part"])
@pytest.mark.parametrize("size", [KIB, 300_000])
@on_each_loop
async def test_a_client_that_closes_its_half_is_gone(size: int, more: bytes) -> None:
    """It is so with every request to uvicorn; of what it sent besides, nothing is answered."""
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x" * size) + more)
        answer = await client.head()
        await client.chunk(answer)
        client.half_close()
        async with asyncio.timeout(GONE_S):
            await site.feeds[0].shut.wait()
        assert not (await client.rest(answer)).whole
        await until(lambda: not server.connections)
        assert site.paths == ["/stream"]


@pytest.mark.parametrize("size", SIZES[:-1])
@on_both
async def test_a_refusal_leaves_the_connection_as_it_was(http: str, size: int) -> None:
    verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    site, body = Site(verdict=verdict, prime_s=5), b"x" * size
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", body))
        await until(lambda: site.feeds)
        verdict.set_exception(UpstreamRefused("slow down", status=429, retry_after="7"))
        assert (await client.answer()).status == 429
        await assert_echoes(client, body)


# What came behind it, whole or in part

CUTS = {
    "a line break": b"\r\n",
    "its first byte": SECOND[:1],
    "in its method": SECOND[:3],
    "in its path": SECOND[:9],
    "in the name of a header": SECOND[: SECOND.index(b"te: GET")],
    "before the value of a header": SECOND[: SECOND.index(NOTE.strip())],
    "in the value of a header": SECOND[: SECOND.index(b"muggled")],
    "behind a header": SECOND[: SECOND.index(b"x-more")],
    "before the empty line": SECOND[: SECOND.index(CRLF + CRLF) + 2],
    "its head": SECOND[: SECOND.index(CRLF + CRLF) + 4],
    "in its body": SECOND[:-7],
    "all of it": SECOND,
    "all and a part of the next": SECOND + THIRD[:11],
    "two": SECOND + THIRD,
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("early", [True, False], ids=["with it", "while it runs"])
@pytest.mark.parametrize("late", [True, False], ids=["after it", "while it runs too"])
@on_both
async def test_what_came_behind_a_streamed_request_is_answered_after_it(
    http: str, cut: str, early: bool, late: bool
) -> None:
    """It comes in one piece with the request, or while it is answered; the rest while it is answered, or after that."""
    beginning = CUTS[cut]
    rest = (SECOND + THIRD).removeprefix(beginning)
    site = Site()
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + (beginning if early else b""))
        answer = await client.head()
        await client.chunk(answer)
        if not early:
            await client.send(beginning)
        if not late:
            await asyncio.sleep(0.02)
            await client.send(rest)
        await asyncio.sleep(0.02)
        assert site.paths == ["/stream"]
        site.end()
        assert (await client.rest(answer)).body == b": ok\nsaid"
        if late:
            await client.send(rest)
        assert (await client.answer()).body == echo_of("POST", "/second", b"y" * 2000)
        assert (await client.answer()).body == echo_of("GET", "/third", b"")
        await assert_echoes(client)
        assert site.paths == ["/stream", "/second", "/third", "/second", "/third"]


@pytest.mark.parametrize("cut", CUTS)
@on_both
async def test_what_came_behind_a_refused_request_is_answered_after_it(http: str, cut: str) -> None:
    verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    site, beginning = Site(verdict=verdict, prime_s=5), CUTS[cut]
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + beginning[:5])
        await until(lambda: site.feeds)
        await client.send(beginning[5:])
        await asyncio.sleep(0.02)
        verdict.set_exception(UpstreamRefused("slow down", status=429, retry_after="7"))
        assert (await client.answer()).status == 429
        await client.send((SECOND + THIRD).removeprefix(beginning))
        assert (await client.answer()).body == echo_of("POST", "/second", b"y" * 2000)
        assert (await client.answer()).body == echo_of("GET", "/third", b"")


@on_both
async def test_streams_behind_streams_are_answered_in_order(http: str) -> None:
    """Three come in one piece, with the beginning of a fourth request."""
    site = Site()
    async with Uvicorn(site, http) as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") * 3 + SECOND[:50])
        for number in range(1, 4):
            answer = await client.head()
            await client.chunk(answer)
            assert len(site.feeds) == number
            site.end()
            assert (await client.rest(answer)).body == b": ok\nsaid"
        await client.send(SECOND[50:])
        assert (await client.answer()).body == echo_of("POST", "/second", b"y" * 2000)
        await assert_echoes(client)


@pytest.mark.parametrize("beginning", [b"GET /second HT", SECOND, SECOND + THIRD[:11]], ids=["part", "whole", "more"])
@on_each_loop
async def test_the_departure_of_a_client_that_sent_more_is_seen(beginning: bytes) -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + beginning)
        await client.chunk(await client.head())
        await client.close()
        async with asyncio.timeout(GONE_S):
            await site.feeds[0].shut.wait()
        await until(lambda: not server.connections)
    assert site.paths == ["/stream"]


@pytest.mark.parametrize(
    "beginning", [b"", b"GET /second HT", request("GET", "/second")], ids=["none", "part", "whole"]
)
@on_each_loop
async def test_what_a_client_sends_while_it_is_streamed_to_is_bounded(beginning: bytes) -> None:
    site = Site()
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x") + beginning)
        answer = await client.head()
        await client.chunk(answer)
        await client.send(b"G" * (MAX_PIPELINED_BYTES // 2))
        await client.send(b"G" * (MAX_PIPELINED_BYTES // 2))
        assert await client.silent()
        await client.send(b"G")
        assert await client.sees_close()
        assert site.feeds[0].closed == 1
        await until(lambda: not server.connections)


@on_each_loop
async def test_as_many_requests_as_may_be_sent_ahead_are_answered() -> None:
    site, one = Site(), request("GET", "/one")
    count = MAX_PIPELINED_BYTES // len(one)
    async with Uvicorn(site, "ours") as server, RawClient(server.port) as client:
        await client.send(request("POST", "/stream", b"x"))
        answer = await client.head()
        await client.chunk(answer)
        await client.send(one * count)
        site.end()
        await client.rest(answer)
        for _ in range(count):
            assert (await client.answer()).body == echo_of("GET", "/one", b"")
        await assert_echoes(client)
