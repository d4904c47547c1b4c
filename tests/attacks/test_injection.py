"""SSE field injection, header injection and log injection: what anybody sends stays a value, wherever it comes out.

FORGED stands in every input that reaches a stream, behind each character that some reader takes for the end of a line.
"""

import json
import re
import time
from typing import Any

import jwt
import pytest

from loadtests.upstream.answer import Answer
from tests.attacks.attacker import ALICE, HANDSHAKE, JWT_SECRET, Attacker, head
from tests.conftest import Gateway, UpstreamThread
from tests.support.sse_client import chat_body

pytestmark = pytest.mark.quiet

ENDS = ("\n\n", "\r\r", "\r\n\r\n", "\0", "\u2028\u2028", "\u2029", "\x85\x85", "\x0b", "\x0c", "\x1c", "\ufeff")
FORGED = "event: forged\ndata: {}\nid: forged\nretry: 1\n\n"
HOSTILE = [f"x{end}{FORGED.replace(chr(10), end[: max(1, len(end) // 2)])}" for end in ENDS]
FIELD = re.compile(rb"(event|id|retry|data)?: ?forged|retry: 1$|set-cookie")
WHOLE = {"authorization": f"Bearer {ALICE}"}


def check_stream(body: bytes) -> None:
    """Fails when a line of the stream, as a client cuts them, begins a field that was smuggled in."""
    forged = [line for line in re.split(rb"\r\n|\r|\n", body) if FIELD.match(line)]
    assert not forged, body
    assert b"\0" not in body


def stream(attacker: Attacker, path: str, until: bytes, token: str = ALICE) -> bytes:
    body = b""
    with attacker.http.stream("GET", path, headers={"authorization": f"Bearer {token}"}) as answer:
        assert answer.status_code == 200, path
        for piece in answer.iter_raw():
            body += piece
            if until in body:
                return body
    return body


def test_sse_field_injection_through_what_is_published(attacker: Attacker) -> None:
    topic = "inject/data"
    for text in HOSTILE:
        for field in ({"event": text}, {"id": text}, {"topic": text}, {"idempotencyKey": text}):
            answer = attacker.ask("POST", "/api/events", json={"topic": topic, "data": 1, **field})
            assert answer.status_code in (200, 400), answer.text
            assert answer.status_code == 400 or "event" not in field, text
        for data in (text, {text: [text]}):
            assert attacker.ask("POST", "/api/events", json={"topic": topic, "data": data}).status_code == 200
    assert attacker.ask("POST", "/api/events", json={"topic": topic, "data": "the last"}).status_code == 200
    for more in ("", "&envelope=1"):
        check_stream(stream(attacker, f"/api/events?topic={topic}&from=earliest{more}", b'"the last"'))


def test_sse_field_injection_through_a_name_of_a_user(attacker: Attacker) -> None:
    """The default topic holds the name, and presence tells it to others."""
    for text in HOSTILE:
        token = jwt.encode({"sub": text, "exp": time.time() + 60, "trilane": {"subscribe": ["*"]}}, JWT_SECRET, "HS256")
        for path in ("/api/events", "/api/events?topic=presence/inject/data&topic=inject/data"):
            with attacker.http.stream("GET", path, headers={"authorization": f"Bearer {token}"}) as answer:
                body = next(answer.iter_raw()) if answer.status_code == 200 else answer.read()
            check_stream(body)


def test_sse_field_injection_through_a_chat(attacker: Attacker) -> None:
    for number, text in enumerate(HOSTILE):
        bodies: list[dict[str, Any]] = [
            chat_body(f"inject-{number}", f"{text} I=0"),
            chat_body(f"inject-m-{number}", "x I=0", model=text),
            chat_body(f"inject-i-{number}", "x I=0", message_id=text),
            chat_body(text, "x I=0"),
            chat_body(f"inject-f-{number}", "x I=0", **{text: text}),
        ]
        for body in bodies:
            check_stream(attacker.ask("POST", "/api/chat", json=body).content)
        check_stream(attacker.ask("GET", f"/api/chat/inject-{number}/stream").content)
        completion = {"messages": [{"role": "user", "content": f"{text} I=0"}], "stream": True}
        for model in ({}, {"model": text}):
            check_stream(attacker.ask("POST", "/v1/chat/completions", json={**completion, **model}).content)
    check_stream(stream(attacker, "/api/events?from=earliest", b"run-finished"))


