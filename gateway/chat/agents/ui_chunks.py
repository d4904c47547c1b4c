"""Translates the chunks of an agent that speaks the UI Message Stream (AI SDK 5 to 7) into records. Pure.

It is the dialect of our log, so chunks are read as records; what a record has and this dialect may lack is filled in.
A chunk of a kind that not every version of the SDK accepts is kept as data.
"""

from typing import cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.agents.figures import usage_in
from gateway.chat.agents.prompt import AgentAsk, AgentFields
from gateway.chat.agents.writer import AgentWriter, failure, on_one_line
from gateway.chat.records.message_parts import CallKind
from gateway.chat.records.provider_fields import folded
from gateway.chat.records.record import (
    DATA,
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
    Record,
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
)
from gateway.chat.upstreams.finish_reasons import finish_reason_of
from gateway.chat.upstreams.loose_fields import JsonFields
from gateway.core.loose_json import strict_json
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamError

OUR_METADATA = {
    *("model", "usage", "providerMetadata", "rawFinishReason", "author"),
    *("outcome", "code", "finishReason", "errorText", "retryable", "emitted", "reason", "upstreamError"),
}
"""Metadata of a message that the gateway writes itself."""


class _Beside(msgspec.Struct, rename="camel"):
    """Fields of chunks that records do not have, or have in a narrower form."""

    tool_call_id: str = ""
    tool_name: str = ""
    input: Raw | UnsetType = UNSET
    error_text: str = ""
    provider_executed: bool | None = None
    dynamic: bool | None = None
    provider_metadata: ProviderMetadata = UNSET
    message_metadata: Raw | UnsetType = UNSET
    finish_reason: str | None = None
    is_automatic: bool | None = None
    """Whether nobody needs to be asked: the agent answers by itself."""


_beside = msgspec.json.Decoder(_Beside).decode


