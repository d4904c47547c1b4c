"""Requests of many clients in one event loop: HTTP/1.1 by hand, over TLS through a door or straight to a process."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

LOST = (OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError)
"""What a connection that is lost raises."""
CONNECT_S = 20.0


class Road(NamedTuple):
    """The way to a gateway: to one process by itself, or through a door under its public name."""

    port: int
    host: str = "localhost"
    context: ssl.SSLContext | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls: dict[str, Any] = {"ssl": self.context, "server_hostname": self.host} if self.context else {}
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection("127.0.0.1", self.port, **tls)


class Answer:
    """An answer whose head has come; raises one of LOST when the connection ends before it does."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes) -> None:
        self._reader = reader
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the body as it comes."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
        elif "content-length" in self.headers:
            yield await self._reader.readexactly(int(self.headers["content-length"]))
        elif self.status not in (204, 304):
            while piece := await self._reader.read(65_536):
                yield piece

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])


@asynccontextmanager
async def asked(road: Road, method: str, path: str, body: Any = None, **headers: str) -> AsyncIterator[Answer]:
    """Yields the answer to a request on a connection of its own; a `body` goes as JSON. Raises one of LOST."""
    reader, writer = await road.connect()
    try:
        content = json.dumps(body).encode() if body is not None else b""
        host = f"{road.host}:{road.port}" if road.context else road.host
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
        if content:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        yield Answer(reader, await reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.transport.abort()
