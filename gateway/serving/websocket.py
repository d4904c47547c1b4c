"""uvicorn's WebSocket protocol, for clients that do not play by the rules.

- uvicorn closes a connection when what it wrote is flushed, which for a client that does not read is never; an
  application that knows better finds `transport.abort` in the scope's extensions under ABORT.
- It parses at once whatever one read brought: of frames of one byte that are tens of thousands, and everyone else waits
  half a second. Here a read is parsed in slices, and the next slice when the application has taken what was in it.
- After a close it goes on parsing for up to ten seconds, until the client answers. Here what a client still sends is
  thrown away unread, once it is more than was under way.

With a server that does none of this an application works the same, only not as well.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

ABORT = "trilane.abort"
SLICE_BYTES = 4096
"""At most some hundred frames, a few milliseconds; of a large frame, a part."""
UNDER_WAY_BYTES = 65_536
"""May come after a close before its answer is no longer looked for;"""
LINGER_S = 1.0
"""then the connection is cut after so long, in which the client can read why."""


class SocketProtocol(WebSocketsSansIOProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unparsed = memoryview(b"")
        """Of one read; reading is paused while there is some."""
        self._late_bytes = 0
        """That came after a close."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            self.scope["extensions"][ABORT] = self.transport.abort  # pyright: ignore - its type knows two extensions

    def data_received(self, data: bytes) -> None:
        if self.close_sent:
            self._after_close(data)
        elif len(data) <= SLICE_BYTES and not self._unparsed:
            super().data_received(data)
        else:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self._parse()

    def _parse(self) -> None:
        """Slice by slice, until there is something for the application."""
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:SLICE_BYTES], self._unparsed[SLICE_BYTES:]
            super().data_received(bytes(piece))

    def _after_close(self, data: bytes) -> None:
        if self._late_bytes > UNDER_WAY_BYTES:
            return
        data, self._unparsed = bytes(self._unparsed) + data, memoryview(b"")
        self._late_bytes += len(data)
        if self._late_bytes > UNDER_WAY_BYTES:
            self.loop.call_later(LINGER_S, self.transport.abort)
        else:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent and self._unparsed:
            self._after_close(b"")

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._parse()
            if not self.read_paused:
                self.transport.resume_reading()
        return message
