"""This dialect speaks Anthropic's Messages API: a run's records become the events of a message, or one message.

It keeps a state, because a block has a number and ends before the next begins: a run is read from its beginning. A
piece of a text is not decoded: its JSON goes from the record into the event. Calls that the gateway or an agent makes
are `mcp_tool_use` and `mcp_tool_result`, which no client answers.
"""

from collections.abc import Iterable
from typing import assert_never

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.dialects.anthropic_blocks import BlockKind, MessageBlock, MessageBlocks, frame
from gateway.chat.records.message_facts import facts_in
from gateway.chat.records.messages import provider_fields
from gateway.chat.records.record import (
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
from gateway.errors import anthropic_error

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool-calls": "tool_use", "content-filter": "refusal"}
SERVER = "gateway"
"""Name of the server of tools that a client is told of."""
NOT_ALLOWED = "this call was not allowed"
PING = frame("ping", {})
STATUSES = {"upstream_rate_limited": 429, "upstream_timeout": 504, "upstream_unavailable": 503, "overloaded": 503}
"""The status that an error of each code would have had before the answer began; of others it says nothing more."""
_json = msgspec.json.Encoder().encode


class MessageEvents:
    """Tells one run, record by record, as the events of a message."""

    def __init__(self, run_id: str, model: str, *, keeps_text: bool = False) -> None:
        """`keeps_text`: whether `message` will be asked for."""
        self.is_over = False
        self._id = f"msg_{run_id}"
        self._model = model
        self._blocks = MessageBlocks(keeps_text=keeps_text)
        self._calls: dict[str, MessageBlock] = {}
        self._text: MessageBlock | None = None
        self._lead = b"\0"
        """How the record of a plain piece of the open text begins."""
        self._has_begun = False
        self._stop_reason: str | None = None
        self._stop_sequence: str | None = None
        self._usage: Usage | None = None
        self._code = ""
        self._choice: dict[str, object] = {}

    def feed(self, records: Iterable[bytes]) -> bytes:
        """Returns the frames that `records`, the next ones of the run, make."""
        out: list[bytes] = []
        for data in records:
            lead = self._lead
            if self._text is not None and data.startswith(lead) and data.endswith(b'"}'):  # else it has more fields
                self._blocks.add(self._text, data[len(lead) : -2], out)
            else:
                self._tell(decode_record(data), out)
        return b"".join(out)

    def message(self) -> dict[str, object]:
        """Returns the message as it stands."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": self._blocks.whole(),
            "stop_reason": self._stop_reason,
            "stop_sequence": self._stop_sequence,
            "usage": usage_object(self._usage),
        }

    def _tell(self, record: Record, out: list[bytes]) -> None:
        match record:
            case TextDelta():
                self._delta("text", record, out)
            case ReasoningDelta():
                self._delta("thinking", record, out)
            case TextEnd() | ReasoningEnd():
                self._end_text(out)
            case Metadata():
                self._note(record.message_metadata)
                if self._model:
                    self._begin(out)
            case ProviderFields():
                self._note_choice(record.data)
            case ToolInputStart():
                self._open_call(record, out)
            case ToolInputDelta():
                self._blocks.add(self._calls[record.tool_call_id], _json(record.input_text_delta)[1:-1], out)
            case ToolInputAvailable() | ToolInputError():
                self._end_call(record, out)
            case ToolOutputAvailable():
                if not record.preliminary:
                    self._result(record.tool_call_id, bytes(record.output).decode(), out, is_error=False)
            case ToolOutputError():
                self._result(record.tool_call_id, record.error_text, out, is_error=True)
            case ToolOutputDenied():
                self._result(record.tool_call_id, NOT_ALLOWED, out, is_error=True)
            case MessageFinish():
                self._finish(record, out)
            case MessageError():
                self._fail(record.error_text, out)
            case MessageAbort():
                self._fail("the answer was stopped", out)
            case TextStart() | ReasoningStart() | StepStart() | StepFinish() | MessageStart():
                pass  # a text is opened by its first piece, a message by who answers
            case Data() | ApprovalRequest() | WholePart() | NewerRecord():
                pass  # the format has no such thing
            case _:
                assert_never(record)

    def _begin(self, out: list[bytes]) -> None:
        if not self._has_begun:
            self._has_begun = True
            out += (frame("message_start", {"message": self.message()}), PING)

    def _note(self, metadata: Raw) -> None:
        facts = facts_in(metadata)
        self._model = facts.model or self._model
        self._code = facts.code or self._code
        self._usage = facts.usage or self._usage
        self._note_choice(facts.provider_metadata)

    def _note_choice(self, fields: Raw | UnsetType) -> None:
        choice = provider_fields(fields).get("choice")
        if isinstance(choice, dict):
            self._choice |= choice

    # Blocks

    def _delta(self, kind: BlockKind, record: TextDelta | ReasoningDelta, out: list[bytes]) -> None:
        self._begin(out)
        if self._text is None or self._text.kind != kind:
            self._end_text(out)
            fields: dict[str, object] = {"signature": ""} if kind == "thinking" else {}
            self._text = self._blocks.open(kind, fields, out)
            name = b"text" if kind == "text" else b"reasoning"
            self._lead = b'{"type":"%b-delta","id":%b,"delta":"' % (name, _json(record.id))
        self._note_choice(record.provider_metadata)
        self._blocks.add(self._text, _json(record.delta)[1:-1], out)

    def _end_text(self, out: list[bytes]) -> None:
        if self._text is not None:
            self._blocks.end(self._text, out)
            self._text, self._lead = None, b"\0"

    def _open_call(self, record: ToolInputStart, out: list[bytes]) -> None:
        self._begin(out)
        self._end_text(out)
        fields: dict[str, object] = {"id": record.tool_call_id, "name": record.tool_name}
        if record.provider_executed:
            fields["server_name"] = SERVER
        kind: BlockKind = "mcp_tool_use" if record.provider_executed else "tool_use"
        self._calls[record.tool_call_id] = self._blocks.open(kind, fields, out)

    def _end_call(self, record: ToolInputAvailable | ToolInputError, out: list[bytes]) -> None:
        block = self._calls[record.tool_call_id]
        if not block.is_done and not block.pieces:  # nobody has heard of its arguments yet
            told = record.input if isinstance(record, ToolInputError) else bytes(record.input).decode()
            self._blocks.add(block, _json("" if told == "{}" else told)[1:-1], out)
        self._blocks.end(block, out)

    def _result(self, call_id: str, text: str, out: list[bytes], *, is_error: bool) -> None:
        call = self._calls.get(call_id)
        if call is None or call.kind != "mcp_tool_use":
            return  # its client has the result
        content = [{"type": "text", "text": text}]
        fields: dict[str, object] = {"tool_use_id": call_id, "is_error": is_error, "content": content}
        self._blocks.end(self._blocks.open("mcp_tool_result", fields, out), out)

    # Ends

    def _finish(self, record: MessageFinish, out: list[bytes]) -> None:
        if not isinstance(record.message_metadata, UnsetType):
            self._note(record.message_metadata)
        self._begin(out)
        self._blocks.end_all(out)
        self._stop_reason = STOP_REASONS.get(record.finish_reason, "end_turn")
        stopped_by = self._choice.get("stop_reason")
        if record.finish_reason == "stop" and isinstance(stopped_by, str):  # as vLLM tells what it has stopped at
            self._stop_reason, self._stop_sequence = "stop_sequence", stopped_by
        ended = {"stop_reason": self._stop_reason, "stop_sequence": self._stop_sequence}
        out.append(frame("message_delta", {"delta": ended, "usage": usage_object(self._usage)}))
        out.append(frame("message_stop", {}))
        self.is_over = True

    def _fail(self, text: str, out: list[bytes]) -> None:
        out.append(error_frame(text, self._code))
        self.is_over = True


def error_frame(message: str, code: str) -> bytes:
    """Returns an error in the middle of a stream."""
    return frame("error", {"error": anthropic_error(message, STATUSES.get(code, 500), code)})


def usage_object(usage: Usage | None) -> dict[str, object]:
    """Returns the figures; Anthropic counts what was cached beside the input, not in it."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        **({"output_tokens_details": {"thinking_tokens": usage.reasoning_tokens}} if usage.reasoning_tokens else {}),
    }
