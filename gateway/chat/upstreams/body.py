"""The body of an answer, as those who read it see it: they know nothing of the connection behind it."""

from typing import Protocol

import httpx2

from gateway.chat.upstreams.connection import BodySink, UpstreamConnection


class ByteStream(Protocol):
    """The body of an answer, to be read by `read` and, from some moment on, by `pipe` alone."""

    async def read(self) -> bytes: ...
    def pipe(self, sink: BodySink) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    async def aclose(self) -> None: ...
    def abort(self) -> None: ...


class Body(httpx2.AsyncByteStream):
    """The body of one response. `read` is the fast way; httpx2 iterates the same bytes where the SDK wants them."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection: UpstreamConnection | None = connection
        """The connection; None once it was let go, because it may serve another request then."""

    def header(self, name: bytes) -> str | None:
        """Returns the first header of the answer that has this name, which is in lower case."""
        return self._connection.header(name) if self._connection else None

    @property
    def size(self) -> int | None:
        """Returns the bytes that `read` will give in all; None where the answer does not say it, or is compressed."""
        length = self.header(b"content-length") or ""
        is_plain = self._connection is not None and self._connection.decoder is None
        return int(length) if is_plain and length.isdecimal() else None

    async def read(self) -> bytes:
        """Returns all bytes that arrived since the last call, waiting for the first; b"" at the end.

        Raises httpx2.ReadError when the connection broke before the body was complete.
        """
        return await self._connection.read() if self._connection else b""

    async def __aiter__(self):
        while data := await self.read():
            yield data

    def pipe(self, sink: BodySink) -> None:
        """Passes every piece to `sink` from now on, as it arrives, in the event loop's own read callback."""
        if self._connection:
            self._connection.pipe(sink)

    def pause(self) -> None:
        """Reads no more until `resume`: the upstream is slowed down by TCP."""
        if self._connection:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection:
            self._connection.resume()

    async def aclose(self) -> None:
        """Lets go of the connection: kept for the next request when this body was read to its end, else closed."""
        connection, self._connection = self._connection, None
        if connection:
            connection.release()

    def abort(self) -> None:
        """Closes the connection now, so that the upstream stops generating."""
        connection, self._connection = self._connection, None
        if connection:
            connection.abort()
