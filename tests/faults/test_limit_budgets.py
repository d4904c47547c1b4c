"""A budget of money, and one of speech, are spent by real work through a real gateway, and then it is refused."""

import contextlib
import io
import json
import time
import wave
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.access.auth import mint
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.support.sse_client import chat_body, send

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
PRICES = """
[[upstream]]
name = "fake"
base_url = "{url}"
api_key = "x"
model = "ok"

[[price]]
model = "*"
input = 1000
output = 1000
audio = 0.06
"""
"""A thousand for a million tokens, a thousandth for a second of speech."""
MONTH_S, DAY_S = 30 * 86_400, 86_400
RATE = 16_000


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("budgets")
    (folder / "upstreams.toml").write_text(PRICES.format(url=upstream.url))
    env = {"TRILANE_UPSTREAMS": str(folder / "upstreams.toml"), "TRILANE_JWT_SECRET": SECRET}
    server = Gateway(folder, {**env, "TRILANE_LIMIT_USER_MONTHLY_COST": "0.05"}, unit="all")
    try:
        yield server.start()
    finally:
        server.stop()


def auth(sub: str, **limits: float) -> dict[str, str]:
    return {"authorization": f"Bearer {mint(SECRET, sub, time.time() + 600, {'limits': limits})}"}


def ask(gateway: Gateway, chat_id: str, headers: dict[str, str], tokens: int = 3) -> httpx2.Response:
    response, _ = send(gateway.url, chat_body(chat_id, f"T={tokens} I=0"), authorization=headers["authorization"])
    return response


def spent(gateway: Gateway, headers: dict[str, str]) -> float:
    total = httpx2.get(f"{gateway.url}/api/usage", headers=headers).json()["total"]
    return float(total.get("cost", {}).get("USD", 0))


def refusal(gateway: Gateway, headers: dict[str, str]) -> httpx2.Response:
    """Asks until it is refused: what an answer has cost is counted a moment after its end."""
    answers: list[httpx2.Response] = []

    def is_refused() -> bool:
        answers.append(ask(gateway, f"c{len(answers)}", headers))
        return answers[-1].status_code == 429

    eventually(is_refused, 20, "the budget is spent")
    return answers[-1]


def test_a_budget_of_money_is_spent_by_answers_and_then_refused_until_it_is_free_again(gateway: Gateway) -> None:
    headers = auth("spender")
    assert ask(gateway, "first", headers).status_code == 200
    refused = refusal(gateway, headers)
    problem = refused.json()
    assert (problem["code"], problem["limit"], problem["retryable"]) == ("rate_limited", "monthly_cost", True)
    assert "the limit monthly_cost of yours is 0.05" in problem["detail"]
    assert MONTH_S - DAY_S <= int(refused.headers["retry-after"]) <= MONTH_S + DAY_S + 1
    assert spent(gateway, headers) >= 0.05, "not a moment too early"
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=headers["authorization"][7:], max_retries=0)
    with pytest.raises(openai.RateLimitError, match="monthly_cost"):
        client.chat.completions.create(model="ok", messages=[{"role": "user", "content": "T=3 I=0"}])
    assert ask(gateway, "other", auth("other")).status_code == 200


def test_a_token_narrows_the_budget_and_never_widens_it(gateway: Gateway) -> None:
    for sub, limit in (("narrow", 0.004), ("wide", 1000)):
        headers = auth(sub, monthly_cost=limit)
        assert ask(gateway, "first", headers).status_code == 200
        assert f"is {min(limit, 0.05)}" in refusal(gateway, headers).json()["detail"]


@contextlib.contextmanager
def session(gateway: Gateway, headers: dict[str, str]) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """Opens a session; yields its socket, and the first message."""
    url = f"ws://127.0.0.1:{gateway.port}/api/audio"
    with connect(url, additional_headers=headers, compression=None) as socket:
        socket.send(json.dumps({"type": "start", "sampleRate": RATE}))
        yield socket, json.loads(socket.recv(20))


def be_silent(socket: ClientConnection, seconds: int) -> None:
    """Sends so much silence, as fast as may be."""
    for _ in range(seconds * 10):
        socket.send(bytes(2 * RATE // 10))


def rest_of(socket: ClientConnection) -> list[dict[str, Any]]:
    """Returns what is said until the socket is closed."""
    messages: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            messages.append(json.loads(socket.recv(20)))
    return messages


def stop(socket: ClientConnection) -> None:
    socket.send('{"type":"stop"}')
    assert (rest_of(socket)[-1]["type"], socket.close_code) == ("done", 1000)


def is_refused(gateway: Gateway, headers: dict[str, str], limit: str) -> bool:
    """Returns whether a new session is closed for this limit, and with which words."""
    with session(gateway, headers) as (socket, message):
        if message["type"] == "ready":
            stop(socket)
            return False
        assert (message["type"], message["code"], message["retryable"]) == ("error", "rate_limited", True)
        assert limit in message["message"]
        rest_of(socket)
        assert socket.close_code == 1013
        return True


def test_a_day_of_speech_is_heard_to_its_last_second_and_then_the_session_ends(gateway: Gateway) -> None:
    headers = auth("speaker", audio_seconds_per_day=8)
    with session(gateway, headers) as (socket, message):
        assert message["type"] == "ready"
        be_silent(socket, 5)
        stop(socket)
    eventually(lambda: not is_refused(gateway, headers, "audio_seconds_per_day"), 20, "three seconds are left")
    time.sleep(0.2)  # that session, too, gives back what it has not heard
    with session(gateway, headers) as (socket, message):
        assert message["type"] == "ready"
        be_silent(socket, 4)
        last = rest_of(socket)[-1]
        assert (last["type"], last["code"], socket.close_code) == ("error", "rate_limited", 1013)
        assert "audio_seconds_per_day" in last["message"]
    eventually(lambda: is_refused(gateway, headers, "audio_seconds_per_day"), 20, "the day is spent")


def test_sessions_at_once_have_a_limit_and_their_place_is_free_after_any_end(gateway: Gateway) -> None:
    headers = auth("crowd", sessions=2)
    with session(gateway, headers), session(gateway, headers) as (second, _):
        assert is_refused(gateway, headers, "sessions")
        stop(second)
        eventually(lambda: not is_refused(gateway, headers, "sessions"), 20, "a place is free")


def test_speech_and_files_spend_the_budget_of_money_too(gateway: Gateway) -> None:
    headers = auth("talker", monthly_cost=0.004)
    with session(gateway, headers) as (socket, _):
        be_silent(socket, 5)
        stop(socket)
    eventually(lambda: is_refused(gateway, headers, "monthly_cost"), 20, "the budget is spent")
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(bytes(2 * RATE * 5))

    def send_file(sub: str) -> httpx2.Response:
        url, files = f"{gateway.url}/api/audio/transcriptions", {"file": ("silence.wav", sound.getvalue())}
        return httpx2.post(url, files=files, headers=auth(sub, monthly_cost=0.004), timeout=60)

    assert send_file("talker").json()["limit"] == "monthly_cost"
    assert send_file("filer").status_code == 200
    eventually(lambda: send_file("filer").status_code == 429, 20, "a file costs, too")
    assert send_file("filer").json()["limit"] == "monthly_cost"
