"""This dialect speaks AG-UI 1.0 (https://docs.ag-ui.com/concepts/events): a run's records become events of one run.

It keeps a state, because the end of a run says what is asked, and a call belongs to the message before it: a run is
read from its beginning. Who comes back with a cursor is told of the run, of what is open in it, and then what follows
the cursor, for AG-UI's own client takes no stream that does not begin a run. What AG-UI has no event for is `CUSTOM`,
by the name of its kind; what a provider adds to a piece of text stands in the `metadata` of that piece.

Departs from the protocol's advice in one thing: an answer that is stopped in the middle of a call is `RUN_ERROR`, for
a client could take the call for complete.
"""

from collections.abc import Iterable
from typing import assert_never

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.dialects.agui_calls import AguiCalls
from gateway.chat.dialects.agui_forms import (
    NAMES,
    AguiRun,
    EventFields,
    interrupt,
    message_prefix,
    openings,
    step_event,
    text_in,
    usage_object,
)
from gateway.chat.records.asks import APPROVAL
from gateway.chat.records.message_facts import facts_in
from gateway.chat.records.messages import STEER, SteerData, UIMessage, provider_fields, text_of
from gateway.chat.records.record import (
    CUSTOM_TOOL,
    DATA,
    ApprovalRequest,
    Data,
    MessageAbort,
    MessageError,
    MessageFinish,
    MessageStart,
    Metadata,
    NewerRecord,
    ProviderFields,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    Record,
    StepFinish,
    StepStart,
    TextDelta,
    TextEnd,
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
)
from gateway.core.usage import Usage

NOT_ALLOWED = "this call was not allowed"
STOPPED = "the answer was stopped"
_json = msgspec.json.Encoder().encode


