"""A balancer that sends each request to the next of several servers, whatever connection it comes over."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import cast

TIMEOUT_S = 60.0


class Balancer(ThreadingHTTPServer):
    """Passes requests on, in turn; over one that cannot be reached it passes to the next."""

    daemon_threads = True

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ports = ports
        self.turns = count()
        self.passed: Counter[tuple[str, int]] = Counter()
        """How many requests each server has answered, by the last piece of their path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        balancer = cast("Balancer", self.server)
        first, ports = next(balancer.turns), balancer.ports
        for port in [ports[(first + n) % len(ports)] for n in range(len(ports))]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except ConnectionRefusedError:
                continue  # it is not there
            except (OSError, http.client.HTTPException):
                break  # nobody knows what it has done: the client decides whether to ask again
            finally:
                connection.close()
            balancer.passed[self.path.partition("?")[0].rpartition("/")[2], port] += 1
            self.send_response(answer.status)
            self.send_header("content-type", answer.headers.get("content-type", ""))
            if answer.status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.close_connection = True

    do_GET = do_POST = _pass

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@contextmanager
def balancing(*ports: int) -> Iterator[Balancer]:
    """Yields a balancer over the servers at these ports."""
    with Balancer(ports) as balancer:
        threading.Thread(target=balancer.serve_forever, daemon=True).start()
        try:
            yield balancer
        finally:
            balancer.shutdown()
