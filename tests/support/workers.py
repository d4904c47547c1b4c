"""Tests of several workers learn from the system which process has which connection, and talk to the one they want."""

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psutil

from tests.conftest import Gateway, eventually

TRIES = 300
"""Connections that are opened at most until the wanted worker has taken one: they come to whoever is free."""


def workers_of(gateway: Gateway) -> set[int]:
    """Returns the pids of the processes under the supervisor."""
    return {child.pid for child in psutil.Process(gateway.pid).children()}


def await_workers(gateway: Gateway, count: int, gone: set[int] = frozenset()) -> set[int]:  # pyright: ignore - nothing is gone
    """Returns the pids once `count` workers are ready, none of them in `gone`."""
    eventually(
        lambda: (
            len(workers_of(gateway)) == count
            and not workers_of(gateway) & gone
            and gateway.gauge("trilane_gateway_workers") == count
        ),
        30,
        f"{count} workers serve; {gateway.stderr()}",
        every_s=0.1,
    )
    return workers_of(gateway)


def owner(gateway: Gateway, connection: http.client.HTTPConnection) -> int:
    """Returns the pid of the worker that has the other end of an open connection."""
    port = connection.sock.getsockname()[1]
    for pid in workers_of(gateway):
        for link in psutil.Process(pid).net_connections("tcp4"):
            if link.laddr.port == gateway.port and link.raddr and link.raddr.port == port:
                return pid
    raise AssertionError("no worker has that connection")


@contextmanager
def connection_to(gateway: Gateway, pid: int) -> Iterator[http.client.HTTPConnection]:
    """Yields a connection that the worker `pid` has taken."""
    for _ in range(TRIES):
        with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)) as connection:
            assert ask(connection, "GET", "/healthz")[0] == 200
            if owner(gateway, connection) == pid:
                yield connection
                return
    raise AssertionError(f"worker {pid} took none of {TRIES} connections")


@contextmanager
def connection_to_each(gateway: Gateway) -> Iterator[list[http.client.HTTPConnection]]:
    """Yields a connection to each worker, in the order of their pids."""
    with ExitStack() as stack:
        yield [stack.enter_context(connection_to(gateway, pid)) for pid in sorted(workers_of(gateway))]


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Sends one request, and returns the status and the text of its answer."""
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
