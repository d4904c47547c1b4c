"""An Answer is written down to the single byte: status line, HTTP chunks, SSE frames, and the ways to break them.

Owns the cadence of tokens and the record of what was sent. It has no idea of behaviours: those call it.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from loadtests.upstream.ask import Ask
from loadtests.upstream.shapes import Payload, encode

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
Cut = Callable[[bytes], Iterator[bytes]]


@dataclass
class RequestRecord:
    """One request as the fake saw it; times are `time.monotonic()` seconds.

    `completed`: the behaviour came to its own end (a `cut` that was cut as planned counts).
    `left_at`: the client closed its connection before that.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None
    opened_at: float
    ask: Ask | None = None
    tokens_sent: int = 0
    bytes_sent: int = 0
    completed: bool = False
    left_at: float | None = None
    closed_at: float | None = None
    failure: BaseException | None = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        """True while the answer is neither finished nor abandoned by its client."""
        return self.closed_at is None


class Wire(Protocol):
    """A wire is the connection under an answer."""

    async def send(self, data: bytes) -> None:
        """Hands bytes to the socket; returns when there is room for more."""
        ...

    def shut(self, linger: bytes | None) -> None:
        """Closes: after what is unsent, or at once with `linger` as SO_LINGER (zero seconds make it a reset)."""
        ...


@dataclass
class Answer:
    """An answer is in the making. Behaviours set the style first (`newline`, `between`, `cut`), then write."""

    ask: Ask
    record: RequestRecord
    wire: Wire
    tokens: int = 20
    interval_s: float = 0.01
    newline: str = "\n"
    between: bytes = b""
    cut: Cut | None = None
    cut_pause_s: float = 0.0005
    _due: float | None = None

    def __post_init__(self) -> None:
        self.pace(tokens=self.tokens, interval_s=self.interval_s)

    def pace(self, tokens: int | None = None, interval_s: float | None = None) -> None:
        """Sets a behaviour's own default; what the user message says goes before it."""
        if tokens is not None:
            self.tokens = tokens if self.ask.tokens is None else self.ask.tokens
        if interval_s is not None:
            self.interval_s = interval_s if self.ask.interval_s is None else self.ask.interval_s

    async def head(self, status: int = 200, kind: str = SSE, length: int | None = None, **extra: str) -> None:
        """Writes status line and headers; without a length the body is chunked. Underscores in names become dashes."""
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}", f"content-type: {kind}", framing]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in extra.items()]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def whole(self, status: int, kind: str, text: str, **extra: str) -> None:
        """Writes an unstreamed answer with its length."""
        body = text.encode()
        await self.head(status, kind, len(body), **extra)
        await self.raw(body)

    async def frame(self, payload: Payload | str, event: str | None = None) -> None:
        """Writes one SSE event; several lines of text become several `data:` lines."""
        text = payload if isinstance(payload, str) else encode(payload)
        lines = [f"event: {event}"] if event else []
        lines += [f"data: {line}" for line in text.split("\n")]
        await self.text(self.newline.join([*lines, "", ""]))
        if self.between:
            await self.chunk(self.between)

    async def text(self, text: str) -> None:
        """Writes body text as one HTTP chunk, or in the pieces that `cut` makes of it."""
        data = text.encode()
        if self.cut is None:
            await self.chunk(data)
            return
        for piece in self.cut(data):
            await self.chunk(piece)
            await asyncio.sleep(self.cut_pause_s)

    async def chunk(self, data: bytes) -> None:
        """Writes one HTTP chunk in one write, as a real server flushes a token."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def raw(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self.record.bytes_sent += len(data)
        await self.wire.send(data)

    async def end(self) -> None:
        """Writes the regular end of a chunked body."""
        await self.raw(b"0\r\n\r\n")

    async def tick(self) -> None:
        """Waits until the next token is due; lateness of one token does not shift those after it."""
        now = asyncio.get_running_loop().time()
        self._due = now if self._due is None else self._due + self.interval_s
        await asyncio.sleep(max(0.0, self._due - now))

    def reset(self) -> None:
        """Destroys the socket so that the peer sees ECONNRESET."""
        self.wire.shut(struct.pack("ii", 1, 0))

    def hang_up(self) -> None:
        """Closes the socket so that the peer sees an end of file in the middle of the body."""
        self.wire.shut(None)


def set_linger(sock: socket.socket, linger: bytes) -> None:
    """Sets the linger time of a socket; with zero seconds, closing sends RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
