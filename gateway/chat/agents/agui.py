"""Translates the events of an AG-UI agent into records. Pure.

Departs from a plain mapping where agents do: empty messages are dropped, and so is a call that comes again when a run
goes on after a question. A step begins where the model speaks after results, as in every other answer of the gateway.
"""

from collections.abc import Collection
from typing import assert_never

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.agents.agui_events import (
    ActivityDelta,
    ActivitySnapshot,
    AgentInterrupt,
    AguiEvent,
    CustomEvent,
    MessagesSnapshot,
    ReasoningEncryptedValue,
    ReasoningMessageChunk,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    RunDone,
    RunFailed,
    SilentEvent,
    StateDelta,
    StateSnapshot,
    StepFinished,
    StepStarted,
    TextMessageChunk,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ThinkingContent,
    ThinkingEnd,
    ToolCallArgs,
    ToolCallChunk,
    ToolCallEnd,
    ToolCallResult,
    ToolCallStart,
    UnknownEvent,
    decode_agui,
)
from gateway.chat.agents.agui_request import types_of
from gateway.chat.agents.documents import Documents, below, patch_without_messages, without_messages
from gateway.chat.agents.figures import total_usage
from gateway.chat.agents.prompt import AgentAsk, AgentFields
from gateway.chat.agents.writer import INTERRUPT, OF_AGENT, OF_CLIENT, AgentWriter, failure, json_of
from gateway.chat.records.record import FinishReason, TextKind, ToolOutputAvailable
from gateway.chat.upstreams.loose_fields import object_of
from gateway.core.loose_json import strict_raw
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamError

NO_ANSWER = ("user", "system", "developer")
"""Roles of messages that are no part of the answer."""
NOT_KEPT = {"type", "rawEvent", "timestamp"}


