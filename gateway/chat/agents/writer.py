"""Records what an agent does, whichever protocol it speaks: texts, calls that it makes itself, data, and questions."""

import re

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.agents.prompt import AgentAsk, AgentFields
from gateway.chat.records.asks import APPROVAL, approval_id
from gateway.chat.records.call_records import ToolOutcome, complete_record
from gateway.chat.records.message_parts import CallKind, ToolPart
from gateway.chat.records.provider_fields import folded
from gateway.chat.records.record import (
    DATA,
    ApprovalRequest,
    Data,
    Metadata,
    ProviderMetadata,
    TextKind,
    ToolInputStart,
    ToolOutputDenied,
    encode_record,
)
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.loose_fields import JsonFields
from gateway.chat.upstreams.refusals import SHOWN_CHARS
from gateway.core.loose_json import json_on_one_line, strict_raw
from gateway.errors import UpstreamError

MAX_KEPT_BYTES = 4_194_304
"""Maximum size of one event that is recorded: what is larger is no piece of an answer."""
INTERRUPT = "interrupt"
"""Name of the tool that stands for a question which is about no call."""
OF_CLIENT, OF_AGENT = CallKind(), CallKind(is_executed=True, is_dynamic=True)
OURS = {
    *("provider", "choices", "custom-tool", "step", "state", "activity", "approval", "steer", "progress"),
    *("auth", "busy", "drain"),
}
"""Names of data that the gateway writes itself: no agent can speak for it."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class _Kept(msgspec.Struct, rename="camel"):
    call_provider_metadata: Raw | UnsetType = UNSET


class AgentWriter:
    """Writes one answer of an agent by way of a recorder. Methods add their records to `out`."""

    def __init__(self, recorder: Recorder, run_id: str) -> None:
        self.recorder = recorder
        self.asks: list[AgentAsk] = []
        self._calls: dict[str, ToolPart] = {}
        self.denied: set[str] = set()
        """Ids of the calls that somebody has not allowed: what the agent says came of them is known."""
        self._run_id = run_id
        self._kind: TextKind = "text"
        self._message_id: str | None = None

    # Texts

    def text(self, kind: TextKind, message_id: str, text: str, fields: ProviderMetadata, out: list[bytes]) -> None:
        """Records a piece of the text of a message; `fields` go with the first piece."""
        if message_id == self._message_id and kind == self._kind:
            self.recorder.text(kind, text, out)
            return
        self.recorder.close_text(out)
        self._kind, self._message_id = kind, message_id
        if fields is UNSET:
            self.recorder.text(kind, text, out)
        else:
            self.recorder.text_with_fields(kind, text, Raw(bytes(fields)), out)

    def is_open(self, message_id: str) -> bool:
        return message_id == self._message_id

    def close_text(self, out: list[bytes], fields: ProviderMetadata = UNSET) -> None:
        """Ends the text that is open; its last fields come with no piece of their own."""
        if self._message_id is not None and not isinstance(fields, UnsetType):
            self.recorder.text_with_fields(self._kind, "", fields, out)
        self.recorder.close_text(out)
        self._message_id = None

    # Calls

    def knows(self, call_id: str) -> bool:
        """Returns whether this answer has a call of this id, of this run or of an earlier one."""
        return call_id in self._calls or call_id in self.recorder.parts.call_ids()

    def call_of(self, call_id: str) -> ToolPart | None:
        """Returns the call of this run that has this id."""
        return self._calls.get(call_id)

    def call(self, call_id: str, name: str, kind: CallKind, out: list[bytes]) -> None:
        self.close_text(out)
        self.recorder.executed_tools = (name,) if kind.is_executed else ()
        self.recorder.tool_input(call_id, name, out)
        call = self._calls[call_id] = self.recorder.parts.newest_call()
        if call.kind != kind:
            call.is_executed, call.is_dynamic = kind
            executed, dynamic = kind
            out[-1] = encode_record(
                ToolInputStart(tool_call_id=call_id, tool_name=name, provider_executed=executed, dynamic=dynamic)
            )

    def fields(self, call_id: str, fields: Raw) -> None:
        """Keeps fields of a call; they are recorded with the end of its arguments, or else kept with the message."""
        if call_id in self._calls:
            self.recorder.tool_fields(call_id, [fields])
        elif (part := self.recorder.parts.earlier_call(call_id)) is not None:
            before = msgspec.json.decode(part, type=_Kept).call_provider_metadata
            whole = fields if isinstance(before, UnsetType) else folded([before, fields])
            self.recorder.parts.outcome(call_id, {"callProviderMetadata": whole})

    def complete(self, call_id: str, out: list[bytes], arguments: str | None = None) -> None:
        """Records that a call's arguments are all there; `arguments` are those that hold, if not as they came."""
        call = self._calls.get(call_id)
        if call is None or call.complete:
            return
        if arguments is not None:
            call.arguments, call.has_arguments = [arguments], True
        elif not call.arguments:
            self.recorder.tool_arguments(call_id, "", out)
        call.end(was_cut=False)
        out.append(complete_record(call))
        if call.is_executed:
            self.recorder.calls_to_make[call_id] = True  # the agent may have made it from now on

    def outcome(self, outcome: ToolOutcome, out: list[bytes]) -> None:
        """Records what became of a call, whose arguments are complete by then."""
        call_id = outcome.tool_call_id
        if call_id in self.denied and not isinstance(outcome, ToolOutputDenied):
            return
        self.complete(call_id, out)
        self.close_text(out)
        self.recorder.tool_outcome(outcome, out)

    # Data

    def data(self, name: str, value: Raw, out: list[bytes], *, data_id: str = "", transient: bool = False) -> None:
        """Records data of the gateway's own kinds, such as `state`."""
        if len(memoryview(value)) > MAX_KEPT_BYTES:
            raise too_large(name, value)
        self.close_text(out)
        self.recorder.data(Data(type=DATA + name, id=data_id, data=on_one_line(value), transient=transient), out)

    def named_data(
        self, name: str, value: Raw, out: list[bytes], *, data_id: str = "", transient: bool = False
    ) -> None:
        """Records data of a kind that the agent names; a name that is ours, or cannot be one, stands beside it."""
        if name in OURS or not _NAME.fullmatch(name):
            name, value = "agent", strict_raw({"name": name, "value": value})
        self.data(name, value, out, data_id=data_id, transient=transient)

    def whole(self, part: Raw, out: list[bytes]) -> None:
        """Records a part that comes in one piece."""
        if len(memoryview(part)) > MAX_KEPT_BYTES:
            raise too_large("a part", part)
        self.close_text(out)
        self.recorder.parts.whole(part)
        out.append(bytes(part))

    def metadata(self, fields: JsonFields, out: list[bytes]) -> None:
        """Records what the agent says of the whole message."""
        self.recorder.facts |= fields
        out.append(encode_record(Metadata(message_metadata=strict_raw(fields))))

    # Questions

    def ask(self, ask: AgentAsk, more: AgentFields, out: list[bytes]) -> None:
        """Records that somebody is asked about a call."""
        fields = more.as_metadata()
        call = self._calls.get(ask.tool_call_id)
        if call is not None and not call.complete:
            self.fields(ask.tool_call_id, fields)
        elif call is not None:
            call.provider_fields.append(fields)
            out.append(complete_record(call))  # said once more, so that its fields are in the log
        else:
            self.fields(ask.tool_call_id, fields)
        self.complete(ask.tool_call_id, out)
        if ask.kind == "approval":
            self.outcome(ApprovalRequest(approval_id=ask.approval_id, tool_call_id=ask.tool_call_id), out)
            told = strict_raw({"toolCallId": ask.tool_call_id, "state": "requested"})
            self.recorder.data(Data(type=APPROVAL, id=ask.approval_id, data=told), out)
        self.recorder.calls_to_make.pop(ask.tool_call_id, None)
        self.asks.append(ask)

    def next_approval_id(self) -> str:
        return approval_id(self._run_id, len(self.asks) + 1)


def on_one_line(value: Raw) -> Raw:
    """Returns JSON as an event of the log holds it."""
    return Raw(json_on_one_line(bytes(value).decode())) if b"\n" in bytes(value) else value


def too_large(what: str, value: Raw) -> UpstreamError:
    return UpstreamError(
        f"the agent sent {what!r} of {len(memoryview(value))} bytes: at most {MAX_KEPT_BYTES} are recorded",
        code="upstream_event_too_large",
    )


def failure(text: str, code: str = "upstream_error", *, agent_code: str | None = None) -> UpstreamError:
    """Returns the error with which an agent says that its answer failed, and its own code for that."""
    reported = {"code": agent_code} if agent_code else {}
    return UpstreamError(text[:SHOWN_CHARS] or "the agent reported an error", code=code, reported=reported)


def json_of(text: str) -> Raw:
    """Returns a text as JSON: as it is where it is JSON on its own, else as a string."""
    on_line = json_on_one_line(text) if text[:1] in '{["-0123456789tfn' else b""
    return Raw(on_line or msgspec.json.encode(text))
