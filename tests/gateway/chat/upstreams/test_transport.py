"""Requests and connections of the upstream transport, against servers of raw bytes."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest

from gateway.chat.upstreams import connection as connection_module
from gateway.chat.upstreams.connection import MAX_HEADER_BYTES
from tests.conftest import free_port
from tests.support.raw_server import Client, Peer, RawServer, body_of, chunked, length_of, on_each_loop, read_all, until

HTTP_ERROR = (httpx2.ReadError, httpx2.RemoteProtocolError)


async def polite(peer: Peer) -> None:
    """Answers every request with its own body."""
    while True:
        body = await peer.request()
        await peer.send(length_of(body))


# What is sent


@on_each_loop
async def test_a_request_is_sent_as_it_is() -> None:
    async with RawServer(polite) as server, Client() as client:
        assert await client.whole(f"{server.url}/v1/chat?x=%20y", b'{"a": 1}') == b'{"a": 1}'
    lines = server.peers[0].heads[0].split(b"\r\n")
    assert lines[0] == b"POST /v1/chat?x=%20y HTTP/1.1"
    names = [line.split(b":")[0].lower() for line in lines[1:] if line]
    assert sorted(names) == sorted({*names})
    assert b"content-length: 8" in lines
    assert b"accept-encoding: identity" in lines
    assert b"host" in names


@on_each_loop
async def test_a_large_request_waits_for_a_slow_server() -> None:
    size = 8 << 20

    async def slow(peer: Peer) -> None:
        await asyncio.sleep(0.05)
        await peer.send(length_of(b"%d" % len(await peer.request())))

    async with RawServer(slow) as server, Client() as client:
        assert await client.whole(server.url, b"x" * size) == b"%d" % size


@on_each_loop
async def test_a_status_and_headers_come_with_the_response() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\nno")

    async with RawServer(refusing) as server, Client() as client:
        response = await client.post(server.url)
        assert (response.status_code, response.headers["retry-after"]) == (429, "7")
        assert await response.aread() == b"no"


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
    """A server that gives up an idle connection with a 408."""

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
    monkeypatch.setattr(connection_module, "MAX_IDLE_PER_ORIGIN", 2)
    async with RawServer(polite) as server, Client() as client:
        await asyncio.gather(*(client.whole(server.url) for _ in range(5)))
        await until(lambda: server.open == 2)
        assert client.connections == 2


@on_each_loop
async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "KEEPALIVE_S", 0.05)
    async with RawServer(polite) as server, Client() as client:
        await client.whole(server.url)
        assert client.connections == 1
        await until(lambda: (client.connections, server.open) == (0, 0))


@on_each_loop
async def test_a_connection_in_use_outlives_that_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "KEEPALIVE_S", 0.1)

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


# No connection


@on_each_loop
async def test_a_refused_connection_is_an_error() -> None:
    async with Client() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post(f"http://127.0.0.1:{free_port()}")


@on_each_loop
async def test_a_host_without_an_address_is_an_error() -> None:
    async with Client() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post("http://nowhere.invalid")


@on_each_loop
async def test_a_connection_that_is_not_taken_in_time_is_an_error() -> None:
    """Nobody accepts, and the queue of this socket is full."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with Client() as client:
            with pytest.raises(httpx2.ConnectTimeout):
                await client.post(f"http://127.0.0.1:{full.getsockname()[1]}", connect_s=0.1)


# What is no answer


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"v" * 900) for n in range(80)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"v" * (MAX_HEADER_BYTES + 1) + b"\r\n\r\n",
    ],
    ids=["SSH", "TLS", "bad header", "bad length", "smuggling", "upgrade", "many headers", "a long header"],
)
@on_each_loop
async def test_what_is_no_answer_in_http_is_refused(answer: bytes) -> None:
    async def odd(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with RawServer(odd) as server, Client() as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post(server.url)
        await until(lambda: client.connections == 0)


@on_each_loop
async def test_headers_up_to_the_limit_are_taken() -> None:
    value = b"v" * (MAX_HEADER_BYTES - 1000)

    async def verbose(peer: Peer) -> None:
        await peer.request()
        await peer.send(length_of(b"ok", b"x: " + value))

    async with RawServer(verbose) as server, Client() as client:
        response = await client.post(server.url)
        assert response.headers["x"].encode() == value
        assert await read_all(body_of(response)) == b"ok"


@pytest.mark.parametrize("first", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"])
@on_each_loop
async def test_an_interim_answer_is_not_the_answer(first: bytes) -> None:
    async def interim(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(first, first, length_of(b"real"))

    async with RawServer(interim) as server, Client() as client:
        response = await client.post(server.url)
        assert (response.status_code, "link" in response.headers) == (200, False)
        assert await response.aread() == b"real"
        assert await client.whole(server.url) == b"real"
        assert len(server.peers) == 1


@on_each_loop
async def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    is_asked = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.request()
        is_asked.set()
        await peer.gone()

    async with RawServer(silent) as server, Client() as client:
        asking = asyncio.ensure_future(client.post(server.url))
        await is_asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: (client.connections, server.open) == (0, 0))


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` and its key in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", *made, *named, *files], check=True, capture_output=True)
    return folder


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


@on_each_loop
async def test_requests_go_over_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    async with RawServer(polite, tls_of(certificate)) as server, Client() as client:
        assert [await client.whole(server.url, b"%d" % n) for n in range(3)] == [b"0", b"1", b"2"]
        assert len(server.peers) == 1


@on_each_loop
async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    async with RawServer(polite, tls_of(certificate)) as server, Client() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post(server.url)
        await until(lambda: server.open == 0)


@on_each_loop
async def test_a_tls_server_that_says_nothing_is_given_up_in_time() -> None:
    async def silent(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with RawServer(silent) as server, Client() as client:
        with pytest.raises(httpx2.ConnectTimeout):
            await client.post(f"https://localhost:{server.port}", connect_s=0.1)
        await asyncio.sleep(0.01)  # a transport that is given up in its handshake is closed a little later
