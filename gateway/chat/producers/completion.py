"""This producer asks an upstream for one completion, and writes it token by token.

A token's way: the connection's read callback, the parser, `_take`, the recorder, the sink; no task is woken for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.chat.producers.completion_records import CompletionRecords
from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.records.chat_record import Ask
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.failover import OpenedGeneration, Upstreams
from gateway.chat.upstreams.finish_reasons import finish_reason_of
from gateway.chat.upstreams.upstream import Generation, Request
from gateway.core.usage import Usage, usage_of
from gateway.errors import UpstreamTimeout

if TYPE_CHECKING:
    from gateway.core.tracing import Span

LINGER_S = 2.0
"""Seconds that a complete answer is read on for its usage figures."""
MAX_SHOWN_WORD = 200


class CompletionProducer:
    """A Producer that asks an upstream once."""

    is_step = True
    asks: Sequence[Ask] = ()
    reason: FinishReason = "other"
    """Why it stopped, once it has."""
    _sink: Sink | None = None
    _recorder: Recorder
    _translate: Callable[[list[AnswerChunk]], list[bytes]]

    def __init__(
        self,
        upstreams: Upstreams,
        request: Request,
        model: str,
        *,
        prompt_bytes: int,
        between_tokens_s: float,
        run_span: "Span | None" = None,
    ) -> None:
        """Takes the requested `model`, or an empty name, and `between_tokens_s` for upstreams that set no limit."""
        self.model = self.upstream = ""
        self._upstreams = upstreams
        self._request = request
        self._requested_model = model
        self._prompt_bytes = prompt_bytes
        self._between_tokens_s = between_tokens_s
        self._run_span = run_span
        self._loop = asyncio.get_running_loop()
        self._generation: Generation | None = None
        self._failure: UpstreamTimeout | None = None
        self._progress_at = 0.0
        self._is_paused = False
        self._is_complete = False
        """Whether the upstream has said why it stopped: only its usage figures may still follow."""
        self._emitted_before = 0

    async def produce(self, sink: Sink) -> FinishReason:
        self._sink = sink
        self._recorder = sink.recorder
        self._emitted_before = sink.recorder.emitted
        answer = await self._upstreams.open(self._request, self._requested_model, self._run_span)
        self._request = {}  # it may be large, and nobody asks again
        if answer.span is None:
            return await self._write(answer, sink)
        with answer.span.around(answer.generation):
            return await self._write(answer, sink)

    async def _write(self, answer: OpenedGeneration, sink: Sink) -> FinishReason:
        """Writes an answer to its end."""
        generation = self._generation = answer.generation
        self.model, self.upstream = generation.model, generation.upstream
        self._between_tokens_s = answer.between_tokens_s or self._between_tokens_s
        self._progress_at = self._loop.time()
        records = CompletionRecords(sink.recorder, generation.upstream)
        self._translate = records.write
        first = sink.recorder.speaker(generation.model, self._facts(generation)) + self._translate(answer.chunks)
        self._is_complete = generation.finish_reason is not None
        sink.begin(first)
        if not generation.ended:
            over = generation.pipe(self._take)
            if self._is_paused:
                generation.pause()
            await over
        if self._failure is not None:
            raise self._failure
        if generation.error is not None and not generation.complete:
            raise generation.error
        if last := records.end():
            sink.write(last)
        sink.recorder.facts = self._facts(generation)
        reason = finish_reason_of(generation.finish_reason) or "other"
        if reason == "other" and generation.finish_reason:
            sink.recorder.facts["rawFinishReason"] = generation.finish_reason[:MAX_SHOWN_WORD]
        is_plain_end = reason == "stop" or generation.finish_reason is None
        self.reason = "tool-calls" if is_plain_end and records.calls.are_any else reason
        return self.reason

    def _facts(self, generation: Generation) -> dict[str, object]:
        """Returns what the upstream says of the whole answer, as metadata of the message."""
        facts = {name: value for name, value in generation.facts.items() if name != "model"}
        return {"providerMetadata": {generation.upstream: facts}} if facts else {}

    # Called by the run

    def pause(self) -> None:
        self._is_paused = True
        if self._generation is not None:
            self._generation.pause()

    def resume(self) -> None:
        self._is_paused = False
        self._progress_at = self._loop.time()  # until now nobody listened
        if self._sink is not None:
            self._sink.deadline_moved()
        if self._generation is not None:
            self._generation.resume()

    def abort(self) -> None:
        if self._generation is not None and not self._generation.ended:
            self._generation.abort()

    def deadline(self) -> float:
        if self._generation is None or self._is_paused:
            return NEVER  # the first token has a limit for each upstream that is tried; a paused one is not to blame
        return self._progress_at + (LINGER_S if self._is_complete else self._between_tokens_s)

    def expire(self) -> None:
        if not self._is_complete:
            limit = self._between_tokens_s
            self._failure = UpstreamTimeout(f"no further token from the upstream within {limit:g} s")
        self.abort()

    def usage(self) -> Usage:
        if self._generation is None:
            return usage_of(None, 0, 0)
        emitted = self._recorder.emitted - self._emitted_before
        return usage_of(self._generation.usage, self._prompt_bytes, emitted)

    async def aclose(self) -> None:
        self._sink = None  # it holds this producer
        if self._generation is not None:
            await self._generation.aclose()

    # Called by the generation

    def _take(self, chunks: list[AnswerChunk]) -> None:
        sink = self._sink
        if sink is None:
            return
        self._progress_at = self._loop.time()
        sink.write(self._translate(chunks))
        if not self._is_complete and self._generation is not None and self._generation.finish_reason is not None:
            self._is_complete = True
            sink.deadline_moved()
