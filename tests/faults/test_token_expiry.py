"""What is open when a token expires is told so, cut, and continued with a new one: a chat, a completion, a voice.

What is open when a key is revoked ends, too.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from events.log.sqlite.engine import SqliteLog
from gateway.access.auth import mint
from gateway.access.grants import EVERYTHING
from gateway.access.keys import add_key, revoke_key
from gateway.core.engines import retention_policy
from gateway.settings import Settings
from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.support.sse_client import Frames, chat_body, read_frames

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
QUESTION = "T=60 I=100000"
LASTS_S = 3
"""Seconds for which a token is good: fewer than before the end of which a client is told."""
LASTS_LONG_S = 3600
"""Seconds for which a token is good of whose end nobody is told in a test."""


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


# A key that is revoked


async def make_key(gateway: Gateway, revoked: str = "") -> tuple[str, str]:
    """Returns a new key and its id; given the id of another, it revokes that."""
    log = SqliteLog(str(gateway.folder / "trilane.db"), retention_policy(Settings()))
    await log.open()
    try:
        if revoked:
            await revoke_key(log, revoked)
        return await add_key(log, "ann", EVERYTHING)
    finally:
        await log.close()


def key_of(gateway: Gateway) -> tuple[str, str]:
    key, key_id = asyncio.run(make_key(gateway))
    auth = {"authorization": f"Bearer {key}"}
    eventually(lambda: httpx2.get(f"{gateway.url}/api/chats", headers=auth).status_code == 200, what="the key is known")
    return key, key_id


def later(gateway: Gateway, key_id: str) -> threading.Timer:
    timer = threading.Timer(0.5, lambda: asyncio.run(make_key(gateway, revoked=key_id)))
    timer.start()
    return timer


def test_a_chat_is_cut_when_its_key_is_revoked_and_its_answer_goes_on(gateway: Gateway) -> None:
    key, key_id = key_of(gateway)
    url, frames = f"{gateway.url}/api/chat", Frames()
    timer = later(gateway, key_id)
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        httpx2.stream(
            "POST", url, json=chat_body("c2", "T=20 I=100000"), headers={"authorization": f"Bearer {key}"}, timeout=20
        ) as response,
    ):
        read_frames(response.iter_lines(), frames)
    timer.join()
    assert not frames.done
    assert not frames.terminals
    rest = Frames()
    resumed = headers(60) | {"last-event-id": frames.cursor}
    with httpx2.stream("GET", f"{url}/c2/stream", headers=resumed, timeout=20) as response:
        read_frames(response.iter_lines(), rest)
    assert rest.done
    assert frames.text + rest.text == words(20)


def test_a_completion_ends_with_an_error_when_its_key_is_revoked(gateway: Gateway) -> None:
    key, key_id = key_of(gateway)
    ask = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0).chat.completions.create
    timer = later(gateway, key_id)
    with pytest.raises(openai.APIError, match="was revoked") as error:
        for _ in ask(model="ok", messages=[{"role": "user", "content": QUESTION}], stream=True):
            pass
    timer.join()
    assert error.value.code == "key_revoked"
    with pytest.raises(openai.AuthenticationError):
        ask(model="ok", messages=[{"role": "user", "content": "T=1"}])


def test_a_voice_is_closed_when_its_key_is_revoked(gateway: Gateway) -> None:
    key, key_id = key_of(gateway)
    url, auth = f"ws://127.0.0.1:{gateway.port}/api/audio", {"authorization": f"Bearer {key}"}
    with (
        connect(url, additional_headers=auth, compression=None) as socket,
        connect(url, additional_headers=headers(LASTS_LONG_S), compression=None) as other,
    ):
        for one in (socket, other):
            one.send('{"type":"start"}')
            assert json.loads(one.recv(10))["type"] == "ready"
        asyncio.run(make_key(gateway, revoked=key_id))
        with pytest.raises(ConnectionClosed, match=r"1008.*revoked"):
            socket.recv(20)
        other.send('{"type":"marker","id":1}')
        assert json.loads(other.recv(20))["type"] == "marker"
