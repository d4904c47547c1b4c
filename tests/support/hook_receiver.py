"""A real receiver of webhooks, which checks signatures as its library would and answers what a test says."""

import base64
import hmac
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

KEY = b"\x01" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
CUT = 0
"""In place of a status: the connection ends without an answer."""


class HookReceiver:
    """The receiver of one test."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ids: list[str] = []
        self.faults: list[str] = []
        self.answers: list[int | Callable[[], int]] = []
        """The next statuses, or calls that return one; 200 when there is none."""
        self.peer_port = 0
        """The port of who has sent the newest message."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.check(dict(self.headers.items()), body)
                receiver.peer_port = self.client_address[1]
                answer = receiver.answers.pop(0) if receiver.answers else 200
                status = answer if isinstance(answer, int) else answer()
                if status == CUT:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def check(self, headers: dict[str, str], body: bytes) -> None:
        message_id, at, signature = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        expected = base64.b64encode(hmac.digest(KEY, f"{message_id}.{at}.".encode() + body, "sha256")).decode()
        if signature != f"v1,{expected}" or abs(time.time() - int(at)) > 300:
            self.faults.append(signature)
        self.bodies.append(body)
        self.ids.append(message_id)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(body) for body in list(self.bodies)]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
