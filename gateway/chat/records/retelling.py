"""The parts of an answer become records again, for clients that did not see them when they were written. Pure.

A client's call that has its result is told without `tool-input-available`: at that record an AI SDK client runs its
own tool, and it must not run it a second time.
"""

from collections.abc import Iterable
from typing import cast

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.messages import APPROVED, OUTPUT_STATES, MessagePart
from gateway.chat.records.record import (
    DATA,
    WHOLE_PARTS,
    FinishReason,
    MessageAbort,
    MessageError,
    MessageFinish,
    MessageStart,
    Metadata,
    StepFinish,
    StepStart,
    encode_record,
)

_json = msgspec.json.Encoder().encode
_part = msgspec.json.Decoder(MessagePart).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode

Fields = dict[str, object]


def records_of(parts: Iterable[Raw], *, has_streamed_inputs: bool = True) -> list[bytes]:
    """Returns the records of whole steps that make these parts.

    Without `has_streamed_inputs` no call is told as one whose input is still to come: a client of AI SDK 5 that is cut
    behind such a record resumes at it, and shows all that it is told again behind what it has.
    """
    records: list[bytes] = []
    for number, raw in enumerate(parts):
        part = _part(raw)
        if part.type == "step-start" and records:
            records.append(encode_record(StepFinish()))
        if part.type == "step-start" or not records:
            records.append(encode_record(StepStart()))
        told = _records(part, _fields(raw), f"e{number}", has_streamed_inputs=has_streamed_inputs)
        records += [_json(record) for record in told]
        if part.type in WHOLE_PARTS or part.type.startswith(DATA):
            records.append(bytes(raw))
    return [*records, encode_record(StepFinish())] if records else []


def records_of_run(finished: RunFinished) -> list[bytes]:
    """Returns records of a run that is over and of no chat, by what is kept of it when its own are no more."""
    message = finished.message
    metadata = Raw(_json({"usage": finished.usage}))
    if message is not None and not isinstance(message.metadata, UnsetType):
        metadata = message.metadata
    start = encode_record(MessageStart(message_id=message.id if message is not None else ""))
    told = [start, *records_of(message.parts if message is not None else ())]
    match finished.outcome:
        case "finish":
            reason = cast(FinishReason, finished.finish_reason)
            return [*told, encode_record(MessageFinish(finish_reason=reason, message_metadata=metadata))]
        case "error":
            failure = Raw(_json({"code": finished.code}))
            facts = [encode_record(Metadata(message_metadata=one)) for one in (failure, metadata)]
            return [*told, *facts, encode_record(MessageError(error_text=finished.text))]
        case "abort":
            aborted = encode_record(MessageAbort(reason=finished.text))
            return [*told, encode_record(Metadata(message_metadata=metadata)), aborted]


def outcome_of(raw: Raw) -> bytes | None:
    """Returns the record of what became of a call; None when that is only known to be allowed."""
    fields = outcome_fields_of(raw)
    return _json(fields) if fields is not None else None


def outcome_fields_of(raw: Raw) -> Fields | None:
    """Returns the fields of that record."""
    return _outcome(_part(raw), _fields(raw))


def _records(part: MessagePart, fields: dict[str, Raw], text_id: str, *, has_streamed_inputs: bool) -> list[Fields]:
    if part.type in ("text", "reasoning"):
        return _text(part, fields, text_id)
    return _call(part, fields, has_streamed_inputs=has_streamed_inputs) if part.is_tool else []


def _text(part: MessagePart, fields: dict[str, Raw], text_id: str) -> list[Fields]:
    more = _some(fields, providerMetadata="providerMetadata")
    start: Fields = {"type": f"{part.type}-start", "id": text_id, **more}
    delta: Fields = {"type": f"{part.type}-delta", "id": text_id, "delta": part.text, **more}
    end: Fields = {"type": f"{part.type}-end", "id": text_id, **more}
    return [start, delta, end] if part.text else [start, end]


def _call(part: MessagePart, fields: dict[str, Raw], *, has_streamed_inputs: bool) -> list[Fields]:
    more = {**_some(fields, callProviderMetadata="providerMetadata", title="title"), **_kind(part, fields)}
    call: Fields = {"toolCallId": part.tool_call_id, "toolName": part.tool, **more}
    start: Fields = {"type": "tool-input-start", **call}
    if part.state == "input-streaming":
        return [start]
    opening = [start] if has_streamed_inputs else []
    if part.state == "output-error" and part.raw_input is not None:
        failed: Fields = {"type": "tool-input-error", **call, "input": part.raw_input, "errorText": part.error_text}
        return [*opening, failed]
    told: Fields = {"type": "tool-input-available", **call, "input": Raw(part.arguments.encode())}
    outcome = _outcome(part, fields)
    if part.state in (*OUTPUT_STATES, APPROVED) and not part.provider_executed:
        if has_streamed_inputs:
            told = {"type": "tool-input-delta", "toolCallId": part.tool_call_id, "inputTextDelta": part.arguments}
        else:  # for as long as it has no result it is told as made elsewhere, so that no client makes it
            told["providerExecuted"] = True
            outcome = outcome and {**outcome, "providerExecuted": False}
    asked: list[Fields] = []
    if part.approval is not None and part.approval.id:
        request = {"approvalId": part.approval.id, "toolCallId": part.tool_call_id}
        asked = [{"type": "tool-approval-request", **request}]
    return [*opening, told, *asked, *([outcome] if outcome is not None else [])]


def _outcome(part: MessagePart, fields: dict[str, Raw]) -> Fields | None:
    call: Fields = {"toolCallId": part.tool_call_id, **_kind(part, fields)}
    match part.state:
        case "output-available":
            return {"type": "tool-output-available", **call, "output": fields.get("output")}
        case "output-error":
            return {"type": "tool-output-error", **call, "errorText": part.error_text}
        case "output-denied":
            return {"type": "tool-output-denied", **call}
        case _:
            return None


def _kind(part: MessagePart, fields: dict[str, Raw]) -> Fields:
    more = _some(fields, providerExecuted="providerExecuted")
    return {**more, "dynamic": True} if part.type == "dynamic-tool" else more


def _some(fields: dict[str, Raw], **names: str) -> Fields:
    """Returns those fields that there are, each under the name that it has in a record."""
    return {name: fields[field] for field, name in names.items() if field in fields}
