"""A ConnectProxy is a company's HTTP proxy: tunnels (CONNECT), requests in absolute form, with a login or not."""

import asyncio
import contextlib
import re
import ssl
from typing import Self

HOST = re.compile(rb"\w+ http://([^/]+)(/\S*)")


class ConnectProxy:
    """Passes on what it is asked to (`async with ConnectProxy() as proxy`)."""

    def __init__(
        self, *, login: bytes = b"", answer: bytes = b"", is_silent: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        """Wants a `Proxy-Authorization` of `login`, if any; gives `answer` to everything, if any, or nothing."""
        self.heads: list[bytes] = []
        """The head of every request that it was asked to pass on."""
        self.open = 0
        self.port = 0
        self._login, self._answer, self._is_silent, self._tls = login, answer, is_silent, tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a connection that has just been accepted gets its task in this turn
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            await self._pass_on(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self._is_silent:
            await reader.read(1)
            return
        is_allowed = not self._login or b"proxy-authorization: " + self._login in head.split(b"\r\n")
        if self._answer or not is_allowed:
            writer.write(self._answer or b"HTTP/1.1 407 Who are you\r\ncontent-length: 2\r\n\r\nno")
            await writer.drain()
            await reader.read(1)
            return
        is_tunnel = head.startswith(b"CONNECT ")
        match = HOST.match(head)
        host, _, port = (head.split()[1] if is_tunnel else match[1] if match else b"").decode().rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            writer.write(b"HTTP/1.1 502 Not there\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return
        if is_tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")
        else:
            far_writer.write(head)
        try:
            await _until_one_ends(_copied(reader, far_writer), _copied(far_reader, writer))
        finally:
            far_writer.transport.abort()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


async def _until_one_ends(*copying: "asyncio.Future[None] | object") -> None:
    tasks = [asyncio.ensure_future(one) for one in copying]  # type: ignore[arg-type]  # coroutines, all of them
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