class AguiTranslation:
    """The translation of one run; what it becomes of stands in its attributes."""

    def __init__(self, writer: AgentWriter, client_tools: Collection[str]) -> None:
        """Takes the names of the tools that the client runs: the agent makes all other calls itself."""
        self.writer = writer
        self.is_complete = False
        self.finish_reason: FinishReason = "stop"
        self.error: UpstreamError | None = None
        self.usage: UpstreamUsage | None = None
        self._client_tools = client_tools
        self._documents = Documents()
        self._not_ours: set[str] = set()
        self._repeated: set[str] = set()
        self._has_results = False
        self._current = ""
        """Id of the message or call that pieces without an id belong to."""
        self._waits_for_client = False
        self._without_result: set[str] = set()
        """Ids of the agent's own calls whose results have not come."""

    def take(self, event: bytes, out: list[bytes]) -> None:
        """Records an event. Raises UpstreamError for what is none."""
        try:
            self._take(decode_agui(event), out)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise UpstreamError(
                f"the agent sent an event that is not as AG-UI has it: {err}", code="upstream_invalid"
            ) from err

    def _take(self, event: AguiEvent | UnknownEvent, out: list[bytes]) -> None:
        match event:
            case TextMessageContent():
                self._text("text", event.message_id, event.delta, out)
            case ReasoningMessageContent():
                self._text("reasoning", event.message_id, event.delta, out)
            case ThinkingContent():
                self._text("reasoning", "", event.delta, out)
            case TextMessageStart():
                self._current = event.message_id
                if event.role in NO_ANSWER:
                    self._not_ours.add(event.message_id)
            case TextMessageChunk() | ReasoningMessageChunk():
                self._chunk(event, out)
            case TextMessageEnd() | ReasoningMessageEnd():
                if self.writer.is_open(event.message_id):
                    self.writer.close_text(out)
            case ThinkingEnd():
                self.writer.close_text(out)
            case ReasoningEncryptedValue():
                self._encrypted(event, out)
            case ToolCallStart():
                self._call(event.tool_call_id, event.tool_call_name, event.parent_message_id, out)
            case ToolCallArgs():
                self._arguments(event.tool_call_id, event.delta, out)
            case ToolCallEnd():
                self.writer.complete(event.tool_call_id, out)
            case ToolCallChunk():
                self._call_chunk(event, out)
            case ToolCallResult():
                self._result(event, out)
            case RunDone():
                self._finish(event, out)
            case RunFailed():
                self.usage = total_usage(event.usage)
                self.error = failure(event.message, agent_code=event.code)
            case MessagesSnapshot():
                self._result_ids(event)
            case SilentEvent():
                pass
            case _:
                self._data(event, out)

    # Texts

    def _text(self, kind: TextKind, message_id: str, text: str, out: list[bytes]) -> None:
        if not text or message_id in self._not_ours:
            return
        if self.writer.is_open(message_id):
            self.writer.text(kind, message_id, text, UNSET, out)
            return
        self._begin_step(out)
        fields = AgentFields(message_id=message_id).as_metadata() if message_id else UNSET
        self.writer.text(kind, message_id, text, fields, out)

    def _chunk(self, event: TextMessageChunk | ReasoningMessageChunk, out: list[bytes]) -> None:
        self._current = event.message_id or self._current
        if isinstance(event, ReasoningMessageChunk):
            self._text("reasoning", self._current, event.delta or "", out)
        elif event.role not in NO_ANSWER:
            self._text("text", self._current, event.delta or "", out)

    def _encrypted(self, event: ReasoningEncryptedValue, out: list[bytes]) -> None:
        fields = AgentFields(encrypted_value=event.encrypted_value)
        if event.subtype == "tool-call":
            self.writer.fields(event.entity_id, fields.as_metadata())
            return
        fields.message_id = event.entity_id
        if not self.writer.is_open(event.entity_id):
            self._begin_step(out)
            self.writer.text("reasoning", event.entity_id, "", fields.as_metadata(), out)
        self.writer.close_text(out, fields.as_metadata())

    def _begin_step(self, out: list[bytes]) -> None:
        """Begins a step when the one before has its results."""
        if self._has_results:
            self._has_results = False
            self.writer.close_text(out)
            out += self.writer.recorder.next_step()

    def _begin_question(self, out: list[bytes]) -> None:
        """Begins a step for a question about no call where calls wait for its answer.

        Clients of the AI SDK post an answer once every call of the last step has a result or an answer.
        """
        self._has_results |= bool(self._without_result)
        self._without_result.clear()
        self._begin_step(out)

    # Calls

    def _call(self, call_id: str, name: str, parent: str | None, out: list[bytes]) -> None:
        self._current = call_id
        if self.writer.knows(call_id):
            self._repeated.add(call_id)
            return
        self._begin_step(out)
        is_clients = name in self._client_tools
        self._waits_for_client |= is_clients
        self.writer.call(call_id, name, OF_CLIENT if is_clients else OF_AGENT, out)
        if not is_clients:
            self._without_result.add(call_id)
        self.writer.fields(call_id, AgentFields(message_id=parent or "").as_metadata())

    def _arguments(self, call_id: str, piece: str, out: list[bytes]) -> None:
        if call_id not in self._repeated and self.writer.knows(call_id):
            self.writer.recorder.tool_arguments(call_id, piece, out)

    def _call_chunk(self, event: ToolCallChunk, out: list[bytes]) -> None:
        call_id = event.tool_call_id or self._current
        if event.tool_call_name and call_id != self._current:
            self._call(call_id, event.tool_call_name, event.parent_message_id, out)
        if event.delta:
            self._arguments(call_id, event.delta, out)

    def _result(self, event: ToolCallResult, out: list[bytes]) -> None:
        call_id = event.tool_call_id
        if not self.writer.knows(call_id):
            self.writer.named_data("tool-result", strict_raw({"toolCallId": call_id, "content": event.content}), out)
            return
        content = bytes(event.content)
        output = json_of(msgspec.json.decode(content, type=str)) if content[:1] == b'"' else event.content
        if event.message_id:
            self.writer.fields(call_id, AgentFields(result_id=event.message_id).as_metadata())
        self.writer.outcome(ToolOutputAvailable(tool_call_id=call_id, output=output), out)
        self._without_result.discard(call_id)
        self._has_results = True

    def _result_ids(self, event: MessagesSnapshot) -> None:
        """Keeps the ids that the agent's own memory has of results: while they are streamed, some give others."""
        for message in event.messages:
            if message.tool_call_id and isinstance(message.id, str):
                self.writer.fields(message.tool_call_id, AgentFields(result_id=message.id).as_metadata())

    # Data

    def _data(
        self,
        event: StepStarted
        | StepFinished
        | StateSnapshot
        | StateDelta
        | ActivitySnapshot
        | ActivityDelta
        | CustomEvent
        | UnknownEvent,
        out: list[bytes],
    ) -> None:
        writer, documents = self.writer, self._documents
        match event:
            case StepStarted() | StepFinished():
                state = "started" if isinstance(event, StepStarted) else "finished"
                writer.data("step", strict_raw({"state": state}), out, data_id=event.step_name)
            case StateSnapshot():
                state = without_messages(event.snapshot)
                documents.replace("state", "state", state)
                writer.data("state", state, out, data_id="state")
            case StateDelta():
                if patch := patch_without_messages(event.delta):
                    documents.patch("state", "state", patch)
                    writer.data("state-delta", patch, out, transient=True)
            case ActivitySnapshot():
                activity = strict_raw({"activityType": event.activity_type, "content": event.content})
                documents.replace("activity", event.message_id, activity)
                writer.data("activity", activity, out, data_id=event.message_id)
            case ActivityDelta():
                patch = below(event.patch, "/content")
                documents.patch("activity", event.message_id, patch)
                writer.data("activity-delta", patch, out, data_id=event.message_id, transient=True)
            case CustomEvent():
                writer.named_data(event.name, event.value, out)
            case UnknownEvent():
                fields = msgspec.json.decode(event.raw, type=dict[str, Raw])
                kept = {name: value for name, value in fields.items() if name not in NOT_KEPT}
                writer.named_data(event.type.lower(), strict_raw(kept), out)
            case _:
                assert_never(event)

    # The end

    def _finish(self, event: RunDone, out: list[bytes]) -> None:
        self.usage = total_usage(event.usage)
        for name, data_id, value in self._documents.changed():
            self.writer.data(name, value, out, data_id=data_id)
        if not isinstance(event.result, UnsetType) and bytes(event.result) != b"null":
            self.writer.named_data("result", event.result, out)
        outcome = event.outcome
        if outcome is not None and outcome.type == "cancelled":
            self.error = failure("the agent gave its run up", "upstream_aborted")
            return
        for interrupt in outcome.interrupts if outcome is not None else []:
            self._interrupt(interrupt, out)
        pending = outcome.pending_tool_call_ids if outcome is not None else None
        if self.writer.asks or pending or (pending is None and self._waits_for_client):
            self.finish_reason = "tool-calls"
        self.is_complete = True

    def _interrupt(self, interrupt: AgentInterrupt, out: list[bytes]) -> None:
        call_id = interrupt.tool_call_id or ""
        is_about_call = self.writer.knows(call_id)
        if not is_about_call:
            call_id = f"{INTERRUPT}-{interrupt.id}"
            shown = {"message": interrupt.message, "metadata": interrupt.metadata}
            given = {name: value for name, value in shown.items() if value is not None and value is not UNSET}
            self._begin_question(out)
            if not self.writer.knows(call_id):
                self.writer.call(call_id, INTERRUPT, OF_CLIENT, out)
                self.writer.recorder.tool_arguments(call_id, bytes(strict_raw(given)).decode(), out)
        ask = AgentAsk(
            approval_id=self.writer.next_approval_id(),
            interrupt_id=interrupt.id,
            tool_call_id=call_id,
            kind="input" if not is_about_call and _wants_more(interrupt.response_schema) else "approval",
            message=interrupt.message or "",
            response_schema=interrupt.response_schema,
            expires_at=interrupt.expires_at or "",
            is_editable=is_about_call and b'"editedArgs"' in bytes(interrupt.response_schema or b""),
        )
        told = {"responseSchema": interrupt.response_schema, "metadata": interrupt.metadata}
        kept = {name: value for name, value in told.items() if value is not UNSET}
        fields = AgentFields(interrupt_id=interrupt.id, asked=strict_raw(kept) if kept else UNSET)
        self.writer.ask(ask, fields, out)


def _wants_more(schema: Raw | UnsetType) -> bool:
    """Returns whether an answer is more than yes or no: its schema has no place for that."""
    if isinstance(schema, UnsetType):
        return False
    asked = object_of(msgspec.json.decode(schema))
    return "boolean" not in types_of(asked) and "approved" not in object_of(asked.get("properties"))
