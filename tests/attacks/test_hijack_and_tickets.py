"""Cross-site WebSocket hijack, ticket replay, and cursors of somebody else's."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest

from gateway.access.auth import mint
from tests.attacks.attacker import ALICE, BOB, HANDSHAKE, JWT_SECRET, Attacker, head
from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.sse_client import chat_body

pytestmark = pytest.mark.quiet

FOREIGN = [
    *("https://evil.example", "null", "", "file://", "https://127.0.0.2", "http://127.0.0.1.evil.example"),
    *("http://127.0.0.1:1", "http://127.0.0.1@evil.example", "http://evil.example/127.0.0.1", "http://localhost"),
    *("chrome-extension://abc", "http://127.0.0.1:{port}.evil.example", "javascript:alert(1)", "http://[::1"),
]
SOCKETS = ("/api/audio", "/v1/realtime?intent=transcription", "/api/chat/c1/live")


def cookie() -> str:
    return f"cookie: __Secure-trilane={mint(JWT_SECRET, 'alice', 4e9, {})}"


def test_cross_site_websocket_hijack(attacker: Attacker) -> None:
    """A page of another site has the browser send the user's cookie along: `Origin` alone tells it from ours."""
    own = f"127.0.0.1:{attacker.gateway.port}"
    for path in SOCKETS:
        for origin in FOREIGN:
            line = f"origin: {origin.format(port=attacker.gateway.port)}"
            got = attacker.exchange(head(f"GET {path}", *HANDSHAKE, cookie(), line, key="", host=own))
            assert got.statuses == [403], (path, origin, got)
        for lines in (("origin: https://evil.example", f"origin: http://{own}"), ("sec-fetch-site: cross-site",)):
            got = attacker.exchange(head(f"GET {path}", *HANDSHAKE, cookie(), *lines, key="", host=own))
            assert got.statuses in ([403], [400]), (path, lines, got)
        for scheme, proto in (("https", ""), ("https", "http"), ("http", "https"), ("ws", ""), ("wss", "wss")):
            lines = f"origin: {scheme}://{own}", *([f"x-forwarded-proto: {proto}"] if proto else [])
            got = attacker.exchange(head(f"GET {path}", *HANDSHAKE, cookie(), *lines, key="", host=own))
            assert got.statuses == [403], (path, lines, got)
        with attacker.connect() as socket:
            socket.sendall(head(f"GET {path}", *HANDSHAKE, cookie(), f"origin: http://{own}", key="", host=own))
            assert socket.recv(12) == b"HTTP/1.1 101"


def test_cross_site_requests_with_a_cookie(attacker: Attacker) -> None:
    for origin in FOREIGN:
        for method, path in (("POST", "/api/chat"), ("GET", "/api/events"), ("DELETE", "/api/chat/c1")):
            line = f"origin: {origin.format(port=attacker.gateway.port)}"
            got = attacker.exchange(
                head(f"{method} {path}", cookie(), line, "content-length: 0", "connection: close", key="")
            )
            assert got.statuses == [403], (path, origin, got)
            assert b"access-control-allow" not in got.answer


@contextmanager
def two_processes(gateway: Gateway, upstream: UpstreamThread) -> Iterator[Gateway]:
    """Starts a second process on the same log."""
    other = serving(gateway.folder, upstream.url, **gateway.env)
    other.unit = "events"
    try:
        yield other.start()
    finally:
        other.stop()


def test_ticket_replay_at_two_processes_at_once(attacker: Attacker, gateway: Gateway, upstream: UpstreamThread) -> None:
    def use(url: str, ticket: str) -> int:
        with httpx2.stream("GET", f"{url}/api/events?ticket={ticket}", timeout=10) as answer:
            return answer.status_code

    with two_processes(gateway, upstream) as other, ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            ticket = attacker.ask("POST", "/api/tickets", json={"route": "/api/events"}).json()["ticket"]
            uses = [pool.submit(use, one.url, ticket) for one in (gateway, other) * 4]
            assert sorted(each.result() for each in uses) == [200] + [401] * 7


