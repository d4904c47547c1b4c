"""This dialect speaks OpenAI's Responses: a run's records become numbered events, or one response.

Unlike other dialects it keeps a state, because each event has a number and an item is told once more, whole, at its
end. So it reads a run from its beginning: the same records give the same events, with the same ids and numbers, however
often and by whomever they are read. Who comes back with the number of an event is told those after it.

A piece of a text is not decoded: its JSON goes from the record into the event. What an upstream adds to its answer and
we do not know stands in the `provider` of the response, or of the call that it belongs to, whence it goes back with the
call. A failure is `response.failed` and then `error`, which the SDK raises.
"""

from collections.abc import Iterable
from typing import Any, Literal, assert_never

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.dialects.response_items import NAMESPACE
from gateway.chat.dialects.response_output import CallItem, OutputItem, TextItem
from gateway.chat.dialects.response_tools import names_in_namespaces
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.message_facts import facts_in
from gateway.chat.records.messages import parts_of, provider_fields
from gateway.chat.records.provider_fields import folded
from gateway.chat.records.record import (
    CUSTOM_TOOL,
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
from gateway.chat.records.response_record import StoredResponse
from gateway.chat.records.retelling import records_of_run
from gateway.core.usage import Usage

Status = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
INCOMPLETE = {"length": "max_output_tokens", "content-filter": "content_filter"}
"""Reasons to finish with which a response is not complete, and the field's words for them."""
SAYS_NOTHING_YET = (StepFinish, Metadata, MessageFinish, MessageError, MessageAbort)
"""Records behind a text that do not tell whether it is complete, or tell it themselves."""
NOT_ALLOWED = "this call was not allowed"
_json = msgspec.json.Encoder().encode


class ResponseEvents:
    """Tells one run, record by record, as the events of a response."""

    def __init__(self, stored: StoredResponse, after: int = -1) -> None:
        """Tells only events with numbers above `after`."""
        self.status: Status = "in_progress"
        self.is_over = False
        self.number = -1
        """Number of the newest event."""
        self._stored = stored
        self._model = stored.model
        self._after = after
        self._out: list[bytes] = []
        self._items: list[OutputItem] = []
        self._calls: dict[str, CallItem] = {}
        self._custom: set[str] = set()
        self._text: TextItem | None = None
        self._is_ending = False
        """Whether the open text is at its end, and only what follows tells whether it is complete."""
        self._lead = b"\0"
        """How the record of a plain piece of the open text begins."""
        self._told_lead = b""
        self._told_pieces: list[bytes] = []
        self._usage: Usage | None = None
        self._provider: list[Raw] = []
        self._failure: dict[str, object] = {}
        self._error: dict[str, object] | None = None
        self._incomplete: dict[str, object] | None = None

    def feed(self, records: Iterable[bytes]) -> bytes:
        """Returns the frames of the events that `records`, the next ones of the run, make."""
        out = self._out = []
        for data in records:
            lead = self._lead
            if data.startswith(lead) and data.endswith(b'"}'):  # with fields of a provider it ends otherwise
                piece = data[len(lead) : -2]
                self._told_pieces.append(piece)
                self.number += 1
                if self.number > self._after:
                    out.append(b'%b%b","sequence_number":%d}\n\n' % (self._told_lead, piece, self.number))
            else:
                self._tell(decode_record(data))
        return b"".join(out)

    def retell(self, finished: RunFinished) -> None:
        """Takes a run that is over by what is kept of it: only the response is told then, as it ended."""
        for part in parts_of(finished.message) if finished.message is not None else ():
            if part.is_tool and provider_fields(part.call_provider_metadata).get("type") == "custom":
                self._custom.add(part.tool_call_id)
        self.feed(records_of_run(finished))

    def response(self) -> dict[str, object]:
        """Returns the response as it stands."""
        stored = self._stored
        provider = provider_fields(folded(self._provider)) if self._provider else {}
        return {
            "id": stored.id,
            "object": "response",
            "created_at": stored.created_at,
            "status": self.status,
            **msgspec.json.decode(stored.echo, type=dict[str, Raw]),
            "model": self._model,
            "output": [item.whole() for item in self._items],
            "error": self._error,
            "incomplete_details": self._incomplete,
            "usage": None if self._usage is None else usage_object(self._usage),
            **({"provider": provider} if provider else {}),
        }

    def _tell(self, record: Record) -> None:
        if self._is_ending and not isinstance(record, SAYS_NOTHING_YET):
            self._close_text("completed")
        match record:
            case TextDelta() | ReasoningDelta():
                self._delta(record)
            case TextEnd() | ReasoningEnd():
                self._is_ending = self._text is not None  # its fields are those of its pieces
                self._lead = b"\0"
            case MessageStart():
                self._event("response.created", {"response": self.response()})
                self._event("response.in_progress", {"response": self.response()})
            case Metadata():
                self._note_facts(record.message_metadata)
            case ProviderFields():
                self._note_fields(record.data)
            case Data():
                if record.type == CUSTOM_TOOL:
                    self._custom.add(msgspec.json.decode(record.data))
            case ToolInputStart():
                self._open_call(record)
            case ToolInputDelta():
                self._calls[record.tool_call_id].add(record.input_text_delta, self._event)
            case ToolInputAvailable() | ToolInputError():
                call = self._calls[record.tool_call_id]
                if isinstance(record, ToolInputAvailable):
                    call.note_fields(provider_fields(record.provider_metadata))
                call.end_arguments(_input_of(record), self._event)
            case ToolOutputAvailable():
                if not record.preliminary and record.tool_call_id in self._calls:
                    self._calls[record.tool_call_id].result(bytes(record.output).decode(), None, self._event)
            case ToolOutputError() | ToolOutputDenied():
                text = NOT_ALLOWED if isinstance(record, ToolOutputDenied) else record.error_text
                if record.tool_call_id in self._calls:
                    self._calls[record.tool_call_id].result(None, text, self._event)
            case MessageFinish():
                self._finish(record)
            case MessageError():
                self._fail(record.error_text)
            case MessageAbort():
                self._end("cancelled", "response.incomplete")
            case TextStart() | ReasoningStart() | StepStart() | StepFinish():
                pass  # a text is opened by its first piece, which tells what it is
            case ApprovalRequest() | WholePart() | NewerRecord():
                pass
            case _:
                assert_never(record)

    # Texts

    def _delta(self, record: TextDelta | ReasoningDelta) -> None:
        fields = provider_fields(record.provider_metadata)
        is_refusal = fields.get("refusal") is True
        if not is_refusal:
            self._note_fields(record.provider_metadata)
        if self._text is None:
            self._open_text(record, is_refusal=is_refusal)
        text, piece = self._text, _json(record.delta)[1:-1]
        assert text is not None
        text.pieces.append(piece)
        self.number += 1
        if self.number > self._after:
            self._out.append(b'%b%b","sequence_number":%d}\n\n' % (self._told_lead, piece, self.number))

    def _open_text(self, record: TextDelta | ReasoningDelta, *, is_refusal: bool) -> None:
        if isinstance(record, ReasoningDelta):
            kind = "summary" if self._stored.has_summaries else "reasoning"
        else:
            kind = "refusal" if is_refusal else "text"
        text = self._text = TextItem(self._item_id("rs" if kind in ("summary", "reasoning") else "msg"), kind)
        self._add(text)
        text.open(self._event)
        word = b"text" if isinstance(record, TextDelta) else b"reasoning"
        self._lead = b'{"type":"%b-delta","id":%b,"delta":"' % (word, _json(record.id))
        self._told_lead = text.delta_lead()
        self._told_pieces = text.pieces

    def _close_text(self, status: str) -> None:
        self._is_ending = False
        if self._text is not None:
            self._text.close(status, self._event)
            self._text = None

    # Calls

    def _open_call(self, record: ToolInputStart) -> None:
        is_custom = record.tool_call_id in self._custom
        kind = "mcp_call" if record.provider_executed else "custom_tool_call" if is_custom else "function_call"
        prefix = {"mcp_call": "mcp", "custom_tool_call": "ctc", "function_call": "fc"}[kind]
        namespace, name = self._namespaces().get(record.tool_name, ("", record.tool_name))
        call = CallItem(self._item_id(prefix), kind, record.tool_call_id, name, namespace)
        self._calls[record.tool_call_id] = call
        self._add(call)
        call.open(self._event)

    def _namespaces(self) -> dict[str, tuple[str, str]]:
        if NAMESPACE.encode() not in bytes(self._stored.echo):
            return {}
        return names_in_namespaces(msgspec.json.decode(self._stored.echo)["tools"])

    # Ends

    def _finish(self, record: MessageFinish) -> None:
        if not isinstance(record.message_metadata, UnsetType):
            self._note_facts(record.message_metadata)
        why = INCOMPLETE.get(record.finish_reason)
        status: Status = "completed" if why is None else "incomplete"
        self._close_text(status)
        if why is not None:
            self._incomplete = {"reason": why}
        self._end(status, f"response.{status}")

    def _fail(self, text: str) -> None:
        self._error = {"code": "server_error", **self._failure, "message": text}
        self._end("failed", "response.failed")
        code, param = self._error.get("code"), self._error.get("param")
        told = {"type": "server_error", "param": param, **self._error}
        self._event("error", {"code": code, "message": text, "param": param, "error": told})

    def _end(self, status: Status, event: str) -> None:
        self.status, self.is_over = status, True
        for item in self._items:
            item.end()
        self._event(event, {"response": self.response()})

    # What is kept

    def _note_facts(self, metadata: Raw) -> None:
        facts = facts_in(metadata)
        self._model = facts.model or self._model
        self._usage = facts.usage or self._usage
        if facts.code:
            self._failure = {"code": facts.code, **facts.upstream_error}
        self._note_fields(facts.provider_metadata)

    def _note_fields(self, fields: Raw | UnsetType) -> None:
        if not isinstance(fields, UnsetType):
            self._provider.append(fields)

    def _item_id(self, prefix: str) -> str:
        """Returns the id of the next item, from which the item can be found again."""
        return f"{prefix}_{self._stored.run_id}_{len(self._items)}"

    def _add(self, item: OutputItem) -> None:
        item.index = len(self._items)
        self._items.append(item)

    def _event(self, name: str, fields: dict[str, Any]) -> None:
        self.number += 1
        if self.number > self._after:
            data = _json({"type": name, **fields, "sequence_number": self.number})
            self._out.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))


def _input_of(record: ToolInputAvailable | ToolInputError) -> str:
    """Returns the input of a call as a text; that of a tool which takes any text is a JSON string."""
    if isinstance(record, ToolInputError):
        return record.input
    text = bytes(record.input).decode()
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


def error_frame(message: str, code: str, number: int) -> bytes:
    """Returns an error that is not the run's own: its number is that of the event before, so that none is missed."""
    fields = {"code": code, "message": message, "param": None}
    told = {"type": "error", **fields, "error": {"type": "server_error", **fields}, "sequence_number": max(number, 0)}
    return b"event: error\ndata: %b\n\n" % _json(told)


def usage_object(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
