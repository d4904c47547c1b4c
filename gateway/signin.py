"""Who sends a request: its header, its cookie, or its ticket; and whether the page it comes from may use them.

A header is sent by a program that knows the secret. A cookie, and being a user of this machine, go along with every
request that any page makes a browser send: those need an Origin that is this gateway's own, or listed.
"""

from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateway.auth import Authenticator, Principal
from gateway.errors import Forbidden
from gateway.settings import Settings
from gateway.tickets import ROUTES, Tickets

COOKIE = "__Secure-trilane"


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
        authorization = _header(headers, b"authorization")
        if authorization is None and scope["path"] in ROUTES and b"ticket=" in scope["query_string"]:
            ticket = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
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
