"""Path, `Host` and rebinding tricks: a path has one spelling, and a name that a client chooses is not believed."""

from collections.abc import Iterator

import pytest

from tests.attacks.attacker import ALICE, HANDSHAKE, Attacker, head
from tests.conftest import UpstreamThread, serving
from tests.support.bystander import Bystander

pytestmark = pytest.mark.quiet

GUARDED = "/api/chats"
SPELLINGS = [
    *("//api/chats", "/api//chats", "/api/chats//", "/./api/chats", "/api/./chats", "/x/../api/chats", "/api/chats/."),
    *(
        "/healthz/../api/chats",
        "/healthz/..;/api/chats",
        "/healthz/..%2fapi/chats",
        "/%2e%2e/api/chats",
        "/%2fapi/chats",
    ),
    *(
        "/api%2fchats",
        "/api/chats%2f",
        "/api/chats%2F",
        "/api/chats;a=b",
        "/api/chats%3b",
        "/api;x/chats",
        "/API/chats",
    ),
    *("/api/chats%00", "/api/chats%20", "/api/chats%09", "/api/chats%0d%0a", "/api\\chats", "/%5capi/chats"),
    *(
        "/api/chats%252f",
        "/api%252fchats",
        "/api/chats%c0%af",
        "/api/chats%ff",
        "/api/chats%e2%80%ae",
        "/%61pi/%63hats",
    ),
    *("/api/chats#/healthz", "/healthz#/api/chats", "/healthz?/api/chats", "/api/chats?/healthz", "/api/chats/"),
    *("http://127.0.0.1/api/chats", "HTTP://127.0.0.1/api/chats", "http://127.0.0.1//api/chats"),
]
OPEN = {"/healthz?/api/chats"}
"""Spellings of an open path."""


def test_no_spelling_of_a_path_needs_less_than_its_plain_one(attacker: Attacker) -> None:
    for path in SPELLINGS:
        [status] = attacker.exchange(head(f"GET {path}", "connection: close", key="")).statuses
        assert status == 200 if path in OPEN else status in (400, 401, 404), (path, status)


PLAIN = {*OPEN, "/api/chats?/healthz", "http://127.0.0.1/api/chats", "HTTP://127.0.0.1/api/chats"}


def test_a_path_that_a_proxy_may_take_for_another_is_answered_as_none(attacker: Attacker) -> None:
    for path in SPELLINGS:
        [status] = attacker.exchange(head(f"GET {path}", "connection: close")).statuses
        assert (status == 200) is (path in PLAIN), (path, status)


ROUTES = ("/metrics", "/docs", "/openapi.json", "/readyz", "/api/chats", "/api/events", "/api/usage", "/v1/models")
RESPELT = [
    *("{0}/", "{0}//", "/{0}", "/.{0}", "{0}/.", "/x/..{0}", "/%2e{0}", "/%2f{0}", "{0}%2f", "{0}/%2e", "{0};x"),
    *("{0}%00", "{0}%20", "{0}#x", "{0}%23", "{0}%3f", "{0}.", "/%{1:02x}{2}", "/%{1:02X}{2}", "{0}%2e", "/;{0}"),
]
"""Other spellings of a path, of its first letter and of the rest."""


def respelt(path: str) -> list[str]:
    return [spelling.format(path, ord(path[1]), path[2:]) for spelling in RESPELT]


def test_every_route_has_one_spelling(attacker: Attacker) -> None:
    """A rule that a proxy has for a path then holds for whatever leads to its route."""
    for route in ROUTES:
        for path in respelt(route):
            got = attacker.exchange(head(f"GET {path}", "connection: close"))
            assert got.statuses in ([404], [400]), (path, got)
    for socket in ("/api/audio", "/v1/realtime"):
        for path in respelt(socket):
            got = attacker.exchange(head(f"GET {path}", *HANDSHAKE))
            assert got.statuses[0] in (400, 403, 404), (path, got)


IDS = ("x", "x.y", "%7Ex", "%78", "caf%C3%A9", "...", ".x", "x%3By", "%5Cx", "x%3Ay")
NO_IDS = ("..", ".", "%2e%2e", "%2E.", ".%2e", "x%2fy", "%2f", "x/..")


