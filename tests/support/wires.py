"""Wires connect the upstream transport without a socket: a test plays the network, byte by byte."""

import asyncio

from gateway.chat.upstreams.connection import UpstreamConnection
from gateway.chat.upstreams.pool import Pool
from gateway.chat.upstreams.way_out import Origin

HERE: Origin = ("http", "here", 80)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """Stands in for a socket: it remembers what is written, and whether it is read."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.aborted = False
        self._connection = connection

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)


def connect(pool: Pool | None = None, origin: Origin = HERE) -> tuple[UpstreamConnection, Wire]:
    """Returns an open connection, and its end of the network."""
    connection = UpstreamConnection(Pool() if pool is None else pool, origin)
    wire = Wire(connection)
    connection.connection_made(wire)
    return connection, wire


async def answered(connection: UpstreamConnection, answer: bytes) -> None:
    """Sends a request on it, and the beginning of its answer at least."""
    sending = asyncio.ensure_future(connection.send(b"POST / HTTP/1.1\r\n", b"{}"))
    await asyncio.sleep(0)
    connection.data_received(answer)
    await sending
