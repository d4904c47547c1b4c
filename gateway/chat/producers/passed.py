"""This producer passes a request to an upstream as it came, and writes nothing: its answer goes to the client alone.

So an embedding is admitted, charged, stopped and ended like any answer, and the log has its row and none of its bytes.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.records.chat_record import Ask
from gateway.chat.records.record import FinishReason
from gateway.chat.upstreams.failover import Upstreams
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.chat.upstreams.try_span import RESPONSE_MODEL, measured
from gateway.chat.upstreams.upstream import Request
from gateway.core.usage import BYTES_PER_TOKEN, Usage, usage_of
from gateway.errors import TrilaneError

if TYPE_CHECKING:
    from gateway.core.tracing import Attributes, Span


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A route of OpenAI's whose requests are passed on."""

    path: str
    """Its path below an upstream's base URL, such as `/embeddings`."""
    operation: str
    """The word for it in traces."""
    writes_text: bool = False
    """Whether what it answers is text that a model writes, token by token."""


class PassedProducer:
    """A Producer whose answer is read by whoever sends it to the client: until it calls `end` or `fail`."""

    is_step = True
    asks: Sequence[Ask] = ()

    def __init__(
        self,
        upstreams: Upstreams,
        passage: Passage,
        request: Request,
        content: bytes,
        model: str,
        span: "Span | None",
        key: str = "",
    ) -> None:
        """Takes a request as it was read, and as it is sent; `span` is that of its run, `key` as `Upstreams.open`'s."""
        self.model, self.upstream = model, ""
        self.answer: PassedAnswer | None = None
        """The answer; None until it has begun."""
        self._upstreams = upstreams
        self._passage = passage
        self._request = request
        self._content = content
        self._prompt_bytes = len(content)
        self._span = span
        self._key = key
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def produce(self, sink: Sink) -> FinishReason:
        passage = self._passage
        opened, trial = await self._upstreams.pass_on(
            passage.path, self._request, self._content, self.model, passage.operation, self._span, key=self._key
        )
        self._request, self._content = {}, b""
        self.answer, self.upstream = opened.answer, opened.answer.upstream
        sink.begin([])
        with trial:
            if opened.span is None:
                await self._over
                return "stop"
            with opened.span.around(self._facts):
                await self._over
            return "stop"

    def end(self) -> None:
        """Notes that the answer was read to its end."""
        if not self._over.done():
            self._over.set_result(None)

    def fail(self, error: TrilaneError) -> None:
        """Notes that the answer was cut, if there was one: otherwise `produce` has failed by itself."""
        if self.answer is not None and not self._over.done():
            self._over.set_exception(error)

    def _facts(self) -> "Attributes":
        return {RESPONSE_MODEL: self.model, **measured(self.usage())}

    def usage(self) -> Usage:
        answer = self.answer
        if answer is None:
            return usage_of(None, 0, 0)
        written = 0
        if self._passage.writes_text:
            written = answer.events if answer.is_stream else answer.bytes_read // BYTES_PER_TOKEN
        return usage_of(answer.usage(), self._prompt_bytes, written)

    # Called by the run

    def pause(self) -> None:
        """Does nothing: it writes nothing that the log could be behind with."""

    def resume(self) -> None:
        """Does nothing, as `pause`."""

    def abort(self) -> None:
        if self.answer is not None and not self._over.done():
            self.answer.abort()

    def deadline(self) -> float:
        return NEVER  # an image takes its time: the run's own limit holds

    def expire(self) -> None:
        """Does nothing: it has no deadline."""

    async def aclose(self) -> None:
        if self.answer is not None:
            await self.answer.aclose()
