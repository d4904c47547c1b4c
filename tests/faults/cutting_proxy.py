"""A CuttingProxy cuts TCP connections after as many bytes from the server as a test says.

Owns nothing of HTTP: it counts bytes. A cut is a FIN, so every byte before it arrives; or a reset, as a phone that
leaves its network gives one, which may take bytes along that were under way.
"""

import asyncio
import socket
import struct
from typing import NamedTuple, Self, cast


class Cut(NamedTuple):
    """Says where one connection ends."""

    after: int
    reset: bool = False


class CuttingProxy:
    """Forwards to `port` of this machine (`async with CuttingProxy(port) as proxy`)."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.cuts: dict[int, Cut] = {}
        """Cuts by the client's own port, set before the request is sent. Connections without one are left alone."""
        self.tasks: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), "127.0.0.1", 0, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def connect(self, cut: Cut | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects through the proxy, which will cut the connection there."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        if cut is not None:
            self.cuts[writer.get_extra_info("sockname")[1]] = cut
        return reader, writer


class _Client(asyncio.Protocol):
    """The client's side of one connection."""

    def __init__(self, proxy: CuttingProxy) -> None:
        self.proxy = proxy
        self.server: asyncio.Transport | None = None
        self._early = b""
        self._cut: Cut | None = None
        self._sent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(lambda: _Server(self), "127.0.0.1", self.proxy.target))
        self.proxy.tasks.add(task)
        task.add_done_callback(self.proxy.tasks.discard)

    def data_received(self, data: bytes) -> None:
        if self.server is None:
            self._early += data
        else:
            self.server.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.server is not None:
            self.server.abort()

    def attach(self, server: asyncio.Transport) -> None:
        self.server = server
        server.write(self._early)
        if self.transport.is_closing():
            server.abort()

    def answer(self, data: bytes) -> None:
        """Passes bytes of the server on, as far as they are allowed."""
        if self._cut is None:
            self._cut = self.proxy.cuts.pop(self.transport.get_extra_info("peername")[1], None)
        if self._cut is not None and self._sent_bytes + len(data) > self._cut.after:
            self.transport.write(data[: self._cut.after - self._sent_bytes])
            self._end(self._cut)
            return
        self._sent_bytes += len(data)
        self.transport.write(data)

    def _end(self, cut: Cut) -> None:
        assert self.server is not None
        self.server.abort()
        if cut.reset:
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()


class _Server(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.attach(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._client.answer(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.transport.close()
