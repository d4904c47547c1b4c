"""A request may name its sender in several places, and only listed pages may let a browser do so."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from events.log.memory import MemoryLog
from gateway.access.auth import authenticator, mint
from gateway.access.grants import LOCAL_USER, Grants, Principal
from gateway.access.signin import COOKIE, SignIn
from gateway.access.tickets import MAX_TICKET_S, TICKET_S, Tickets
from gateway.errors import BadRequest, Forbidden, TrilaneError, Unauthorized
from gateway.settings import Settings, load

SECRET = "a secret of the operator, long enough to be one"
PAGE = "https://app.example"
LATER = int(time.time()) + 3600
TOKEN = mint(SECRET, "alice", LATER, {"subscribe": ["team/*"]})
CLOSED = Settings(jwt_secret=[SECRET], allowed_origins=[PAGE])
OPEN = Settings(allowed_origins=["http://localhost:3000"])
BOB = Principal(sub="bob", grants=Grants(publish=["a"]), expires_at=float(LATER))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Returns headers whose names are written with `_`."""
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


def principal_of(
    settings: Settings, method: str = "GET", query: str = "", scheme: str = "http", **headers: str
) -> Principal:
    """Returns who a request with these headers is from."""
    scope: dict[str, Any] = {
        "headers": raw(headers),
        "method": method,
        "scheme": scheme,
        "query_string": query.encode(),
        "path": "/api/events",
    }
    sign_in = SignIn(settings, authenticator(settings), Tickets(MemoryLog()))
    return asyncio.run(sign_in(scope))


def test_a_header_signs_in_from_anywhere() -> None:
    who = principal_of(CLOSED, "POST", authorization=f"Bearer {TOKEN}", origin="https://evil.example")
    assert who.sub == "alice"


def test_a_cookie_signs_in_from_a_page_that_is_listed() -> None:
    assert principal_of(CLOSED, "POST", cookie=f"a=b; {COOKIE}={TOKEN}", origin=PAGE).sub == "alice"


def test_a_cookie_signs_in_from_a_page_of_the_gateway_itself() -> None:
    own = {"origin": "https://gw.example", "host": "gw.example", "cookie": f"{COOKIE}={TOKEN}"}
    assert principal_of(CLOSED, "POST", scheme="https", **own).sub == "alice"


def test_a_cookie_signs_in_when_an_event_source_of_its_own_page_asks() -> None:
    """Such a request sends no Origin."""
    assert principal_of(CLOSED, cookie=f"{COOKIE}={TOKEN}", sec_fetch_site="same-origin").sub == "alice"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "trilane", "gateway.internal:8000"])
def test_a_page_behind_a_proxy_that_writes_its_own_host_is_the_gateways_own(host: str) -> None:
    proxied = {"host": host, "sec_fetch_site": "same-origin"}
    signed_in = principal_of(CLOSED, "POST", cookie=f"{COOKIE}={TOKEN}", origin="https://chat.example", **proxied)
    assert signed_in.sub == "alice"
    assert principal_of(OPEN, "POST", origin="http://localhost:5173", **proxied).sub == LOCAL_USER


@pytest.mark.parametrize("site", ["same-site", "cross-site", "none", "", "Same-Origin", "same-origin, cross-site"])
def test_only_a_page_of_the_same_origin_is_the_gateways_own(site: str) -> None:
    proxied = {"host": "127.0.0.1:8000", "sec_fetch_site": site}
    with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
        principal_of(CLOSED, "POST", cookie=f"{COOKIE}={TOKEN}", origin="https://chat.example", **proxied)
    with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
        principal_of(OPEN, "POST", origin="http://localhost:5173", **proxied)


@pytest.mark.parametrize("origin", ["http://rebound.example:5173", "http://192.168.1.5:5173", "http://[bad"])
def test_without_sign_in_a_proxy_for_other_machines_is_refused(origin: str) -> None:
    with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
        principal_of(OPEN, "POST", origin=origin, host="127.0.0.1:8000", sec_fetch_site="same-origin")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil.example", "http://[bad"])
def test_a_cookie_is_worth_nothing_on_another_page(origin: str) -> None:
    with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
        principal_of(CLOSED, "POST", cookie=f"{COOKIE}={TOKEN}", origin=origin, host="gw.example")


def test_a_cookie_is_worth_nothing_when_the_browser_says_that_another_site_asks() -> None:
    with pytest.raises(Forbidden):
        principal_of(CLOSED, "POST", cookie=f"{COOKIE}={TOKEN}", sec_fetch_site="cross-site")


@pytest.mark.parametrize("cookie", ["", "other=1", f"{COOKIE}=", f"{COOKIE}=nonsense", "=;=", "a" * 9000])
def test_no_cookie_of_ours_is_not_signed_in(cookie: str) -> None:
    with pytest.raises(Unauthorized):
        principal_of(CLOSED, cookie=cookie)


def test_everyone_of_this_machine_is_local_and_a_program_sends_no_origin() -> None:
    assert principal_of(OPEN, "POST").sub == LOCAL_USER


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000"])
def test_the_page_of_a_gateway_without_sign_in_may_ask(origin: str) -> None:
    assert principal_of(OPEN, "POST", origin=origin, host=origin.removeprefix("http://")).sub == LOCAL_USER


