"""An AudioSocket connects to `WS /api/audio` by websocket-client, as gevent wants: one greenlet reads, one writes."""

import json
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import websocket
from websocket import (
    ABNF,
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)

from loadtests.users.audio_session import Message
from loadtests.users.fault import Fault

PROTOCOL = "trilane.audio.v1"
CONNECT_S = 15.0
"""Seconds until the end of the handshake."""
SILENCE_S = 60.0
"""Seconds that a server may say nothing; it acknowledges even silence every few seconds."""
ABNORMAL = 1006
GONE = (WebSocketAddressException, WebSocketConnectionClosedException, WebSocketTimeoutException)
STATUSES = {
    401: Fault.UNAUTHORIZED,
    403: Fault.UNAUTHORIZED,
    429: Fault.REFUSED,
    502: Fault.UNREACHABLE,
    503: Fault.REFUSED,
    504: Fault.UNREACHABLE,
}


class NotConnected(Exception):
    """There is no connection, and `fault` says why."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class AudioSocket:
    """An open connection. `close_code` tells how it ended, ABNORMAL without a close frame."""

    def __init__(self, host: str, query: dict[str, str], token: str, *, insecure: bool) -> None:
        """Connects to a `host` as Locust has it, with http or https. Raises NotConnected."""
        parts = urlsplit(host)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        path = f"{parts.path.rstrip('/')}/api/audio"
        self._url = urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))
        self.close_code = ABNORMAL
        self._socket = self._connect(token, insecure)

    def _connect(self, token: str, insecure: bool) -> websocket.WebSocket:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        checks = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False} if insecure else {}
        try:
            connection = websocket.create_connection(
                self._url, CONNECT_S, header=headers, subprotocols=[PROTOCOL], sslopt=checks, suppress_origin=True
            )
        except WebSocketBadStatusException as err:
            raise _not_connected(err) from err
        except (OSError, *GONE) as err:
            raise NotConnected(
                Fault.UNREACHABLE, f"{self._url.partition('?')[0]}: {err or type(err).__name__}"
            ) from err
        except WebSocketException as err:
            raise NotConnected(Fault.ERROR, f"the handshake of /api/audio was not answered as one: {err}") from err
        connection.settimeout(SILENCE_S)
        return connection

    def messages(self) -> Iterator[Message]:
        """Yields messages until it is closed, by whichever side, or nothing came for SILENCE_S."""
        try:
            while True:
                opcode, data = self._socket.recv_data()
                if opcode == ABNF.OPCODE_CLOSE:
                    self.close_code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else ABNORMAL
                    return
                yield json.loads(data)
        except (
            OSError,
            WebSocketException,
            AttributeError,
        ):  # its `sock` is None once the other greenlet has closed it
            return

    def say(self, **message: Any) -> bool:
        """Sends a text message; False when the connection is gone, of which `messages` knows more."""
        return self._send(json.dumps(message).encode(), ABNF.OPCODE_TEXT)

    def hear(self, frame: bytes) -> bool:
        """Sends audio; False when the connection is gone."""
        return self._send(frame, ABNF.OPCODE_BINARY)

    def _send(self, data: bytes, opcode: int) -> bool:
        try:
            self._socket.send(data, opcode)
        except (OSError, WebSocketException):
            return False
        return True

    def cut(self) -> None:
        """Drops the connection as a phone does that leaves its network: a reset, and no close frame."""
        raw = self._socket.sock
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Closes without a word: all is said, or nobody is there."""
        self._socket.shutdown()


def _not_connected(err: WebSocketBadStatusException) -> NotConnected:
    """Returns what the status of a handshake means."""
    meaning = STATUSES.get(err.status_code, Fault.ERROR)
    return NotConnected(meaning, f"the handshake of /api/audio: {err.status_code} {_reason_in(err.resp_body or b'')}")


def _reason_in(body: bytes) -> str:
    """Returns the heart of a problem document, or the beginning of whatever else came."""
    try:
        problem = json.loads(body)
        return f"{problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return repr(body[:200])
