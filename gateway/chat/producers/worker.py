"""This producer has a worker run an agent: it waits for a claim, records what is posted, and answers calls.

A worker that is lost is replaced, and its successor enters the agent again; see `logged_calls`. What a worker posts is
checked chunk by chunk, and the first that is wrong ends the run.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from msgspec import Raw

from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.agents.writer import MAX_KEPT_BYTES, on_one_line
from gateway.chat.producers.logged_calls import LoggedCalls
from gateway.chat.producers.posted_chunks import PostedChunks, bad_chunk
from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.producers.taken_steers import WaitingSteers
from gateway.chat.producers.tools import Call, ToolsProducer
from gateway.chat.producers.worker_calls import CallSink, StepBox, job_of
from gateway.chat.producers.worker_models import AskModelOf, WorkerModels
from gateway.chat.producers.worker_steers import HoldingSink, WorkerSteers, steer_of
from gateway.chat.records.chat_record import Ask, RunInfo
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.chat.tools.toolbox import Toolbox
from gateway.chat.upstreams.try_span import INVOKE_AGENT, TrySpan, measured
from gateway.chat.workers.agent import WorkAgent
from gateway.chat.workers.protocol import (
    OWN,
    BeginCall,
    CallParked,
    CallResult,
    ModelAsked,
    StepResult,
    StopModel,
    TookSteers,
    WorkEnd,
    WorkFailed,
    WorkParked,
    chunk_head,
    posted,
)
from gateway.chat.workers.session import WorkSession
from gateway.core.usage import Usage, usage_of
from gateway.errors import TrilaneError, UpstreamCut, UpstreamError

if TYPE_CHECKING:
    from gateway.core.tracing import Span

MAX_ENTRIES = 3
"""Workers that may be lost during one run in one process."""
MAX_AT_ONCE = 32
"""Calls, and models asked, that are answered at once."""

log = structlog.get_logger("agents")


class WorkerProducer:
    """A Producer whose records come from a worker."""

    is_step = True
    _sink: Sink | None = None
    _session: WorkSession | None = None
    _chunks: PostedChunks

    def __init__(
        self,
        agent: WorkAgent,
        prompt: AgentPrompt,
        info: RunInfo,
        calls: Sequence[Call],
        toolbox: Toolbox,
        ask_model: AskModelOf,
        *,
        ask_s: float,
        wait_s: float,
        steers: WaitingSteers | None = None,
        run_span: "Span | None" = None,
    ) -> None:
        """Takes the answer's `calls` without a result, how long a claim is waited for, and what its agent may take."""
        self.model, self.upstream = "", ""
        self.asks: list[Ask] = []
        self._agent = agent
        self._job = job_of(agent, prompt, info)
        self._entered_for = prompt.entered_for or info.run_id
        self._parts_before = prompt.parts_before
        self._info = info
        self._calls: dict[str, Call] = {call.call_id: call for call in calls}
        self._ask_numbers = count(1 + len([call for call in calls if call.asked_as]))
        self._toolbox = toolbox
        self._ask_s = ask_s
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._steers = WorkerSteers(steers, self._fail)
        self._run_span = run_span
        self._has_begun = self._is_aborted = False
        self._emitted_before = 0
        self._recorder = Recorder()
        self._done: asyncio.Future[FinishReason] = self._loop.create_future()
        self._steps: dict[int, StepBox] = {}
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._models = WorkerModels(ask_model)

    async def produce(self, sink: Sink) -> FinishReason:
        self._sink, self._recorder = HoldingSink(sink), sink.recorder
        self._emitted_before = sink.recorder.emitted
        self._chunks = PostedChunks(sink.recorder, self._info.run_id, LoggedCalls("", [], {}))
        self._agent.in_flight += 1
        try:
            for _ in range(MAX_ENTRIES):
                if (reason := await self._traced_entry()) is not None:
                    return reason
        finally:
            self._agent.in_flight -= 1
        raise UpstreamCut(
            f"the worker of {self._agent.name!r} was lost {MAX_ENTRIES} times during this answer", code="agent_lost"
        )

    async def _traced_entry(self) -> FinishReason | None:
        if self._run_span is None:
            return await self._entry()
        span = TrySpan(self._run_span, self._agent.settings, self._info.model, operation=INVOKE_AGENT)
        with span.around(lambda: measured(self.usage())):
            reason = await self._entry()
            if reason is None:
                span.fail("agent_lost")
        return reason

    async def _entry(self) -> FinishReason | None:
        """Has one worker enter the agent; returns None when that was lost."""
        logged = self._logged()
        steers = [steer_of(message) for message in logged.steers.pop(0, ())]
        session = await self._agent.desk.offer(msgspec.structs.replace(self._job, steers=steers), self._wait_s)
        self._enter(session, logged)
        try:
            await asyncio.wait((self._done, session.over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._leave(session)
        if not self._done.done():
            return "other" if self._is_aborted else None
        reason = self._done.result()
        self._write([])
        return reason

    def _logged(self) -> LoggedCalls:
        """Returns what the answer has so far."""
        return LoggedCalls(self._entered_for, self._recorder.parts.encoded()[self._parts_before :], self._calls)

    def _enter(self, session: WorkSession, logged: LoggedCalls) -> None:
        self.model, self.upstream = self._info.model or self._agent.names[0], self._agent.name
        self._chunks.logged = logged
        session.take, session.on_flow = self._take, self._models.flow
        self._session = session
        self._steers.enter(session, logged)
        assert self._sink is not None
        self._sink.deadline_moved()

    async def _leave(self, session: WorkSession) -> None:
        self._session = None
        await self._steers.leave()
        has_ended = self._done.done() and self._done.exception() is None
        self._agent.desk.close_session(session, "" if has_ended else "the run is over")
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._tasks.clear()
        self._steps.clear()

    # What the worker posts

    def _take(self, chunk: Raw) -> None:
        if self._done.done():
            return
        data = bytes(on_one_line(chunk))
        try:
            if len(data) > MAX_KEPT_BYTES:
                raise bad_chunk(f"{len(data)} bytes: at most {MAX_KEPT_BYTES} come at once")
            self._record(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            self._fail(bad_chunk(f"{err}: {data[:80]!r}"))
        except TrilaneError as err:
            is_told = isinstance(err, UpstreamError) and err.code != "upstream_invalid"
            self._fail(err if is_told else bad_chunk(err.detail))

    def _record(self, data: bytes) -> None:
        """Records a chunk, or does what it asks. Raises UpstreamError, DecodeError."""
        head = chunk_head(data)
        if head.type in OWN:
            self._do(posted(data))
        elif records := self._chunks.record(head, data):
            self._write(records)

    def _do(self, message: object) -> None:
        match message:
            case BeginCall():
                self._begin_call(message)
            case StepResult():
                box = self._steps.pop(message.n, None)
                if box is not None and not box.result.done():
                    box.result.set_result(message)
            case ModelAsked():
                self._begin_model(message)
            case StopModel():
                if (task := self._tasks.get(message.id)) is not None:
                    task.cancel()
            case WorkParked() | WorkEnd():
                self._end(is_parked=isinstance(message, WorkParked))
            case WorkFailed():
                raise UpstreamError(message.text[:2000] or "the agent failed", code=message.code[:64], retryable=False)
            case TookSteers() if self._sink is not None:
                self._write([])
                self._steers.take(self._sink, message.ids, self._chunks.end_text)
            case _:
                raise bad_chunk("an unknown message")

    def _end(self, *, is_parked: bool) -> None:
        if any(isinstance(name, int) for name in self._tasks):
            raise UpstreamError("the agent has left calls behind that it did not wait for", code="agent_failed")
        if is_parked and not self.asks:
            raise bad_chunk("`park`, but nobody is asked anything")
        self._done.set_result("tool-calls" if self.asks else "stop")

    # Logged calls

    def _begin_call(self, begun: BeginCall) -> None:
        known = self._chunks.logged.begin(begun)
        session = self._session
        assert session is not None
        self._steers.come_to(begun.n)
        if isinstance(known, CallResult):
            session.tell(known)
            return
        if any(ask.tool_call_id == self._chunks.logged.id_of(begun.n) for ask in self.asks):
            session.tell(CallParked(call=begun.n))  # its worker was lost before it left
            return
        if known is None:
            known, records = self._chunks.begin_call(begun)
            self._write(records)
        self._spawn(begun.n, self._make(session, begun, known))

    async def _make(self, session: WorkSession, begun: BeginCall, call: Call) -> None:
        box = StepBox(session, begun, self._toolbox)
        if begun.kind == "step":
            self._steps[begun.n] = box
        assert self._sink is not None
        sink = CallSink(self._recorder, self._sink, self._write)
        tools = ToolsProducer(box, self._info, [call], ask_s=self._ask_s, numbers=self._ask_numbers)
        try:
            await tools.produce(sink)
        except TrilaneError as err:
            self._fail(err)
        except Exception as err:
            log.exception("call failed", run=self._info.run_id)
            self._fail(TrilaneError(f"the gateway failed: {type(err).__name__}"))
        finally:
            if sink.has_begun and sink.outcome is None:  # another worker may make it once more, or must not
                effect = next((tool.effect for tool in box.offered(self._info.sub) if tool.name == call.name), "once")
                self._calls[call.call_id] = msgspec.structs.replace(call, attempt=call.attempt + 1, tried_effect=effect)
            await tools.aclose()
            self._tasks.pop(begun.n, None)
        self.asks += tools.asks
        reason = call.decision.reason if call.decision is not None else ""
        result = sink.result(begun.n, reason)
        if tools.asks and not self._info.chat_id:
            self._fail(UpstreamError("nobody can be asked outside of a chat: use POST /api/chat", code="no_chat"))
        if tools.asks:
            session.tell(CallParked(call=begun.n))
        elif result is not None:
            session.tell(result)

    # Models

    def _begin_model(self, asked: ModelAsked) -> None:
        session, sink = self._session, self._sink
        assert session is not None
        assert sink is not None
        if asked.id in self._tasks:
            raise bad_chunk(f"model: the id {asked.id[:64]!r} is taken")
        producer = self._models.ask(asked)
        self._spawn(asked.id, self._models.answer(session, asked, producer, sink.deadline_moved))
        self._tasks[asked.id].add_done_callback(lambda done: self._tasks.pop(asked.id, None))

    def _spawn(self, name: object, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= MAX_AT_ONCE:
            work.close()
            raise UpstreamError(f"more than {MAX_AT_ONCE} calls and models at once", code="bad_chunk")
        self._tasks[name] = self._loop.create_task(work)

    # Recording

    def _write(self, records: list[bytes]) -> None:
        """Writes records, the first of which tell who answers."""
        if (sink := self._sink) is None:
            return
        if self._has_begun:
            sink.write(records)
            return
        self._has_begun = True
        sink.begin(sink.recorder.speaker(self.model, sink.recorder.facts) + records)

    def _fail(self, error: TrilaneError) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    # Called by the run

    def pause(self) -> None:
        if self._session is not None:
            self._session.pause()

    def resume(self) -> None:
        if self._session is not None:
            self._session.resume()

    def abort(self) -> None:
        self._is_aborted = True
        self._models.abort()
        if self._session is not None:
            self._agent.desk.close_session(self._session, "stopped")

    def deadline(self) -> float:
        if self._session is None:
            return NEVER  # a claim is waited for under its own deadline
        return min(self._session.deadline, self._models.deadline())

    def expire(self) -> None:
        self._models.expire()
        if self._session is not None and self._loop.time() >= self._session.deadline:
            self._agent.desk.close_session(self._session, "nothing was heard of you for too long")

    def usage(self) -> Usage:
        if (usage := self._models.usage()) is not None:
            return usage
        if not self._has_begun:
            return usage_of(None, 0, 0)
        emitted = self._recorder.emitted - self._emitted_before
        return usage_of(self._chunks.usage, self._info.prompt_bytes, emitted)

    async def aclose(self) -> None:
        self._sink = None  # it holds this producer
        self._steers.close()
        if self._done.done() and not self._done.cancelled():
            self._done.exception()
