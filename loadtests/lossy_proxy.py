"""`python -m loadtests.lossy_proxy --port P --to HOST:PORT [--buffer] [--no-pings] [--no-resume]`: a bad proxy.

Each switch is a mistake that people make between a gateway and its users; without one it passes everything on as it
comes. HTTP/1.1 with bodies of any framing, and upgraded connections, which no switch touches after their request:

--buffer     holds answers as nginx does with proxy_buffering on, its HTTP/1.0 to the upstream, and X-Accel-Buffering
             ignored: head and body wait until BLOCK bytes are together or the answer ends (measured on nginx 1.22)
--no-pings   strips comment lines from event streams, as a rewriting CDN or an SSE library in the middle does
--no-resume  strips `Last-Event-ID`, and from queries all that says where a reader was, as a cache key rule does

No TLS. A connection's memory is bounded by LIMIT and BLOCK; a peer that does not read holds the other one back.
"""

import argparse
import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

BLOCK = 4096
"""Bytes: nginx's proxy_buffer_size, a page of memory."""
LIMIT = 65_536
"""Bytes of a head or of a line in a body; past it the connection is closed."""
CURSORS = {"last_event_id", "lasteventid", "after", "cursor", "session"}
"""Names in a query, in lower case, that a resume needs."""
STREAM = "text/event-stream"


@dataclass(frozen=True)
class Mistakes:
    """The mistakes that the proxy makes."""

    buffer: bool = False
    no_pings: bool = False
    no_resume: bool = False


