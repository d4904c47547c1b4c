"""Slow-loris on headers, bodies and frames, and a flood of connections: those who only wait hold nobody up.

All of them are opened first and go on while others are served; then each kind must have been ended.
"""

import contextlib
import select
import time

import pytest

from tests.attacks.attacker import HANDSHAKE, Attacker, head
from tests.conftest import Gateway
from tests.support.raw_sockets import TEXT, frame

pytestmark = [pytest.mark.quiet, pytest.mark.timeout(90)]

EACH = 100
TRICKLE_S = 0.5
KINDS: dict[str, tuple[bytes, bytes]] = {
    "headers": (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n", b"a: b\r\n"),
    "a body": (head("POST /api/chat", "content-length: 100000"), b" "),
    "a body in chunks": (head("POST /v1/chat/completions", "transfer-encoding: chunked"), b"1\r\n \r\n"),
    "a file": (
        head(
            "POST /api/audio/transcriptions", "content-type: multipart/form-data; boundary=b", "content-length: 99999"
        ),
        b"-",
    ),
    "a frame": (head("GET /api/audio", *HANDSHAKE), b"\0"),
    "a frame of a chat": (head("GET /api/chat/slow/live", *HANDSHAKE), b"\0"),
    "nothing at all": (b"", b""),
}
"""What each client sends first, and then again and again."""
FIRST_FRAME = b"\x82\xfe\xff\xff\0\0\0\0"
WITHIN_S = 35.0
"""Longest time that one of them stays: a ping of 1 s that a half-sent frame leaves unanswered for uvicorn's 20 s."""


class SlowClients:
    """Holds EACH connections of every kind, from one address, and trickles."""

    def __init__(self, attacker: Attacker) -> None:
        self.open = {kind: [attacker.connect() for _ in range(EACH)] for kind in KINDS}
        self.pieces = {kind: piece for kind, (_, piece) in KINDS.items()}
        self.answers = dict.fromkeys(KINDS, b"")
        for kind, (first, _) in KINDS.items():
            for client in self.open[kind]:
                client.sendall(first)
        for client in [*self.open["a frame"], *self.open["a frame of a chat"]]:
            assert client.recv(4096).startswith(b"HTTP/1.1 101")
            client.sendall(frame(TEXT, b'{"type":"start"}') + FIRST_FRAME)

    def trickle(self) -> None:
        """Sends a little on each, and lets go of those that the gateway has closed."""
        for kind, clients in self.open.items():
            for client in list(clients):
                with contextlib.suppress(ConnectionError):
                    client.sendall(self.pieces[kind])
                    if not select.select([client], [], [], 0)[0]:
                        continue
                    if piece := client.recv(65_536):
                        self.answers[kind] = self.answers[kind] or piece
                        continue
                clients.remove(client)
                client.close()


def test_slow_loris_on_headers_bodies_and_frames_and_a_flood_of_connections(
    attacker: Attacker, gateway: Gateway
) -> None:
    began = time.monotonic()
    slow = SlowClients(attacker)
    lasted: dict[str, float] = {}
    while any(slow.open.values()) and time.monotonic() - began < WITHIN_S:
        slow.trickle()
        for kind, clients in slow.open.items():
            if not clients:
                lasted.setdefault(kind, time.monotonic() - began)
        time.sleep(TRICKLE_S)
    assert not {kind: len(clients) for kind, clients in slow.open.items() if clients}
    print({kind: round(seconds, 1) for kind, seconds in lasted.items()})
    for kind in ("headers", "a body", "a body in chunks"):
        assert slow.answers[kind].startswith(b"HTTP/1.1 408 "), (kind, slow.answers[kind])
