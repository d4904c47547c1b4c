"""The pool keeps an upstream's connections between requests, within bounds."""

import asyncio
import contextlib
from collections import deque

import httpx2

from gateway.chat.upstreams.connection import UpstreamConnection
from gateway.chat.upstreams.way_out import Origin, WayOut

MAX_IDLE_PER_ORIGIN = 256
KEEPALIVE_S = 30.0


class Pool:
    """Idle connections by origin, newest first out; at most MAX_IDLE_PER_ORIGIN, each for KEEPALIVE_S."""

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[UpstreamConnection]] = {}
        self._open: set[UpstreamConnection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, origin: Origin) -> UpstreamConnection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.idle_timer:
                connection.idle_timer.cancel()
            if not connection.closed and connection.transport and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, origin: Origin, way_out: WayOut) -> UpstreamConnection:
        """Returns a new connection. Raises httpx2.ConnectError."""
        connection = await way_out.connect(origin, lambda: UpstreamConnection(self, origin))
        if connection.closed:
            raise httpx2.ConnectError(f"{origin[1]}:{origin[2]} closed the connection at once")
        self._open.add(connection)
        return connection

    def keep(self, connection: UpstreamConnection) -> None:
        idle = self._idle.setdefault(connection.origin, deque())
        if len(idle) >= MAX_IDLE_PER_ORIGIN:
            connection.abort()
            return
        idle.append(connection)
        connection.idle_timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, connection.abort)

    def forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if connection.idle_timer:
            connection.idle_timer.cancel()
        with contextlib.suppress(ValueError):
            self._idle.get(connection.origin, deque()).remove(connection)

    def close(self) -> None:
        for connection in list(self._open):
            connection.abort()
