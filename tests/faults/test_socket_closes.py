"""A WebSocket client that keeps the rules is never cut off, and one that is closed can read why."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from audio.dialects.trilane import SUBPROTOCOL
from tests.conftest import Gateway
from tests.support.raw_sockets import BINARY, PING, TEXT, UPGRADE, close_in, dial, frame, read_to_end

START = frame(TEXT, b'{"type":"start"}')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = Gateway(tmp_path_factory.mktemp("closes"), {"TRILANE_PING_S": "0.2"}, unit="audio")
    try:
        yield server.start()
    finally:
        server.stop()


# Those who keep the rules


def test_a_client_that_sends_the_whole_allowance_at_once_is_heard(gateway: Gateway) -> None:
    """Audio in the smallest frames that count in full, as many messages as are taken, and pings between."""
    tenth = (
        frame(BINARY, b"\0\0" * 40) * 4 + frame(TEXT, b'{"type":"keepalive"}') + frame(PING, b"still there?")
    ) * 500
    with dial(gateway) as client:
        client.settimeout(60)  # the first session of a process loads the model
        client.sendall(START)
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(read_to_end, client)
            for _ in range(10):
                client.sendall(tenth)
            client.sendall(frame(TEXT, b'{"type":"stop"}'))
            output = reading.result(60)
    assert close_in(output) == (1000, "done")
    assert b"\x8a\x0cstill there?" in output


def test_a_client_that_pings_now_and_then_and_answers_pings_stays_connected(gateway: Gateway) -> None:
    url = f"ws://127.0.0.1:{gateway.port}/api/audio"
    with connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None) as client:
        client.send('{"type":"start"}')
        for _ in range(20):
            assert client.ping().wait(5)
            client.send(b"\0" * 640)
            time.sleep(0.05)
        client.send('{"type":"stop"}')
        assert [json.loads(text)["type"] for text in client][-1] == "done"


# Why it was closed


def test_a_client_that_sends_on_for_a_moment_can_read_why_it_was_closed(gateway: Gateway) -> None:
    """The frame is refused by its head, while the client sends the rest of it and does not look."""
    with dial(gateway) as client:
        client.sendall(START + b"\x82\xff" + (2_000_000).to_bytes(8) + b"\0\0\0\0")
        for _ in range(20):
            client.sendall(b"\0" * 100_000)
            time.sleep(0.01)
        assert close_in(read_to_end(client))[0] == 1009


def test_a_client_that_sends_audio_when_it_is_closed_can_read_why(gateway: Gateway) -> None:
    with dial(gateway) as client:
        client.sendall(START + frame(TEXT, b"nonsense"))
        for _ in range(40):
            client.sendall(frame(BINARY, b"\0" * 3200))
            time.sleep(0.01)
        assert close_in(read_to_end(client))[0] == 4500


# The handshake


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("Content-Length: 5\r\n", 400),
        ("X-Header: x\r\n" * 200, 431),
        ("X-Header: " + "x" * 9000 + "\r\n", 431),
        (("X-Header: " + "x" * 8000 + "\r\n") * 130, 431),
    ],
    ids=["a body", "many headers", "a long header", "a mebibyte"],
)
def test_a_handshake_that_cannot_be_used_is_answered_and_hung_up_on(gateway: Gateway, more: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as client:
        client.sendall(UPGRADE.format(path="/api/audio", more=more).encode())
        assert read_to_end(client).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_handshake_of_single_bytes_is_as_good_as_one(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in UPGRADE.format(path="/api/audio", more="").encode():
            client.send(bytes([byte]))
        assert client.recv(1000).startswith(b"HTTP/1.1 101")
