"""The HTTP/1.1 transport to upstreams: asyncio and httptools, for streams of many small chunks.

httpx2's own costs 26-85 µs for each chunk that an upstream flushes, this one about 5 (see `connection.py` beside it).
Departs from httpx2's default on purpose: HTTP/1.1 only, no proxies, no cookies, no redirects, no decompression (it asks
for `identity`). Connections are kept alive per origin.
"""

import asyncio
import ssl
from typing import NamedTuple

import httpx2

from gateway.chat.upstreams.connection import Body, Origin, Pool, UpstreamConnection

OURS = {b"content-length", b"transfer-encoding", b"accept-encoding", b"connection"}
"""Headers that this transport sets itself."""


class Target(NamedTuple):
    """The address that requests go to, and how each of them begins: all of its head but the length of its content."""

    origin: Origin
    head: bytes

    @classmethod
    def of(cls, request: httpx2.Request) -> "Target":
        url = request.url
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), url.raw_path)]
        lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() not in OURS]
        lines += [b"accept-encoding: identity", b""]
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        return cls(origin, b"\r\n".join(lines))


class HttptoolsTransport(httpx2.AsyncBaseTransport):
    """Exchanges requests for answers: with `exchange` for streams, and as the `http_client` of the SDK for the rest."""

    def __init__(self) -> None:
        self.pool = Pool()
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        timeout = request.extensions.get("timeout", {}).get("connect")
        connection = await self.exchange(Target.of(request), await request.aread(), timeout)
        return httpx2.Response(status_code=connection.status(), headers=connection.headers, stream=Body(connection))

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
        scheme, host, _ = target.origin
        try:
            async with asyncio.timeout(connect_s):
                connection = await self.pool.connect(target.origin, self._context(scheme))
        except TimeoutError as err:
            raise httpx2.ConnectTimeout(f"no connection to {host} within {connect_s} s") from err
        return await self._send(connection, target, content)

    async def _send(self, connection: UpstreamConnection, target: Target, content: bytes) -> UpstreamConnection:
        try:
            await connection.send(target.head, content)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _context(self, scheme: str) -> ssl.SSLContext | None:
        if scheme == "https" and self._tls is None:
            self._tls = httpx2.create_ssl_context()
        return self._tls if scheme == "https" else None

    async def aclose(self) -> None:
        self.pool.close()