def test_an_id_may_be_encoded_and_is_no_dot_segment(attacker: Attacker) -> None:
    for chat_id in IDS:
        got = attacker.exchange(head(f"GET /api/chat/{chat_id}/stream", "connection: close"))
        assert got.statuses == [204] or b'"bad_id"' in got.answer, (chat_id, got)
    for chat_id in NO_IDS:
        got = attacker.exchange(head(f"GET /api/chat/{chat_id}/stream", "connection: close"))
        assert got.statuses == [404], (chat_id, got)
    for topic in ("a%2f..%2fb", "a//b", "a/../b", "a/%2e%2E/b"):
        got = attacker.exchange(head(f"GET /api/events/topics/{topic}", "connection: close"))
        assert got.statuses == [200], (topic, got)
    for topic in ("user/bob", "x/../user/bob", "x/%2e%2e/user/bob", "%75ser/bob", "user%2fbob", "//user/bob"):
        got = attacker.exchange(head(f"GET /api/events/topics/{topic}", "connection: close"))
        assert got.statuses == [403] or b'"head":0' in got.answer, (topic, got)


FILES = [
    *("/static/../settings.py", "/static/..%2f..%2fgateway/settings.py", "/static/%2e%2e/console.py", "/static/..\\x"),
    *("/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/main.js%00.css", "/static/", "/static", "/static/."),
    *("/.env", "/.git/config", "/trilane.db", "/../../etc/passwd", "/static/file:///etc/passwd", "/static/~root"),
]


def test_no_file_is_served_but_the_pages_own(attacker: Attacker) -> None:
    for path in FILES:
        got = attacker.exchange(head(f"GET {path}", "connection: close", key=""))
        assert got.statuses == [404], (path, got)


TARGETS = ["http://evil.example/healthz", "http://a@127.0.0.1/healthz", "http://127.0.0.1:1/healthz", "http:///healthz"]


def test_a_target_that_names_another_host_is_refused(attacker: Attacker) -> None:
    for target in [*TARGETS, "file:///etc/passwd", "ws://evil.example/healthz", "evil.example:80", "healthz"]:
        got = attacker.exchange(head(f"GET {target}", "connection: close"))
        assert got.statuses == [400], (target, got)
    for target in ("http://127.0.0.1/healthz", "*"):
        assert attacker.exchange(head(f"OPTIONS {target}", "connection: close")).statuses in ([204], [404])


FORGED_NAMES = (
    "x-forwarded-host",
    "x-host",
    "x-original-host",
    "forwarded",
    "x-forwarded-server",
    "x-http-host-override",
)


def test_a_name_that_nobody_vouches_for_makes_no_page_ours(attacker: Attacker) -> None:
    """A page of evil.example with a user's cookie is not the gateway's own, whatever names it sends along."""
    cookie = "cookie: __Secure-trilane=forged"
    for name in FORGED_NAMES:
        value = "host=evil.example" if name == "forwarded" else "evil.example"
        lines = cookie, f"{name}: {value}", "origin: https://evil.example", "connection: close"
        assert attacker.exchange(head("GET /api/chats", *lines, key="")).statuses == [403], name


REBOUND = [
    *(
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8000",
        "localhost@evil.example",
    ),
    *("evil.example#localhost", "localhost:80@evil.example", "[::1].evil.example", "2130706433.example", "::1", ""),
]


def test_a_name_that_was_rebound_to_this_machine_opens_nothing(listed: Attacker) -> None:
    for name in REBOUND:
        for path, more in (("/api/chats", ("connection: close",)), ("/api/audio", HANDSHAKE)):
            got = listed.exchange(head(f"GET {path}", *more, host=name))
            assert got.statuses in ([403], [400]) or not name, (name, got)
    assert listed.exchange(head("GET /api/chats", "host: evil.example", "connection: close")).statuses == [403]
    assert listed.exchange(head("GET /api/chats", "connection: close", host="api.example")).statuses == [200]


@pytest.fixture(scope="module")
def listed(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacker]:
    """Attacks a gateway that answers to one name."""
    env = {"TRILANE_API_KEYS": f"alice:{ALICE}", "TRILANE_ALLOWED_HOSTS": "api.example"}
    server = serving(tmp_path_factory.mktemp("listed"), upstream.url, **env)
    server.unit = "all"
    try:
        with Bystander(server.start()), Attacker(server, "127.0.0.99") as attacker:
            yield attacker
    finally:
        server.stop()