def test_a_listed_page_may_ask_a_gateway_without_sign_in() -> None:
    assert principal_of(OPEN, "POST", origin="http://localhost:3000", host="127.0.0.1:8000").sub == LOCAL_USER


@pytest.mark.parametrize(
    ("origin", "host"),
    [("https://evil.example", "127.0.0.1:8000"), ("http://evil.example", "evil.example"), ("null", "x")],
)
def test_a_page_of_the_web_may_not_speak_for_the_user_of_this_machine(origin: str, host: str) -> None:
    """It may not even under a name of its own that was made to point here."""
    with pytest.raises(Forbidden):
        principal_of(OPEN, "POST", origin=origin, host=host)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_cookie_is_worth_nothing_in_what_another_page_embeds(site: str) -> None:
    """Such a request, of an image for one, is a GET without an Origin."""
    with pytest.raises(Forbidden):
        principal_of(CLOSED, cookie=f"{COOKIE}={TOKEN}", sec_fetch_site=site)
    assert principal_of(OPEN, sec_fetch_site=site).sub == LOCAL_USER


# The cookie


def cookie_for(credential: str, *, who: Principal = BOB, settings: Settings = CLOSED, **headers: str) -> str | None:
    """Returns what a page of these headers is set."""
    named = {"authorization": credential, **headers} if credential else headers
    return SignIn(settings, authenticator(settings), Tickets(MemoryLog())).session_cookie({"headers": raw(named)}, who)


def test_a_token_becomes_a_cookie_that_no_script_reads_and_that_ends_with_it() -> None:
    cookie = cookie_for(f"Bearer {TOKEN}", origin=PAGE)
    assert cookie is not None
    value, *attributes, age = cookie.split("; ")
    assert attributes == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
    assert 1800 < int(age.removeprefix("Max-Age=")) <= 3600
    assert principal_of(CLOSED, cookie=value, origin=PAGE).sub == "alice"


def test_a_key_that_does_not_expire_is_kept_until_the_browser_is_closed() -> None:
    cookie = cookie_for("bearer tl_key", who=Principal(sub="bob"))
    assert cookie == f"{COOKIE}=tl_key; Path=/; Secure; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize("key", ['a;b"c d\\e=f-0123456789', "k" * 3000])
def test_any_key_comes_back_as_it_was(key: str) -> None:
    settings = load({"TRILANE_API_KEYS": f"bob:{key}"})
    cookie = cookie_for(f"Bearer {key}", settings=settings)
    assert cookie is not None
    assert principal_of(settings, cookie=cookie.partition("; Path")[0]).sub == "bob"


