"""Oversized everything, and compression bombs: each is refused as soon as it is known to be too large."""

import gzip
import time

import psutil
import pytest

from tests.attacks.attacker import HANDSHAKE, Attacker, head
from tests.support.raw_sockets import close_in

pytestmark = pytest.mark.quiet

OVERSIZED: dict[str, bytes] = {
    "a path": head(f"GET /{'a' * 300_000}"),
    "a path of many parts": head(f"GET {'/a' * 30_000}"),
    "a query": head(f"GET /api/chats?{'a' * 300_000}"),
    "many parameters": head(f"GET /api/events?{'&'.join(f'topic={n}' for n in range(5_000))}"),
    "a topic": head(f"GET /api/events?topic={'a' * 60_000}"),
    "an encoded topic": head(f"GET /api/events/topics/{'%61' * 20_000}"),
    "a chat's id": head(f"GET /api/chat/{'a' * 60_000}"),
    "a method": b"A" * 100_000 + b" / HTTP/1.1\r\nhost: a\r\n\r\n",
    "a field's name": head("GET /api/chats", f"{'a' * 300_000}: b"),
    "a field": head("GET /api/chats", f"a: {'b' * 300_000}"),
    "many fields": head("GET /api/chats", *["a: b"] * 60_000),
    "a host": head("GET /api/chats", host="a" * 300_000),
    "an origin": head("GET /api/chats", f"origin: http://{'a' * 60_000}", "cookie: __Secure-trilane=x", key=""),
    "a key": head("GET /api/chats", key="a" * 60_000),
    "a token of many parts": head("GET /api/chats", key="a." * 30_000),
    "a cookie": head("GET /api/chats", f"cookie: __Secure-trilane={'a' * 60_000}", key=""),
    "many cookies": head("GET /api/chats", f"cookie: {'a=b; ' * 12_000}", key=""),
    "a cookie of quotes": head("GET /api/chats", f'cookie: __Secure-trilane="{chr(92) * 50_000}', key=""),
    "a ticket": head(f"GET /api/events?ticket={'1' * 60_000}.x", key=""),
    "a cursor": head("GET /api/events?topic=a", f"last-event-id: {'~' * 60_000}", "connection: close"),
    "a cursor of a run": head("GET /api/chat/x/stream", f"last-event-id: {'1.' * 30_000}"),
    "a list of media types": head("GET /api/events", f"accept: {'text/html;q=0.1,' * 4_000}"),
    "a request's id": head("GET /nothing", f"x-request-id: {'a' * 60_000}"),
    "many subprotocols": head("GET /api/audio", *HANDSHAKE, f"sec-websocket-protocol: {'a, ' * 20_000}b", key="none"),
    "a subprotocol": head("GET /api/audio", *HANDSHAKE, f"sec-websocket-protocol: {'a' * 60_000}", key="none"),
    "a socket's key": head("GET /api/audio", *HANDSHAKE[:3], f"sec-websocket-key: {'A' * 60_000}"),
    "extensions": head("GET /api/audio", *HANDSHAKE, f"sec-websocket-extensions: {'x;y=1,' * 10_000}z", key="none"),
    "an idempotency key": head("POST /api/chat", f"idempotency-key: {'a' * 60_000}", "content-length: 2") + b"{}",
    "proxies that passed it on": head("GET /nothing", f"x-forwarded-for: {'1.1.1.1,' * 8_000}"),
}


def test_oversized_everything(attacker: Attacker) -> None:
    gateway = psutil.Process(attacker.gateway.pid)
    before = gateway.memory_info().rss
    slow: dict[str, object] = {}
    for name, request in OVERSIZED.items():
        began = time.monotonic()
        got = attacker.exchange(request, quiet_s=0.05)
        took_s = time.monotonic() - began
        is_stream = b"event-stream" in got.answer and b'"reason":"malformed"' in got.answer
        if not (is_stream or (got.statuses and got.statuses[0] in range(400, 500))) or took_s > 1:
            slow[name] = got.statuses, took_s, got.answer[:300]
    assert not slow
    assert gateway.memory_info().rss < before + (64 << 20)


TOO_LARGE = (
    "/api/chat",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/api/events",
    "/api/tickets",
    "/v1/realtime/client_secrets",
)
FORM = "content-type: multipart/form-data; boundary=b"


def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes(attacker: Attacker) -> None:
    for path in (*TOO_LARGE, "/v1/audio/transcriptions", "/api/audio/transcriptions"):
        for size in (1_073_741_825, 99_999_999_999, 2**63):
            for lines in ((), ("expect: 100-continue",)):
                began = time.monotonic()
                got = attacker.exchange(head(f"POST {path}", f"content-length: {size}", FORM, *lines))
                assert got.statuses == [413], (path, size, got)
                assert got.was_closed == bool(lines), "nobody knows what comes next of one that was not asked to go on"
                assert time.monotonic() - began < 3, (path, size)


def test_a_body_that_grows_too_large_is_refused_where_it_does(attacker: Attacker) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    for path in TOO_LARGE:
        got = attacker.exchange(head(f"POST {path}", "transfer-encoding: chunked"), chunk * 257)
        assert got.statuses == [413], (path, got)


BOMB = gzip.compress(bytes(256 << 20), 9)
"""A quarter of a GiB of zeros in 255 KiB."""
BODIES = ("/api/chat", "/v1/chat/completions", "/api/events", "/api/tickets")


def test_a_compression_bomb_as_a_body_is_not_unpacked(attacker: Attacker) -> None:
    gateway = psutil.Process(attacker.gateway.pid)
    before = gateway.memory_info().rss
    for path in BODIES:
        for coding in ("gzip", "deflate", "br", "zstd"):
            answer = attacker.ask("POST", path, content=BOMB, headers={"content-encoding": coding})
            assert answer.status_code in (400, 415), (path, answer.text)
    assert gateway.memory_info().rss < before + (64 << 20)


def test_a_compression_bomb_as_a_frame_is_not_unpacked(attacker: Attacker) -> None:
    offer = "sec-websocket-extensions: permessage-deflate; server_max_window_bits=8, x-webkit-deflate-frame"
    bomb = gzip.compress(bytes(32 << 20), 9)[:60_000]
    with attacker.connect() as client:
        client.sendall(head("GET /api/audio", *HANDSHAKE, offer))
        shake = client.recv(65_536)
        assert shake.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in shake.lower()
        client.sendall(b"\xc2\xfe" + len(bomb).to_bytes(2) + b"\0\0\0\0" + bomb)
        client.settimeout(10)
        output = b""
        while piece := client.recv(65_536):
            output += piece
        assert close_in(output)[0] == 1002
