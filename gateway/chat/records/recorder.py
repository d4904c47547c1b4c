"""Turns what a producer says into stored records, one for each, and keeps the message that they make.

A token's record is put together from a template: making a Struct of it would cost three times as much, and gives the
same bytes. What was recorded can be replayed into a new recorder, so that another process can end a run whose own
process died.
"""

from collections.abc import Container, Iterable
from typing import Literal, assert_never

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.records.call_records import ToolOutcome, complete_record, is_of_agent, outcome_fields
from gateway.chat.records.message_parts import MessageParts, TextPart, ToolPart
from gateway.chat.records.provider_fields import folded
from gateway.chat.records.record import (
    CUSTOM_TOOL,
    ApprovalRequest,
    Data,
    FinishReason,
    MessageAbort,
    MessageError,
    MessageFinish,
    MessageStart,
    Metadata,
    NewerRecord,
    ProviderFields,
    ProviderMetadata,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    StepFinish,
    StepStart,
    TextDelta,
    TextEnd,
    TextKind,
    TextStart,
    ToolInputAvailable,
    ToolInputDelta,
    ToolInputError,
    ToolInputStart,
    ToolOutputAvailable,
    ToolOutputDenied,
    ToolOutputError,
    WholePart,
    decode_record,
    encode_record,
)

MAYBE_MADE = "the answer ended before this call had a result: it may have been made"
NOT_MADE = "the answer ended before this call was made"
_json = msgspec.json.Encoder().encode


