"""Every route of every unit answers every credential as the table says; a route without a row fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from gateway.access.auth import mint
from gateway.settings import load
from gateway.units import UNITS
from tests.access_table.rows import CREDENTIALS, ROWS, Row
from tests.attacks.attacker import ALICE, BOB, HANDSHAKE, JWT_SECRET, Attacker, head
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.raw_sockets import TEXT, close_in, frame
from tests.support.sse_client import chat_body

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ii]nferred")
LATER = time.time() + 3600
START = b'{"type":"start"%b}'


def routes_of(unit: str) -> set[tuple[str, str]]:
    """Returns method and route of everything that a unit answers, as its application lists them."""
    app: Any = UNITS[unit](load({"TRILANE_LOG": "memory:"}))._app._app
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        for handler in getattr(route, "route_handlers", None) or [route.route_handler]:
            methods: set[str] = getattr(handler, "http_methods", None) or {"WS"}
            found |= {(str(method), route.path) for method in methods if str(method) != "OPTIONS"}
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_every_route_of_a_unit_has_a_row(unit: str) -> None:
    assert routes_of(unit) - {row.key for row in ROWS} == set()


def test_every_row_is_of_a_route_and_has_every_column() -> None:
    assert {row.key for row in ROWS} - routes_of("all") == set()
    assert {row.request for row in ROWS if set(row.outcomes) != set(CREDENTIALS)} == set()


def trilane(gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRILANE_")}
    env = {**clean, "TRILANE_DATA_DIR": str(gateway.folder), **gateway.env}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words], env=env, capture_output=True, text=True, check=True, timeout=30
    )


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_API_KEYS": f"alice:{ALICE},bob:{BOB}", "TRILANE_JWT_SECRET": JWT_SECRET}
    server = serving(tmp_path_factory.mktemp("table"), upstream.url, **env)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def caller(gateway: Gateway) -> Iterator[Attacker]:
    with Attacker(gateway, "127.0.0.2") as made:
        assert made.ask("POST", "/api/chat", json=chat_body("alices", "T=1 I=0 B=ok")).status_code == 200
        yield made


@pytest.fixture(scope="module")
def revoked_key(gateway: Gateway, caller: Attacker) -> str:
    """Returns a key that was made and used while the gateway ran, and then ended."""
    made = trilane(gateway, "keys", "add", "--sub", "alice")
    key = made.stdout.strip()
    key_id = made.stderr.split()[1]
    eventually(lambda: caller.ask("GET", "/api/chats", key=key).status_code == 200, 5, "the key is good")
    trilane(gateway, "keys", "revoke", key_id)
    eventually(lambda: caller.ask("GET", "/api/chats", key=key).status_code == 401, 5, "the key is ended")
    return key


@pytest.fixture(scope="module")
def headers_of(revoked_key: str) -> Callable[[str], dict[str, str]]:
    """Returns a function that gives the headers which carry a credential."""
    narrow = {"chat": False, "audio": False}
    bearers = {
        "wrong": "a-key-that-nobody-has-0000000000",
        "expired": mint(JWT_SECRET, "alice", time.time() - 60, {}),
        "revoked": revoked_key,
        "narrow": mint(JWT_SECRET, "alice", LATER, narrow),
        "other user": BOB,
        "operator": mint(JWT_SECRET, "root", LATER, {"operator": True, "subscribe": ["*"], "publish": ["*"]}),
        "right": ALICE,
    }
    cookie = {"cookie": f"__Secure-trilane={mint(JWT_SECRET, 'alice', LATER, {})}", "origin": "https://evil.example"}

    def headers(credential: str) -> dict[str, str]:
        if credential == "foreign page":
            return cookie
        return {"authorization": f"Bearer {bearers[credential]}"} if credential in bearers else {}

    return headers


def outcome(caller: Attacker, row: Row, target: str, headers: dict[str, str]) -> int:
    if row.method == "WS":
        return outcome_of_socket(caller, target, headers)
    body = None if row.body is None else json.dumps(row.body).encode()
    request: httpx2.Request = caller.http.build_request(row.method, target, content=body, headers=headers)
    answer = caller.http.send(request, stream=True)
    try:
        if not answer.headers.get("content-type", "").startswith("text/event-stream") or row.method == "POST":
            answer.read()
        return answer.status_code
    finally:
        answer.close()


def outcome_of_socket(caller: Attacker, target: str, headers: dict[str, str]) -> int:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    with caller.connect() as client:
        client.sendall(head(f"GET {target}", *HANDSHAKE, *lines, key=""))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(4096)
        status = int(answer.split()[1])
        if status != 101:
            return status
        session = b',"session":"alices"' if "session=" in target else b""
        with_start = b"" if "realtime" in target else frame(TEXT, START % session)
        client.settimeout(20)
        output = answer.partition(b"\r\n\r\n")[2]
        client.sendall(with_start)
        while not output or (output[0] & 0x0F == 8 and len(output) < 4) or is_error(output):
            piece = client.recv(65_536)
            if not piece:
                break
            output += piece
        code, _ = close_in(output)
        return code or 101


def is_error(output: bytes) -> bool:
    """Returns whether the close that follows an error is still to come."""
    return (b'"error"' in output or b'{"problem"' in output) and close_in(output)[0] is None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.request} {row.body or ''}"[:60])
def test_a_route_answers_each_credential_as_the_table_says(
    caller: Attacker, headers_of: Callable[[str], dict[str, str]], row: Row
) -> None:
    outcomes: dict[str, int] = {}
    for credential in CREDENTIALS:
        target = row.target
        if credential == "ticket twice":
            target = with_used_ticket(caller, row)
        outcomes[credential] = outcome(caller, row, target, {**row.headers, **headers_of(credential)})
    assert outcomes == dict(row.outcomes)


def with_used_ticket(caller: Attacker, row: Row) -> str:
    """Returns the target with a ticket for it that was used, or with another's where it takes none."""
    path, _, query = row.target.partition("?")
    takes_tickets = path in ("/api/events", "/api/audio", "/v1/realtime", "/api/chat/alices/live")
    body = {"route": path if takes_tickets else "/api/events"}
    ticket = caller.ask("POST", "/api/tickets", json=body).json()["ticket"]
    target = f"{path}?{query}{'&' if query else ''}{urlencode({'ticket': ticket})}"
    if takes_tickets and row.method in ("GET", "WS"):
        assert outcome(caller, row, target, {}) == row.outcomes["right"], "a ticket opens what its owner may open"
    return target
