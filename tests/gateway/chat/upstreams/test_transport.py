"""Requests of the upstream transport, and what is taken for an answer, against servers of raw bytes."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest

from gateway.chat.upstreams.connection import MAX_HEADER_BYTES
from loadtests.ports import free_port
from tests.support.raw_server import (
    Client,
    Peer,
    RawServer,
    body_of,
    length_of,
    on_each_loop,
    polite,
    read_all,
    until,
)

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
    """Returns a certificate for `localhost` and its key in one file."""
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
