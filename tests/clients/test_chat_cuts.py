"""Clients that keep an event's id as soon as they have read its line lose no token and get none twice, like all others.

The id is the last line of a frame, so they are cut after it only in one place: between its line and the empty one that
ends the event. There they keep the id of an event that they never tell of; no order of fields helps them.
"""

import socket
import subprocess
from typing import Any

import httpx2
import msgspec
import pytest

from tests.clients.node import install, tool
from tests.conftest import Gateway
from tests.support.sse_client import chat_body

CLIENTS = ("@microsoft/fetch-event-source", "@fortaine/fetch-event-source", "extended-eventsource")
"""Those that keep an id at its line."""
OTHERS = ("eventsource", "eventsource-client")
"""Those that keep it with its event, and come back late."""
BODY = chat_body("frames", "T=6 I=0")
FRAMES = 4
"""Frames of which every byte is cut."""


class Cuts(msgspec.Struct):
    """The bytes of one answer, and what each client got of it for each cut."""

    bytes: bytes
    data: list[str]
    start: int
    results: dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def cuts(gateway: Gateway) -> Cuts:
    httpx2.post(f"{gateway.url}/api/chat", json=BODY)
    answer = raw_answer(gateway.port)
    start = answer.index(b"\r\n\r\n") + 4
    end = start
    for _ in range(FRAMES):
        end = answer.index(b"\n\n", end) + 2
    body = msgspec.json.encode(BODY).decode()
    command = [tool("node"), str(install() / "chat_cuts.mjs"), gateway.url, body, str(start), str(end)]
    process = subprocess.run(command, capture_output=True, timeout=110)
    assert process.returncode == 0, process.stderr.decode()
    data = [line.removeprefix("data: ") for line in answer.decode().splitlines() if line.startswith("data: ")]
    return Cuts(answer, data, start, msgspec.json.decode(process.stdout))


def raw_answer(port: int) -> bytes:
    """Returns all bytes of the answer, as Node's `fetch` asks for it, so that a cut falls on the same one there."""
    body = msgspec.json.encode(BODY)
    head = f"POST /api/chat HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while not answer.endswith(b"data: [DONE]\n\n") and not answer.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65_536)
            assert piece, answer
            answer += piece
    return answer


@pytest.mark.parametrize("client", [*CLIENTS, *OTHERS])
def test_an_answer_that_is_cut_at_any_byte_arrives_whole_and_once(client: str, cuts: Cuts) -> None:
    wrong: dict[int, Any] = {}
    for place, data in enumerate(cuts.results[client], cuts.start):
        before = cuts.bytes[:place]
        if client in CLIENTS and before.endswith(b"\n") and before.splitlines()[-1].startswith(b"id: "):
            continue
        if data != cuts.data:
            wrong[place] = (before[-20:], data)
    assert wrong == {}
    assert len(cuts.results[client]) > 300
