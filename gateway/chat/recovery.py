"""Goes on with a run whose process died between two calls of its model, from the records of its topic.

A call of which it is not known whether it was made is made again only where its tool allows that; else a person is
asked. A step of the model that was cut in the middle is not glued: such a run only ends (`gateway.chat.abandoned`).
"""

import msgspec
from msgspec import Raw

from gateway.chat.abandoned import RunSoFar, recorder_so_far
from gateway.chat.agents.prompt import AgentPrompt, decision_of
from gateway.chat.history import History
from gateway.chat.producers.tools import Call
from gateway.chat.records.chat_record import ParkedRequest, RunInfo
from gateway.chat.records.messages import UIMessage, unfolded
from gateway.chat.records.record import ApprovalRequest, StepFinish, StepStart, ToolInputAvailable, decode_record
from gateway.chat.records.recorder import Recorder
from gateway.chat.steps import decided_calls
from gateway.chat.upstreams.loose_fields import objects_of


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What another process needs to go on with a run."""

    info: RunInfo
    request: ParkedRequest
    recorder: Recorder
    conversation: list[UIMessage]
    """What the model was sent before this answer."""
    calls: list[Call]
    """The calls of the last step that have no result yet."""
    steps: int
    """Number of the model's steps so far."""
    head: int
    is_left: bool = False
    """Whether nobody has begun to write it: its time begins now."""
    prompt: AgentPrompt | None = None
    """What an agent is asked that is entered again; None where a model was asked."""


def recovery_of(run: RunSoFar, history: History, *, is_entered_again: bool = False) -> Recovery | None:
    """Returns how to go on with a run; None when it can only be ended.

    An agent that is not `is_entered_again` knows alone how to go on, and cannot be asked once it was.
    """
    info, request = run.info, run.request
    is_active = history.active is not None and info is not None and history.active.run_id == info.run_id
    if info is None or request is None or run.is_closed or run.lost or not is_active:
        return None
    if request.is_agents:
        return _reentry(run, history, info, request) if is_entered_again or run.is_left else None
    answer = history.answer(info.message_id)
    decided = {call.call_id: call for call in decided_calls(history, answer)} if answer is not None else {}
    calls, steps, is_in_step, asked = dict[str, Call](), 0, False, dict[str, str]()
    for data in run.records:
        match record := decode_record(data):
            case StepStart():
                calls, decided, steps, is_in_step = {}, {}, steps + 1, True
            case StepFinish():
                is_in_step = False
            case ToolInputAvailable(provider_executed=True):
                call_id = record.tool_call_id
                calls[call_id] = Call(call_id=call_id, name=record.tool_name, arguments=Raw(record.input))
            case ApprovalRequest():
                asked[record.tool_call_id] = record.approval_id
            case _:
                pass
    if is_in_step and not calls:
        return None  # the model was cut
    recorder = recorder_so_far(run, answer)
    waiting = [
        _tried(call, run, asked) for call in (decided or calls).values() if call.call_id in recorder.calls_to_make
    ]
    shown = set(request.shown)
    return Recovery(
        info=info,
        request=request,
        recorder=recorder,
        conversation=[m for m in history.messages if (m.id in shown or not shown) and m.id != info.message_id],
        calls=waiting,
        steps=steps,
        head=run.head,
        is_left=run.is_left,
    )


def _reentry(run: RunSoFar, history: History, info: RunInfo, request: ParkedRequest) -> Recovery:
    """Returns how to go on with a run whose agent is entered again: it comes to all of its calls once more."""
    answer = history.answer(info.message_id)
    calls = {call.call_id: call for call in decided_calls(history, answer)} if answer is not None else {}
    asked = dict[str, str]()
    for data in run.records:
        match record := decode_record(data):
            case ToolInputAvailable(provider_executed=True):
                call_id = record.tool_call_id
                calls[call_id] = Call(call_id=call_id, name=record.tool_name, arguments=Raw(record.input))
            case ApprovalRequest():
                asked[record.tool_call_id] = record.approval_id
            case _:
                pass
    shown = set(request.shown)
    conversation = [m for m in history.messages if (m.id in shown or not shown) and m.id != info.message_id]
    started = history.runs[info.run_id]
    asked_by = history.runs.get(started.continues, started)
    entered_for = history.entry_of(started)
    return Recovery(
        info=info,
        request=request,
        recorder=recorder_so_far(run, answer),
        conversation=conversation,
        calls=[_tried(call, run, asked) for call in calls.values()],
        steps=0,
        head=run.head,
        is_left=run.is_left,
        prompt=AgentPrompt(
            chat_id=info.chat_id,
            run_id=info.run_id,
            entered_for=entered_for,
            parts_before=len(answer.parts) if answer is not None and entered_for == info.run_id else 0,
            messages=[piece for message in conversation for piece in unfolded(message)],
            system=request.system,
            functions=objects_of(request.fields.get("tools", [])),
            extra=started.extra or asked_by.extra,
            stored=history.by_id.keys(),
            decisions=[
                decision_of(ask, answered)
                for ask in history.asks.values()
                if (answered := history.decisions.get(ask.approval_id)) is not None
            ],
        ),
    )


def _tried(call: Call, run: RunSoFar, asked: dict[str, str]) -> Call:
    call = msgspec.structs.replace(call, asked_as=asked.get(call.call_id, ""))
    started = run.started_calls.get(call.call_id)
    if started is None:
        return call
    return msgspec.structs.replace(call, attempt=started.attempt + 1, tried_effect=started.effect)
