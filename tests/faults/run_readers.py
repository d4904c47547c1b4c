"""Clients that read one run: over a connection of their own, or in a thread while a test goes on."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil

from tests.conftest import Gateway, eventually
from tests.support.sse_client import Frames, iter_frames, send


def get(gateway: Gateway, path: str, cursor: str = "", receive_bytes: int = 0) -> http.client.HTTPResponse:
    """Returns a response whose body is still to be read, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    sock = connection.sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(30)
    sock.connect(("127.0.0.1", gateway.port))
    connection.request("GET", path, headers={"connection": "close"} | ({"last-event-id": cursor} if cursor else {}))
    return connection.getresponse()


def frames_of(response: http.client.HTTPResponse) -> Frames:
    frames = Frames()
    for _ in iter_frames((line.decode().rstrip("\n") for line in response), frames):
        pass
    return frames


class Peak:
    """Measures the most memory that a process takes while this is open, in bytes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.rss = 0

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.rss = max(self.rss, self._process.memory_info().rss)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def reading(gateway: Gateway, body: dict[str, Any]) -> Iterator[Frames]:
    """Starts a run with a client that reads it in a thread, as fast as it can, to its end."""
    frames = Frames()
    reader = threading.Thread(target=lambda: frames.__dict__.update(send(gateway.url, body)[1].__dict__))
    chat = f"{gateway.url}/api/chat/{body['id']}"
    reader.start()
    try:
        eventually(lambda: httpx2.get(chat).json().get("activeRun"), what="the run is there")
        yield frames
    finally:
        reader.join()
