"""The processes behind a front door, and a listener that does what a browser's EventSource does."""

import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from loadtests.ports import closed_port
from tests.conftest import Gateway, UpstreamThread, serving
from tests.deploy.doors import Door


class Fleet:
    """A process of each unit on one log, where a proxy expects two: it often asks first the one that is away.

    Of events another can take the place of the one that runs.
    """

    def __init__(self, folder: Path, upstream: UpstreamThread) -> None:
        quick = {"TRILANE_DRAIN_WINDOW_S": "0.3", "TRILANE_DRAIN_DELAY_S": "0"}
        self.chat = serving(folder, upstream.url, TRILANE_PING_S="0.5", **quick)
        self.events, self._next = (Gateway(folder, quick, unit="events") for _ in range(2))
        self.audio = Gateway(folder, quick, unit="audio")
        self._away = [closed_port() for _ in range(2)]
        self._events_1, self._events_2 = self.events, self._next

    @property
    def addresses(self) -> dict[str, str]:
        chat_2, audio_2 = (held.getsockname()[1] for held in self._away)
        ports = {
            "chat-1:8001": self.chat.port,
            "chat-2:8001": chat_2,
            "events-1:8002": self._events_1.port,
            "events-2:8002": self._events_2.port,
            "audio-1:8003": self.audio.port,
            "audio-2:8003": audio_2,
        }
        return {address: f"127.0.0.1:{port}" for address, port in ports.items()}

    def start(self) -> None:
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, [self.audio, self.chat, self.events]))

    def stop(self) -> None:
        for gateway in (self.audio, self.chat, self.events, self._next):
            gateway.stop()
        for held in self._away:
            held.close()

    def listeners(self) -> float:
        """Returns how many event streams the events unit has open."""
        return self.events.gauge("trilane_gateway_open_streams")

    def replace_events(self, *, at_once: bool) -> None:
        """Ends the process of events as a deploy does; another is there `at_once`, or only when it is gone."""
        if at_once:
            self._next.start()
        self.events.signal(signal.SIGTERM)
        assert self.events.wait(20) == 0
        if not at_once:
            self._next.start()
        self.events, self._next = self._next, self.events


class Listener:
    """Follows a topic through a door in a thread, and comes back with its cursor whenever the stream ends.

    As an EventSource does: at any other status than 200 it gives up for ever. A connection that fails is tried again.
    """

    def __init__(self, door: Door, topic: str) -> None:
        self.statuses: list[int] = []
        self.numbers: list[int] = []
        """The numbers `n` of the events, in the order in which they came."""
        self.hellos = 0
        self._door, self._topic = door, topic
        self._cursor, self._retry_s = "", 0.1
        self._is_over = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Comes back no more."""
        self._is_over.set()

    def close(self) -> None:
        self.stop()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(20)

    @property
    def has_given_up(self) -> bool:
        return any(status != 200 for status in self.statuses)

    def _run(self) -> None:
        with self._door.client() as client:
            while not self._is_over.is_set() and not self.has_given_up:
                with suppress(httpx2.TransportError):
                    self._follow(client)
                self._is_over.wait(min(self._retry_s, 0.2))  # a browser would wait for as long as it is told

    def _follow(self, client: httpx2.Client) -> None:
        headers = {"accept": "text/event-stream"}
        if self._cursor:
            headers["last-event-id"] = self._cursor
        with client.stream("GET", f"/api/events?topic={self._topic}&from=earliest", headers=headers) as response:
            self._socket = response.extensions["network_stream"].get_extra_info("socket")
            self.statuses.append(response.status_code)
            for line in response.iter_lines():
                self._take(line)
                if self._is_over.is_set():
                    return

    def _take(self, line: str) -> None:
        name, _, value = line.partition(": ")
        if name == "id":
            self._cursor = value
        elif name == "data" and '"n"' in value:
            self.numbers.append(msgspec.json.decode(value)["n"])
        elif line == "event: hello":
            self.hellos += 1


class ReadAndDrop(socketserver.BaseRequestHandler):
    """Says that it is ready, and reads any other request and closes the connection without an answer."""

    def handle(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            data = self.request.recv(65_536)
            if not data:
                return
            request += data
        if request.startswith((b"GET /readyz", b"GET /docs")):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            return
        server: Any = self.server
        server.requests.append(tuple(request.decode("latin-1").split(" ", 2)[:2]))


@contextmanager
def dropping_server() -> Iterator[Any]:
    """Yields a server that drops every request that it has read; `requests` are their methods and paths."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), ReadAndDrop) as server:
        server.daemon_threads = True
        server.requests = []  # pyright: ignore - the test reads it back
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
