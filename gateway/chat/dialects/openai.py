"""This dialect speaks OpenAI's chat completions: a run's records become completion chunks, or one completion.

What an upstream adds to its answer stands where it came: in the delta, in the choice, or beside the choices. A cut is
never a quiet end: it is an error frame and then `[DONE]`, which the SDK raises as APIError.
"""

from collections.abc import Mapping
from typing import Any, assert_never, cast

import msgspec
from msgspec import UNSET, UnsetType

from events.log.port import Block
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.message_facts import MessageFacts, facts_in
from gateway.chat.records.messages import MessagePart, parts_of, provider_fields
from gateway.chat.records.provider_fields import add_piece, folded
from gateway.chat.records.record import (
    CHOICES,
    CUSTOM_TOOL,
    RECORD,
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

_json = msgspec.json.Encoder().encode
FINISH = {"stop": "stop", "length": "length", "content-filter": "content_filter", "tool-calls": "tool_calls"}


class CompletionFrames:
    """An encoder for a hub: the records of one run as `chat.completion.chunk` frames, for one reader."""

    def __init__(
        self, run_id: str, model: str, created: int, *, include_usage: bool, has_functions: bool = False
    ) -> None:
        """Makes the frames of a run; `has_functions` makes its first call a `function_call`, the older form."""
        self._head = {"id": f"chatcmpl-{run_id}", "object": "chat.completion.chunk", "created": created}
        self._model = model
        self._include_usage = include_usage
        self._has_functions = has_functions
        self._facts: dict[str, object] = {}
        self._tools: dict[str, int] = {}
        self._custom: set[str] = set()
        self._text_lead = b""
        self._failure: dict[str, object] = {}
        self._text_tail = b'},"logprobs":null,"finish_reason":null}]%b}\n\n' % (
            b',"usage":null' if include_usage else b""
        )

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        return [self._frame(decode_record(data)) for data in block.data]

    def _frame(self, record: Record) -> bytes:
        match record:
            case TextDelta():
                if record.provider_metadata is UNSET:
                    return self._text_lead + _json(record.delta) + self._text_tail
                fields = provider_fields(record.provider_metadata)
                return self._choice(
                    {"refusal" if fields.pop("refusal", False) is True else "content": record.delta}, fields
                )
            case ReasoningDelta():
                return self._choice({"reasoning_content": record.delta}, provider_fields(record.provider_metadata))
            case ProviderFields():
                return self._choice({}, provider_fields(record.data))
            case Metadata():
                return self._metadata(record)
            case Data():
                if record.type == CUSTOM_TOOL:
                    self._custom.add(msgspec.json.decode(record.data))
                return self._data({"choices": record.data}) if record.type == CHOICES else b""
            case ToolInputStart():
                head = {
                    "id": record.tool_call_id,
                    "type": "function",
                    "function": {"name": record.tool_name, "arguments": ""},
                }
                if record.tool_call_id in self._custom:
                    head |= {"type": "custom", "custom": {"name": record.tool_name, "input": ""}}
                    del head["function"]
                return self._tool(record.tool_call_id, head)
            case ToolInputDelta():
                if record.tool_call_id in self._custom:
                    return self._tool(record.tool_call_id, {"custom": {"input": record.input_text_delta}})
                return self._tool(record.tool_call_id, {"function": {"arguments": record.input_text_delta}})
            case ToolInputAvailable():
                fields = provider_fields(record.provider_metadata)
                fields.pop("type", None) if record.tool_call_id in self._custom else None
                return self._tool(record.tool_call_id, fields) if fields else b""
            case MessageFinish():
                return self._finish(record)
            case MessageError():
                return error_frame(record.error_text, self._failure)
            case MessageAbort():
                return error_frame("the answer was stopped", {"code": "aborted"})
            case MessageStart() | StepStart() | StepFinish() | TextStart() | TextEnd() | ReasoningStart():
                return b""  # the format has no such thing
            case ReasoningEnd() | ToolInputError() | WholePart() | NewerRecord():
                return b""
            case ToolOutputAvailable() | ToolOutputError() | ToolOutputDenied() | ApprovalRequest():
                return b""
            case _:
                assert_never(record)

    def _metadata(self, record: Metadata) -> bytes:
        """Returns the first chunk, once it is known which model answers; nothing for an end, which has usage.

        Looks only at `record`: a reader that fell behind has its frames made a second time.
        """
        metadata = facts_in(record.message_metadata)
        self._model = metadata.model or self._model
        self._failure = {"code": metadata.code or "upstream_error"} | metadata.upstream_error
        if metadata.usage is not None:
            return b""
        self._head |= {"model": self._model, **metadata.said_always}
        self._facts = metadata.said_once
        self._text_lead = b'data: %b,"choices":[{"index":0,"delta":{"content":' % _json(self._head)[:-1]
        return self._choice({"role": "assistant", "content": ""}, beside=self._facts)

    def _tool(self, call_id: str, call: Mapping[str, object]) -> bytes:
        index = self._tools.setdefault(call_id, len(self._tools))
        if self._has_functions and index == 0:
            return self._choice({"function_call": call["function"]} if "function" in call else {**call})
        return self._choice({"tool_calls": [{"index": index, **call}]})

    def _choice(
        self,
        delta: dict[str, object],
        unknown: dict[str, object] | None = None,
        finish_reason: str | None = None,
        beside: dict[str, object] | None = None,
    ) -> bytes:
        """Returns a chunk; `unknown` are fields of its delta, but for `choice`; `beside` stand beside the choices."""
        unknown = unknown or {}
        of_choice = unknown.pop("choice", None)
        choice: dict[str, object] = {"index": 0, "delta": unknown | delta, "logprobs": None, "finish_reason": None}
        choice |= (cast(dict[str, object], of_choice) if isinstance(of_choice, dict) else {}) | {
            "finish_reason": finish_reason
        }
        fields: dict[str, object] = {"choices": [choice], **(beside or {})}
        return self._data({**fields, "usage": None} if self._include_usage else fields)

    def _finish(self, record: MessageFinish) -> bytes:
        raw = b"{}" if isinstance(record.message_metadata, UnsetType) else record.message_metadata
        metadata = facts_in(raw)
        late = {name: fact for name, fact in metadata.said_once.items() if self._facts.get(name) != fact}
        reason = finish_word(record.finish_reason, metadata.raw_finish_reason, has_functions=self._has_functions)
        self._head |= metadata.said_always
        last = self._choice({}, finish_reason=reason, beside=late)
        if not self._include_usage or metadata.usage is None:
            return last
        return last + self._data({"choices": [], "usage": usage_object(metadata.usage, metadata.facts.get("usage"))})

    def _data(self, fields: dict[str, object]) -> bytes:
        return b"data: %b\n\n" % _json({**self._head, "model": self._model, **fields})


def error_frame(message: str, failure: dict[str, object]) -> bytes:
    """Returns OpenAI's `error` object as a frame; `failure` is what it has beside its text."""
    return b"data: %b\n\n" % _json({"error": {"message": message, "type": "server_error", "param": None, **failure}})


def usage_object(usage: Usage, told: object = None) -> dict[str, object]:
    """Returns the figures; those that only the upstream has, `told`, stand beside them as it named them."""
    figures: dict[str, object] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    theirs = cast(dict[str, object], told) if isinstance(told, dict) else {}
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        details = theirs.get(name)
        if isinstance(details, dict):
            figures[name] = cast(dict[str, object], details) | cast(dict[str, object], figures[name])
    return theirs | figures


def finish_word(reason: str, theirs: str, *, has_functions: bool) -> str:
    """Returns a reason to finish as the format has it, else the upstream's own word, `theirs`."""
    if has_functions and reason == "tool-calls":
        return "function_call"
    return FINISH.get(reason) or theirs or "stop"


def completion(finished: RunFinished, model: str, created: int, *, has_functions: bool = False) -> dict[str, Any]:
    """Returns a finished run as one `chat.completion`; `has_functions` as for CompletionFrames."""
    parts = parts_of(finished.message) if finished.message else []
    told = MessageFacts()
    if finished.message and not isinstance(finished.message.metadata, UnsetType):
        told = facts_in(finished.message.metadata)
    unknown = _unknown(parts)
    of_choice = cast(dict[str, object], unknown.pop("choice", None) or {})
    reason = finish_word(finished.finish_reason, told.raw_finish_reason, has_functions=has_functions)
    choice = {"index": 0, "message": unknown | _message(parts, has_functions=has_functions), "logprobs": None}
    return {
        **told.said_once,
        **told.said_always,
        "id": f"chatcmpl-{finished.run_id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{**choice, **of_choice, "finish_reason": reason}, *_others(parts)],
        "usage": usage_object(finished.usage, told.facts.get("usage")),
    }


def _others(parts: list[MessagePart]) -> list[dict[str, object]]:
    """Returns the other answers to the same request, each put together from its pieces."""
    pieces = [part.data for part in parts if part.type == CHOICES and not isinstance(part.data, UnsetType)]
    choices: dict[int, dict[str, object]] = {}
    for piece in [choice for raw in pieces for choice in msgspec.json.decode(raw, type=list[dict[str, object]])]:
        index = piece.get("index")
        index = index if isinstance(index, int) else 0
        spoken: object = piece.pop("delta", {})
        add_piece(
            choices.setdefault(index, {"message": {"role": "assistant", "content": ""}}), {**piece, "message": spoken}
        )
    return [choices[index] for index in sorted(choices)]


def _message(parts: list[MessagePart], *, has_functions: bool) -> dict[str, object]:
    texts = [
        (provider_fields(part.provider_fields).get("refusal") is True, part.text)
        for part in parts
        if part.type == "text"
    ]
    content = "".join(text for is_refusal, text in texts if not is_refusal)
    refusal = "".join(text for is_refusal, text in texts if is_refusal)
    message: dict[str, object] = {"role": "assistant", "refusal": refusal or None, "content": content or None}
    if thought := "".join(part.text for part in parts if part.type == "reasoning"):
        message["reasoning_content"] = thought
    calls = [part.call(part.arguments if part.raw_input is None else part.raw_input) for part in parts if part.is_tool]
    if calls and has_functions and "function" in calls[0]:
        message["function_call"] = calls.pop(0)["function"]
    if calls:
        message["tool_calls"] = calls
    elif not content and not refusal and "function_call" not in message:
        message["content"] = ""
    return message


def _unknown(parts: list[MessagePart]) -> dict[str, object]:
    """Returns the fields of a provider in all parts, put together."""
    fields = [part.provider_fields for part in parts if not isinstance(part.provider_fields, UnsetType)]
    whole = provider_fields(folded([raw for raw in fields if provider_fields(raw)]))
    if whole.get("refusal") is True:
        del whole["refusal"]
    return whole
