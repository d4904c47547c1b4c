"""Who is over a limit is told so in each protocol's own way, and everything comes back after any end."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.access.auth import mint
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.support.sse_client import Frames, chat_body, send

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
SLOW, QUICK = "T=60 I=1000000", "T=3 I=0"
"""Questions whose answers take a minute, and no time."""
FLOOD, ADDRESSES = 12, ("127.0.0.2", "127.0.0.3")


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "x",
        "TRILANE_MODEL": "ok",
        "TRILANE_JWT_SECRET": SECRET,
        "TRILANE_LIMIT_USER_REQUESTS_PER_MINUTE": "50",
        "TRILANE_LIMIT_TOKENS_PER_MINUTE": "1000000",
        "TRILANE_LIMIT_STREAMS": "200",
    }
    server = Gateway(tmp_path_factory.mktemp("limits"), env, unit="all")
    try:
        yield server.start()
    finally:
        server.stop()


def auth(sub: str, **limits: float) -> dict[str, str]:
    grants = {"limits": limits, "publish": ["*"], "subscribe": ["*"]}
    return {"authorization": f"Bearer {mint(SECRET, sub, time.time() + 600, grants)}"}


@contextlib.contextmanager
def open_chat(gateway: Gateway, chat_id: str, headers: dict[str, str], **more: Any) -> Iterator[httpx2.Response]:
    body = chat_body(chat_id, SLOW, **more)
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, headers=headers, timeout=20) as response:
        yield response


def post(gateway: Gateway, body: dict[str, Any], headers: dict[str, str]) -> tuple[httpx2.Response, Frames]:
    return send(gateway.url, body, authorization=headers["authorization"])


def status(gateway: Gateway, chat_id: str, headers: dict[str, str]) -> int:
    response, _ = post(gateway, chat_body(chat_id, QUICK), headers)
    return response.status_code


def test_an_answer_says_what_is_left(gateway: Gateway) -> None:
    headers = auth("teller")
    streamed, frames = post(gateway, chat_body("c1", QUICK), headers)
    assert frames.done
    assert streamed.headers["x-ratelimit-limit-requests"] == "50"
    assert streamed.headers["x-ratelimit-remaining-requests"] == "49"
    assert streamed.headers["x-ratelimit-reset-requests"].startswith("1m")
    assert streamed.headers["x-ratelimit-limit-tokens"] == "1000000"
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=headers["authorization"][7:], max_retries=0)
    raw = client.chat.completions.with_raw_response.create(model="ok", messages=[{"role": "user", "content": QUICK}])
    assert raw.headers["x-ratelimit-remaining-requests"] == "48"
    with client.chat.completions.with_streaming_response.create(
        model="ok", messages=[{"role": "user", "content": QUICK}], stream=True
    ) as stream:
        assert stream.headers["x-ratelimit-remaining-requests"] == "47"


def test_one_request_too_many_is_a_429_that_says_when_to_come_back(gateway: Gateway) -> None:
    headers = auth("busy", requests_per_minute=2)
    assert [status(gateway, f"c{n}", headers) for n in range(2)] == [200, 200]
    response, _ = post(gateway, chat_body("c3", QUICK), headers)
    problem = response.json()
    assert (response.status_code, problem["code"], problem["limit"]) == (429, "rate_limited", "requests_per_minute")
    assert 1 <= int(response.headers["retry-after"]) <= 65
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    again, _ = post(gateway, chat_body("c1", QUICK), headers)
    assert again.status_code == 200, "the same message again is the same run"
    published = httpx2.post(f"{gateway.url}/api/events", json={"topic": "a", "data": 1}, headers=headers)
    assert published.status_code == 429
    assert status(gateway, "c1", auth("other")) == 200


def test_the_sdk_of_openai_waits_as_it_is_told_and_succeeds(gateway: Gateway) -> None:
    headers = auth("patient", runs=1)
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=headers["authorization"][7:], max_retries=3)
    with open_chat(gateway, "c1", headers) as response:
        assert response.status_code == 200
        with pytest.raises(openai.RateLimitError, match="the limit runs of yours is 1"):
            client.with_options(max_retries=0).chat.completions.create(
                model="ok", messages=[{"role": "user", "content": QUICK}]
            )
        httpx2.post(f"{gateway.url}/api/chat/c1/stop", json={}, headers=headers)
        answer = client.chat.completions.create(model="ok", messages=[{"role": "user", "content": QUICK}])
    assert answer.choices[0].message.content


def test_a_run_is_free_again_however_it_ended(gateway: Gateway) -> None:
    headers = auth("ender", runs=1, streams=3)
    for chat_id, end in {"stopped": "stop", "superseded": "post", "cancelled": "leave"}.items():
        policy = {"onDisconnect": "cancel"} if end == "leave" else {}
        with open_chat(gateway, chat_id, headers, **policy) as response:
            assert response.status_code == 200
            assert status(gateway, "another", headers) == 429
            if end == "stop":
                httpx2.post(f"{gateway.url}/api/chat/{chat_id}/stop", json={}, headers=headers)
            elif end == "post":
                body = chat_body(chat_id, QUICK, message_id="m-next")
                assert post(gateway, body, headers)[0].status_code == 200
        eventually(lambda: status(gateway, "another", headers) == 200, 5, f"{end} gives back")
        assert httpx2.delete(f"{gateway.url}/api/chat/another", headers=headers).is_success
    for model in ("e500", "cut", "e429"):
        refused, _ = post(gateway, chat_body(f"f-{model}", QUICK, model=model), headers)
        assert refused.status_code in (200, 429, 502)
        eventually(lambda: status(gateway, "another", headers) == 200, 5, f"{model} gives back")
        assert httpx2.delete(f"{gateway.url}/api/chat/another", headers=headers).is_success


def test_a_stream_of_events_too_many_is_busy(gateway: Gateway) -> None:
    headers, url = auth("listener", streams=1), f"{gateway.url}/api/events"
    with httpx2.stream("GET", url, headers=headers, timeout=20) as response:
        assert response.status_code == 200
        busy = httpx2.get(url, headers=headers)
        assert (busy.status_code, "event: busy" in busy.text, '"rate_limited"' in busy.text) == (200, True, True)
        told = httpx2.get(url, headers={**headers, "prefer": "status"})
        assert (told.status_code, told.headers["retry-after"], told.json()["limit"]) == (429, "2", "streams")

    def is_let_in() -> bool:
        with httpx2.stream("GET", url, headers={**headers, "prefer": "status"}, timeout=20) as response:
            return response.status_code == 200

    eventually(is_let_in, 5, "the stream that was left gives back")


def test_a_voice_too_many_is_closed_with_try_later(gateway: Gateway) -> None:
    url = f"ws://127.0.0.1:{gateway.port}/api/audio"
    headers = auth("speaker", sessions=1)

    def first_message(client: ClientConnection) -> dict[str, Any]:
        client.send('{"type":"start"}')
        return json.loads(client.recv(20))

    with connect(url, additional_headers=headers, compression=None) as first:
        assert first_message(first)["type"] == "ready"
        with connect(url, additional_headers=headers, compression=None) as second:
            refusal = first_message(second)
            assert (refusal["type"], refusal["code"]) == ("error", "rate_limited")
            with pytest.raises(ConnectionClosed, match="1013"):
                second.recv(10)
        first.send('{"type":"stop"}')
        assert [json.loads(text)["type"] for text in first][-1] == "done"

    def is_let_in() -> bool:
        with connect(url, additional_headers=headers, compression=None) as again:
            return first_message(again)["type"] == "ready"

    eventually(is_let_in, 5, "the session that ended gives back")


def test_tickets_have_a_limit(gateway: Gateway) -> None:
    headers = auth("guest", tickets_per_minute=2)
    asked = [
        httpx2.post(f"{gateway.url}/api/tickets", json={"route": "/api/events"}, headers=headers) for _ in range(3)
    ]
    assert [answer.status_code for answer in asked] == [200, 200, 429]


# A process that protects itself


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Returns a gateway that has more in memory than it may, and takes few connections of one address."""
    env = {"TRILANE_LIMIT_MEMORY_BYTES": "1000000", "TRILANE_LIMIT_CONNECTIONS_PER_ADDRESS": str(FLOOD)}
    server = Gateway(tmp_path_factory.mktemp("full"), env, unit="events")
    try:
        yield server.start()
    finally:
        server.stop()


def test_a_process_short_of_memory_takes_no_new_work_and_serves_what_is_open(full: Gateway) -> None:
    response = httpx2.post(f"{full.url}/api/events", json={"topic": "a", "data": 1})
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (503, "memory", "5")
    busy = httpx2.get(f"{full.url}/api/events?topic=a")
    assert (busy.status_code, '"memory"' in busy.text) == (200, True)
    assert httpx2.get(f"{full.url}/healthz").status_code == 200
    assert "memory is short" in full.stderr()


def test_a_flood_of_connections_from_one_address_leaves_room_for_the_others(full: Gateway) -> None:
    def dial(address: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", full.port), 5, source_address=(address, 0))

    def is_kept(connection: socket.socket) -> bool:
        connection.settimeout(2)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
        return False

    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(dial(ADDRESSES[0])) for _ in range(FLOOD + 5)]
        assert sum(map(is_kept, flood)) == FLOOD
        assert is_kept(stack.enter_context(dial(ADDRESSES[1])))

    def is_let_in() -> bool:
        with dial(ADDRESSES[0]) as connection:
            return is_kept(connection)

    eventually(is_let_in, 5, "the address is let in again")
