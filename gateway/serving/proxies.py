"""Believes `X-Forwarded-*` headers, of the proxies that `TRILANE_TRUSTED_PROXIES` lists and of nobody else.

Uvicorn reads who called and by which scheme. It leaves out under which name, and many proxies write a `Host` of their
own: Vite with `changeOrigin`, nginx unless told otherwise. Without the browser's name no page behind them is known as
the gateway's own, so `X-Forwarded-Host` takes the place of `Host`, for every check that is made of it.
"""

from collections.abc import MutableMapping
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

Header = tuple[bytes, bytes]
FORWARDED_HOST = b"x-forwarded-host"
"""The header in which a proxy says which `Host` it was called by."""


class TrustedProxies:
    """The ASGI application of a unit behind the proxies at these addresses."""

    def __init__(self, app: Any, addresses: list[str]) -> None:
        """Takes the addresses of proxies, and networks such as `10.0.0.0/8`; `*` stands for everybody."""
        self._app = ProxyHeadersMiddleware(app, trusted_hosts=addresses)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        client = scope.get("client")
        if client is not None and client[0] in self._app.trusted_hosts:
            scope["headers"] = under_forwarded_name(scope["headers"])
        passed_on: Any = scope
        await self._app(passed_on, receive, send)


def under_forwarded_name(headers: list[Header]) -> list[Header]:
    """Returns the headers with the name that the nearest proxy was called by as `Host`, where it says one.

    That header may stand several times, or hold a list: each proxy on the way adds what it saw.
    """
    forwarded = [value for name, value in headers if name == FORWARDED_HOST]
    host = forwarded[-1].rpartition(b",")[2].strip() if forwarded else b""
    if not host:
        return headers
    return [(b"host", host), *((name, value) for name, value in headers if name != b"host")]
