"""What fails, and every refused sign-in, leaves one log line, with its request's id and nothing that a client said."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from loadtests.ports import free_port
from tests.conftest import OURS, eventually

ENV = {k: v for k, v in os.environ.items() if not k.upper().startswith(OURS)}


class FailingPlace:
    """A server whose routes fail, and the lines that it has written."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._stderr = folder / "stderr.txt"
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.failing_server", str(self.port)],
                env={**ENV, "TRILANE_LOG": "memory:", "TRILANE_JWT_SECRET": "x" * 32},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def is_ready(self) -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        return False

    def lines(self, request_id: str) -> list[dict[str, Any]]:
        """Returns the lines about a request, once there is one, and all that stands beside it."""
        eventually(lambda: request_id in self._stderr.read_text(), what=f"a line about {request_id}")
        lines = [json.loads(line) for line in self._stderr.read_text().splitlines()]
        return [line for line in lines if request_id in json.dumps(line)]

    def count(self) -> int:
        return len(self._stderr.read_text().splitlines())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingPlace]:
    place = FailingPlace(tmp_path_factory.mktemp("failing"))
    try:
        eventually(place.is_ready, what="the server is ready", every_s=0.05)
        yield place
    finally:
        place.process.kill()
        place.process.wait()


def test_a_request_that_fails_leaves_one_line(place: FailingPlace) -> None:
    before = place.count()
    answer = httpx2.get(f"{place.url}/request", headers={"x-request-id": "failed-request"})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "failed-request")
    [line] = place.lines("failed-request")
    assert (line["event"], line["path"]) == ("request failed", "/request")
    assert "RuntimeError" in line["exception"]
    assert "a bug" not in json.dumps(line)  # the words of an error could be what a user said
    assert "a bug" not in answer.text
    assert place.count() == before + 1


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_stream_that_fails_leaves_one_line_and_is_cut(place: FailingPlace, version: str) -> None:
    """A stream to a client of HTTP/1.0 is written by the request's own task, any other by its connection."""
    before, request_id = place.count(), f"failed-stream-{version}"
    with closing(socket.create_connection(("127.0.0.1", place.port), timeout=10)) as connection:
        connection.sendall(
            f"GET /stream HTTP/{version}\r\nhost: localhost\r\nx-request-id: {request_id}\r\n\r\n".encode()
        )
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")
    [line] = place.lines(request_id)
    assert "RuntimeError" in line["exception"]
    assert "a bug" not in json.dumps(line)  # the words of an error could be what a user said
    assert place.count() == before + 1


def test_a_socket_that_fails_leaves_one_line_and_is_closed(place: FailingPlace) -> None:
    before, headers = place.count(), {"x-request-id": "failed-socket"}
    with connect(f"ws://127.0.0.1:{place.port}/socket", additional_headers=headers) as client:
        client.send("a word that nobody else shall read")
        with pytest.raises(ConnectionClosed):
            client.recv()
    [line] = place.lines("failed-socket")
    assert (line["event"], line["path"]) == ("a socket failed", "/socket")
    assert "RuntimeError" in line["exception"]
    assert "a bug" not in json.dumps(line)  # the words of an error could be what a user said
    assert "a word" not in json.dumps(line)
    assert place.count() == before + 1


def test_a_handshake_that_fails_leaves_one_line(place: FailingPlace) -> None:
    before, headers = place.count(), {"x-request-id": "failed-handshake"}
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{place.port}/handshake", additional_headers=headers)
    [line] = place.lines("failed-handshake")
    assert line["event"] == "a socket failed"
    assert place.count() == before + 1


SECRET = "eyJ-a-credential-of-somebody"
REFUSED: dict[str, tuple[str, dict[str, str]]] = {
    "no credential": ("/api/events", {}),
    "a wrong one": ("/api/events", {"authorization": f"Bearer {SECRET}"}),
    "another scheme": ("/api/events", {"authorization": f"Basic {SECRET}"}),
    "a cookie": ("/api/events", {"cookie": f"__Secure-trilane={SECRET}"}),
    "a ticket": (f"/api/events?ticket={SECRET}", {}),
    "the figures": ("/metrics", {"x-forwarded-for": "192.0.2.1"}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_sign_in_leaves_one_line_without_the_credential(place: FailingPlace, kind: str) -> None:
    path, headers = REFUSED[kind]
    before, request_id = place.count(), f"refused-{kind.replace(' ', '-')}"
    answer = httpx2.get(f"{place.url}{path}", headers={**headers, "x-request-id": request_id})
    assert answer.status_code == 401
    [line] = place.lines(request_id)
    assert (line["event"], line["address"]) == ("a sign-in was refused", "127.0.0.1")
    assert line["path"] == path.partition("?")[0]
    assert SECRET not in json.dumps(line)
    assert place.count() == before + 1


FORGED = [
    "/api/events%0d%0a%7b%22event%22%3a%22forged%22%7d",
    "/api/events?topic=%0aforged",
    "/api/events/topics/%1b%5b2J%0d%0aforged",
]


@pytest.mark.parametrize("path", FORGED)
def test_no_path_or_topic_forges_a_line(place: FailingPlace, path: str) -> None:
    before = place.count()
    httpx2.get(f"{place.url}{path}", headers={"x-request-id": "forger", "authorization": f"Bearer {SECRET}"})
    assert place.count() - before <= 1
    for line in place.lines("forger") if place.count() > before else []:
        assert line["event"] == "a sign-in was refused"
