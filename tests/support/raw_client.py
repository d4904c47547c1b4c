"""A RawClient sends any bytes in any pieces, and reads the answers on one connection in order, strictly."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Self

READ_S = 5.0
CRLF = b"\r\n"


@dataclass
class Answer:
    """Holds one answer; of a stream that goes on, what has come so far."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = False
    """Whether the body came to its regular end: its length, its last chunk, or the close that ends it."""

    @property
    def chunked(self) -> bool:
        return self.headers.get("transfer-encoding") == "chunked"


def request(method: str, path: str, body: bytes = b"", *lines: str, version: str = "1.1") -> bytes:
    length = [f"content-length: {len(body)}"] if body or method == "POST" else []
    head = "\r\n".join([f"{method} {path} HTTP/{version}", "host: localhost", *length, *lines, "", ""])
    return head.encode() + body


class RawClient:
    """Holds one connection (`async with RawClient(port) as client`). Every read ends within READ_S."""

    def __init__(self, port: int, *, receive_bytes: int = 0) -> None:
        self._port = port
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=4096)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(READ_S):
            self._writer.write(data)
            await self._writer.drain()

    async def head(self) -> Answer:
        async with asyncio.timeout(READ_S):
            lines = (await self._reader.readuntil(CRLF + CRLF)).decode().split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return Answer(int(status), dict(line.lower().split(": ", 1) for line in lines[1:] if line))

    async def chunk(self, answer: Answer) -> bytes:
        """Returns the next chunk; b"" after the last one."""
        async with asyncio.timeout(READ_S):
            size = int(await self._reader.readuntil(CRLF), 16)
            data = await self._reader.readexactly(size + 2)
        assert data.endswith(CRLF)
        answer.body += data[:-2]
        answer.whole = not size
        return data[:-2]

    async def rest(self, answer: Answer) -> Answer:
        """Reads the body to its end, or to where it was cut."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if answer.chunked:
                while not answer.whole:
                    await self.chunk(answer)
            elif "content-length" in answer.headers:
                async with asyncio.timeout(READ_S):
                    answer.body += await self._reader.readexactly(int(answer.headers["content-length"]))
                answer.whole = True
            else:
                async with asyncio.timeout(READ_S):
                    answer.body += await self._reader.read(-1)
                answer.whole = True
        return answer

    async def answer(self) -> Answer:
        return await self.rest(await self.head())

    async def exactly(self, length: int) -> bytes:
        async with asyncio.timeout(READ_S):
            return await self._reader.readexactly(length)

    async def sees_close(self, within_s: float = READ_S) -> bool:
        """Waits until the server closes; False: it sent something more first."""
        async with asyncio.timeout(within_s):
            try:
                return await self._reader.read(1) == b""
            except ConnectionError:
                return True

    async def silent(self, for_s: float = 0.1) -> bool:
        """Returns whether the server neither sends nor closes for a while."""
        try:
            async with asyncio.timeout(for_s):
                await self._reader.readexactly(1)
        except TimeoutError:
            return True
        except asyncio.IncompleteReadError:
            pass
        return False

    def half_close(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
