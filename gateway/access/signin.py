"""Sign-in: finds a request's credential in its header, cookie or ticket, and checks the page that it comes from.

A browser's WebSocket can send no header but the subprotocols that it offers: a ticket may be one of them, and on
OpenAI's route any key, as its SDKs do it. Such a subprotocol is never the one that is chosen.

A header is sent by a program that knows the secret. A cookie, and being a user of this machine, go along with every
request that any page makes a browser send: those need an Origin that is this gateway's own, or listed. So does every
WebSocket that a page opens, whatever it shows: no browser asks us first whether that page may. Behind a proxy
that writes its own `Host`, the browser says by `Sec-Fetch-Site` whether page and gateway are of one origin to it; no
page can set that header. Nor can it set `X-Forwarded-Proto`, in which a proxy that ends TLS says by which scheme it was
called: it is believed here of anybody, because the check is one of pages.
"""

from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from math import inf
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateway.access.auth import Authenticator
from gateway.access.grants import Principal
from gateway.access.hosts import is_loopback
from gateway.access.tickets import Tickets, takes_tickets
from gateway.errors import BadRequest, Forbidden, Unauthorized
from gateway.settings import Settings

COOKIE = "__Secure-trilane"
MAX_COOKIE_BYTES = 3800
"""Maximum bytes of a cookie's value: browsers store 4096 for a cookie with its name and attributes, or nothing."""
TICKET = "ticket."
"""Prefix of a subprotocol that carries a ticket."""
KEY = "openai-insecure-api-key."
"""Prefix of a subprotocol that carries a key."""
EPHEMERAL = "ek_"
"""Prefix of a ticket that is sent where a key is expected."""
REALTIME = "/v1/realtime"
VISITED = "/api/mcp/"
"""Beginning of the routes that a browser is sent to by other sites: what comes back to them has a proof of its own."""
PAGE_SCHEMES = {"ws": "http", "wss": "https"}
"""The scheme of the page that opens a socket, by the socket's own."""