class Recorder:
    """Writes one message. Methods that take `out` add their records to it; the others give them back."""

    def __init__(self, base: Iterable[Raw] = (), outcomes: Iterable[bytes] = (), *, begins_step: bool = True) -> None:
        """Begins with the parts in `base`, which an earlier run has written when this one continues its answer.

        `outcomes` are the records of the results that it goes on from: of two devices, one may have said otherwise. A
        run that makes calls of the step before it has not `begins_step`.
        """
        self.parts = MessageParts(base)
        self._outcomes = outcomes
        self.emitted = 0
        """Number of deltas that a user could see."""
        self.facts: dict[str, object] = {}
        """What the model's side says of the whole answer; it is part of the message's metadata."""
        self._open: TextKind | Literal["refusal"] | None = None
        self._open_id = b""
        self._part = TextPart("text", [])
        self._pieces: list[str] = []
        self._delta_lead = b""
        self._count = 0
        self._calls: dict[str, ToolPart] = {}
        self._earlier_calls = self.parts.call_ids()
        """Ids of the calls of earlier runs: some models count theirs anew in each step."""
        self._step_calls: list[ToolPart] = []
        """Calls of this step, which are complete when it is."""
        self.is_in_step = begins_step
        """Whether a step has begun, and has no end yet."""
        self.calls_to_make: dict[str, bool] = {}
        """Ids of the calls of the gateway's tools that have no result yet, and whether each may have been made."""
        self.executed_tools: Container[str] = ()
        """Names of the tools that the gateway runs: no client is to run a call of one."""

    # The message and its steps

    def start(self, message_id: str) -> list[bytes]:
        step = [encode_record(StepStart())] if self.is_in_step else []
        return [encode_record(MessageStart(message_id=message_id)), *self._outcomes, *step]

    def speaker(self, model: str, facts: dict[str, object] | None = None) -> list[bytes]:
        """Tells which model answers, and what else it says of its answer; known only when one does."""
        self.facts = facts or {}
        return [_metadata({"model": model, **self.facts})]

    def next_step(self) -> list[bytes]:
        """Begins a step, and ends the one before."""
        out = self.end_step()
        self.is_in_step = True
        self.parts.step()
        out.append(encode_record(StepStart()))
        return out

    def end_step(self, why_cut: str = "") -> list[bytes]:
        """Ends the step, if one is open; `why_cut` is what is wrong with its calls that were still being written."""
        for call in self._step_calls if why_cut else ():
            call.error = call.error or ("" if call.complete else why_cut)
        out = self._end_step() if self.is_in_step else []
        self.is_in_step = False
        return out

    # What a producer says

    def text(self, kind: TextKind, text: str, out: list[bytes]) -> None:
        """Records a piece of a text, which is opened when it is the first one."""
        if self._open != kind:
            self._open_text(kind, out)
        self._pieces.append(text)
        self.emitted += 1
        out.append(self._delta_lead + _json(text) + b"}")

    def text_with_fields(self, kind: TextKind, text: str, fields: Raw, out: list[bytes]) -> None:
        """Records a piece of a text with fields of its provider."""
        if self._open != kind:
            self._open_text(kind, out)
        self._keep_delta(text, fields)
        delta = TextDelta if kind == "text" else ReasoningDelta
        out.append(encode_record(delta(id=self._open_id.decode()[1:-1], delta=text, provider_metadata=fields)))

    def refusal(self, text: str, fields: Raw, out: list[bytes]) -> None:
        """Records a piece of what a model says instead of an answer: a text of its own, whose fields say what it is."""
        if self._open != "refusal":
            self._open_text("text", out)
            self._open = "refusal"
        self._keep_delta(text, fields)
        out.append(encode_record(TextDelta(id=self._open_id.decode()[1:-1], delta=text, provider_metadata=fields)))

    def close_text(self, out: list[bytes]) -> None:
        if self._open is None:
            return
        kind = "reasoning" if self._open == "reasoning" else "text"
        if len(self._part.provider_fields) > 1:  # clients keep the newest fields alone, so the last are all of them
            end = TextEnd if kind == "text" else ReasoningEnd
            metadata = folded(self._part.provider_fields)
            out.append(encode_record(end(id=self._open_id.decode()[1:-1], provider_metadata=metadata)))
        else:
            out.append(b'{"type":"%b-end","id":%b}' % (kind.encode(), self._open_id))
        self._open = None

    def tool_input(self, call_id: str, name: str, out: list[bytes], *, is_custom: bool = False) -> str:
        """Opens a tool call; returns its id, which is one of ours when the caller has none, or one that is taken."""
        self.close_text(out)
        call = self._open_call(call_id, name, is_custom=is_custom, is_executed=name in self.executed_tools)
        if is_custom:
            out.append(encode_record(Data(type=CUSTOM_TOOL, data=Raw(_json(call.call_id)), transient=True)))
        executed = call.is_executed
        start = ToolInputStart(tool_call_id=call.call_id, tool_name=name, provider_executed=executed, dynamic=executed)
        out.append(encode_record(start))
        return call.call_id

    def tool_arguments(self, call_id: str, piece: str, out: list[bytes]) -> None:
        """Records a piece of the arguments; one that is empty says that the tool is called without any."""
        self._keep_arguments(call_id, piece)
        out.append(encode_record(ToolInputDelta(tool_call_id=call_id, input_text_delta=piece)))

    def tool_fields(self, call_id: str, fields: list[Raw]) -> None:
        """Keeps fields that a provider adds to a call; they are recorded with the end of its arguments."""
        self._calls[call_id].provider_fields += fields

    def tool_failed(self, call_id: str, error: str) -> None:
        """Notes that a call is one that nobody can run."""
        self._calls[call_id].error = error

    def tool_outcome(self, outcome: ToolOutcome, out: list[bytes]) -> None:
        """Records what became of a call, or that somebody is asked whether it may be made."""
        self._keep_outcome(outcome)
        out.append(encode_record(outcome))

    def complete_calls(self, out: list[bytes], *, was_cut: bool = False) -> list[ToolPart]:
        """Ends the arguments of this step's calls; returns those calls that the gateway is to make."""
        self.close_text(out)
        for call in self._step_calls:
            if not call.complete:
                call.end(was_cut=was_cut)
                out.append(complete_record(call))
                if call.is_executed and not call.error:
                    self.calls_to_make[call.call_id] = False
        return [call for call in self._step_calls if call.is_executed and call.result is None and not call.error]

    @property
    def calls_own_tools(self) -> bool:
        """Whether this step has calls of the gateway's tools, or calls that nobody can make."""
        return any(call.is_executed for call in self._step_calls)

    @property
    def is_waiting(self) -> bool:
        """Whether a call of this step has no result: its client is to make it, or somebody is asked."""
        return any(not call.has_output for call in self._step_calls if not call.error)

    def data(self, data: Data | ProviderFields, out: list[bytes]) -> None:
        self._keep_data(data)
        out.append(encode_record(data))

    # The ends

    def finish(self, reason: FinishReason, metadata: dict[str, object]) -> list[bytes]:
        out = self._end_step(was_cut=reason not in ("stop", "tool-calls"))
        out.append(encode_record(MessageFinish(finish_reason=reason, message_metadata=Raw(_json(metadata)))))
        return out

    def error(self, text: str, metadata: dict[str, object]) -> list[bytes]:
        return self._cut(metadata, MessageError(error_text=text))

    def abort(self, reason: str, metadata: dict[str, object]) -> list[bytes]:
        return self._cut(metadata, MessageAbort(reason=reason))

    def _cut(self, metadata: dict[str, object], end: MessageError | MessageAbort) -> list[bytes]:
        """Ends the message, but no open call: no client may run a tool of an answer that failed.

        What became of the calls that the gateway makes is told: one that had begun may have had its effect.
        """
        out: list[bytes] = []
        self.close_text(out)
        for call_id, has_begun in list(self.calls_to_make.items()):
            text = MAYBE_MADE if has_begun else NOT_MADE
            failed = ToolOutputError(tool_call_id=call_id, error_text=text, provider_executed=True, dynamic=True)
            self.tool_outcome(failed, out)
        out += [_metadata(metadata), encode_record(end)]
        return out

    def _end_step(self, *, was_cut: bool = False) -> list[bytes]:
        out: list[bytes] = []
        self.complete_calls(out, was_cut=was_cut)
        self._step_calls.clear()
        if self.is_in_step:
            out.append(encode_record(StepFinish()))
        return out

    # What is kept

    def _open_text(self, kind: TextKind, out: list[bytes]) -> None:
        self.close_text(out)
        self._open = kind
        self._open_id = b'"%b%d"' % (kind[:1].encode(), self._count)
        self._count += 1
        self._part = self.parts.text(kind)
        self._pieces = self._part.pieces
        self._delta_lead = b'{"type":"%b-delta","id":%b,"delta":' % (kind.encode(), self._open_id)
        out.append(b'{"type":"%b-start","id":%b}' % (kind.encode(), self._open_id))

    def _keep_delta(self, text: str, fields: ProviderMetadata) -> None:
        self._pieces.append(text)
        self.emitted += 1
        if not isinstance(fields, UnsetType):
            self._part.provider_fields.append(fields)

    def _open_call(self, call_id: str, name: str, *, is_custom: bool = False, is_executed: bool = False) -> ToolPart:
        self._count += 1
        call_id, taken = call_id or f"call-{self._count}", 0
        while call_id in self._calls or call_id in self._earlier_calls:
            taken += 1
            call_id = f"call-{self._count}.{taken}"
        call = self.parts.tool(call_id, name)
        call.is_custom = is_custom
        call.is_executed = is_executed
        self._calls[call.call_id] = call
        self._step_calls.append(call)
        return call

    def _keep_arguments(self, call_id: str, piece: str) -> None:
        call = self._calls.get(call_id)
        if call is not None:  # of a long run, the start of a call may no longer be stored
            call.has_arguments = True
            if piece:
                call.arguments.append(piece)
                self.emitted += 1

    def _keep_complete(self, record: ToolInputAvailable | ToolInputError) -> None:
        call = self._calls.get(record.tool_call_id)
        if call is None:
            return
        call.complete = True
        if call.is_executed:
            self.calls_to_make[call.call_id] = is_of_agent(record)
        if isinstance(record, ToolInputError):
            call.error = record.error_text
            return
        call.arguments = [bytes(record.input).decode()]
        if not isinstance(record.provider_metadata, UnsetType):
            call.provider_fields = [record.provider_metadata]

    def _keep_outcome(self, outcome: ToolOutcome) -> None:
        call = self._calls.get(outcome.tool_call_id)
        if not isinstance(outcome, ApprovalRequest):
            self.calls_to_make.pop(outcome.tool_call_id, None)
        if call is not None:
            call.result = (call.result or {}) | outcome_fields(outcome)
        else:
            self.parts.outcome(outcome.tool_call_id, outcome_fields(outcome))

    def _keep_data(self, data: Data | ProviderFields) -> None:
        self.parts.data(Data(type="data-provider", data=data.data) if isinstance(data, ProviderFields) else data)

    # Replaying

    def replay(self, data: bytes) -> None:
        """Brings this recorder to where the one stood that has written this record."""
        match record := decode_record(data):
            case TextStart() | ReasoningStart():
                self._open_text("text" if isinstance(record, TextStart) else "reasoning", [])
            case TextDelta() | ReasoningDelta():
                if self._open is None:
                    self._open_text("text" if isinstance(record, TextDelta) else "reasoning", [])
                self._keep_delta(record.delta, record.provider_metadata)
            case TextEnd() | ReasoningEnd():
                self.close_text([])
            case ToolInputStart():
                call = self._open_call(record.tool_call_id, record.tool_name, is_executed=record.provider_executed)
                call.is_dynamic = record.dynamic
            case ToolInputDelta():
                self._keep_arguments(record.tool_call_id, record.input_text_delta)
            case ToolInputAvailable() | ToolInputError():
                self._keep_complete(record)
            case ToolOutputAvailable() | ToolOutputError() | ToolOutputDenied() | ApprovalRequest():
                self._keep_outcome(record)
            case ProviderFields() | Data():
                self._keep_data(record)
            case WholePart():
                self.parts.whole(record.raw)
            case StepStart():
                self.is_in_step = True
                self.parts.step()
            case StepFinish():
                self._step_calls.clear()
                self.is_in_step = False
            case Metadata():
                self.facts |= record.facts()
            case MessageStart() | MessageFinish() | MessageError() | MessageAbort() | NewerRecord():
                pass
            case _:
                assert_never(record)


def _metadata(fields: dict[str, object]) -> bytes:
    return encode_record(Metadata(message_metadata=Raw(_json(fields))))