def test_a_page_of_another_site_gets_one_that_its_browser_stores() -> None:
    assert "SameSite=None" in str(cookie_for(f"Bearer {TOKEN}", origin=PAGE, sec_fetch_site="cross-site"))
    assert "SameSite=Lax" in str(cookie_for(f"Bearer {TOKEN}", origin=PAGE, sec_fetch_site="same-site"))


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}])
def test_no_other_page_signs_a_browser_in_or_out(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        cookie_for(f"Bearer {TOKEN}", **headers)
    sign_in = SignIn(CLOSED, authenticator(CLOSED), Tickets(MemoryLog()))
    with pytest.raises(Forbidden):
        sign_in.no_cookie({"headers": raw(headers)})


@pytest.mark.parametrize("credential", ["", "Basic x", f"Bearer {'x' * 3801}"])
def test_what_does_not_fit_a_cookie_is_refused(credential: str) -> None:
    with pytest.raises(BadRequest):
        cookie_for(credential)


def test_signing_out_removes_the_cookie() -> None:
    cookie = SignIn(CLOSED, authenticator(CLOSED), Tickets(MemoryLog())).no_cookie({"headers": []})
    assert cookie == f'{COOKIE}=""; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0'


def test_where_nobody_signs_in_there_is_no_cookie() -> None:
    assert cookie_for("", settings=OPEN) is None


# Tickets


def with_tickets(work: Callable[[Tickets, Clock], Awaitable[None]]) -> None:
    async def main() -> None:
        log, clock = MemoryLog(), Clock()
        await log.open()
        await work(Tickets(log, clock), clock)
        await log.close()

    asyncio.run(main())


def test_a_ticket_stands_for_the_one_who_asked_for_it() -> None:
    async def work(tickets: Tickets, _: Clock) -> None:
        ticket = await tickets.issue(BOB, "/api/events")
        assert await tickets.redeem(ticket, "/api/events") == BOB

    with_tickets(work)


def test_a_ticket_is_good_once_however_many_try() -> None:
    async def work(tickets: Tickets, _: Clock) -> None:
        ticket = await tickets.issue(BOB, "/api/events")
        tries = [tickets.redeem(ticket, "/api/events") for _ in range(20)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert [result for result in results if isinstance(result, Principal)] == [BOB]
        assert {result.code for result in results if isinstance(result, TrilaneError)} == {"ticket_used"}

    with_tickets(work)


def test_a_ticket_is_good_for_its_route_and_for_half_a_minute() -> None:
    async def work(tickets: Tickets, clock: Clock) -> None:
        ticket = await tickets.issue(BOB, "/api/audio")
        with pytest.raises(Unauthorized):
            await tickets.redeem(ticket, "/api/events")
        clock.now += TICKET_S + 1
        with pytest.raises(Unauthorized) as error:
            await tickets.redeem(ticket, "/api/audio")
        assert error.value.code == "ticket_expired"

    with_tickets(work)


@pytest.mark.parametrize(
    "ticket", ["", "1", "1.", ".x", "0.x", "-1.x", "1.wrong", "2.x", "9" * 30 + ".x", "1." + "a" * 200, "¹.x"]
)
def test_what_is_no_ticket_is_refused(ticket: str) -> None:
    async def work(tickets: Tickets, _: Clock) -> None:
        await tickets.issue(BOB, "/api/events")
        with pytest.raises(Unauthorized):
            await tickets.redeem(ticket, "/api/events")

    with_tickets(work)


def test_a_ticket_in_the_url_signs_in() -> None:
    async def main() -> None:
        log = MemoryLog()
        await log.open()
        tickets = Tickets(log)
        sign_in = SignIn(CLOSED, authenticator(CLOSED), tickets)
        query = f"topic=a&ticket={await tickets.issue(BOB, '/api/events')}".encode()
        scope: dict[str, Any] = {"headers": [], "method": "GET", "query_string": query, "path": "/api/events"}
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            with pytest.raises(Unauthorized, match="by GET alone"):  # and is as good as before
                await sign_in({**scope, "method": method})
        assert await sign_in(scope) == BOB
        with pytest.raises(Unauthorized):
            await sign_in(scope)
        await log.close()

    asyncio.run(main())


# What a browser's WebSocket can send: the subprotocols that it offers


def socket_principal(
    path: str, issue: str | None, offer: Callable[[str], list[str]], **headers: str
) -> tuple[Principal, list[str]]:
    """Returns who a WebSocket is from that offers these subprotocols, made of a ticket for `issue`; and the offer."""

    async def main() -> tuple[Principal, list[str]]:
        log = MemoryLog()
        await log.open()
        try:
            tickets = Tickets(log)
            ticket = await tickets.issue(BOB, issue, lasts_s=MAX_TICKET_S, note="a note") if issue else ""
            protocols = offer(ticket)
            raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
            scope = {
                "type": "websocket",
                "headers": raw_headers,
                "query_string": b"",
                "path": path,
                "subprotocols": protocols,
            }
            return await SignIn(CLOSED, authenticator(CLOSED), tickets)(scope), protocols
        finally:
            await log.close()

    return asyncio.run(main())


@pytest.mark.parametrize("path", ["/api/audio", "/v1/realtime"])
@pytest.mark.parametrize("headers", [{}, {"origin": PAGE}, {"origin": "http://gw.example", "host": "gw.example"}])
def test_a_ticket_among_the_subprotocols_signs_in(path: str, headers: dict[str, str]) -> None:
    who, _ = socket_principal(path, path, lambda ticket: ["x", f"ticket.{ticket}"], **headers)
    assert (who.sub, who.note) == ("bob", "a note")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://[bad", "https://app.example:8443"])
@pytest.mark.parametrize("authorization", ["", f"Bearer {TOKEN}"])
def test_no_other_page_opens_a_socket_whatever_it_shows(origin: str, authorization: str) -> None:
    headers = {"origin": origin, "host": "gw.example"} | ({"authorization": authorization} if authorization else {})
    with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
        socket_principal("/api/audio", "/api/audio", lambda ticket: [f"ticket.{ticket}"], **headers)


def test_a_key_among_the_subprotocols_signs_in_on_the_route_of_openai_only() -> None:
    protocols = ["realtime", f"openai-insecure-api-key.{TOKEN}"]
    assert socket_principal("/v1/realtime", None, lambda _: protocols)[0].sub == "alice"
    with pytest.raises(Unauthorized):
        socket_principal("/api/audio", None, lambda _: protocols)


def test_a_ticket_stands_where_a_key_does_on_the_route_of_openai() -> None:
    path = "/v1/realtime"
    assert socket_principal(path, path, lambda ticket: [f"openai-insecure-api-key.ek_{ticket}"])[0].sub == "bob"
    with pytest.raises(Unauthorized):
        socket_principal(path, "/api/audio", lambda ticket: [f"openai-insecure-api-key.ek_{ticket}"])
    with pytest.raises(Unauthorized):
        socket_principal("/api/audio", "/api/audio", lambda _: [], authorization="Bearer ek_1.x")


@pytest.mark.parametrize("protocols", [[], ["ticket."], ["ticket.1.x"], ["openai-insecure-api-key."], ["realtime"]])
def test_subprotocols_without_a_credential_do_not_sign_in(protocols: list[str]) -> None:
    with pytest.raises(Unauthorized):
        socket_principal("/v1/realtime", "/v1/realtime", lambda _: protocols)