class AguiEvents:
    """Tells one run, record by record, as AG-UI events."""

    def __init__(self, run_id: str, run: AguiRun, after: int = 0) -> None:
        """`run_id` is ours; of the records with offsets up to `after` nothing is told, but for what is still open."""
        self._run = run
        self._prefix = message_prefix(run_id)
        self._after = after
        self._is_hidden = after > 0
        self._number = 0
        self._out: list[EventFields] = []
        self._message = ""
        """The message that the client has last, where a call can belong to it."""
        self._text: tuple[str, str] | None = None
        """Kind and id of the message that is open."""
        self._lead = b"\0"
        """How the record of a plain piece of the open text begins."""
        self._told_lead = b""
        self._calls = AguiCalls()
        self._interrupts: dict[str, EventFields] = {}
        self._steps: list[str] = []
        self._usage: Usage | None = None
        self._model = ""
        self._code = ""

    def feed(self, records: Iterable[bytes]) -> bytes:
        """Returns the frames that `records`, the next ones of the run, make: each a cursor, a space and the record."""
        out: list[bytes] = []
        for line in records:
            cursor, _, data = line.partition(b" ")
            if self._is_hidden:
                self._is_hidden = int(cursor.rpartition(b".")[2]) <= self._after
                if not self._is_hidden:
                    self._begin_again(out)
            lead = self._lead
            if data.startswith(lead) and data.endswith(b'"}') and not self._is_hidden:  # else it has more fields
                if len(data) > len(lead) + 2:
                    out.append(b"%b%b\nid: %b\n\n" % (self._told_lead, data[len(lead) :], cursor))
                continue
            self._out = []
            self._tell(decode_record(data))
            if self._out and not self._is_hidden:
                out += [b"data: %b\n\n" % _json(event) for event in self._out[:-1]]
                out.append(b"data: %b\nid: %b\n\n" % (_json(self._out[-1]), cursor))
        return b"".join(out)

    def _begin_again(self, out: list[bytes]) -> None:
        """Tells of the run, and of all that is open in it, to a client that has seen it before."""
        events: list[EventFields] = [self._started()]
        if self._text is not None:
            kind, message_id = self._text
            events += openings(kind, message_id)
        events += self._calls.openings()
        events += [step_event(name, has_begun=True) for name in self._steps]
        out += [b"data: %b\n\n" % _json(event) for event in events]

    def _tell(self, record: Record) -> None:
        match record:
            case TextDelta() | ReasoningDelta():
                self._delta(record)
            case TextEnd() | ReasoningEnd():
                self._close_text()
            case MessageStart():
                self._start()
            case StepStart():
                self._message = ""
            case Metadata():
                self._note(record.message_metadata)
            case ProviderFields():
                self._custom("provider", provider_fields(record.data))
            case ToolInputStart():
                self._close_text()
                self._message = self._message or self._next_id()
                self._out.append(self._calls.open(record.tool_call_id, record.tool_name, self._message))
            case ToolInputDelta():
                self._out += self._calls.arguments(record.tool_call_id, record.input_text_delta)
            case ToolInputAvailable():
                self._out += self._calls.end(record.tool_call_id, bytes(record.input).decode())
            case ToolInputError():
                self._out += self._calls.end(record.tool_call_id, record.input)
                self._result(record.tool_call_id, record.error_text)
            case ToolOutputAvailable():
                if not record.preliminary:
                    self._result(record.tool_call_id, text_in(record.output))
            case ToolOutputError():
                self._result(record.tool_call_id, record.error_text)
            case ToolOutputDenied():
                self._result(record.tool_call_id, NOT_ALLOWED)
            case ApprovalRequest():
                self._interrupts[record.approval_id] = interrupt(record, self._calls.name_of(record.tool_call_id))
            case Data():
                self._data(record)
            case WholePart():
                part = msgspec.json.decode(record.raw, type=dict[str, object])
                self._custom(str(part.pop("type")), part)
            case MessageFinish():
                self._finish(record)
            case MessageError():
                self._fail(record.error_text, self._code)
            case MessageAbort():
                self._abort()
            case TextStart() | ReasoningStart() | StepFinish() | NewerRecord():
                pass  # a message is opened by its first piece, which is none where it is empty
            case _:
                assert_never(record)

    def _started(self) -> EventFields:
        version = {"protocolVersion": self._run.protocol_version} if self._run.protocol_version else {}
        return {"type": "RUN_STARTED", **self._run.names, **version}

    def _start(self) -> None:
        """Begins the run; a client that shows a part of it already, which was cut, is told to forget that part."""
        self._out.append(self._started())
        if self._run.kept is not None:
            self._out.append({"type": "MESSAGES_SNAPSHOT", "messages": self._run.kept})

    # Messages

    def _next_id(self) -> str:
        """Returns the id of the next message of this run, from which the answer can be found again."""
        self._number += 1
        return f"{self._prefix}{self._number}"

    def _delta(self, record: TextDelta | ReasoningDelta) -> None:
        kind = "text" if isinstance(record, TextDelta) else "reasoning"
        fields = provider_fields(record.provider_metadata)
        if not record.delta:
            if fields:
                self._custom("provider", fields)
            return
        if self._text is None or self._text[0] != kind:
            self._open_text(kind, record.id)
        assert self._text is not None
        event: EventFields = {"type": f"{NAMES[kind]}_CONTENT", "messageId": self._text[1], "delta": record.delta}
        self._out.append({**event, "metadata": {"provider": fields}} if fields else event)

    def _open_text(self, kind: str, record_id: str) -> None:
        self._close_text()
        message_id = self._next_id()
        self._text = kind, message_id
        self._message = message_id if kind == "text" else ""
        self._out += openings(kind, message_id)
        self._lead = b'{"type":"%b-delta","id":%b,"delta":"' % (kind.encode(), _json(record_id))
        head = _json({"type": f"{NAMES[kind]}_CONTENT", "messageId": message_id})[:-1]
        self._told_lead = b'data: %b,"delta":"' % head

    def _close_text(self) -> None:
        if self._text is None:
            return
        kind, message_id = self._text
        self._text, self._lead = None, b"\0"
        self._out.append({"type": f"{NAMES[kind]}_END", "messageId": message_id})
        if kind == "reasoning":
            self._out.append({"type": "REASONING_END", "messageId": message_id})

    # Calls

    def _result(self, call_id: str, text: str) -> None:
        """Tells the result of a call once; one that the client has made it has itself."""
        if call_id in self._run.results or not self._calls.settle(call_id):
            return
        told: EventFields = {"messageId": self._next_id(), "toolCallId": call_id, "content": text, "role": "tool"}
        self._out.append({"type": "TOOL_CALL_RESULT", **told})
        self._message = ""

    # Data

    def _custom(self, name: str, value: object) -> None:
        self._out.append({"type": "CUSTOM", "name": name, "value": value})

    def _data(self, record: Data) -> None:
        match record.type.removeprefix(DATA):
            case "state":
                self._out.append({"type": "STATE_SNAPSHOT", "snapshot": record.data})
            case "state-delta":
                self._out.append({"type": "STATE_DELTA", "delta": record.data})
            case "activity":
                fields = msgspec.json.decode(record.data, type=dict[str, Raw])
                self._out.append({"type": "ACTIVITY_SNAPSHOT", "messageId": record.id, **fields})
            case "step":
                self._step(record.id, has_begun=b'"started"' in bytes(record.data))
            case _ if record.type == CUSTOM_TOOL:
                pass  # every call has the same form here
            case _ if record.type == STEER:
                self._steer(record)
            case name:
                if record.type == APPROVAL and b'"state":"requested"' not in bytes(record.data):
                    self._interrupts.pop(record.id, None)
                self._custom(name, record.data)

    def _step(self, name: str, *, has_begun: bool) -> None:
        if has_begun == (name in self._steps):
            return
        if has_begun:
            self._steps.append(name)
        else:
            self._steps.remove(name)
        self._out.append(step_event(name, has_begun=has_begun))

    def _steer(self, record: Data) -> None:
        """Tells a message that the answer has taken while it was written."""
        parts = msgspec.json.decode(record.data, type=SteerData).parts
        text = text_of(UIMessage(id=record.id, role="user", parts=parts))
        self._close_text()
        self._message = ""
        self._out.append({"type": "TEXT_MESSAGE_START", "messageId": record.id, "role": "user"})
        if text:
            self._out.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": record.id, "delta": text})
        self._out.append({"type": "TEXT_MESSAGE_END", "messageId": record.id})

    # Ends

    def _note(self, metadata: Raw) -> None:
        facts = facts_in(metadata)
        self._model = facts.model or self._model
        self._usage = facts.usage or self._usage
        self._code = facts.code or self._code
        if fields := facts.facts:
            self._custom("provider", fields)

    def _figures(self) -> EventFields:
        return {} if self._usage is None else {"usage": [usage_object(self._usage, self._model)]}

    def _close(self) -> None:
        self._close_text()
        for name in [*self._steps]:
            self._step(name, has_begun=False)

    def _finish(self, record: MessageFinish) -> None:
        if not isinstance(record.message_metadata, UnsetType):
            self._note(record.message_metadata)
        self._close()
        self._out += self._calls.end_all()
        outcome: EventFields = {"type": "success"}
        if self._interrupts:
            outcome = {"type": "interrupt", "interrupts": list(self._interrupts.values())}
        more: EventFields = {"metadata": {"finishReason": record.finish_reason}, **self._figures()}
        self._out.append({"type": "RUN_FINISHED", **self._run.names, "outcome": outcome, **more})

    def _abort(self) -> None:
        if self._calls.are_open:
            self._fail(STOPPED, "aborted")
            return
        self._close()
        cancelled: EventFields = {"outcome": {"type": "cancelled"}, **self._figures()}
        self._out.append({"type": "RUN_FINISHED", **self._run.names, **cancelled})

    def _fail(self, text: str, code: str) -> None:
        self._out.append({"type": "RUN_ERROR", "message": text, **({"code": code} if code else {}), **self._figures()})
