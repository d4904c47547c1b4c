"""Who sends a request: its header, its cookie, or its ticket; and whether the page it comes from may use them.

A browser's WebSocket can send no header but the subprotocols that it offers: a ticket may be one of them, and on
OpenAI's route any key, as its SDKs do it. Such a subprotocol is never the one that is chosen.

A header is sent by a program that knows the secret. A cookie, and being a user of this machine, go along with every
request that any page makes a browser send: those need an Origin that is this gateway's own, or listed.
"""

from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateway.access.auth import Authenticator, Principal
from gateway.access.tickets import ROUTES, Tickets
from gateway.errors import Forbidden
from gateway.settings import Settings

COOKIE = "__Secure-trilane"
TICKET = "ticket."
KEY = "openai-insecure-api-key."
EPHEMERAL = "ek_"
"""Before a ticket where a key is expected."""
REALTIME = "/v1/realtime"


class SignIn:
    def __init__(self, settings: Settings, authenticator: Authenticator, tickets: Tickets) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._tickets = tickets

    async def __call__(self, scope: Any) -> Principal:
        """Raises Unauthorized or Forbidden, whose detail never repeats a credential."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        method = scope.get("method", "WEBSOCKET")
        if not self._settings.authenticated:
            self._check_origin(headers, method)
            return self._authenticator.authenticate(None)
        authorization = _header(headers, b"authorization") or _offered_key(scope)
        ticket = _ticket(scope, authorization)
        if ticket is not None:
            return await self._tickets.redeem(ticket, scope["path"])
        if authorization is None and (cookie := _header(headers, b"cookie")) is not None:
            token = _cookie(cookie)
            if token:
                self._check_origin(headers, method)
                authorization = f"Bearer {token}"
        return self._authenticator.authenticate(authorization)

    def _check_origin(self, headers: list[tuple[bytes, bytes]], method: str) -> None:
        origin = _header(headers, b"origin")
        if origin is None:
            site = _header(headers, b"sec-fetch-site")
            if site in (None, "same-origin", "none") or method in ("GET", "HEAD"):
                return
            origin = "another site"
        elif origin in self._settings.allowed_origins or self._is_own(origin, _header(headers, b"host")):
            return
        raise Forbidden(f"requests from {origin[:80]} are not allowed: see TRILANE_ALLOWED_ORIGINS", code="bad_origin")

    def _is_own(self, origin: str, host: str | None) -> bool:
        """A page of this gateway's own; without sign-in only under a name of this machine, which no one can rebind."""
        try:
            own = urlsplit(origin)
            return own.netloc == host and (self._settings.authenticated or _is_loopback(own.hostname))
        except ValueError:
            return False


def _ticket(scope: Any, authorization: str | None) -> str | None:
    """The one that a request on a route for tickets comes with."""
    if scope["path"] not in ROUTES:
        return None
    if authorization is not None:
        token = authorization.partition(" ")[2].strip()
        return token.removeprefix(EPHEMERAL) if scope["path"] == REALTIME and token.startswith(EPHEMERAL) else None
    if b"ticket=" in scope["query_string"]:
        return parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
    return _offered(scope, TICKET)


def _offered_key(scope: Any) -> str | None:
    """A key among the subprotocols, as the header that it stands for."""
    key = _offered(scope, KEY) if scope["path"] == REALTIME else None
    return f"Bearer {key}" if key else None


def _offered(scope: Any, prefix: str) -> str | None:
    offered: list[str] = scope.get("subprotocols", [])
    return next((name.removeprefix(prefix) for name in offered if name.startswith(prefix)), None)


def _is_loopback(name: str | None) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name or "").is_loopback
    except ValueError:
        return False


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in headers if name == wanted), None)
