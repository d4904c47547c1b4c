"""This producer asks an upstream for one completion, and writes it token by token.

A token's way: the connection's read callback, the parser, `_take`, the recorder, the sink; no task is woken for it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.chat.producers.completion_records import CompletionRecords
from gateway.chat.producers.producer import Sink
from gateway.chat.producers.stream import StreamProducer
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.failover import OpenedGeneration, Upstreams
from gateway.chat.upstreams.finish_reasons import finish_reason_of
from gateway.chat.upstreams.try_span import facts_of
from gateway.chat.upstreams.upstream import Generation, Request, Upstream
from gateway.core.usage import Usage, usage_of

if TYPE_CHECKING:
    from gateway.core.tracing import Span

MAX_SHOWN_WORD = 200


class CompletionProducer(StreamProducer):
    """A Producer that asks an upstream once."""

    reason: FinishReason = "other"
    """Why it stopped, once it has."""
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
        key: str = "",
        among: Sequence[Upstream] | None = None,
    ) -> None:
        """Takes the requested `model`, or an empty name, and `between_tokens_s` for upstreams that set no limit.

        `key` and `among` say which upstream is asked, as `Upstreams.open` has them.
        """
        super().__init__(between_tokens_s)
        self._upstreams = upstreams
        self._request = request
        self._requested_model = model
        self._prompt_bytes = prompt_bytes
        self._run_span = run_span
        self._key = key
        self._among = among
        self._generation: Generation | None = None
        self._emitted_before = 0

    async def produce(self, sink: Sink) -> FinishReason:
        self._sink = sink
        self._recorder = sink.recorder
        self._emitted_before = sink.recorder.emitted
        answer, trial = await self._upstreams.open(
            self._request, self._requested_model, self._run_span, key=self._key, among=self._among
        )
        self._request = {}  # it may be large, and nobody asks again
        with trial:
            if answer.span is None:
                return await self._write(answer, sink)
            with answer.span.around(lambda: facts_of(answer.generation)):
                return await self._write(answer, sink)

    async def _write(self, answer: OpenedGeneration, sink: Sink) -> FinishReason:
        """Writes an answer to its end."""
        generation = self._generation = answer.generation
        self.model, self.upstream = generation.model, generation.upstream
        self._opened(generation, answer.between_tokens_s)
        records = CompletionRecords(sink.recorder, generation.upstream)
        self._translate = records.write
        first = sink.recorder.speaker(generation.model, self._facts(generation)) + self._translate(answer.chunks)
        self._is_complete = generation.finish_reason is not None
        sink.begin(first)
        if not generation.ended:
            await self._until_over(generation.pipe(self._take))
        self._check()
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

    def usage(self) -> Usage:
        if self._generation is None:
            return usage_of(None, 0, 0)
        emitted = self._recorder.emitted - self._emitted_before
        return usage_of(self._generation.usage, self._prompt_bytes, emitted)

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