@dataclass
class Head:
    """The head of a request or of an answer."""

    first: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """Returns a header's value in lower case; empty where there is none."""
        return next((value.lower() for key, value in self.headers if key.lower() == name), "")

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    def encode(self) -> bytes:
        lines = [self.first, *(f"{key}: {value}" for key, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: StreamReader) -> Head:
    """Raises IncompleteReadError at the end of the connection, LimitOverrunError past LIMIT."""
    lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    headers = [(key, value.strip()) for key, _, value in (line.partition(":") for line in lines[1:])]
    return Head(lines[0], headers)


async def read_body(reader: StreamReader, head: Head, *, is_answer: bool) -> AsyncIterator[bytes]:
    """Yields what is in the body, as it comes. An answer without a length ends with its connection."""
    if head.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            async for data in _exactly(reader, size):
                yield data
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
    elif length := head.get("content-length"):
        async for data in _exactly(reader, int(length)):
            yield data
    elif is_answer:
        while data := await reader.read(LIMIT):
            yield data


async def _exactly(reader: StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        data = await reader.read(min(size, LIMIT))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        yield data


def without_cursors(head: Head) -> Head:
    """Returns a request whose sender's place is forgotten."""
    method, target, version = head.first.split(" ")
    path, _, query = target.partition("?")
    query_rest = "&".join(part for part in query.split("&") if part and part.partition("=")[0].lower() not in CURSORS)
    headers = [(key, value) for key, value in head.headers if key.lower() != "last-event-id"]
    return Head(f"{method} {path}{'?' if query_rest else ''}{query_rest} {version}", headers)


@dataclass
class Uncommented:
    """Takes the comment lines out of an event stream. A line is held until it is whole."""

    _line: bytes = b""

    def feed(self, data: bytes) -> bytes:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LIMIT:
            raise ValueError(f"a line of more than {LIMIT} bytes")
        return b"".join(line + b"\n" for line in lines if not line.startswith(b":"))

    def end(self) -> bytes:
        return self._line


@dataclass
class Outlet:
    """The destination of an answer, which it gets chunked or plain, at once or in blocks."""

    writer: StreamWriter
    is_chunked: bool
    block: int
    """Bytes that must be together before anything is sent; 0 sends everything at once."""
    _head: bytes = b""
    _body: bytearray = field(default_factory=bytearray)

    async def head(self, head: bytes) -> None:
        self._head = head
        if not self.block:
            await self._send(b"")

    async def body(self, data: bytes) -> None:
        self._body += data
        held_bytes = len(self._head) + len(self._body)
        ready = held_bytes - held_bytes % self.block - len(self._head) if self.block else len(self._body)
        if ready > 0:
            await self._send(bytes(self._body[:ready]))
            del self._body[:ready]

    async def end(self) -> None:
        await self._send(bytes(self._body), b"0\r\n\r\n" if self.is_chunked else b"")

    async def _send(self, data: bytes, tail: bytes = b"") -> None:
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked and data else data
        self.writer.write(self._head + framed + tail)
        self._head = b""
        await self.writer.drain()


class LossyProxy:
    """Forwards to `host:port` (`async with LossyProxy(...) as proxy`); listens on `proxy.port` of this machine."""

    def __init__(self, host: str, port: int, mistakes: Mistakes, *, listen: int = 0) -> None:
        self.mistakes = mistakes
        self.port = listen
        self._target = (host, port)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LIMIT, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def serve_forever(self) -> None:
        """Serves until it is cancelled, for use as a process of its own."""
        await self._server.serve_forever()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serves one connection of a client with one of its own to the gateway; they end together."""
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target, limit=LIMIT)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()
            return
        pair = _Pair(self.mistakes, reader, writer, up_reader, up_writer)
        ways = [asyncio.ensure_future(pair.requests()), asyncio.ensure_future(pair.answers())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            up_writer.transport.abort()
            writer.close()


class _Pair:
    """A client's connection and the gateway's: requests go one way, answers the other, in the same order."""

    def __init__(
        self,
        mistakes: Mistakes,
        reader: StreamReader,
        writer: StreamWriter,
        up_reader: StreamReader,
        up_writer: StreamWriter,
    ) -> None:
        self._mistakes = mistakes
        self._reader, self._writer = reader, writer
        self._up_reader, self._up_writer = up_reader, up_writer
        self._requests: asyncio.Queue[Head] = asyncio.Queue(maxsize=16)

    async def requests(self) -> None:
        """Passes requests on until the client leaves."""
        while True:
            head = await read_head(self._reader)
            self._up_writer.write((without_cursors(head) if self._mistakes.no_resume else head).encode())
            await self._requests.put(head)
            if head.get("upgrade"):
                await _pour(self._reader, self._up_writer)
                return
            outlet = Outlet(self._up_writer, head.get("transfer-encoding") == "chunked", 0)
            async for data in read_body(self._reader, head, is_answer=False):
                await outlet.body(data)
            await outlet.end()

    async def answers(self) -> None:
        """Passes answers on until the gateway is done with the connection."""
        while True:
            question = await self._requests.get()
            while (head := await read_head(self._up_reader)).status < 200 and head.status != 101:
                self._writer.write(head.encode())
            if head.status == 101:
                self._writer.write(head.encode())
                await _pour(self._up_reader, self._writer)
                return
            await self._answer(question, head)
            if question.get("upgrade") or "close" in (question.get("connection"), head.get("connection")):
                return

    async def _answer(self, question: Head, head: Head) -> None:
        is_chunked = head.get("transfer-encoding") == "chunked"
        outlet = Outlet(self._writer, is_chunked, BLOCK if self._mistakes.buffer else 0)
        await outlet.head(head.encode())
        if question.first.startswith("HEAD ") or head.status in (204, 304):
            outlet.is_chunked = False
        else:
            await self._body(head, outlet)
        await outlet.end()

    async def _body(self, head: Head, outlet: Outlet) -> None:
        is_stripped = self._mistakes.no_pings and head.get("content-type").startswith(STREAM)
        uncommented = Uncommented() if is_stripped else None
        async for data in read_body(self._up_reader, head, is_answer=True):
            await outlet.body(data if uncommented is None else uncommented.feed(data))
        if uncommented is not None:
            await outlet.body(uncommented.end())


async def _pour(reader: StreamReader, writer: StreamWriter) -> None:
    """Passes bytes on as they come, to the end."""
    while data := await reader.read(LIMIT):
        writer.write(data)
        await writer.drain()


def main() -> None:
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(prog="loadtests.lossy_proxy", description="A proxy that makes common mistakes.")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the gateway")
    parser.add_argument("--buffer", action="store_true", help="hold answers until a block is full, or they end")
    parser.add_argument("--no-pings", action="store_true", help="strip comment lines from event streams")
    parser.add_argument("--no-resume", action="store_true", help="strip Last-Event-ID and cursors in queries")
    args = parser.parse_args()
    host, _, port = args.to.rpartition(":")
    mistakes = Mistakes(args.buffer, args.no_pings, args.no_resume)

    async def serve() -> None:
        async with LossyProxy(host, int(port), mistakes, listen=args.port) as proxy:
            print(f"http://127.0.0.1:{proxy.port} passes to {args.to}: {mistakes}", flush=True)
            await proxy.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
