"""Makes connections to one upstream, by the way out that its network asks for: straight, or through a proxy.

To `https://` a proxy is asked for a tunnel (CONNECT), in which TLS with the upstream itself is spoken: the proxy sees
the host's name and no more. To `http://` it is sent the requests. Either way the connection is the same as without a
proxy, so that tokens, pauses and a stop cost the same.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

import httpx2

from gateway.chat.upstreams.address import UpstreamAddress
from gateway.chat.upstreams.certificates import tls_context, trusted_by
from gateway.chat.upstreams.proxies import Proxy, proxy_to
from gateway.errors import ConfigurationError
from gateway.upstream_settings import Network, UpstreamSettings

MAX_REPLY_BYTES = 65_536
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
AUTHENTICATION_REQUIRED = 407
OTHER_NAME = (62, 64)
"""OpenSSL's codes for a certificate of another host, or of another address."""
EXPIRED, NOT_YET = 10, 9
Origin = tuple[str, str, int]
ConnectionT = TypeVar("ConnectionT", bound=asyncio.Protocol)


class WayOutError(httpx2.ConnectError):
    """There is no connection; the text says why, and which setting to correct. It holds no secret."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final
        """Whether the next try would fail too."""


class WayOut:
    """How one upstream is reached: through which proxy, trusting whom, showing which certificate."""

    def __init__(
        self,
        proxy: Proxy | None = None,
        tls: ssl.SSLContext | None = None,
        proxy_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.proxy = proxy
        self._tls = tls
        self._proxy_tls = proxy_tls

    async def connect(self, origin: Origin, make: Callable[[], ConnectionT]) -> ConnectionT:
        """Returns the connection that `make` made, once it is open. Raises httpx2.ConnectError."""
        scheme, host, port = origin
        if scheme != "https":
            return await self._opened(make, origin, None)
        self._tls = self._tls or httpx2.create_ssl_context()
        if self.proxy is None:
            return await self._opened(make, origin, self._tls)
        transport = await self._tunnel(self.proxy, origin)
        connection = make()
        try:
            secured = await asyncio.get_running_loop().start_tls(transport, connection, self._tls, server_hostname=host)
        except OSError as err:
            transport.abort()
            raise _failure(err, host, port) from err
        except BaseException:
            transport.abort()
            raise
        connection.connection_made(cast(asyncio.BaseTransport, secured))
        return connection

    async def _opened(
        self, make: Callable[[], ConnectionT], origin: Origin, context: ssl.SSLContext | None
    ) -> ConnectionT:
        """Connects to the proxy if there is one, else to the origin."""
        _, host, port = origin
        if self.proxy is not None:
            host, port, context = self.proxy.host, self.proxy.port, None
            if self.proxy.scheme == "https":
                context = self._proxy_tls = self._proxy_tls or httpx2.create_ssl_context()
        try:
            _, connection = await asyncio.get_running_loop().create_connection(make, host, port, ssl=context)
        except OSError as err:
            raise (_failure(err, host, port) if self.proxy is None else _no_proxy(self.proxy, err)) from err
        return connection

    async def _tunnel(self, proxy: Proxy, origin: Origin) -> asyncio.Transport:
        """Returns a connection to the proxy that it has made one to the origin."""
        _, host, port = origin
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        reply = await self._opened(_TunnelReply, origin, None)
        try:
            status = await reply.ask(target.encode(), proxy.authorization)
        except BaseException:
            reply.transport.abort()
            raise
        if 200 <= status < 300:
            return reply.transport
        reply.transport.abort()
        raise refused_by(proxy, status, f"CONNECT {target}")


class _TunnelReply(asyncio.Protocol):
    """Hears what a proxy answers to CONNECT."""

    def __init__(self) -> None:
        self._head = b""
        self._status = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    async def ask(self, target: bytes, authorization: bytes) -> int:
        """Returns the status of the answer, 0 when it is none."""
        lines = [b"CONNECT %b HTTP/1.1" % target, b"host: %b" % target, b"user-agent: trilane"]
        lines += [b"proxy-authorization: " + authorization] if authorization else []
        self.transport.write(b"\r\n".join([*lines, b"", b""]))
        return await self._status

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > MAX_REPLY_BYTES:
            match = STATUS.match(self._head)
            self._answer(int(match[1]) if match else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer(0)

    def _answer(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)


def way_out(settings: UpstreamSettings, network: Network) -> WayOut:
    """Returns the way to one upstream. Raises ConfigurationError for a setting that cannot be used."""
    url = UpstreamAddress(settings).base_url
    if url.scheme != "https" and (settings.ca or settings.client_certificate or settings.client_key):
        raise ConfigurationError(
            f"upstream {settings.name!r} has certificates (`ca`, `client_certificate`, `client_key`) and a base URL "
            "without TLS: want https://"
        )
    proxy = proxy_to(url, network)
    tls = tls_context(settings, network) if url.scheme == "https" else None
    return WayOut(proxy, tls, trusted_by(network) if proxy and proxy.scheme == "https" else None)


def refused_by(proxy: Proxy, status: int, request: str) -> WayOutError:
    """Returns the error for a proxy's own answer; 0 stands for what is none."""
    if status == AUTHENTICATION_REQUIRED:
        reason = "wants a user and a password, or other ones: want http://user:password@host:port"
    elif status:
        reason = f"answered {status} to {request}; NO_PROXY names hosts to reach without it"
    else:
        reason = "did not answer in HTTP"
    return WayOutError(f"{proxy.shown} {reason}", is_final=400 <= status < 500)


def _no_proxy(proxy: Proxy, err: OSError) -> WayOutError:
    """Returns the error for a proxy that cannot be reached; an upstream's `ca` does not count for it."""
    is_distrusted = isinstance(err, ssl.SSLCertVerificationError)
    reason = f"its certificate is not trusted ({err.verify_message}): set SSL_CERT_FILE" if is_distrusted else err
    return WayOutError(f"no connection to {proxy.shown}: {reason}", is_final=is_distrusted)


def alert_in(err: BaseException | None) -> WayOutError | None:
    """Returns the error for an upstream that refused us in TLS; in TLS 1.3 it does so after the handshake."""
    if not isinstance(err, ssl.SSLError) or "ALERT" not in (err.reason or ""):
        return None
    reason = f"it refuses our TLS ({err.reason}): does it want the `client_certificate` of an [[upstream]]?"
    return WayOutError(reason, is_final=True)


def _failure(err: OSError, host: str, port: int) -> httpx2.ConnectError:
    """Returns the error for a connection that was not made; one about certificates says what to set."""
    if not isinstance(err, ssl.SSLError):
        return httpx2.ConnectError(f"no connection to {host}:{port}: {err}")
    if not isinstance(err, ssl.SSLCertVerificationError):
        return alert_in(err) or WayOutError(f"no TLS with {host}:{port}: {err.reason or err}", is_final=False)
    reason = err.verify_message or str(err)
    if err.verify_code in OTHER_NAME:
        advice = "correct the base URL"
    elif err.verify_code in (EXPIRED, NOT_YET):
        advice = "its owner must renew it, or this machine's clock is wrong"
    else:
        advice = "set `ca` of its [[upstream]], or SSL_CERT_FILE, to a PEM file with whoever signed it"
    return WayOutError(f"the certificate of {host}:{port} is not trusted ({reason}): {advice}", is_final=True)
