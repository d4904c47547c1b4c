"""What is cheap for one client to ask is not dear for all: each attack is refused or bounded, and others are served.

Real requests to a real process, from an address of their own; meanwhile a probe asks for the time of others.
"""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psutil
import pytest

from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.bystander import Bystander
from tests.support.problems import check_problem
from tests.support.raw_sockets import TEXT, close_in, dial, frame, read_to_end
from tests.support.sse_client import user_message

CHAT_BYTES = 4 << 20
REALTIME = "/v1/realtime?intent=transcription"

pytestmark = pytest.mark.quiet


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    limits = {"TRILANE_LIMIT_CHAT_BYTES": str(CHAT_BYTES), "TRILANE_LIMIT_BODIES_BYTES": str(8 * CHAT_BYTES)}
    server = serving(tmp_path_factory.mktemp("dear"), upstream.url, **limits)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def attacker(gateway: Gateway) -> Iterator[httpx2.Client]:
    """Yields a client that comes from an address of its own."""
    transport = httpx2.HTTPTransport(local_address="127.0.0.2")
    with httpx2.Client(base_url=gateway.url, transport=transport, timeout=30) as client:
        yield client


def memory(gateway: Gateway) -> int:
    return psutil.Process(gateway.pid).memory_info().rss


def fetch(gateway: Gateway, path: str) -> bytes:
    """Returns all of an answer; a client library would keep this process from asking the probe's questions."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), 30, ("127.0.0.2", 0)) as client:
        client.sendall(request.encode())
        return read_to_end(client)


def ask(client: httpx2.Client, body: dict[str, Any]) -> httpx2.Response:
    """Posts to a chat and reads all of the answer."""
    return client.post("/api/chat", content=json.dumps(body).encode())


# Publishing


def test_twelve_requests_cannot_write_a_gigabyte(gateway: Gateway, attacker: httpx2.Client) -> None:
    topics = [f"fan/{number}" for number in range(1000)]
    log = gateway.folder / "trilane.db"
    before = log.stat().st_size
    bodies = [
        json.dumps({"topics": topics, "data": "x" * 65_000}).encode(),
        json.dumps({"topics": topics[:256], "data": "x" * 65_000}).encode(),
        json.dumps([{"topics": topics[number : number + 64], "data": "x" * 65_000} for number in (0, 64)]).encode(),
    ]
    with Bystander(gateway):
        for body in 3 * bodies:
            problem = check_problem(attacker.post("/api/events", content=body), 413, "too_much_fanout")
            assert "topics" in problem["detail"] or "bytes" in problem["detail"]
    assert log.stat().st_size < before + (1 << 20)
    assert attacker.get("/api/events/topics/fan/0").json()["epoch"] == ""


# Chats


def test_a_chat_does_not_grow_without_limit_and_can_still_be_read(gateway: Gateway, attacker: httpx2.Client) -> None:
    text = "T=1 I=0 " + "lorem ipsum, " * 40_000

    def post(number: int) -> httpx2.Response:
        return ask(attacker, {"id": "long", "message": user_message(f"{text} {number}", f"m{number}")})

    answers = [post(number) for number in range(9)]
    assert [answer.status_code for answer in answers] == [200] * 8 + [413]
    problem = check_problem(answers[-1], 413, "chat_full", "TRILANE_LIMIT_CHAT_BYTES")
    assert "start a new one" in problem["detail"]
    before = memory(gateway)
    with Bystander(gateway), ThreadPoolExecutor(24) as readers:
        snapshots = list(readers.map(lambda _: fetch(gateway, "/api/chat/long"), range(48)))
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in snapshots if answer.startswith(b"HTTP/1.1 200")]
    assert len(json.loads(bodies[0])["messages"]) == 16
    assert set(map(len, bodies)) == {len(bodies[0])}
    refusals = [answer for answer in snapshots if not answer.startswith(b"HTTP/1.1 200")]
    assert all(b"the chats being read are" in refusal for refusal in refusals), refusals[:1]
    assert memory(gateway) < before + 24 * CHAT_BYTES
    assert attacker.delete("/api/chat/long").status_code == 204
    assert post(1).status_code == 200


def test_12_000_empty_messages_cost_no_more_for_each(gateway: Gateway, attacker: httpx2.Client) -> None:
    posts = [
        {"id": "empty", "messages": [{"id": f"e{post}-{n}", "role": "user", "parts": []} for n in range(999)]}
        for post in range(12)
    ]
    with Bystander(gateway):
        for number, post in enumerate(posts):
            post["messages"].append(user_message("T=1 I=0 hi", f"last-{number}"))
            assert ask(attacker, post).status_code == 200
        began = time.monotonic()
        assert ask(attacker, {"id": "empty", "message": user_message("T=1 I=0 go on", "more")}).status_code == 200
    assert time.monotonic() - began < 2
    assert len(attacker.get("/api/chat/empty").json()["messages"]) == 12_001 + 13


def test_one_answer_posted_a_thousand_times_is_compared_once(gateway: Gateway, attacker: httpx2.Client) -> None:
    calls = [{"type": "tool-f", "toolCallId": f"c{n}", "state": "input-available", "input": {}} for n in range(3000)]
    answer = {"id": "a", "role": "assistant", "parts": calls}
    history = [user_message("T=1 I=0", "q"), answer, user_message("T=1 I=0", "r")]
    assert ask(attacker, {"id": "same", "messages": history}).status_code == 200
    one = {"id": "a", "role": "assistant", "parts": [{**calls[0], "state": "output-available", "output": 1}]}
    body = json.dumps({"id": "same", "messages": [*[one] * 998, user_message("T=1 I=0", "s")]}).encode()
    began = time.monotonic()
    with Bystander(gateway):
        assert attacker.post("/api/chat", content=body).status_code == 200
    assert time.monotonic() - began < 2


def test_a_message_of_100_000_parts_is_refused(gateway: Gateway, attacker: httpx2.Client) -> None:
    part = b'{"type":"text"}'
    body = b'{"id":"p","message":{"id":"m","role":"user","parts":[%b]}}' % b",".join([part] * 20_000)
    with Bystander(gateway):
        for _ in range(5):
            check_problem(attacker.post("/api/chat", content=body), 400, "too_many_messages", "20000 parts")


LONG_LISTS = {
    "messages": b'{"id":"w","messages":[%b],"model":5}' % b",".join([b'{"id":"x","role":"user","parts":[]}'] * 16_000),
    "parts": b'{"id":"w","message":{"id":"m","role":"user","parts":[%b]},"model":5}' % b",".join([b'{"a":1}'] * 48_000),
    "ids that are null": b'{"id":"w","messages":[%b]}' % b",".join([b'{"id":null}'] * 48_000),
}


@pytest.mark.parametrize("body", LONG_LISTS.values(), ids=LONG_LISTS)
def test_a_wrong_field_beside_a_long_list_is_not_dear(gateway: Gateway, attacker: httpx2.Client, body: bytes) -> None:
    with Bystander(gateway):
        for _ in range(5):
            check_problem(attacker.post("/api/chat", content=body), 400, "bad_body", "the body is not valid")


# Bodies


SHAPES = {
    "1 MB of nested lists": b"[" * 500_000 + b"]" * 500_000,
    "1 MB of open lists": b"[" * 1_000_000,
    "1 MB of nested objects": b'{"a":' * 160_000 + b"1" + b"}" * 160_000,
    "1 MB of lists side by side": b"[%b]" % b",".join([b"[]"] * 330_000),
    "many lists of 90 lists": b"[%b]" % b",".join([b"[" * 90 + b"]" * 90] * 5500),
    "1 MB of keys": b"{%b}" % b",".join(b'"k%d":0' % number for number in range(110_000)),
    "a number of a million digits": b"1" * 1_000_000,
    "a number with an absurd exponent": b"1e999999999",
}
BODIES = {
    "/api/chat": b'{"id":"s","message":{"id":"m","role":"user","parts":[]},"x":%b}',
    "/v1/chat/completions": b'{"messages":[],"x":%b}',
    "/api/events": b'[{"topic":"a","data":%b}]',
    "/api/tickets": b'{"route":%b}',
    "/api/chat/s/stop": b'{"assistantMessage":%b}',
    "/v1/realtime/client_secrets": b'{"session":%b}',
}


@pytest.mark.parametrize("path", BODIES)
def test_a_megabyte_of_brackets_stops_nobody(gateway: Gateway, attacker: httpx2.Client, path: str) -> None:
    with Bystander(gateway):
        for shape in SHAPES.values():
            answer = attacker.post(path, content=BODIES[path] % shape)
            assert answer.status_code in (400, 413), (path, answer.text[:200])
            assert answer.headers["content-type"] == "application/problem+json"


LARGE = 6 << 20
TEXTS: dict[str, bytes] = {
    "halves of surrogate pairs": b'"%b"' % (rb"\ud83d" * (LARGE // 6)),
    "escapes": b'"%b"' % (rb"\n" * (LARGE // 2)),
    "escaped backslashes and a half": rb'"%b\udc00"' % (rb"\\" * (LARGE // 2)),
    "escapes without an end": b'"%b' % (rb"\n\ud83d" * (LARGE // 8)),
    "long numbers": b"[%b]" % b",".join([b"1." + b"2" * 150] * 90_000),
}
"""JSON of few items, which costs for each byte."""


@pytest.mark.parametrize("text", TEXTS)
def test_a_large_text_is_read_in_turns(gateway: Gateway, attacker: httpx2.Client, text: str) -> None:
    with Bystander(gateway):
        for path in ("/api/chat", "/v1/chat/completions", "/api/events"):
            answer = attacker.post(path, content=BODIES[path] % TEXTS[text])
            assert answer.status_code in (200, 400, 413, 422), (path, answer.text[:200])


@pytest.mark.parametrize("path", ["/api/audio", REALTIME])
def test_a_socket_message_of_nested_lists_is_an_error_of_the_client(gateway: Gateway, path: str) -> None:
    for shape in (b"[" * 30_000, b"[" * 15_000 + b"]" * 15_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        with dial(gateway, path) as client:
            client.settimeout(20)
            client.sendall(frame(TEXT, b'{"type":"session.update","session":%b}' % shape))
            client.sendall(frame(0x88, b"\x03\xe8"))
            code, reason = close_in(read_to_end(client))
            assert code in (1000, 4500), reason


@pytest.mark.parametrize("path", [*BODIES, "/v1/audio/transcriptions"])
def test_a_compressed_body_is_refused_and_never_unpacked(gateway: Gateway, attacker: httpx2.Client, path: str) -> None:
    bomb = gzip.compress(b" " * 16_000_000)
    headers = {"content-encoding": "gzip", "content-type": "multipart/form-data; boundary=x"}
    problem = check_problem(attacker.post(path, content=bomb, headers=headers), 415, "unsupported_coding")
    assert "'gzip': send it uncompressed" in problem["detail"]
