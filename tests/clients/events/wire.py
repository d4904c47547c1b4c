"""A Wire is a TCP proxy in front of one client: it records requests and answers, and cuts where a scene says.

Knows of HTTP only that a request without a body ends with a blank line, and how an answer begins.
"""

import contextlib
import re
import socket
import struct
import threading
from typing import NamedTuple

RESET = struct.pack("ii", 1, 0)
PING = b": ping\n"
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
LAST_EVENT_ID = re.compile(rb"\r\nlast-event-id: *([^\r]*)", re.IGNORECASE)
ROUTE = b"GET /api/events"


class StreamRequest(NamedTuple):
    """One request for an event stream."""

    last_event_id: str
    """The id that the request sent; empty when it had none."""


class Wire:
    """Forwards to `port` of this machine, and notifies `news` of all that passes."""

    def __init__(self, port: int, news: threading.Condition) -> None:
        self.requests: list[StreamRequest] = []
        self.statuses: list[int] = []
        """Statuses of all answers, the page that a browser stands on included."""
        self.pings = 0
        self.cut_in = b""
        """The connection that first carries these bytes ends with the last of them, by a FIN: once."""
        self.refusing = False
        self._news = news
        self._port = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def refuse(self) -> None:
        """Resets open and new connections, as a phone does that has left its network."""
        self.refusing = True
        for one in list(self._open):
            _reset(one)

    def close(self) -> None:
        self.refuse()
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that accepts
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refusing:
                    _reset(client)
                    client.close()
                    continue
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            self._open |= {client, server}
            forth = threading.Thread(target=self._forth, args=(client, server), daemon=True)
            forth.start()
            self._back(server, client)
            forth.join()
            self._open -= {client, server}

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                *heads, rest = (rest + data).split(b"\r\n\r\n")
                self._note_requests(heads)
                server.sendall(data)
        _end(client, server)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        before = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                count = self._count_to_pass(before, data)
                self._note_answer(data)
                client.sendall(data[:count])
                if count < len(data):
                    break
                before = data[-64:]
        _end(client, server)

    def _count_to_pass(self, before: bytes, data: bytes) -> int:
        """Returns how many of these bytes may pass."""
        at = (before + data).find(self.cut_in) if self.cut_in else -1
        if at < 0:
            return len(data)
        count, self.cut_in = at + len(self.cut_in) - len(before), b""
        return count

    def _note_requests(self, heads: list[bytes]) -> None:
        with self._news:
            for head in heads:
                if head.startswith(ROUTE):
                    match = LAST_EVENT_ID.search(head)
                    self.requests.append(StreamRequest(match[1].decode("ascii") if match else ""))
            self._news.notify_all()

    def _note_answer(self, data: bytes) -> None:
        with self._news:
            if match := ANSWER.match(data):
                self.statuses.append(int(match[1]))
            self.pings += data.count(PING)
            self._news.notify_all()


def _end(client: socket.socket, server: socket.socket) -> None:
    for one in (client, server):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _reset(one: socket.socket) -> None:
    """Ends a connection at once; whoever reads it closes it."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.shutdown(socket.SHUT_RDWR)
