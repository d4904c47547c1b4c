"""Connections through proxies and with certificates, against real ones on loopback, on each event loop."""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from gateway.chat.upstreams.way_out import WayOut, WayOutError, way_out
from gateway.upstream_settings import Network, UpstreamSettings
from loadtests.ports import free_port
from tests.support.authority import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import (
    CHUNKED,
    Client,
    Peer,
    Poured,
    RawServer,
    on_each_loop,
    polite,
    until,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def way_to(server: RawServer, network: dict[str, str] | None = None, **files: Any) -> WayOut:
    settings = UpstreamSettings(name="one", base_url=server.url, **{name: str(file) for name, file in files.items()})
    return way_out(settings, Network(**(network or {})))


async def failure(client: Client, url: str) -> str:
    with pytest.raises(WayOutError) as error:
        await client.post(url)
    return str(error.value)


# Proxies


@on_each_loop
async def test_requests_to_http_are_passed_on_by_a_proxy(authority: Authority) -> None:
    async with RawServer(polite) as server, ConnectProxy(login=b"Basic YW5uOnBAc3M=") as proxy:
        way = way_to(server, {"http_proxy": f"http://ann:p%40ss@{proxy.address}"})
        async with Client(way) as client:
            assert [await client.whole(f"{server.url}/v1/x?y=1", b"%d" % n) for n in range(3)] == [b"0", b"1", b"2"]
        assert len(proxy.heads) == 1
        assert server.peers[0].heads[0].startswith(b"POST http://localhost:%d/v1/x?y=1 HTTP/1.1\r\n" % server.port)
        await until(lambda: (proxy.open, server.open) == (0, 0))


@pytest.mark.parametrize("proxy_has_tls", [False, True])
@on_each_loop
async def test_requests_to_https_go_through_a_tunnel(authority: Authority, proxy_has_tls: bool) -> None:
    tls = authority.server("proxy") if proxy_has_tls else None
    scheme = "https" if proxy_has_tls else "http"
    async with RawServer(polite, authority.server()) as server, ConnectProxy(login=b"Basic YTpi", tls=tls) as proxy:
        network = {"all_proxy": f"{scheme}://a:b@{proxy.address}", "ssl_cert_file": str(authority.pem)}
        async with Client(way_to(server, network)) as client:
            assert [await client.whole(server.url, b"x" * n) for n in (1, 300_000, 2)] == [
                b"x" * n for n in (1, 300_000, 2)
            ]
        [head] = proxy.heads
        assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % server.port)
        assert not any(b"proxy-authorization" in head for head in server.peers[0].heads)
        await until(lambda: (proxy.open, server.open) == (0, 0))


