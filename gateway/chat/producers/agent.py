"""This producer asks an agent once, and writes what it does: its texts, the calls that it makes itself, its data.

What the agent asks of people stands in `asks` when it has come to its end, and goes with a finish reason of
`tool-calls`; the answers go to the agent with the next run, as `decisions` of its prompt.
"""

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.agents.agents import Agents, OpenedAgent
from gateway.chat.agents.agui_request import payload_of
from gateway.chat.agents.prompt import AgentAsk, AgentPrompt
from gateway.chat.agents.writer import INTERRUPT
from gateway.chat.producers.producer import Sink
from gateway.chat.producers.stream import StreamProducer
from gateway.chat.records.asks import APPROVAL, digest_of
from gateway.chat.records.chat_record import Ask, RunInfo
from gateway.chat.records.messages import OUTPUT_STATES, MessagePart
from gateway.chat.records.provider_fields import AGENT
from gateway.chat.records.record import Data, FinishReason, ToolOutputAvailable, ToolOutputDenied
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.try_span import measured
from gateway.chat.upstreams.upstream import Request
from gateway.core.usage import Usage, usage_of

if TYPE_CHECKING:
    from gateway.core.tracing import Span

_part = msgspec.json.Decoder(MessagePart).decode


class AgentProducer(StreamProducer):
    """A Producer that asks an agent once."""

    def __init__(
        self,
        agents: Agents,
        prompt: AgentPrompt,
        request: Request,
        info: RunInfo,
        *,
        between_tokens_s: float,
        run_span: "Span | None" = None,
    ) -> None:
        """Takes the run's `info`, which says the model; `request` is what a model would be sent, for its options."""
        super().__init__(between_tokens_s)
        self._info = info
        self._agents = agents
        self._prompt: AgentPrompt | None = prompt
        self._request = request
        self._run_span = run_span
        self._emitted_before = 0
        self._recorder = Recorder()

    async def produce(self, sink: Sink) -> FinishReason:
        assert self._prompt is not None
        self._sink, self._recorder = sink, sink.recorder
        self._emitted_before = sink.recorder.emitted
        opened, trial = await self._agents.open(
            self._prompt, self._request, self._info.model, sink.recorder, self._run_span
        )
        with trial:
            if opened.span is None:
                return await self._write(opened, self._prompt, sink)
            with opened.span.around(lambda: measured(self.usage())):
                return await self._write(opened, self._prompt, sink)

    async def _write(self, opened: OpenedAgent, prompt: AgentPrompt, sink: Sink) -> FinishReason:
        """Writes an answer to its end."""
        stream, settings = opened.stream, opened.agent.settings
        self.model, self.upstream = self._info.model or opened.agent.names[0], settings.name
        self._translation = stream.translation
        self._opened(stream, settings.between_tokens_s)
        first = sink.recorder.speaker(self.model, sink.recorder.facts)
        _record_answers(prompt, sink.recorder, first)
        self._prompt, self._request = None, {}  # they may be large, and nobody asks again
        sink.begin(first + opened.records)
        if not stream.ended:
            await self._until_over(stream.pipe(self._take))
        self._check()
        self.asks = [self._ask(ask) for ask in stream.translation.writer.asks]
        return stream.translation.finish_reason

    def usage(self) -> Usage:
        if self._stream is None:
            return usage_of(None, 0, 0)
        emitted = self._recorder.emitted - self._emitted_before
        return usage_of(self._translation.usage, self._info.prompt_bytes, emitted)

    def _ask(self, ask: AgentAsk) -> Ask:
        """Returns what the agent asks as the chat holds it."""
        parts = [_part(raw) for raw in self._recorder.parts.encoded()]
        call = next(part for part in parts if part.tool_call_id == ask.tool_call_id)
        told = Raw(call.arguments.encode())
        return Ask(
            approval_id=ask.approval_id,
            run_id=self._info.run_id,
            message_id=self._info.message_id,
            tool_call_id=ask.tool_call_id,
            tool_name=call.tool,
            kind=ask.kind,
            input=told,
            digest=digest_of(ask.approval_id, call.tool, told),
            expires_at=milliseconds_of(ask.expires_at),
            editable=ask.is_editable,
        )

    def _take(self, records: list[bytes]) -> None:
        sink = self._sink
        if sink is not None:
            self._progress_at = self._loop.time()
            sink.write(records)


def _record_answers(prompt: AgentPrompt, recorder: Recorder, out: list[bytes]) -> None:
    """Records what became of the calls that the agent has asked about, once it has been told."""
    for part, fields, decision in prompt.answers():
        if part.tool_call_id not in recorder.parts.call_ids():
            continue  # the answer that asked is not gone on with
        answer = payload_of(decision, fields)
        fields.settle()
        metadata = _other_fields(part) | {AGENT: fields}
        recorder.parts.outcome(part.tool_call_id, {"callProviderMetadata": metadata})
        if decision.approval_id:
            recorder.data(Data(type=APPROVAL, id=decision.approval_id, data=decision.told), out)
        if part.state in OUTPUT_STATES:
            continue
        if not decision.approved:
            recorder.tool_outcome(
                ToolOutputDenied(tool_call_id=part.tool_call_id, dynamic=part.type == "dynamic-tool"), out
            )
        elif part.tool == INTERRUPT:
            told = decision.output
            output = Raw(msgspec.json.encode(answer)) if isinstance(told, UnsetType) else told
            recorder.tool_outcome(ToolOutputAvailable(tool_call_id=part.tool_call_id, output=output), out)


def milliseconds_of(text: str) -> int:
    """Returns a time as in ISO 8601 in milliseconds since 1970; 0 for what is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0


def _other_fields(part: MessagePart) -> dict[str, object]:
    metadata = part.call_provider_metadata
    return {} if isinstance(metadata, UnsetType) else dict(msgspec.json.decode(metadata, type=dict[str, Raw]))
