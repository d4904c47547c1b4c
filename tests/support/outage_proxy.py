"""An OutageProxy stands before a server, and cuts connections when a test says so, or after so many bytes."""

import asyncio
import contextlib
import socket
from typing import Self


class OutageProxy:
    """Passes bytes on (`async with OutageProxy(port) as proxy`); what the server sends may be cut anywhere."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.port = 0
        self.is_blocked = False
        """Whether new connections are refused at once."""
        self.bytes_left: int | None = None
        """Bytes of the server's that still pass before every connection is cut; None: any number."""
        self.cuts = 0
        self._writers = set[asyncio.StreamWriter]()
        self._tasks = set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=self._listen())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cuts every connection now."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_blocked:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError, asyncio.CancelledError):  # streams log a task of theirs that was cancelled
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            except OSError:
                writer.transport.abort()
                return
            self._writers |= {writer, server_writer}
            try:
                await asyncio.gather(
                    self._pass_on(reader, server_writer, False), self._pass_on(server_reader, writer, True)
                )
            finally:
                for one in (writer, server_writer):
                    one.transport.abort()
                self._writers -= {writer, server_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if is_answer and self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left <= 0:
                        self.bytes_left = None
                        self.cut()
                        return
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
