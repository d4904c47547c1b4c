"""This producer makes the calls that a model has asked the gateway for, or asks a person whether it may.

Calls of one step run side by side. What a call may do stands in the run's topic before the call leaves, acknowledged:
whoever goes on with this run knows which calls may have been made, and makes none of them twice unless its tool allows
it.
"""

import asyncio
from collections.abc import Iterator
from itertools import count

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.records.asks import APPROVAL, approval_id, decision_data, digest_of
from gateway.chat.records.chat_record import Answered, Ask, AskKind, RunInfo
from gateway.chat.records.record import (
    EFFECT_STARTED,
    ApprovalRequest,
    Data,
    FinishReason,
    ToolInputAvailable,
    ToolOutputAvailable,
    ToolOutputDenied,
    ToolOutputError,
    encode_record,
)
from gateway.chat.tools.toolbox import Effect, Tool, Toolbox
from gateway.core.usage import Usage, now_ms
from gateway.errors import SignInRequired, ToolError, ToolUnreachable, TrilaneError
from gateway.tool_settings import SIGN_IN

FIND_S = 10.0
FIND_AGAIN_S = 0.1
PROGRESS = "data-progress"
_json = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be made, and what a person has said of it."""

    call_id: str
    name: str
    arguments: Raw
    ask: Ask | None = None
    """What was asked about it; None when nobody was asked yet."""
    decision: Answered | None = None
    attempt: int = 1
    """Which try of this call it is: past the first, an earlier one may have been made."""
    tried_effect: Effect = "once"
    """The effect of the tool when the earlier try was made."""
    asked_as: str = ""
    """The id under which it was asked for, in records alone: the process that recorded that died."""

    @property
    def is_allowed(self) -> bool:
        return self.decision is not None and self.decision.approved

    @property
    def allowed_input(self) -> Raw:
        """Returns the input that it is made with: where a person has changed it, theirs."""
        edited = self.decision.input if self.decision is not None else UNSET
        return self.arguments if isinstance(edited, UnsetType) else edited


class ToolsProducer:
    """A Producer that makes calls once."""

    is_step = False
    _sink: Sink | None = None

    def __init__(
        self,
        toolbox: Toolbox,
        info: RunInfo,
        calls: list[Call] | None,
        *,
        ask_s: float,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """Makes `calls`, or when that is None those of the step that was just written.

        What it asks can be answered for `ask_s` seconds; `numbers` are those of asks, where others of the run ask too.
        """
        self.model = self.upstream = ""
        self.asks: list[Ask] = []
        self._toolbox = toolbox
        self._info = info
        self._calls = calls
        self._ask_s = ask_s
        self._tools: dict[str, Tool] = {}
        self._numbers = numbers

    async def produce(self, sink: Sink) -> FinishReason:
        self._sink = sink
        self._tools = self._offered()
        out: list[bytes] = []
        calls = self._calls
        if calls is None:
            calls = [
                Call(call_id=part.call_id, name=part.name, arguments=arguments)
                for part in sink.recorder.complete_calls(out)
                if isinstance(arguments := part.input(), Raw)
            ]
        for call in calls:
            sink.recorder.calls_to_make.setdefault(call.call_id, False)
        self._numbers = self._numbers or count(1 + len([call for call in calls if call.asked_as]))
        sink.begin(out)
        await self._find_tools({call.name for call in calls})
        ready = [call for call in calls if self._is_ready(call)]
        try:
            async with asyncio.TaskGroup() as group:
                for call in ready:
                    group.create_task(self._make(call, self._tools[call.name]))
        except* TrilaneError as failures:  # the log did not take what must be in it before a call leaves
            raise next(_leaves(failures)) from None
        return "tool-calls"

    async def _find_tools(self, names: set[str]) -> None:
        """Waits for tools that are not offered: a process that has just started may not have reached their servers."""
        end = asyncio.get_running_loop().time() + FIND_S
        if names - self._tools.keys():
            await self._toolbox.known(self._info.sub)
            self._tools = self._offered()
        while names - self._tools.keys() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(FIND_AGAIN_S)
            self._tools = self._offered()

    def _offered(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self._toolbox.offered(self._info.sub)}

    def _is_ready(self, call: Call) -> bool:
        """Returns whether a call is to be made now; records what becomes of it when it is not."""
        tool = self._tools.get(call.name)
        if call.ask is not None and call.decision is not None:
            self._tell_decision(call.ask, call.decision)
        if call.decision is not None and not call.decision.approved:
            self._record(ToolOutputDenied(tool_call_id=call.call_id, dynamic=True))
            return False
        if call.attempt > 1 and _may_act_twice(call, tool):
            self._ask(call, tool, "doubt", "interrupted")
            return False
        if tool is None:
            self._fail(call, f"the tool {call.name} cannot be called now")
            return False
        has_changed = call.ask is not None and call.ask.tool != tool.digest
        if tool.approve == "ask" and call.attempt == 1 and (not call.is_allowed or has_changed):
            self._ask(call, tool, "approval", "tool_changed" if has_changed else "")
            return False
        return True

    # Asking

    def _ask(self, call: Call, tool: Tool | None, kind: AskKind, note: str = "", url: str = "") -> None:
        ask_id = call.asked_as if kind == "approval" else ""
        if not ask_id:
            assert self._numbers is not None
            ask_id = approval_id(self._info.run_id, next(self._numbers))
        ask = Ask(
            approval_id=ask_id,
            run_id=self._info.run_id,
            message_id=self._info.message_id,
            tool_call_id=call.call_id,
            tool_name=call.name,
            kind=kind,
            input=call.allowed_input,
            digest=digest_of(ask_id, call.name, call.allowed_input),
            roles=list(tool.roles) if tool is not None else ["owner"],
            expires_at=now_ms() + int(self._ask_s * 1000),
            editable=tool is not None and tool.editable and kind == "approval",
            tool=tool.digest if tool is not None else "",
            url=url,
            key=self._key(call),
        )
        self.asks.append(ask)
        self._record(ApprovalRequest(approval_id=ask_id, tool_call_id=call.call_id))
        state: dict[str, object] = {"toolCallId": call.call_id, "state": "requested"}
        more: dict[str, object] = {"kind": kind} if kind != "approval" else {}
        more |= {name: text for name, text in (("note", note), ("url", url)) if text}
        self._tell(APPROVAL, ask_id, {**state, **more})

    def _tell_decision(self, ask: Ask, decision: Answered) -> None:
        if self._sink is not None and not isinstance(decision.input, UnsetType):
            edited = ToolInputAvailable(
                tool_call_id=ask.tool_call_id,
                tool_name=ask.tool_name,
                input=decision.input,
                provider_executed=True,
                dynamic=True,
            )
            self._sink.write([encode_record(edited)])
        self._tell(APPROVAL, ask.approval_id, decision_data(ask, decision))

    def _key(self, call: Call) -> str:
        """Returns the key of a call: that of the run that asked first, in each run that goes on from there."""
        return call.ask.key if call.ask is not None else f"{self._info.run_id}:{call.call_id}"

    # Making calls

    async def _make(self, call: Call, tool: Tool) -> None:
        assert self._sink is not None
        key = self._key(call)
        effect = {"toolCallId": call.call_id, "key": key, "attempt": call.attempt, "effect": tool.effect}
        await self._sink.note(EFFECT_STARTED, _json(effect))
        self._sink.recorder.calls_to_make[call.call_id] = True
        try:
            result = await self._toolbox.call(
                tool,
                call.allowed_input,
                key=key,
                sub=self._info.sub,
                on_progress=lambda progress: self._tell(PROGRESS, call.call_id, progress, transient=True),
            )
        except SignInRequired:
            self._ask(call, tool, "approval", SIGN_IN, f"{tool.sign_in}?chat={self._info.chat_id}")
            return
        except ToolError as err:
            if isinstance(err, ToolUnreachable) or tool.effect == "read":
                self._fail(call, err.detail)
            else:
                self._ask(call, tool, "doubt", err.code)
            return
        if result.error_text:
            self._fail(call, result.error_text)
        else:
            self._record(
                ToolOutputAvailable(
                    tool_call_id=call.call_id, output=result.output, provider_executed=True, dynamic=True
                )
            )

    def _fail(self, call: Call, text: str) -> None:
        self._record(ToolOutputError(tool_call_id=call.call_id, error_text=text, provider_executed=True, dynamic=True))

    # Recording

    def _record(self, outcome: ToolOutputAvailable | ToolOutputError | ToolOutputDenied | ApprovalRequest) -> None:
        if self._sink is None:
            return
        out: list[bytes] = []
        self._sink.recorder.tool_outcome(outcome, out)
        self._sink.write(out)

    def _tell(self, kind: str, about: str, data: Raw | dict[str, object], *, transient: bool = False) -> None:
        if self._sink is None:
            return  # a tool that tells of its progress when its call has ended
        out: list[bytes] = []
        raw = data if isinstance(data, Raw) else Raw(_json(data))
        self._sink.recorder.data(Data(type=kind, id=about, data=raw, transient=transient), out)
        self._sink.write(out)

    # Called by the run: a tool takes its time, which its server's settings bound

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None:
        """Leaves the calls to the cancellation of `produce`, which follows."""

    def deadline(self) -> float:
        return NEVER

    def expire(self) -> None: ...
    def usage(self) -> Usage:
        return Usage(input_tokens=0, output_tokens=0, total_tokens=0)

    async def aclose(self) -> None:
        self._sink = None  # it holds this producer


def _may_act_twice(call: Call, tool: Tool | None) -> bool:
    """Returns whether another try of a call could do again what the earlier one may have done."""
    if tool is None:
        return call.tried_effect != "read"
    return "once" in (call.tried_effect, tool.effect)


def _leaves(failures: BaseExceptionGroup[TrilaneError]) -> Iterator[TrilaneError]:
    for failure in failures.exceptions:
        if isinstance(failure, TrilaneError):
            yield failure
        else:
            yield from _leaves(failure)