@on_each_loop
async def test_tokens_come_through_a_tunnel_one_by_one_and_a_stop_closes_both_ends(authority: Authority) -> None:
    go_on = asyncio.Queue[bytes]()

    async def on_demand(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while piece := await go_on.get():
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            if piece == b"last":
                await peer.gone()
                return

    async with (
        RawServer(on_demand, authority.server()) as server,
        ConnectProxy() as proxy,
        Client(way_to(server, {"https_proxy": proxy.address}, ca=authority.pem)) as client,
    ):
        body = await client.body(server.url)
        for token in (b"one", b"two"):
            go_on.put_nowait(token)
            assert await body.read() == token
        sink = Poured()
        body.pipe(sink)
        go_on.put_nowait(b"last")
        await until(lambda: sink.bytes == b"last")
        body.abort()
        await until(lambda: (client.connections, proxy.open, server.open) == (0, 0, 0))


@on_each_loop
async def test_a_reader_that_pauses_holds_its_upstream_through_a_tunnel(authority: Authority) -> None:
    size = 256 << 20
    """More than all sockets on the way ever hold."""

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while peer.sent < size:
            await peer.send(b"x" * 65_536)
        await peer.gone()

    async with RawServer(endless, authority.server()) as server, ConnectProxy() as proxy:
        async with Client(way_to(server, {"https_proxy": proxy.address}, ca=authority.pem)) as client:
            body = await client.body(server.url)
            body.pause()
            before = -1
            while server.peers[0].sent != before:
                before = server.peers[0].sent
                await asyncio.sleep(0.06)
            assert before < size
            body.resume()
            taken = 0
            while taken < before:
                taken += len(await body.read())
            await until(lambda: server.peers[0].sent > before)
            body.abort()
        await until(lambda: (proxy.open, server.open) == (0, 0))


ANSWERS = {
    "wants a login": ({"login": b"Basic x"}, "wants a user and a password", True),
    "forbids": ({"answer": b"HTTP/1.1 403 No\r\n\r\n"}, "answered 403 to CONNECT localhost:", True),
    "cannot get there": ({"answer": b"HTTP/1.0 502 Bad\r\ncontent-length: 0\r\n\r\n"}, "answered 502 to", False),
    "is no proxy": ({"answer": b"SSH-2.0-OpenSSH\r\n\r\n"}, "did not answer in HTTP", False),
    "says too much": ({"answer": b"x" * 70_000}, "did not answer in HTTP", False),
}


@pytest.mark.parametrize(("proxy_does", "says", "is_final"), ANSWERS.values(), ids=ANSWERS)
@on_each_loop
async def test_a_proxy_that_refuses_is_named_without_its_password(
    proxy_does: dict[str, bytes], says: str, is_final: bool
) -> None:
    async with ConnectProxy(**proxy_does) as proxy:  # type: ignore[arg-type]
        settings = UpstreamSettings(name="one", base_url="https://localhost:9/v1")
        way = way_out(settings, Network(https_proxy=f"http://ann:secret@{proxy.address}"))
        async with Client(way) as client:
            with pytest.raises(WayOutError) as error:
                await client.post("https://localhost:9/v1")
            assert f"the proxy localhost:{proxy.port} (HTTPS_PROXY)" in str(error.value)
            assert says in str(error.value)
            assert error.value.is_final is is_final
            assert "secret" not in str(error.value)
            await until(lambda: proxy.open == 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
@on_each_loop
async def test_a_proxy_that_is_not_there_is_named(scheme: str) -> None:
    port = free_port()
    url = f"{scheme}://localhost:9/v1"
    network = Network(all_proxy=f"http://ann:secret@127.0.0.1:{port}")
    async with Client(way_out(UpstreamSettings(name="one", base_url=url), network)) as client:
        said = await failure(client, url)
        assert said.startswith(f"no connection to the proxy 127.0.0.1:{port} (ALL_PROXY): ")
        assert "secret" not in said


@on_each_loop
async def test_a_proxy_that_nobody_vouches_for_is_named(authority: Authority) -> None:
    async with ConnectProxy(tls=authority.server("proxy")) as proxy:
        settings = UpstreamSettings(name="one", base_url="https://localhost:9/v1", ca=str(authority.pem))
        async with Client(way_out(settings, Network(https_proxy=f"https://{proxy.address}"))) as client:
            said = await failure(client, settings.base_url)
        assert said.startswith(f"no connection to the proxy localhost:{proxy.port} (HTTPS_PROXY): its certificate")
        assert said.endswith("set SSL_CERT_FILE")
        await until(lambda: proxy.open == 0)


@on_each_loop
async def test_a_proxy_that_says_nothing_is_given_up_in_time() -> None:
    async with ConnectProxy(is_silent=True) as proxy:
        way = way_out(UpstreamSettings(name="one", base_url="https://x/v1"), Network(https_proxy=proxy.address))
        async with Client(way) as client:
            with pytest.raises(httpx2.ConnectTimeout, match=r"through the proxy localhost:\d+ \(HTTPS_PROXY\)"):
                await client.post("https://x/v1", connect_s=0.1)
            await until(lambda: proxy.open == 0)


# Certificates


@on_each_loop
async def test_a_client_certificate_is_shown(authority: Authority) -> None:
    certificate, key = authority.sign("client")
    async with RawServer(polite, authority.server_that_asks()) as server:
        way = way_to(server, ca=authority.pem, client_certificate=certificate, client_key=key)
        async with Client(way) as client:
            assert await client.whole(server.url, b"x") == b"x"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_each_loop
async def test_a_client_certificate_that_lacks_is_told(authority: Authority, version: ssl.TLSVersion) -> None:
    """The server has a thread: asyncio's closes before its alert is sent."""
    tls = authority.server_that_asks()
    tls.maximum_version = version

    def refuse_one(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        with tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError):
                secured.do_handshake()
            with socket.socket(fileno=secured.detach()) as plain, suppress(OSError):
                while plain.recv(4096):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://localhost:{listening.getsockname()[1]}"
        way = way_out(UpstreamSettings(name="one", base_url=url, ca=str(authority.pem)), Network())
        async with Client(way) as client:
            refusing = asyncio.create_task(asyncio.to_thread(refuse_one, listening))
            assert "`client_certificate`" in await failure(client, url)
            await refusing


DISTRUSTED = {
    "signed by nobody we know": ("DNS:localhost", 2, "set `ca` of its [[upstream]], or SSL_CERT_FILE"),
    "of another host": ("DNS:elsewhere", 2, "correct the base URL"),
    "expired": ("DNS:localhost", -1, "its owner must renew it"),
}


@pytest.mark.parametrize("case", DISTRUSTED)
@on_each_loop
async def test_a_certificate_that_is_not_trusted_is_told_with_what_to_do(authority: Authority, case: str) -> None:
    hosts, days, says = DISTRUSTED[case]
    tls = authority.server("distrusted", hosts, days)
    async with RawServer(polite, tls) as server, ConnectProxy() as proxy:
        authorities = {} if "nobody" in case else {"ca": authority.pem}
        for network in ({}, {"https_proxy": proxy.address}):
            async with Client(way_to(server, network, **authorities)) as client:
                said = await failure(client, server.url)
                assert said.startswith(f"the certificate of localhost:{server.port} is not trusted (")
                assert says in said
        await until(lambda: (proxy.open, server.open) == (0, 0))


@on_each_loop
async def test_a_server_without_tls_is_told(authority: Authority) -> None:
    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Speak plainly\r\n\r\n")
        await peer.gone()

    async with RawServer(plain) as server:
        url = f"https://localhost:{server.port}"
        async with Client(way_out(UpstreamSettings(name="one", base_url=url), Network())) as client:
            assert (await failure(client, url)).startswith(f"no TLS with localhost:{server.port}: ")
