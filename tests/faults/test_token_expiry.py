"""What is open when a token expires is told so, cut, and continued with a new one: a chat, a completion, a voice."""

import json
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.access.auth import mint
from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread
from tests.support.sse_client import Frames, chat_body, read_frames

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
QUESTION = "T=60 I=100000"
LASTS_S = 3
"""Seconds for which a token is good: fewer than before the end of which a client is told."""


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "x", "TRILANE_MODEL": "ok", "TRILANE_JWT_SECRET": SECRET}
    server = Gateway(tmp_path_factory.mktemp("expiry"), env, unit="all")
    try:
        yield server.start()
    finally:
        server.stop()


def token(lasts_s: float = LASTS_S) -> str:
    return mint(SECRET, "ann", time.time() + lasts_s + 1, {})  # whole seconds, rounded down


def headers(lasts_s: float = LASTS_S) -> dict[str, str]:
    return {"authorization": f"Bearer {token(lasts_s)}"}


def test_a_chat_is_cut_with_its_token_and_goes_on_with_the_next(gateway: Gateway) -> None:
    url, frames = f"{gateway.url}/api/chat", Frames()
    body = chat_body("c1", QUESTION)
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        httpx2.stream("POST", url, json=body, headers=headers(), timeout=20) as response,
    ):
        read_frames(response.iter_lines(), frames)
    [auth] = [chunk for chunk in frames.chunks if chunk["type"] == "data-auth"]
    assert (auth["transient"], 1 <= auth["data"]["expiresIn"] <= LASTS_S + 1) == (True, True)
    assert not frames.done
    assert not frames.terminals
    cursor = [event_id for event_id, _ in frames.events if event_id][-1]
    rest = Frames()
    resumed = headers(60) | {"last-event-id": cursor}
    with httpx2.stream("GET", f"{url}/c1/stream", headers=resumed, timeout=20) as response:
        read_frames(response.iter_lines(), rest)
    assert rest.done
    assert frames.text + rest.text == words(60)


def test_a_completion_ends_with_an_error_that_an_sdk_raises(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token(), max_retries=0)
    with pytest.raises(openai.APIError, match="the token of this request has expired") as error:
        for _ in client.chat.completions.create(
            model="ok", messages=[{"role": "user", "content": QUESTION}], stream=True
        ):
            pass
    assert error.value.code == "token_expired"


def test_a_voice_is_told_closed_and_comes_back(gateway: Gateway) -> None:
    url = f"ws://127.0.0.1:{gateway.port}/api/audio"
    with connect(url, additional_headers=headers(), compression=None) as socket:
        socket.send('{"type":"start"}')
        said = [json.loads(socket.recv(10))]
        with pytest.raises(ConnectionClosed, match="4001"):
            said.extend(json.loads(text) for text in socket)
    assert [message["type"] for message in said] == ["ready", "auth"]
    with connect(url, additional_headers=headers(60), compression=None) as socket:
        socket.send(json.dumps({"type": "start", "session": said[0]["session"]}))
        assert json.loads(socket.recv(10))["type"] == "ready"
