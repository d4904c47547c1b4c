"""uvicorn's HTTP protocol, offering each response its connection.

An event stream that writes through ASGI's `send` wakes a task for every token and passes five coroutines. This protocol
lets `gateway.sse` write chunks of a response body straight to the transport once the head is sent. Nothing else of
uvicorn is replaced, and a server without it works the same, at more CPU per token.
"""

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.sse import WRITER


def _nobody() -> None:
    """Nobody is waiting."""


class StreamProtocol(HttpToolsProtocol):
    """One connection; its `write_chunk` is for the response that is being sent, between its head and its end."""

    on_writable: Callable[[], object] = staticmethod(_nobody)
    """Called when the transport's buffer has room again."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {WRITER: self}  # pyright: ignore - uvicorn's type knows two extensions

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.scope:
            self.scope.pop("extensions", None)  # else each connection waits for the garbage collector

    @property
    def writable(self) -> bool:
        return not (self.flow.write_paused or self.transport.is_closing())

    def write_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body (RFC 9112 §7.1). The caller has looked at `writable`."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def resume_writing(self) -> None:
        super().resume_writing()
        self.on_writable()
