"""Connections of the upstream transport are kept and used again within bounds, against servers of raw bytes."""

import asyncio

import httpx2
import pytest

from gateway.chat.upstreams import pool as pool_module
from tests.support.raw_server import (
    Client,
    Peer,
    RawServer,
    chunked,
    length_of,
    on_each_loop,
    polite,
    read_all,
    until,
)

HTTP_ERROR = (httpx2.ReadError, httpx2.RemoteProtocolError)


# Kept connections


@on_each_loop
async def test_a_connection_is_used_again() -> None:
    async with RawServer(polite) as server, Client() as client:
        assert [await client.whole(server.url, b"%d" % n) for n in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        assert (len(server.peers), client.connections) == (1, 1)


@on_each_loop
async def test_a_chunked_answer_leaves_its_connection_usable() -> None:
    async def chunks(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*chunked(b"a", b"bc"))

    async with RawServer(chunks) as server, Client() as client:
        assert [await client.whole(server.url) for _ in range(3)] == [b"abc"] * 3
        assert len(server.peers) == 1


@on_each_loop
async def test_requests_at_once_have_connections_of_their_own() -> None:
    async with RawServer(polite) as server, Client() as client:
        answers = await asyncio.gather(*(client.whole(server.url, b"%d" % n) for n in range(4)))
        assert answers == [b"0", b"1", b"2", b"3"]
        assert len(server.peers) == 4
        await asyncio.gather(*(client.whole(server.url) for _ in range(4)))
        assert len(server.peers) == 4


@on_each_loop
async def test_servers_do_not_share_connections() -> None:
    async with RawServer(polite) as one, RawServer(polite) as two, Client() as client:
        for server in (one, two, one, two):
            await client.whole(server.url)
        assert (len(one.peers), len(two.peers)) == (1, 1)


@pytest.mark.parametrize("header", [b"connection: close", b"Connection: Close"])
@on_each_loop
async def test_a_server_that_closes_is_connected_to_anew(header: bytes) -> None:
    async def closing(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(b"x", header))
        await peer.gone()

    async with RawServer(closing) as server, Client() as client:
        assert [await client.whole(server.url) for _ in range(2)] == [b"x"] * 2
        assert len(server.peers) == 2


@on_each_loop
async def test_a_body_left_unread_costs_its_connection() -> None:
    async with RawServer(polite) as server, Client() as client:
        await (await client.body(server.url)).aclose()
        assert await client.whole(server.url) == b"{}"
        assert len(server.peers) == 2


@on_each_loop
async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(b"%d" % peer.number))

    async with RawServer(once) as server, Client() as client:
        assert await client.whole(server.url) == b"1"
        await until(lambda: client.connections == 0)
        assert await client.whole(server.url) == b"2"


@on_each_loop
async def test_a_kept_connection_that_closes_under_a_request_is_asked_once_more_elsewhere() -> None:
    async def tired(peer: Peer) -> None:
        await peer.send(length_of(await peer.request()))
        if peer.number > 1:
            await peer.gone()
        else:
            await peer.request()

    async with RawServer(tired) as server, Client() as client:
        assert await client.whole(server.url, b"first") == b"first"
        assert await client.whole(server.url, b"second") == b"second"
        assert len(server.peers) == 2


@on_each_loop
async def test_it_is_not_asked_a_third_time() -> None:
    async def broken(peer: Peer) -> None:
        body = await peer.request()
        if peer.number == 1:
            await peer.send(length_of(body))
            await peer.request()

    async with RawServer(broken) as server, Client() as client:
        await client.whole(server.url)
        with pytest.raises(HTTP_ERROR):
            await client.whole(server.url)
        assert len(server.peers) == 2


@on_each_loop
async def test_a_new_connection_that_closes_without_an_answer_is_not_retried() -> None:
    """The request may have been carried out."""

    async def silent(peer: Peer) -> None:
        await peer.request()

    async with RawServer(silent) as server, Client() as client:
        with pytest.raises(HTTP_ERROR):
            await client.post(server.url)
        assert len(server.peers) == 1


@on_each_loop
async def test_a_kept_connection_that_breaks_after_a_first_header_is_not_retried() -> None:
    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(b""))
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx-request: started\r\ny:")

    async with RawServer(half) as server, Client() as client:
        await client.whole(server.url)
        with pytest.raises(HTTP_ERROR):
            await client.whole(server.url)
        assert len(server.peers) == 1


@on_each_loop
async def test_bytes_that_nobody_asked_for_answer_no_request() -> None:
    """A server gives up an idle connection with a 408."""

    async def impatient(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(b"%d" % peer.number))
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with RawServer(impatient) as server, Client() as client:
        assert await client.whole(server.url) == b"1"
        await until(lambda: client.connections == 0)
        assert await client.whole(server.url) == b"2"


@on_each_loop
async def test_a_body_that_is_released_twice_is_kept_once() -> None:
    async with RawServer(polite) as server, Client() as client:
        body = await client.body(server.url)
        await read_all(body)
        await body.aclose()
        await body.aclose()
        async with asyncio.timeout(3):
            answers = await asyncio.gather(client.whole(server.url, b"one"), client.whole(server.url, b"two"))
        assert answers == [b"one", b"two"]


@on_each_loop
async def test_a_body_that_was_released_has_no_power_over_the_next() -> None:
    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*chunked(b"a", b"b", b"c"))

    async with RawServer(slow) as server, Client() as client:
        old = await client.body(server.url)
        await read_all(old)
        await old.aclose()
        new = await client.body(server.url)
        old.abort()
        assert await read_all(new) == b"abc"


# The pool's bounds


@on_each_loop
async def test_only_so_many_idle_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE_PER_ORIGIN", 2)
    async with RawServer(polite) as server, Client() as client:
        await asyncio.gather(*(client.whole(server.url) for _ in range(5)))
        await until(lambda: server.open == 2)
        assert client.connections == 2


@on_each_loop
async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "KEEPALIVE_S", 0.05)
    async with RawServer(polite) as server, Client() as client:
        await client.whole(server.url)
        assert client.connections == 1
        await until(lambda: (client.connections, server.open) == (0, 0))


@on_each_loop
async def test_a_connection_in_use_outlives_that_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "KEEPALIVE_S", 0.1)

    async def slow(peer: Peer) -> None:
        for pause_s in (0.0, 0.15):
            await peer.request()
            await asyncio.sleep(pause_s)
            await peer.send(length_of(b"x"))
        await peer.gone()

    async with RawServer(slow) as server, Client() as client:
        assert [await client.whole(server.url) for _ in range(2)] == [b"x"] * 2
        assert len(server.peers) == 1


@on_each_loop
async def test_closing_the_transport_closes_every_connection() -> None:
    async with RawServer(polite) as server, Client() as client:
        await client.whole(server.url)
        busy = await asyncio.gather(client.body(server.url), client.body(server.url))
        await client.transport.aclose()
        await until(lambda: (client.connections, server.open) == (0, 0))
        assert len(busy) == 2
