"""A Bystander asks the gateway for its health all the while that somebody else attacks it."""

import socket
import statistics
import threading
import time
from typing import Self

from tests.conftest import Gateway

P99_S = 0.05
"""The longest that 99 of a hundred answers to a bystander may take."""
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PAUSE_S = 0.002
MIN_ANSWERS = 100


def latencies(gateway: Gateway, for_s: float) -> list[float]:
    """Returns the seconds that each answer took, asked again and again on one connection."""
    latencies_s: list[float] = []
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            latencies_s.append(_ask(client))
            time.sleep(PAUSE_S)
    return latencies_s


def _ask(client: socket.socket) -> float:
    began = time.monotonic()
    client.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"}"):
        answer += client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200")
    return time.monotonic() - began


def check_latencies(latencies_s: list[float], late_s: float = 0.0) -> None:
    """Fails when 1 % of the answers took longer than P99_S, and what this machine is late by itself (`late_s`)."""
    p99_s, max_s = p99(latencies_s), max(latencies_s)
    print(f"/healthz: p99 {1000 * p99_s:.1f} ms, at worst {1000 * max_s:.1f} ms; late {1000 * late_s:.1f} ms")
    assert p99_s < P99_S + late_s, f"{max_s:.3f} s at worst"


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


class Bystander:
    """Asks from the address 127.0.0.1, in a thread of its own (`with Bystander(gateway)`), until the attack is over.

    At the end it fails unless it was served in time; a short attack is looked at for MIN_ANSWERS at least.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self._latencies_s: list[float] = []
        self._late_s: list[float] = []
        """By how much each pause was too long, on a machine that does other things too."""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self._over.set()
        self._thread.join(30)
        if kind is None:
            assert self._error is None, f"a bystander was not served: {self._error}"
            check_latencies(self._latencies_s, max(self._late_s))

    def _run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._gateway.port), timeout=10) as client:
                while not self._over.is_set() or len(self._latencies_s) < MIN_ANSWERS:
                    self._latencies_s.append(_ask(client))
                    began = time.monotonic()
                    time.sleep(PAUSE_S)
                    self._late_s.append(time.monotonic() - began - PAUSE_S)
        except (OSError, AssertionError) as err:
            self._error = err
