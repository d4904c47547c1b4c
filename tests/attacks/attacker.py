"""An Attacker sends what no client of ours would, from an address of its own."""

import contextlib
import re
import socket
from typing import Any, NamedTuple, Self

import httpx2

from tests.conftest import Gateway

ALICE = "alice-7f3c9b1e5d2a4f6087c1aa"
BOB = "bob-5a1d0c8e9f2b4736a6e0bb"
JWT_SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
HANDSHAKE = (
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
QUIET_S = 0.2
"""Silence after which nothing more is expected on a connection that stays open."""


class Exchange(NamedTuple):
    """All that came for what was sent on one connection."""

    statuses: list[int]
    answer: bytes
    was_closed: bool
    """Whether the gateway closed it, or else waits for more."""


def head(line: str, *lines: str, key: str = ALICE, host: str = "127.0.0.1") -> bytes:
    """Returns the head of a request, signed in unless `key` is empty."""
    sign_in = [f"authorization: Bearer {key}"] if key else []
    return "\r\n".join([f"{line} HTTP/1.1", f"host: {host}", *sign_in, *lines, "", ""]).encode("latin-1")


class Attacker:
    """Opens connections from `address`, and closes them all in the end."""

    def __init__(self, gateway: Gateway, address: str) -> None:
        self.gateway = gateway
        self.address = address
        self._open = contextlib.ExitStack()
        transport = httpx2.HTTPTransport(local_address=address, verify=False)
        self.http = httpx2.Client(base_url=gateway.url, transport=transport, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()
        self.http.close()

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.gateway.port), 10, source_address=(self.address, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._open.enter_context(made)

    def exchange(self, *pieces: bytes, quiet_s: float = QUIET_S) -> Exchange:
        """Sends pieces on a connection of their own, and reads until it is closed, or quiet after an answer."""
        with self.connect() as client:
            was_closed, answer = False, b""
            with contextlib.suppress(ConnectionError):  # what the gateway refuses it need not read
                for piece in pieces:
                    client.sendall(piece)
            try:
                while not was_closed:
                    client.settimeout(quiet_s if answer else 10)
                    piece = client.recv(65_536)
                    answer, was_closed = answer + piece, not piece
            except TimeoutError:
                pass
            except ConnectionError:
                was_closed = True
        return Exchange([int(status) for status in STATUS.findall(answer)], answer, was_closed)

    def ask(self, method: str, path: str, key: str = ALICE, **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.http.request(method, path, headers=headers | more.pop("headers", {}), **more)