def test_a_ticket_is_no_other_routes_nor_methods(attacker: Attacker) -> None:
    def ticket() -> str:
        return attacker.ask("POST", "/api/tickets", json={"route": "/api/events"}).json()["ticket"]

    for method, path in (("GET", "/api/chats"), ("POST", "/api/events"), ("POST", "/api/chat"), ("GET", "/v1/models")):
        assert attacker.ask(method, f"{path}?ticket={ticket()}", key="").status_code == 401, path
    assert attacker.exchange(head(f"GET /api/audio?ticket={ticket()}", *HANDSHAKE, key="")).statuses == [401]
    for forged in (
        "",
        "1.",
        "1.x",
        "-1.x",
        "1e3.x",
        "9" * 15 + ".x",
        "0x1.x",
        "1\0.x",
        "%2e",
        "1.' or 1=1 --",
        "x" * 5000,
    ):
        assert attacker.ask("GET", "/api/events", key="", params={"ticket": forged}).status_code == 401, forged


def hello(attacker: Attacker, path: str, key: str, **headers: str) -> dict[str, object]:
    with attacker.http.stream("GET", path, headers={"authorization": f"Bearer {key}", **headers}) as stream:
        assert stream.status_code == 200, path
        return next(json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))


def test_a_cursor_of_another_users_topic_reads_nothing_of_it(attacker: Attacker) -> None:
    assert attacker.ask("POST", "/api/chat", json=chat_body("cursor", "hello I=0")).status_code == 200
    with attacker.http.stream("GET", "/api/events?from=earliest", headers={"authorization": f"Bearer {ALICE}"}) as mine:
        lines = mine.iter_lines()
        cursor = [next(line[4:] for line in lines if line.startswith("id: ")) for _ in range(2)][-1]
    for query in ("", "?topic=own", "?topic=user/bob&topic=own", "?topic=*", "?partial=1"):
        said = hello(attacker, f"/api/events{query}", BOB, **{"last-event-id": cursor})
        assert said["replay"] == 0, (query, said)
    for query in (
        "?topic=user/alice",
        "?topic=user/*",
        "?topic=own&topic=user/alice",
        "?topic=user/alice&from=earliest",
    ):
        assert attacker.ask("GET", f"/api/events{query}", key=BOB, headers={"last-event-id": cursor}).status_code in (
            400,
            403,
        ), query


def test_a_cursor_of_another_users_run_reads_nothing_of_it(attacker: Attacker) -> None:
    answer = attacker.ask("POST", "/api/chat", json=chat_body("run", "a-secret-of-alice I=0"))
    cursor = next(line[4:] for line in answer.text.splitlines() if line.startswith("id: "))
    assert attacker.ask("POST", "/api/chat", json=chat_body("run", "hi I=0"), key=BOB).status_code == 200
    for path in ("/api/chat/run/stream", "/api/chat/other/stream"):
        stolen = attacker.ask("GET", path, key=BOB, headers={"last-event-id": cursor})
        assert stolen.status_code in (404, 410), path
        assert "a-secret-of-alice" not in stolen.text


def test_the_log_holds_no_secret_of_anybody(attacker: Attacker, gateway: Gateway) -> None:
    ticket = attacker.ask("POST", "/api/tickets", json={"route": "/api/events"}).json()["ticket"]
    assert attacker.ask("GET", f"/api/events?topic=user/bob&ticket={ticket}", key="").status_code == 403
    with sqlite3.connect(f"file:{gateway.folder}/trilane.db?mode=ro", uri=True) as log:
        dump = "\n".join(log.iterdump())
    secret = ticket.partition(".")[2]
    for text in (secret, ALICE, BOB, JWT_SECRET):
        assert text not in dump
        assert text.encode().hex().upper() not in dump.upper()
        assert text not in gateway.stderr()