class UIChunkTranslation:
    """The translation of one answer; what becomes of it stands in its attributes."""

    def __init__(self, writer: AgentWriter) -> None:
        self.writer = writer
        self.is_complete = False
        self.finish_reason: FinishReason = "other"
        self.error: UpstreamError | None = None
        self.usage: UpstreamUsage | None = None
        self._steps = 0
        self._pending: dict[str, list[Raw]] = {}
        """Fields of texts that have begun and have no piece yet."""

    def take(self, event: bytes, out: list[bytes]) -> None:
        """Records a chunk. Raises UpstreamError for what is none."""
        if event == b"[DONE]":
            return
        try:
            self._take(decode_record(event), event, out)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise UpstreamError(
                f"the agent sent a chunk that is not as the UI Message Stream has it: {err}", code="upstream_invalid"
            ) from err

    def _take(self, record: Record, event: bytes, out: list[bytes]) -> None:
        writer = self.writer
        match record:
            case TextDelta():
                self._text("text", record.id, record.delta, record.provider_metadata, out)
            case ReasoningDelta():
                self._text("reasoning", record.id, record.delta, record.provider_metadata, out)
            case TextStart() | ReasoningStart():
                if not isinstance(record.provider_metadata, UnsetType):
                    self._pending[_key(record)] = [record.provider_metadata]
            case TextEnd() | ReasoningEnd():
                self._end_text(record, out)
            case ToolInputDelta():
                if (call := writer.call_of(record.tool_call_id)) is not None and not call.complete:
                    writer.recorder.tool_arguments(record.tool_call_id, record.input_text_delta, out)
            case ToolInputStart() | ToolInputAvailable() | ToolInputError() | ApprovalRequest():
                self._call(record, _beside(event), event, out)
            case ToolOutputAvailable() | ToolOutputError() | ToolOutputDenied():
                if writer.knows(record.tool_call_id):
                    writer.outcome(record, out)
                else:
                    self._unknown(event, out)
            case Data():
                name = record.type.removeprefix(DATA)
                writer.named_data(name, record.data, out, data_id=record.id, transient=record.transient)
            case ProviderFields():
                writer.named_data("provider", record.data, out)
            case WholePart():
                writer.whole(on_one_line(record.raw), out)
            case StepStart():
                self._steps += 1
                if self._steps > 1:
                    writer.close_text(out)
                    out += writer.recorder.next_step()
            case MessageStart() | Metadata() | MessageFinish():
                self._metadata(_beside(event), out)
                if isinstance(record, MessageFinish):
                    self._finish(record.finish_reason)
            case MessageError():
                self.error = failure(record.error_text)
            case MessageAbort():
                reason = f": {record.reason}" if record.reason else ""
                self.error = failure(f"the agent gave its answer up{reason}", "upstream_aborted")
            case StepFinish():
                pass
            case NewerRecord():
                self._loose(record.type, event, out)

    # Texts

    def _text(self, kind: TextKind, chunk_id: str, text: str, fields: ProviderMetadata, out: list[bytes]) -> None:
        message_id = f"{kind}:{chunk_id}"
        if fields is UNSET and not self._pending:
            if text:
                self.writer.text(kind, message_id, text, UNSET, out)
            return
        pending = self._pending.pop(message_id, [])
        whole = folded([*pending, *([] if isinstance(fields, UnsetType) else [fields])])
        if text or not isinstance(whole, UnsetType):
            self.writer.text(kind, message_id, text, whole, out)

    def _end_text(self, record: TextEnd | ReasoningEnd, out: list[bytes]) -> None:
        key = _key(record)
        pending = self._pending.pop(key, [])
        fields = record.provider_metadata
        if not self.writer.is_open(key):
            is_signed = isinstance(record, ReasoningEnd) and (pending or not isinstance(fields, UnsetType))
            if not is_signed:
                return  # an empty text
            self.writer.text("reasoning", key, "", folded(pending), out)
        self.writer.close_text(out, fields)

    # Calls

    def _call(
        self,
        record: ToolInputStart | ToolInputAvailable | ToolInputError | ApprovalRequest,
        beside: _Beside,
        event: bytes,
        out: list[bytes],
    ) -> None:
        if isinstance(record, ApprovalRequest):
            self._ask(record, beside, event, out)
            return
        call_id = record.tool_call_id
        call = self.writer.call_of(call_id)
        if call is None and self.writer.knows(call_id):
            return  # of an earlier run, and told once more
        if call is None:
            kind = CallKind(bool(beside.provider_executed), bool(beside.dynamic))
            self.writer.call(call_id, record.tool_name, kind, out)
        elif call.complete:
            return
        if not isinstance(beside.provider_metadata, UnsetType):
            self.writer.fields(call_id, beside.provider_metadata)
        if isinstance(record, ToolInputAvailable):
            self.writer.complete(call_id, out, bytes(on_one_line(record.input)).decode())
        elif isinstance(record, ToolInputError):
            self.writer.recorder.tool_failed(call_id, record.error_text)
            self.writer.complete(call_id, out, record.input)

    def _ask(self, record: ApprovalRequest, beside: _Beside, event: bytes, out: list[bytes]) -> None:
        if beside.is_automatic:
            return
        if not self.writer.knows(record.tool_call_id):
            self._unknown(event, out)
            return
        ask = AgentAsk(
            approval_id=self.writer.next_approval_id(),
            interrupt_id=record.approval_id,
            tool_call_id=record.tool_call_id,
            kind="approval",
        )
        fields = AgentFields(interrupt_id=record.approval_id, asked=_approval(event))
        self.writer.ask(ask, fields, out)

    # Everything else

    def _loose(self, kind: str, event: bytes, out: list[bytes]) -> None:
        """Reads a chunk that is no record: it lacks a field that ours have, or it is of another version."""
        beside = _beside(event)
        match kind:
            case "start" | "message-metadata":
                self._metadata(beside, out)
            case "finish":
                self._metadata(beside, out)
                self._finish(beside.finish_reason)
            case "tool-input-error":
                text = "" if isinstance(beside.input, UnsetType) else bytes(beside.input).decode()
                failed = ToolInputError(
                    tool_call_id=beside.tool_call_id,
                    tool_name=beside.tool_name,
                    input=text,
                    error_text=beside.error_text,
                )
                self._call(failed, beside, event, out)
            case "tool-approval-response":
                pass  # it repeats what the log has
            case _:
                self._unknown(event, out)

    def _unknown(self, event: bytes, out: list[bytes]) -> None:
        self.writer.named_data("chunk", on_one_line(Raw(event)), out)

    def _metadata(self, beside: _Beside, out: list[bytes]) -> None:
        if isinstance(beside.message_metadata, UnsetType):
            return
        told: object = msgspec.json.decode(beside.message_metadata)
        fields = cast(JsonFields, told) if isinstance(told, dict) else {}
        self.usage = usage_in(fields) or self.usage
        if kept := {name: value for name, value in fields.items() if name not in OUR_METADATA}:
            self.writer.metadata(kept, out)

    def _finish(self, reason: str | None) -> None:
        known = finish_reason_of(reason)
        if known == "error":
            self.error = failure("the agent ended its answer as one that failed")
            return
        self.finish_reason = known or "other" if reason else "stop"
        if self.writer.asks:
            self.finish_reason = "tool-calls"
        self.is_complete = True


def _key(record: TextStart | TextEnd | ReasoningStart | ReasoningEnd) -> str:
    kind = "text" if isinstance(record, TextStart | TextEnd) else "reasoning"
    return f"{kind}:{record.id}"


def _approval(event: bytes) -> Raw:
    """Returns all that the agent says of a question beside the call: some sign it, and want their signature back."""
    fields = msgspec.json.decode(event, type=dict[str, object])
    kept = {name: value for name, value in fields.items() if name not in ("type", "toolCallId", "approvalId")}
    return Raw(strict_json(kept | {"id": fields["approvalId"]}))
