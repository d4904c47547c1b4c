"""A completion stream turns a server's bytes into chunks, in the turn of the event loop that read them."""

import asyncio
from collections.abc import Callable

import httpx2

from gateway.chat.upstreams.body import ByteStream
from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_parser import CompletionParser
from gateway.chat.upstreams.loose_fields import JsonFields
from gateway.chat.upstreams.refusals import without_key
from gateway.chat.upstreams.upstream import TakeChunks
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError

REUSE_S = 0.1
"""Seconds that a finished stream is read on for the end of its body, so that the connection can be used again."""


class CompletionStream:
    """A Generation. `on_close` is called once, when it is closed."""

    def __init__(
        self,
        body: ByteStream,
        upstream: str,
        model: str,
        secret: str,
        on_close: Callable[[], None],
        *,
        answers: int = 1,
    ) -> None:
        """Reads `body` with its `answers`; `secret` is the upstream's key, which no error of it may repeat."""
        self.upstream = upstream
        self._requested_model = model
        self.ended = False
        self._secret = secret
        self._parser = CompletionParser(answers)
        self._body = body
        self._take: TakeChunks = _drop
        self._over: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] | None = on_close

    @property
    def model(self) -> str:
        """Returns the model that answers, as the upstream names it, or else the one that was asked."""
        told = self._parser.facts.get("model")
        return told if isinstance(told, str) else self._requested_model

    @property
    def complete(self) -> bool:
        return self._parser.complete

    @property
    def finish_reason(self) -> str | None:
        return self._parser.finish_reason

    @property
    def usage(self) -> UpstreamUsage | None:
        return self._parser.usage

    @property
    def facts(self) -> JsonFields:
        return self._parser.facts

    @property
    def error(self) -> UpstreamError | None:
        error = self._parser.error
        return without_key(self._secret, error) if error is not None else None

    async def next(self) -> list[AnswerChunk]:
        try:
            data = await self._body.read()
        except httpx2.TransportError as err:
            return self._last_chunks(err)
        if not data:
            return self._last_chunks(None)
        chunks = self._parser.feed(data)
        self.ended = self._parser.done or self._parser.error is not None
        return chunks

    def pipe(self, take: TakeChunks) -> asyncio.Future[None]:
        self._take = take
        self._over = asyncio.get_running_loop().create_future()
        self._body.pipe(self)
        return self._over

    def data(self, data: bytes) -> None:
        """Takes a piece of the body, as its connection reads it."""
        chunks = self._parser.feed(data)
        if chunks:
            self._take(chunks)
        if self._parser.done or self._parser.error is not None:
            self._end()

    def end(self, error: httpx2.TransportError | None) -> None:
        """Notes that the body is over."""
        if chunks := self._rest(error):
            self._take(chunks)
        self._end()

    def _last_chunks(self, error: httpx2.TransportError | None) -> list[AnswerChunk]:
        chunks = self._rest(error)
        self._end()
        return chunks

    def _rest(self, error: httpx2.TransportError | None) -> list[AnswerChunk]:
        """Returns what came last, which may lack the end of its frame."""
        chunks = self._parser.end()
        if error is not None and isinstance(self._parser.error, UpstreamCut):
            self._parser.error = UpstreamCut(f"the upstream's stream was cut: {error}")
        return chunks

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
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


def _drop(chunks: list[AnswerChunk]) -> None:
    """Does nothing: nobody takes them any more."""
