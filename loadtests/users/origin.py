"""An Origin is the gateway as a client reaches it: one connection per stream, one kept for short requests.

The standard library's HTTP client on sockets that gevent has patched: TLS, chunked bodies and proxies are its work,
and a read returns what has come instead of waiting for more.
"""

import contextlib
import json
import secrets
import socket
import ssl
import struct
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

CONNECT_S = 10.0
"""Seconds for the connection, its TLS handshake, and the head of a short answer."""
READ_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing then sends RST, as a phone that leaves its network does."""


class Unreachable(Exception):
    """There was no connection, or it broke before the head of an answer came."""


class Unanswered(Unreachable):
    """A connection was made and nothing came back in time."""


class CutOff(Exception):
    """The body of an answer broke off: no end of it came."""


class Reply(NamedTuple):
    """Holds a short answer, whole."""

    status: int
    body: bytes
    retry_after_s: float = 0.0

    def json(self) -> Any:
        """Returns the body. Raises ValueError when it is no JSON."""
        return json.loads(self.body)


class Stream:
    """Holds one streamed answer. `read` raises CutOff, and TimeoutError after `silence_s` without a byte."""

    def __init__(self, sock: socket.socket, response: HTTPResponse) -> None:
        self._sock = sock
        self._response = response
        self.status = response.status

    @property
    def streams(self) -> bool:
        """Returns whether it is an event stream; else `reply` has all of it."""
        return self.status == 200 and self._response.headers.get_content_type() == "text/event-stream"

    def wait(self, silence_s: float) -> None:
        """Sets the time without a byte that is too long from now on."""
        self._sock.settimeout(silence_s)

    def read(self) -> bytes:
        """Returns what has come, at least a byte; empty at the regular end."""
        try:
            return self._response.read1(READ_BYTES)
        except TimeoutError:
            raise
        except (OSError, HTTPException, ValueError) as err:
            raise CutOff(f"{type(err).__name__}: {err}") from err

    def reply(self) -> Reply:
        """Returns all of an answer that is no stream."""
        try:
            return _reply(self._response)
        except (OSError, HTTPException) as err:
            raise CutOff(f"{type(err).__name__}: {err}") from err

    def cut(self) -> None:
        """Drops the connection as a network does, half of the time with a reset."""
        if secrets.randbelow(2):
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        self._response.close()
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Origin:
    """Says where the gateway is, and as whom it is asked. Nothing is reached at what is no URL of http or https."""

    def __init__(self, url: str, token: str = "", insecure: bool = False) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host = parts.hostname if parts.scheme in ("http", "https") else None
        self._port, self._prefix = parts.port, parts.path.rstrip("/")
        self._tls = _tls(insecure) if parts.scheme == "https" else None
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._connection: HTTPConnection | None = None

    def open(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, head_s: float = 60
    ) -> Stream:
        """Opens a streamed answer on its own connection. Raises Unreachable, and Unanswered after `head_s` without a
        head.
        """
        connection = self._connect()
        sock = connection.sock
        sock.settimeout(head_s)
        try:
            return Stream(sock, self._send(connection, method, path, body, headers))
        except BaseException:
            sock.close()
            connection.close()
            raise

    def follow(self, path: str, cursor: str, head_s: float = 60) -> Stream:
        """Opens a stream from after `cursor` on, sent in one of the two ways that clients have: header, or query."""
        if not cursor:
            return self.open("GET", path, head_s=head_s)
        if secrets.randbelow(2):
            return self.open("GET", path, headers={"last-event-id": cursor}, head_s=head_s)
        return self.open("GET", f"{path}{'&' if '?' in path else '?'}lastEventId={cursor}", head_s=head_s)

    def ask(self, method: str, path: str, body: object = None) -> Reply:
        """Returns a short answer over a kept connection, asked again once when that was stale. Raises Unreachable."""
        for connection_kept in (self._connection, None):
            self._connection = None
            connection = connection_kept or self._connect()
            try:
                reply = _reply(self._send(connection, method, path, body, None))
            except (Unreachable, OSError, HTTPException) as err:
                connection.close()
                if connection_kept is None:
                    raise Unreachable(f"{method} {path}: {type(err).__name__}: {err}") from err
            else:
                self.close()  # one that another greenlet has left here meanwhile
                self._connection = connection
                return reply
        raise AssertionError

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> HTTPConnection:
        if not self._host:
            raise Unreachable(f"--host {self._url!r} is no URL of a gateway: say https://gateway.example")
        if self._tls is None:
            connection = HTTPConnection(self._host, self._port, timeout=CONNECT_S)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=CONNECT_S, context=self._tls)
        try:
            connection.connect()
        except OSError as err:
            connection.close()
            raise Unreachable(f"{self._host}:{connection.port}: {err}") from err
        return connection

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: object, headers: Mapping[str, str] | None
    ) -> HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        own_headers = self._headers | ({"content-type": "application/json"} if content else {}) | dict(headers or {})
        try:
            connection.request(method, self._prefix + path, content, own_headers)
            return connection.getresponse()
        except TimeoutError as err:
            raise Unanswered(f"{method} {path}: no answer within {connection.sock.gettimeout():g} s") from err
        except (OSError, HTTPException) as err:
            raise Unreachable(f"{method} {path}: {type(err).__name__}: {err}") from err


def _reply(response: HTTPResponse) -> Reply:
    wait = response.getheader("retry-after", "0")
    return Reply(response.status, response.read(), float(wait) if wait.isdecimal() else 1.0)


@lru_cache
def _tls(insecure: bool) -> ssl.SSLContext:
    """Returns one context for all connections: to load the system's certificates takes 10 ms."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
