"""The forms of single AG-UI events, and of what a client says of the run that it asks for. Pure."""

from collections.abc import Collection

import msgspec
from msgspec import Raw

from gateway.chat.records.record import ApprovalRequest
from gateway.core.usage import Usage

NAMES = {"text": "TEXT_MESSAGE", "reasoning": "REASONING_MESSAGE"}
"""Beginnings of the types of events about a message, by its kind."""
_json = msgspec.json.Encoder().encode

EventFields = dict[str, object]


class AguiRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run that a request asks for, in the client's words."""

    thread_id: str
    run_id: str
    protocol_version: str = ""
    """The version that the client speaks; empty: it says none, and is told none."""
    results: Collection[str] = ()
    """Ids of the calls whose results the client has: it is not told them again."""
    kept: list[Raw] | None = None
    """The messages that the client shows, but for those of this run; None where it shows none of those."""

    @property
    def names(self) -> EventFields:
        return {"threadId": self.thread_id, "runId": self.run_id}


def message_prefix(run_id: str) -> str:
    """Returns how the ids of the messages begin that a run of ours tells."""
    return f"msg-{run_id}."


def openings(kind: str, message_id: str) -> list[EventFields]:
    if kind == "text":
        return [{"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}]
    start: EventFields = {"type": "REASONING_MESSAGE_START", "messageId": message_id, "role": "reasoning"}
    return [{"type": "REASONING_START", "messageId": message_id}, start]


def step_event(name: str, *, has_begun: bool) -> EventFields:
    return {"type": "STEP_STARTED" if has_begun else "STEP_FINISHED", "stepName": name}


def text_in(value: Raw) -> str:
    """Returns a result as text: a JSON string as what it says."""
    text = bytes(value).decode()
    return msgspec.json.decode(text, type=str) if text[:1] == '"' else text


def interrupt(record: ApprovalRequest, tool_name: str) -> EventFields:
    """Returns an ask as AG-UI has it; its id names the call, too, so that an answer finds both."""
    schema = {
        "type": "object",
        "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
        "required": ["approved"],
    }
    return {
        "id": f"{record.approval_id}.{record.tool_call_id}",
        "reason": "tool_call",
        "message": f"May {tool_name or 'this tool'} be called?",
        "toolCallId": record.tool_call_id,
        "responseSchema": schema,
    }


def usage_object(usage: Usage, model: str) -> EventFields:
    figures: EventFields = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_tokens,
    }
    return {"model": model, **figures} if model else figures


def error_frame(message: str, code: str) -> bytes:
    """Returns the end of a stream that is not the run's own end."""
    return b"data: %b\n\n" % _json({"type": "RUN_ERROR", "message": message, "code": code})


def refused_run(run: AguiRun, message: str, code: str) -> bytes:
    """Returns all frames of a run that does not begin."""
    return b"data: %b\n\n%b" % (_json({"type": "RUN_STARTED", **run.names}), error_frame(message, code))
