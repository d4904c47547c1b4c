"""Chooses the proxy on the way to an upstream, as `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say. Pure.

No host is spared unless NO_PROXY names it, loopback neither: as curl and httpx do. Names are not resolved to compare
them with addresses. SOCKS is refused. A proxy's password is in no text that is shown.
"""

import base64
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2

from gateway.errors import ConfigurationError
from gateway.upstream_settings import Network

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy; its `authorization` is the value of `Proxy-Authorization`, or empty."""

    variable: str
    """The setting that names it."""
    scheme: str
    host: str
    port: int
    authorization: bytes = field(repr=False)

    @property
    def shown(self) -> str:
        """Returns its address without its password, and the setting to correct it in."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"the proxy {host}:{self.port} ({self.variable})"


def proxy_to(url: httpx2.URL, network: Network) -> Proxy | None:
    """Returns the proxy on the way to `url`; None for the straight way. Raises ConfigurationError."""
    settings = [("ALL_PROXY", network.all_proxy)]
    if url.scheme == "https":
        settings.insert(0, ("HTTPS_PROXY", network.https_proxy))
    else:
        settings.insert(0, ("HTTP_PROXY", network.http_proxy))
    variable, address = next(((name, value) for name, value in settings if value), ("", ""))
    if not address or _is_spared(url, network.no_proxy):
        return None
    return _read(variable, address)


def _read(variable: str, address: str) -> Proxy:
    scheme, separator, rest = address.partition("://")
    scheme = scheme.lower() if separator else "http"
    if scheme not in DEFAULT_PORTS:
        kind = "a SOCKS proxy" if scheme.startswith("socks") else f"a proxy of scheme {scheme[:16]!r}"
        raise ConfigurationError(
            f"{variable} names {kind}, which the gateway cannot use: want http://host:port, "
            "or NO_PROXY with the upstream's host"
        )
    try:
        url = httpx2.URL(f"{scheme}://{rest if separator else address}")
        host, port = url.raw_host.decode(), url.port or DEFAULT_PORTS[scheme]
    except (httpx2.InvalidURL, ValueError):
        host, port, url = "", 0, httpx2.URL()
    if not host or port > MAX_PORT:  # the text is not repeated: it may hold a password
        raise ConfigurationError(f"{variable} is not the address of a proxy: want http://host:port")
    login = f"{url.username}:{url.password}".encode()
    authorization = b"Basic " + base64.b64encode(login) if url.userinfo else b""
    return Proxy(variable=variable, scheme=scheme, host=host, port=port, authorization=authorization)


def _is_spared(url: httpx2.URL, no_proxy: str) -> bool:
    host, port = url.raw_host.decode().lower().rstrip("."), url.port or DEFAULT_PORTS.get(url.scheme)
    return any(
        scheme in ("", url.scheme) and named_port in (None, port) and _matches(host, name)
        for scheme, name, named_port in _entries(no_proxy)
    )


def _entries(no_proxy: str) -> Iterator[tuple[str, str, int | None]]:
    """Yields the scheme, host and port of each entry; entries are parted by commas or spaces."""
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        scheme, _, rest = entry.rpartition("://")
        bracketed = re.fullmatch(r"\[([^]]*)\](?::(\d+))?", rest)
        named = bracketed or re.fullmatch(r"([^:]*)(?::(\d+))?", rest)
        name, port = named.groups() if named else (rest, None)
        if name:
            yield scheme, name, int(port) if port else None


def _matches(host: str, name: str) -> bool:
    if name == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        suffix = name.removeprefix("*").strip(".")
        return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
