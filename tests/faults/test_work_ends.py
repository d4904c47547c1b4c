"""Work for an answer that has not begun, or is a file's, ends with the caller's credential, as every stream does."""

import asyncio
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache

import httpx2
import numpy as np
import pytest
import soundfile

from tests.attacks.attacker import head
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.faults.test_token_expiry import SECRET, headers, key_of, later, make_key

WITHIN_S = 15.0
"""Far less than the work takes, if nobody ends it."""
QUESTION = {"messages": [{"role": "user", "content": "T=400 I=100000"}]}
ENDS = {"expiry": "token_expired", "revocation": "key_revoked"}


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "x", "TRILANE_MODEL": "ok", "TRILANE_JWT_SECRET": SECRET}
    server = Gateway(tmp_path_factory.mktemp("work"), env, unit="all")
    try:
        server.start()
        load_model(server)
        yield server
    finally:
        server.stop()


def load_model(gateway: Gateway) -> None:
    url = f"{gateway.url}/v1/audio/transcriptions"
    assert httpx2.post(url, files={"file": ("a", b"x")}, headers=headers(60), timeout=60).status_code == 400


@cache
def long_silence() -> bytes:
    """Returns two hours in a few KiB: half a minute of work for the speech detector."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(7200 * 8000, np.int16), 8000, format="FLAC")
    return file.getvalue()


@pytest.fixture(params=ENDS)
def credential(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[tuple[dict[str, str], str]]:
    """Yields the header of a credential that is about to end, and the code of the error that says so."""
    if request.param == "expiry":
        yield headers(2), ENDS["expiry"]
        return
    key, key_id = key_of(gateway)
    timer = later(gateway, key_id)
    yield {"authorization": f"Bearer {key}"}, ENDS["revocation"]
    timer.join()


def check_at_rest(gateway: Gateway) -> None:
    for gauge in ("trilane_audio_open_uploads", "trilane_chat_open_runs", "trilane_gateway_open_streams"):
        eventually(lambda gauge=gauge: gateway.gauge(gauge) == 0, 10, f"{gauge} is 0")


def in_time(work: Callable[[], httpx2.Response]) -> httpx2.Response:
    began = time.monotonic()
    answer = work()
    assert time.monotonic() - began < WITHIN_S
    return answer


def test_a_file_that_is_transcribed(gateway: Gateway, credential: tuple[dict[str, str], str]) -> None:
    auth, code = credential
    file = {"file": ("a.flac", long_silence())}
    answer = in_time(
        lambda: httpx2.post(f"{gateway.url}/v1/audio/transcriptions", files=file, headers=auth, timeout=60)
    )
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    check_at_rest(gateway)


def test_a_file_whose_transcript_is_streamed(gateway: Gateway, credential: tuple[dict[str, str], str]) -> None:
    auth, code = credential
    file, fields = {"file": ("a.flac", long_silence())}, {"stream": "true"}
    answer = in_time(
        lambda: httpx2.post(f"{gateway.url}/v1/audio/transcriptions", data=fields, files=file, headers=auth, timeout=60)
    )
    assert answer.status_code == 200
    [error] = [json.loads(line[6:])["error"] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert error["code"] == code
    check_at_rest(gateway)


def test_a_file_that_is_still_coming(gateway: Gateway, credential: tuple[dict[str, str], str]) -> None:
    auth, code = credential
    lines = f"authorization: {auth['authorization']}", "content-type: multipart/form-data; boundary=b"
    request = head("POST /api/audio/transcriptions", *lines, "content-length: 1000000", key="")
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as client:
        client.sendall(request + b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n')
        client.settimeout(0.1)
        answer, began = b"", time.monotonic()
        while b"}" not in answer and time.monotonic() - began < WITHIN_S:
            client.sendall(b"x" * 1000)
            try:
                answer += client.recv(65_536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert f'"{code}"'.encode() in answer
    check_at_rest(gateway)


def test_a_completion_that_is_answered_whole(gateway: Gateway, credential: tuple[dict[str, str], str]) -> None:
    auth, code = credential
    url = f"{gateway.url}/v1/chat/completions"
    answer = in_time(lambda: httpx2.post(url, json=QUESTION, headers=auth, timeout=60))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    check_at_rest(gateway)


def test_the_work_of_another_key_goes_on(gateway: Gateway) -> None:
    _, key_id = key_of(gateway)
    timer = later(gateway, key_id)
    question = {"messages": [{"role": "user", "content": "T=20 I=100000"}]}
    answer = httpx2.post(f"{gateway.url}/v1/chat/completions", json=question, headers=headers(60), timeout=60)
    timer.join()
    assert answer.status_code == 200
    assert asyncio.run(make_key(gateway))