class SignIn:
    """Tells who sends a request; called with an ASGI scope."""

    def __init__(self, settings: Settings, authenticator: Authenticator, tickets: Tickets) -> None:
        self._settings = settings
        self._requires_sign_in = settings.requires_sign_in
        self._authenticator = authenticator
        self._tickets = tickets

    async def __call__(self, scope: Any) -> Principal:
        """Returns who sends the request. Raises Unauthorized or Forbidden, whose detail never repeats a credential."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        method = scope.get("method", "WEBSOCKET")
        if not self._requires_sign_in:
            self.check_page(scope, is_visit=method in ("GET", "HEAD"))
            return await self._authenticator.authenticate(None)
        if method == "WEBSOCKET":
            self.check_page(scope)
        authorization = _header(headers, b"authorization") or _api_key(headers) or _offered_key(scope)
        ticket = _ticket(scope, authorization)
        if ticket is not None:
            if method not in ("GET", "WEBSOCKET"):
                raise Unauthorized("a ticket opens a stream or a socket, by GET alone", code="bad_ticket")
            return await self._tickets.redeem(ticket, scope["path"])
        if authorization is None and (cookies := _header(headers, b"cookie")) is not None:
            token = _cookie_token(cookies)
            if token:
                self.check_page(scope, is_visit=method == "GET" and scope["path"].startswith(VISITED))
                authorization = f"Bearer {token}"
        return await self._authenticator.authenticate(authorization)

    def check_page(self, scope: Any, *, is_visit: bool = False) -> None:
        """Raises Forbidden when a browser sends the request for a page that is neither this gateway's own nor listed.

        `is_visit`: it may follow a link from anywhere, which a browser sends without an Origin.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        origin = _header(headers, b"origin")
        site = _header(headers, b"sec-fetch-site")
        if origin is None:
            if is_visit or site in (None, "same-origin", "none"):
                return
            origin = "another site"
        elif origin in self._settings.allowed_origins or self._is_own(origin, scope, site):
            return
        raise Forbidden(
            f"pages of {origin[:80]} may not send requests here: list it in TRILANE_ALLOWED_ORIGINS, "
            "or let your proxy pass on the browser's Host, and its scheme as X-Forwarded-Proto",
            code="bad_origin",
        )

    # The cookie

    def session_cookie(self, scope: Any, who: Principal) -> str | None:
        """Returns the `Set-Cookie` that keeps a page signed in; None where nobody has to sign in.

        It holds the credential as it came, so it ends with that, by expiry or revocation, and needs no other check.
        Raises Forbidden for a page that may not call, BadRequest when there is no credential that fits a cookie.
        """
        self.check_page(scope)
        if not self._requires_sign_in:
            return None
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        scheme, _, token = (_header(headers, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            raise BadRequest("send the key or token as `Authorization: Bearer`: the cookie keeps it", code="no_bearer")
        if len(token) > MAX_COOKIE_BYTES:
            raise BadRequest(
                f"a token of {len(token)} bytes: browsers drop a cookie of more than {MAX_COOKIE_BYTES}",
                code="token_too_long",
            )
        lifetime_s = who.remaining_s()
        return _set_cookie(headers, token.strip(), None if lifetime_s == inf else int(lifetime_s))

    def no_cookie(self, scope: Any) -> str:
        """Returns the `Set-Cookie` that signs a page out. Raises Forbidden for a page that may not call."""
        self.check_page(scope)
        return _set_cookie(scope["headers"], "", 0)

    def _is_own(self, origin: str, scope: Any, site: str | None) -> bool:
        """Returns whether a page of `origin` is this gateway's own: of one scheme, name and port with it.

        Without sign-in that takes a name of this machine: any other could be rebound to it through DNS.
        """
        try:
            url = urlsplit(origin)
            is_same = url.netloc == _header(scope["headers"], b"host") and url.scheme in _schemes(scope)
            is_same = is_same or site == "same-origin"
            return is_same and (self._requires_sign_in or is_loopback(url.hostname or ""))
        except ValueError:
            return False


def _schemes(scope: Any) -> set[str]:
    """Returns the schemes by which the proxies on the way were called; without any, that of the connection."""
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    named = ",".join(forwarded) or scope.get("scheme", "http")
    return {PAGE_SCHEMES.get(scheme, scheme) for scheme in named.lower().replace(" ", "").split(",")}


def _ticket(scope: Any, authorization: str | None) -> str | None:
    """Returns the ticket of a request, if its route takes tickets and it carries one."""
    if not takes_tickets(scope["path"]):
        return None
    if authorization is not None:
        token = authorization.partition(" ")[2].strip()
        return token.removeprefix(EPHEMERAL) if scope["path"] == REALTIME and token.startswith(EPHEMERAL) else None
    if b"ticket=" in scope["query_string"]:
        return parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
    return _subprotocol_suffix(scope, TICKET)


def _api_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the key in `X-Api-Key`, where Anthropic's clients send it, as the header that it stands for."""
    key = _header(headers, b"x-api-key")
    return f"Bearer {key}" if key else None


def _offered_key(scope: Any) -> str | None:
    """Returns a key among the subprotocols as the header that it stands for."""
    key = _subprotocol_suffix(scope, KEY) if scope["path"] == REALTIME else None
    return f"Bearer {key}" if key else None


def _subprotocol_suffix(scope: Any, prefix: str) -> str | None:
    subprotocols: list[str] = scope.get("subprotocols", [])
    return next((name.removeprefix(prefix) for name in subprotocols if name.startswith(prefix)), None)


def _set_cookie(headers: Iterable[tuple[bytes, bytes]], token: str, max_age_s: int | None) -> str:
    """Returns a cookie for all routes; without an age it lasts until the browser is closed.

    A browser keeps it from pages of other sites, unless the page that asks for it, which is listed, is of another site
    itself: there a stricter cookie would not even be stored.
    """
    _, value = SimpleCookie().value_encode(token)
    is_foreign = _header(headers, b"sec-fetch-site") == "cross-site"
    age = "" if max_age_s is None else f"; Max-Age={max_age_s}"
    return f"{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite={'None' if is_foreign else 'Lax'}{age}"


def _cookie_token(header: str) -> str:
    try:
        cookie = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


def _header(headers: Iterable[tuple[bytes, bytes]], header_name: bytes) -> str | None:
    for name, value in headers:
        if name == header_name:
            return value.decode("latin-1")
    return None
