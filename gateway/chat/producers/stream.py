"""What producers share whose records come from one open stream: how it is paused and ended, and its deadlines."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.records.chat_record import Ask
from gateway.errors import UpstreamError, UpstreamTimeout

LINGER_S = 2.0
"""Seconds that a complete answer is read on for its usage figures."""


class OpenStream(Protocol):
    """The part of a stream that does not depend on what it brings; see `Generation`."""

    ended: bool

    @property
    def complete(self) -> bool: ...
    @property
    def error(self) -> UpstreamError | None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...
    async def aclose(self) -> None: ...


class StreamProducer:
    """A Producer, but for `produce` and `usage`."""

    is_step = True
    asks: Sequence[Ask] = ()
    _sink: Sink | None = None

    def __init__(self, between_tokens_s: float) -> None:
        self.model = self.upstream = ""
        self._between_tokens_s = between_tokens_s
        self._loop = asyncio.get_running_loop()
        self._stream: OpenStream | None = None
        self._failure: UpstreamTimeout | None = None
        self._progress_at = 0.0
        self._is_paused = False
        self._is_complete = False
        """Whether the answer is: only its usage figures may still follow."""

    def _opened(self, stream: OpenStream, between_tokens_s: float | None) -> None:
        """Notes the stream that is read from now on, and the limit of its upstream."""
        self._stream = stream
        self._between_tokens_s = between_tokens_s or self._between_tokens_s
        self._progress_at = self._loop.time()

    async def _until_over(self, over: "asyncio.Future[None]") -> None:
        """Waits until the stream, which is piped, is over."""
        if self._is_paused and self._stream is not None:
            self._stream.pause()
        await over

    def _check(self) -> None:
        """Raises UpstreamError for an answer that is not complete."""
        if self._failure is not None:
            raise self._failure
        if self._stream is not None and self._stream.error is not None and not self._stream.complete:
            raise self._stream.error

    # Called by the run

    def pause(self) -> None:
        self._is_paused = True
        if self._stream is not None:
            self._stream.pause()

    def resume(self) -> None:
        self._is_paused = False
        self._progress_at = self._loop.time()  # until now nobody listened
        if self._sink is not None:
            self._sink.deadline_moved()
        if self._stream is not None:
            self._stream.resume()

    def abort(self) -> None:
        if self._stream is not None and not self._stream.ended:
            self._stream.abort()

    def deadline(self) -> float:
        if self._stream is None or self._is_paused:
            return NEVER  # the first token has a limit for each upstream that is tried; a paused one is not to blame
        return self._progress_at + (LINGER_S if self._is_complete else self._between_tokens_s)

    def expire(self) -> None:
        if not self._is_complete:
            limit = self._between_tokens_s
            self._failure = UpstreamTimeout(f"no further token from the upstream within {limit:g} s")
        self.abort()

    async def aclose(self) -> None:
        self._sink = None  # it holds this producer
        if self._stream is not None:
            await self._stream.aclose()
