"""The HTTP/1.1 transport to upstreams: asyncio and httptools, for streams of many small chunks.

httpx2's own costs 26-85 µs for each chunk that an upstream flushes, this one about 5 (see `connection.py` beside it).
Departs from httpx2's default on purpose: HTTP/1.1 only, no cookies, no redirects; it asks for `identity`, and decodes
gzip and deflate when they come all the same. Connections are kept alive per origin.
"""

import asyncio
from typing import NamedTuple

import httpx2

from gateway.chat.upstreams.body import Body
from gateway.chat.upstreams.connection import UpstreamConnection
from gateway.chat.upstreams.pool import Pool
from gateway.chat.upstreams.proxies import Proxy
from gateway.chat.upstreams.way_out import Origin, WayOut

OURS = {b"content-length", b"transfer-encoding", b"accept-encoding", b"connection"}
"""Headers that this transport sets itself."""


class Target(NamedTuple):
    """The address that requests go to, and how each of them begins: all of its head but the length of its content."""

    origin: Origin
    head: bytes

    @classmethod
    def of(cls, request: httpx2.Request, proxy: Proxy | None = None) -> "Target":
        """Returns the target of a request, which `proxy` passes on unless it goes through a tunnel."""
        url, place = request.url, request.url.raw_path
        lines = [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() not in OURS]
        if proxy is not None and url.scheme == "http":
            place = b"http://%b%b" % (url.netloc, place)
            lines += [b"proxy-authorization: " + proxy.authorization] if proxy.authorization else []
        first = b"%b %b HTTP/1.1" % (request.method.encode(), place)
        origin = (url.scheme, url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80))
        return cls(origin, b"\r\n".join([first, *lines, b"accept-encoding: identity", b""]))


class HttptoolsTransport(httpx2.AsyncBaseTransport):
    """Exchanges requests for answers: with `exchange` for streams, and as the `http_client` of the SDK for the rest."""

    def __init__(self, way_out: WayOut | None = None) -> None:
        """Takes the way to the upstream; without one it goes straight there and trusts the system's authorities."""
        self.pool = Pool()
        self.way_out = way_out or WayOut()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        timeout = request.extensions.get("timeout", {}).get("connect")
        target = Target.of(request, self.way_out.proxy)
        connection = await self.exchange(target, await request.aread(), timeout)
        headers = httpx2.Headers(connection.headers)
        if connection.decoder is not None:  # `Body` gives it decoded
            del headers["content-encoding"]
        return httpx2.Response(status_code=connection.status(), headers=headers, stream=Body(connection))

    async def exchange(self, target: Target, content: bytes, connect_s: float | None) -> UpstreamConnection:
        """Sends one request; returns the connection on which its answer has begun. Raises httpx2.TransportError."""
        connection = self.pool.take(target.origin)
        if connection is not None:
            try:
                return await self._send(connection, target, content)
            except (httpx2.ReadError, httpx2.RemoteProtocolError):
                if connection.headers:
                    raise
                # The upstream closed a kept connection in that moment: nothing was answered, so it is sent once more.
        proxy = self.way_out.proxy
        try:
            async with asyncio.timeout(connect_s):
                connection = await self.pool.connect(target.origin, self.way_out)
        except TimeoutError as err:
            through = f" through {proxy.shown}" if proxy else ""
            raise httpx2.ConnectTimeout(f"no connection in {connect_s} s{through}") from err
        return await self._send(connection, target, content)

    async def _send(self, connection: UpstreamConnection, target: Target, content: bytes) -> UpstreamConnection:
        try:
            await connection.send(target.head, content)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def aclose(self) -> None:
        self.pool.close()