def hostile_upstream(text: str) -> Any:
    """Returns an upstream that puts `text` wherever an upstream may put one."""

    async def behave(answer: Answer) -> None:
        delta: dict[str, Any] = {
            "role": "assistant",
            "content": text,
            "reasoning_content": text,
            "tool_calls": [{"index": 0, "id": text, "type": "function", "function": {"name": text, "arguments": text}}],
            text: text,
        }
        chunk = {"id": text, "model": text, "choices": [{"index": 0, "delta": delta, "finish_reason": text}]}
        await answer.frame(json.dumps(chunk))
        await answer.frame(json.dumps({"error": {"message": text, "type": text, "code": text, "param": text}}))
        await answer.end()

    return behave


def test_sse_field_injection_through_an_upstream(attacker: Attacker, upstream: UpstreamThread) -> None:
    for number, text in enumerate(HOSTILE):
        upstream.fake.script(f"hostile-{number}", hostile_upstream(text))
        body = chat_body(f"up-{number}", "x", model=f"hostile-{number}")
        check_stream(attacker.ask("POST", "/api/chat", json=body).content)
        completion = {"model": f"hostile-{number}", "messages": [{"role": "user", "content": "x"}], "stream": True}
        check_stream(attacker.ask("POST", "/v1/chat/completions", json=completion).content)


def test_sse_field_injection_through_a_cursor(attacker: Attacker) -> None:
    for text in HOSTILE:
        with attacker.http.stream("GET", "/api/events?topic=a", params={"after": text}, headers=WHOLE) as answer:
            check_stream(next(answer.iter_raw()))


def test_header_injection(attacker: Attacker) -> None:
    """No value of a client begins a header of an answer; one that is not sane does not come back at all."""
    for value in ("a\r\nset-cookie: x=1", "a\nset-cookie: x=1", "a%0d%0aset-cookie:x=1", "a\x0bset-cookie: x", "é" * 9):
        for name in ("x-request-id", "origin", "accept", "idempotency-key", "sec-websocket-protocol", "last-event-id"):
            got = attacker.exchange(head("GET /api/chats", f"{name}: {value}", "connection: close"))
            assert not re.search(rb"^set-cookie", got.answer.partition(b"\r\n\r\n")[0], re.MULTILINE | re.IGNORECASE)
            assert value.encode("latin-1") not in got.answer.partition(b"\r\n\r\n")[0]
        for path in (f"/api/chat/{value}", f"/{value}", f"/api/events?topic={value}", f"/static/{value}"):
            got = attacker.exchange(head(f"GET {path}".replace("\r\n", "%0d%0a"), "connection: close"))
            assert not re.search(rb"^set-cookie", got.answer.partition(b"\r\n\r\n")[0], re.MULTILINE | re.IGNORECASE)


def test_injection_through_an_upload(attacker: Attacker) -> None:
    for text in (*HOSTILE, "a\r\nset-cookie: x=1"):
        for field in ("language", "prompt", "model", "response_format", "timestamp_granularities[]", "x"):
            form = {"stream": "true", field: text}
            answer = attacker.ask("POST", "/v1/audio/transcriptions", data=form, files={"file": (text, b"x")})
            check_stream(answer.content)
            assert "set-cookie" not in answer.headers


def test_log_injection(attacker: Attacker, gateway: Gateway) -> None:
    """Each line of the log is one JSON object, whatever was sent."""
    for text in HOSTILE:
        attacker.ask("POST", "/api/chat", json=chat_body("log", f"x B=cut {text}", model=text))
        attacker.ask("GET", "/api/chat/x", headers={"x-request-id": "a"}, params={"q": text})
        attacker.ask("GET", "/api/chats", key=f"{ALICE}x", headers={"user-agent": "forged"})
    attacker.exchange(b"\x1b[2Jforged\r\n\r\n")
    for line in gateway.stderr().splitlines():
        assert isinstance(json.loads(line), dict), line
        assert "\x1b" not in line


def test_no_client_fills_the_log(attacker: Attacker, gateway: Gateway) -> None:
    """Whatever is refused again and again is told a few times, and then counted."""
    form = {"content-type": "multipart/form-data; boundary=b"}
    before, times = len(gateway.stderr().splitlines()), 50
    for _ in range(times):
        attacker.exchange(b"garbage\r\n\r\n", quiet_s=0.05)
        attacker.exchange(head("GET /api/audio/", *HANDSHAKE), quiet_s=0.05)
        attacker.exchange(head("GET /api/audio", *HANDSHAKE, key="none"), quiet_s=0.05)
        attacker.ask("POST", "/v1/audio/transcriptions", content=b"no form", headers=form)
        attacker.ask("POST", "/api/chat", content=b"{", headers={"content-type": "application/json"})
        attacker.ask("GET", "/api/chats", key="none")
        attacker.ask("GET", "/nothing")
    assert len(gateway.stderr().splitlines()) - before < 2 * times
