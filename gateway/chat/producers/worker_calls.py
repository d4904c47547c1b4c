"""What a worker's agent asks of the gateway while it runs: a logged call, or a model. Each in a task of its own.

A step is a tool whose server is the worker, and an approval one that does nothing: the rules of calls are those of
`ToolsProducer`, so what may be made twice, and who is asked, is decided in one place.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw

from events.log.port import Append
from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.producers.completion import CompletionProducer
from gateway.chat.producers.producer import Sink
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.messages import UIMessage, UpstreamMessage, joined, turns_of
from gateway.chat.records.record import (
    EFFECT_STARTED,
    ReasoningDelta,
    TextDelta,
    ToolOutputAvailable,
    ToolOutputDenied,
    ToolOutputError,
    decode_record,
)
from gateway.chat.records.recorder import Recorder
from gateway.chat.tools.toolbox import Effect, OnProgress, Tool, Toolbox, ToolResult
from gateway.chat.upstreams.operator_rules import FIELDS
from gateway.chat.upstreams.upstream import Request
from gateway.chat.workers.agent import WorkAgent
from gateway.chat.workers.protocol import (
    BeginCall,
    CallResult,
    Make,
    ModelAsked,
    ModelDelta,
    ModelEnd,
    StepResult,
    ToldDecision,
    WorkJob,
    WorkUser,
)
from gateway.chat.workers.session import WorkSession
from gateway.errors import TrilaneError, UpstreamError


class StepBox:
    """The Toolbox of one logged call."""

    def __init__(self, session: WorkSession, begun: BeginCall, toolbox: Toolbox) -> None:
        self.result: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()
        """What the worker says of its step."""
        self._session = session
        self._begun = begun
        self._toolbox = toolbox
        self.sign_ins = toolbox.sign_ins

    def start(self) -> None: ...

    async def known(self, sub: str) -> None:
        await self._toolbox.known(sub)

    def offered(self, sub: str) -> Sequence[Tool]:
        if self._begun.kind == "tool":
            return self._toolbox.offered(sub)
        asks = self._begun.kind == "approve"
        effect: Effect = "read" if asks else self._begun.effect
        approve = "ask" if asks else "auto"
        return [
            Tool(name=self._begun.name, description="", parameters=Raw(b"{}"), approve=approve, effect=effect),
        ]

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        if self._begun.kind == "tool":
            return await self._toolbox.call(tool, arguments, key=key, sub=sub, on_progress=on_progress)
        if self._begun.kind == "approve":
            return ToolResult(output=Raw(b"true"))
        self._session.tell(Make(call=self._begun.n, key=key))
        result = await self.result
        output = result.output if isinstance(result.output, Raw) else Raw(b"null")
        return ToolResult(output=output, error_text=result.error_text)

    async def aclose(self) -> None: ...


class CallSink:
    """The Sink of one logged call: what became of it, and whether it has begun."""

    def __init__(self, recorder: Recorder, sink: Sink, write: Callable[[list[bytes]], None]) -> None:
        self.recorder = recorder
        self.outcome: ToolOutputAvailable | ToolOutputError | ToolOutputDenied | None = None
        self.write = self._write
        self.has_begun = False
        self._sink = sink
        self._run_write = write

    def _write(self, records: list[bytes]) -> None:
        for data in records:
            record = decode_record(data)
            if isinstance(record, ToolOutputAvailable | ToolOutputError | ToolOutputDenied):
                self.outcome = record
        self._run_write(records)

    def begin(self, records: list[bytes]) -> None:
        self._write(records)

    async def note(self, name: str, data: bytes) -> None:
        await self._sink.note(name, data)
        self.has_begun = self.has_begun or name == EFFECT_STARTED

    async def take(self, records: list[bytes], told: Append) -> bool:
        """Takes nothing: what waits in the chat is the run's own to take."""
        return False

    def deadline_moved(self) -> None:
        """Passes over deadlines: a call's own server bounds it."""

    def result(self, number: int, reason: str) -> CallResult | None:
        """Returns what the worker is told of call `number`; None when somebody is asked."""
        match self.outcome:
            case ToolOutputAvailable():
                return CallResult(call=number, output=self.outcome.output)
            case ToolOutputError():
                return CallResult(call=number, error_text=self.outcome.error_text)
            case ToolOutputDenied():
                return CallResult(call=number, denied=True, reason=reason)
            case None:
                return None


class ModelSink:
    """The Sink of a model that a worker has asked: its text goes there, and into no record."""

    def __init__(self, session: WorkSession, model_id: str, on_deadline: Callable[[], None]) -> None:
        self.recorder = Recorder()
        self.write = self.begin
        self.deadline_moved = on_deadline
        self._session = session
        self._id = model_id

    def begin(self, records: list[bytes]) -> None:
        for data in records:
            record = decode_record(data)
            if isinstance(record, TextDelta | ReasoningDelta):
                kind = "text" if isinstance(record, TextDelta) else "reasoning"
                self._session.tell(ModelDelta(id=self._id, kind=kind, text=record.delta))

    async def note(self, name: str, data: bytes) -> None:
        """Writes nothing: this is no run."""

    async def take(self, records: list[bytes], told: Append) -> bool:
        """Takes nothing: this is no run."""
        return False


async def answer_with_model(
    session: WorkSession, asked: ModelAsked, producer: CompletionProducer, on_deadline: Callable[[], None]
) -> None:
    """Tells a worker what a model answers, to its end."""
    end = ModelEnd(id=asked.id, error_text="it was not wanted any more", code="stopped")
    try:
        reason = await producer.produce(ModelSink(session, asked.id, on_deadline))
        end = ModelEnd(id=asked.id, finish_reason=reason)
    except TrilaneError as err:
        end = ModelEnd(id=asked.id, error_text=err.detail, code=err.code)
    finally:
        producer.abort()
        session.tell(end)
        await producer.aclose()


def request_of(asked: ModelAsked) -> Request:
    """Returns what a model is asked. Raises UpstreamError (`bad_chunk`) for what it cannot be."""
    unknown = sorted(asked.options.keys() - FIELDS.keys() - {"response_format"})
    if unknown:
        raise UpstreamError(f"model: the option {unknown[0][:64]!r} is none", code="bad_chunk")
    turns: list[UpstreamMessage] = []
    for raw in asked.messages:
        fields = msgspec.json.decode(raw, type=dict[str, object])
        if "parts" in fields:
            turns += turns_of(msgspec.json.decode(raw, type=UIMessage))
        elif isinstance(fields.get("role"), str) and "content" in fields:
            turns.append(fields)
        else:
            raise UpstreamError("model: a message is neither a UI message nor `role` and `content`", code="bad_chunk")
    return {**asked.options, "messages": joined(turns)}


def job_of(agent: WorkAgent, prompt: AgentPrompt, info: RunInfo) -> WorkJob:
    """Returns a run as workers are offered it."""
    system = "\n\n".join(text for text in (agent.settings.system, prompt.system) if text)
    return WorkJob(
        run_id=info.run_id,
        agent=agent.name,
        chat_id=info.chat_id,
        user=WorkUser(info.sub),
        system=system,
        extra=prompt.extra,
        messages=[message for message in prompt.believed() if message.id != info.message_id],
        decisions=[
            ToldDecision(tool_call_id=told.tool_call_id, approved=told.approved, reason=told.reason)
            for told in prompt.decisions
            if told.tool_call_id.startswith(f"{prompt.entered_for}.")
        ],
    )
