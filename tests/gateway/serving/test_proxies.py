"""Only the listed proxies say under which name, by which scheme and by whom the gateway was called."""

import asyncio
from typing import Any

import pytest

from events.log.memory import MemoryLog
from gateway.access.auth import authenticator
from gateway.access.signin import SignIn
from gateway.access.tickets import Tickets
from gateway.errors import Forbidden
from gateway.serving.proxies import TrustedProxies
from gateway.settings import Settings

PROXY = "10.0.0.1"
LOCAL = (b"host", b"127.0.0.1:8000")
PAGE = b"http://localhost:5173"


def scope_behind(proxy: str | None, *headers: tuple[bytes, bytes], kind: str = "http") -> dict[str, Any]:
    """Returns the scope that the unit gets of a request from this address."""
    scopes: list[dict[str, Any]] = []

    async def unit(scope: dict[str, Any], *_: object) -> None:
        scopes.append(scope)

    scope = {"type": kind, "scheme": "http", "client": (proxy, 1) if proxy else None, "headers": [LOCAL, *headers]}
    asyncio.run(TrustedProxies(unit, [PROXY, "10.1.0.0/16"])(scope, None, None))
    return scopes[0]


def hosts(scope: dict[str, Any]) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"host"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"app.example", b"app.example"),
        (b" app.example:8443 ", b"app.example:8443"),
        (b"outer.example, app.example", b"app.example"),
        (b"", LOCAL[1]),
        (b" , ", LOCAL[1]),
    ],
)
def test_a_listed_proxy_says_the_name(value: bytes, host: bytes, kind: str) -> None:
    assert hosts(scope_behind(PROXY, (b"x-forwarded-host", value), kind=kind)) == [host]
    assert hosts(scope_behind("10.1.2.3", (b"x-forwarded-host", value), kind=kind)) == [host]


@pytest.mark.parametrize("address", ["10.0.0.2", "127.0.0.1", None])
def test_nobody_else_does(address: str | None) -> None:
    assert hosts(scope_behind(address, (b"x-forwarded-host", b"app.example"))) == [LOCAL[1]]


def test_without_the_header_nothing_changes_but_what_uvicorn_reads() -> None:
    scope = scope_behind(PROXY, (b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-proto", b"https"))
    assert (scope["client"], scope["scheme"], hosts(scope)) == (("192.0.2.7", 0), "https", [LOCAL[1]])


@pytest.mark.parametrize("address", [PROXY, "10.0.0.2"])
def test_a_socket_of_a_page_behind_a_listed_proxy_is_the_gateways_own(address: str) -> None:
    """A browser says by no other header whose page opens a WebSocket."""
    scope = scope_behind(address, (b"origin", PAGE), (b"x-forwarded-host", b"localhost:5173"), kind="websocket")
    scope |= {"path": "/api/audio", "query_string": b""}
    settings = Settings()
    sign_in = SignIn(settings, authenticator(settings), Tickets(MemoryLog()))
    if address == PROXY:
        assert asyncio.run(sign_in(scope)).sub == "local"
    else:
        with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
            asyncio.run(sign_in(scope))
