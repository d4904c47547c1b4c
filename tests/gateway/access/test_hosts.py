"""Without sign-in a gateway answers to names of this machine and to those that are listed, on every route."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.access.hosts import check_host, names_of
from gateway.errors import Forbidden
from gateway.settings import Settings
from tests.conftest import Gateway

OPEN = Settings()
LISTED = Settings(allowed_hosts=["Gw.example", "box:8000"])
CLOSED = Settings(jwt_secret=["x" * 32])
OWN = [
    *("localhost", "localhost:8000", "LOCALHOST:1", "localhost.", "app.localhost:5173", "127.0.0.1", "127.0.0.1:80"),
    *("127.8.9.10:8000", "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]:8000", ""),
]
FOREIGN = [
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io:8000", "evil-localhost", "x"),
    *("10.0.0.1:8000", "0.0.0.0:8000", "[::]:8000", "[fe80::1]", "localhost@evil.example", "evil.example@localhost"),
    *(
        "[::1].evil.example",
        "[::1]x:80",
        "[::1",
        "localhost:8000.evil.example",
        "local\xe9host",
        "gw.example.",
        "localhost/x",
        "localhost:x",
    ),
]


def check(settings: Settings, *hosts: str) -> None:
    names = names_of(settings)
    if names is not None:
        check_host(names, [(b"host", host.encode("latin-1")) for host in hosts])


@pytest.mark.parametrize("host", OWN)
def test_a_name_of_this_machine_is_answered(host: str) -> None:
    check(OPEN, host)
    check(LISTED, host)


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_may_be_rebound_is_refused(host: str) -> None:
    for settings in (OPEN, LISTED):
        with pytest.raises(Forbidden, match="TRILANE_ALLOWED_HOSTS") as refusal:
            check(settings, host)
        assert refusal.value.code == "bad_host"


@pytest.mark.parametrize("host", ["gw.example", "GW.EXAMPLE:443", "box:8000"])
def test_a_listed_name_is_answered(host: str) -> None:
    check(LISTED, host)
    with pytest.raises(Forbidden):
        check(OPEN, host)


def test_a_name_that_is_listed_with_a_port_is_answered_there_alone() -> None:
    with pytest.raises(Forbidden):
        check(LISTED, "box:8001")


def test_every_one_of_several_names_must_be_good() -> None:
    with pytest.raises(Forbidden):
        check(OPEN, "localhost", "evil.example")


def test_with_sign_in_any_name_is_answered_unless_some_are_listed() -> None:
    check(CLOSED, "gw.example")
    check(Settings(allowed_hosts=["*"]), "anything")
    with pytest.raises(Forbidden):
        check(Settings(jwt_secret=["x" * 32], allowed_hosts=["gw.example"]), "other.example")


def test_a_program_that_names_no_host_is_answered() -> None:
    check(OPEN)


# On every route


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = Gateway(tmp_path_factory.mktemp("hosts"), {}, unit="all")
    try:
        yield server.start()
    finally:
        server.stop()


UPGRADE = (
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)
ROUTES = [
    *("GET /", "GET /docs", "GET /openapi.json", "GET /metrics", "GET /api/chats", "HEAD /api/chats"),
    *("GET /api/events?topic=a", "GET /api/chat/c1/stream", "GET /api/chat/c1", "DELETE /api/chat/c1"),
    *("POST /api/events", "POST /api/chat", "GET /v1/models", "GET /healthz"),
]


def answer_to(place: Gateway, request: str, *lines: str) -> bytes:
    head = "\r\n".join([f"{request} HTTP/1.1", *lines, "", ""])
    with closing(socket.create_connection(("127.0.0.1", place.port), timeout=10)) as connection:
        connection.sendall(head.encode())
        answer = b""
        while data := connection.recv(65_536):
            answer += data
            if b"event-stream" in answer:
                break
    return answer


@pytest.mark.parametrize("request_line", ROUTES)
def test_no_route_answers_a_page_whose_name_was_rebound(place: Gateway, request_line: str) -> None:
    refusal = answer_to(place, request_line, "host: evil.example:8000", "content-length: 0", "connection: close")
    assert refusal.startswith(b"HTTP/1.1 403 ")
    assert b'"code":"bad_host"' in refusal or request_line.startswith("HEAD")
    answer = answer_to(place, request_line, "host: localhost", "content-length: 0", "connection: close")
    assert not answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("path", ["/api/audio", "/v1/realtime?intent=transcription"])
def test_no_socket_is_opened_for_a_page_whose_name_was_rebound(place: Gateway, path: str) -> None:
    refusal = answer_to(place, f"GET {path}", "host: evil.example", *UPGRADE)
    assert refusal.startswith(b"HTTP/1.1 403 ")
    assert b'"code":"bad_host"' in refusal
