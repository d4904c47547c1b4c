"""An answer stream turns an upstream's bytes into pieces of its answer, in the turn of the loop that read them."""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import httpx2

from gateway.chat.upstreams.body import ByteStream
from gateway.chat.upstreams.refusals import without_key
from gateway.errors import UpstreamCut, UpstreamError

REUSE_S = 0.1
"""Seconds that a finished stream is read on for the end of its body, so that the connection can be used again."""
T = TypeVar("T")


class AnswerParser(Protocol[T]):
    """Reads an answer from bytes as they come. Pure."""

    error: UpstreamError | None
    """What is wrong with the answer, from then on."""

    @property
    def done(self) -> bool:
        """Returns whether all was said: what follows is ignored."""
        ...

    @property
    def complete(self) -> bool:
        """Returns whether the upstream has said that this is all."""
        ...

    def feed(self, data: bytes) -> list[T]:
        """Returns the pieces that `data` completes."""
        ...

    def end(self) -> list[T]:
        """Returns the last pieces, once the bytes are over; an answer that is not complete has an error then."""
        ...

    def close(self) -> None:
        """Lets go of what it holds: nothing is fed to it any more."""
        ...


class AnswerStream(Generic[T]):
    """One open answer. `on_close` is called once, when it is closed."""

    def __init__(
        self, body: ByteStream, parser: AnswerParser[T], upstream: str, secret: str, on_close: Callable[[], None]
    ) -> None:
        """Reads `body` by way of `parser`; `secret` is the upstream's key, which no error of it may repeat."""
        self.upstream = upstream
        self.ended = False
        """Whether nothing more will come."""
        self._parser = parser
        self._secret = secret
        self._body = body
        self._take: Callable[[list[T]], None] = _drop
        self._over: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] | None = on_close

    @property
    def complete(self) -> bool:
        return self._parser.complete

    @property
    def error(self) -> UpstreamError | None:
        error = self._parser.error
        return without_key(self._secret, error) if error is not None else None

    async def next(self) -> list[T]:
        try:
            data = await self._body.read()
        except httpx2.TransportError as err:
            return self._last_pieces(err)
        if not data:
            return self._last_pieces(None)
        pieces = self._parser.feed(data)
        self.ended = self._parser.done or self._parser.error is not None
        return pieces

    def pipe(self, take: Callable[[list[T]], None]) -> asyncio.Future[None]:
        self._take = take
        self._over = asyncio.get_running_loop().create_future()
        self._body.pipe(self)
        return self._over

    def data(self, data: bytes) -> None:
        """Takes a piece of the body, as its connection reads it."""
        pieces = self._parser.feed(data)
        if pieces:
            self._take(pieces)
        if self._parser.done or self._parser.error is not None:
            self._end()

    def end(self, error: httpx2.TransportError | None) -> None:
        """Notes that the body is over."""
        if pieces := self._rest(error):
            self._take(pieces)
        self._end()

    def _last_pieces(self, error: httpx2.TransportError | None) -> list[T]:
        pieces = self._rest(error)
        self._end()
        return pieces

    def _rest(self, error: httpx2.TransportError | None) -> list[T]:
        """Returns what came last, which may lack the end of its frame."""
        pieces = self._parser.end()
        if error is not None and isinstance(self._parser.error, UpstreamCut):
            self._parser.error = UpstreamCut(f"the upstream's stream was cut: {error}")
        return pieces

    def _end(self) -> None:
        self.ended = True
        self._take = _drop
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def pause(self) -> None:
        self._body.pause()

    def resume(self) -> None:
        self._body.resume()

    def abort(self) -> None:
        self._take = _drop
        self._body.abort()
        self._end()
        self._close()

    async def aclose(self) -> None:
        try:
            if self._parser.done:
                async with asyncio.timeout(REUSE_S):
                    while await self._body.read():
                        pass
        except (TimeoutError, httpx2.TransportError):
            pass
        finally:
            await self._body.aclose()
            self._close()

    def _close(self) -> None:
        self._parser.close()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


def _drop(pieces: list[T]) -> None:
    """Does nothing: nobody takes them any more."""
