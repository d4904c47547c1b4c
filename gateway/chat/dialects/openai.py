"""This dialect speaks OpenAI's chat completions: a run's records become completion chunks, or one completion.

Not offered: several choices, log probabilities (a run has one answer, and keeps text). A cut is never a quiet end: it
is an error frame and then `[DONE]`, which the SDK raises as APIError.
"""

from collections.abc import Mapping
from typing import Any, Literal, assert_never

import msgspec
from msgspec import UNSET, Raw, UnsetType

from events.log.port import Block
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.messages import parts_of
from gateway.chat.records.record import (
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
    ProviderMetadata,
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
    decode_record,
)
from gateway.core.usage import Usage
from gateway.errors import BadRequest

_json = msgspec.json.Encoder().encode
FINISH = {"stop": "stop", "length": "length", "content-filter": "content_filter", "tool-calls": "tool_calls"}


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class CompletionRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/chat/completions`. Fields that are not named here are refused."""

    messages: list[Raw]
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    logprobs: bool | None = None
    max_tokens: int | UnsetType | None = UNSET
    max_completion_tokens: int | UnsetType | None = UNSET
    temperature: Raw | UnsetType = UNSET
    top_p: Raw | UnsetType = UNSET
    top_k: Raw | UnsetType = UNSET
    min_p: Raw | UnsetType = UNSET
    stop: Raw | UnsetType = UNSET
    seed: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    parallel_tool_calls: Raw | UnsetType = UNSET
    response_format: Raw | UnsetType = UNSET
    presence_penalty: Raw | UnsetType = UNSET
    frequency_penalty: Raw | UnsetType = UNSET
    repetition_penalty: Raw | UnsetType = UNSET
    logit_bias: Raw | UnsetType = UNSET
    reasoning_effort: Raw | UnsetType = UNSET
    verbosity: Raw | UnsetType = UNSET
    user: Raw | UnsetType = UNSET
    safety_identifier: Raw | UnsetType = UNSET
    prompt_cache_key: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    store: Raw | UnsetType = UNSET
    service_tier: Raw | UnsetType = UNSET

    @property
    def has_usage(self) -> bool:
        """Returns whether the stream is to end with the usage figures."""
        return self.stream_options is not None and self.stream_options.include_usage

    def for_upstream(self, max_messages: int, max_output_tokens: int) -> dict[str, object]:
        """Returns the body without what is ours to say (`model`, `stream`, `n`); BadRequest past a limit."""
        if not 1 <= len(self.messages) <= max_messages:
            raise BadRequest(
                f"{len(self.messages)} messages: 1 to {max_messages} are allowed", code="too_many_messages"
            )
        if self.logprobs:
            raise BadRequest("logprobs are not kept here: leave the field out")
        for name in ("max_tokens", "max_completion_tokens"):
            tokens = getattr(self, name)
            if isinstance(tokens, int) and tokens > max_output_tokens:
                raise BadRequest(f"{name}={tokens} is more than the limit of {max_output_tokens}")
        ours = ("model", "stream", "stream_options", "n", "logprobs")
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ours}
        return msgspec.json.decode(_json({name: value for name, value in fields.items() if value is not UNSET}))


class CompletionFrames:
    """An encoder for a hub: the records of one run as `chat.completion.chunk` frames, for one reader."""

    def __init__(self, run_id: str, model: str, created: int, *, include_usage: bool) -> None:
        self._head = {"id": f"chatcmpl-{run_id}", "object": "chat.completion.chunk", "created": created}
        self._model = model
        self._include_usage = include_usage
        self._tools: dict[str, int] = {}
        self._text_lead = b""
        self._code = "upstream_error"
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
                return self._choice({"content": record.delta, **_fields_of(record.provider_metadata)})
            case ReasoningDelta():
                return self._choice({"reasoning_content": record.delta, **_fields_of(record.provider_metadata)})
            case ProviderFields():
                return self._choice(_fields_of(record.data))
            case Metadata():
                return self._metadata(record)
            case ToolInputStart():
                function = {"name": record.tool_name, "arguments": ""}
                first = {"id": record.tool_call_id, "type": "function", "function": function}
                return self._tool(record.tool_call_id, first)
            case ToolInputDelta():
                return self._tool(record.tool_call_id, {"function": {"arguments": record.input_text_delta}})
            case MessageFinish():
                return self._finish(record)
            case MessageError():
                return _error(record.error_text, self._code)
            case MessageAbort():
                return _error("the answer was stopped", "aborted")
            case MessageStart() | StepStart() | StepFinish() | TextStart() | TextEnd() | ReasoningStart():
                return b""  # the format has no such thing
            case ReasoningEnd() | ToolInputAvailable() | ToolInputError() | Data() | NewerRecord():
                return b""
            case ToolOutputAvailable() | ToolOutputError() | ToolOutputDenied() | ApprovalRequest():
                return b""
            case _:
                assert_never(record)

    def _metadata(self, record: Metadata) -> bytes:
        """Returns the first chunk, once it is known which model answers; nothing for an end, which has usage.

        Looks only at `record`: a reader that fell behind has its frames made a second time.
        """
        metadata = msgspec.json.decode(record.message_metadata, type=_MessageMetadata)
        self._model, self._code = metadata.model or self._model, metadata.code or self._code
        if metadata.usage is not None:
            return b""
        head = _json({**self._head, "model": self._model})[:-1]
        self._text_lead = b'data: %b,"choices":[{"index":0,"delta":{"content":' % head
        return self._choice({"role": "assistant", "content": ""})

    def _tool(self, call_id: str, call: Mapping[str, object]) -> bytes:
        index = self._tools.setdefault(call_id, len(self._tools))
        return self._choice({"tool_calls": [{"index": index, **call}]})

    def _choice(self, delta: dict[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        fields: dict[str, object] = {"choices": [choice]}
        return self._data({**fields, "usage": None} if self._include_usage else fields)

    def _finish(self, record: MessageFinish) -> bytes:
        last = self._choice({}, FINISH.get(record.finish_reason, "stop"))
        if not self._include_usage or isinstance(record.message_metadata, UnsetType):
            return last
        usage = msgspec.json.decode(record.message_metadata, type=_MessageMetadata).usage
        assert usage is not None
        return last + self._data({"choices": [], "usage": usage_object(usage)})

    def _data(self, fields: dict[str, object]) -> bytes:
        return b"data: %b\n\n" % _json({**self._head, "model": self._model, **fields})


class _MessageMetadata(msgspec.Struct):
    model: str = ""
    code: str = ""
    usage: Usage | None = None


def _fields_of(metadata: ProviderMetadata) -> dict[str, object]:
    """Returns the fields of a delta that a provider sent and that we do not know, as they came."""
    if isinstance(metadata, UnsetType):
        return {}
    providers = msgspec.json.decode(metadata, type=dict[str, dict[str, Raw]])
    return {name: value for fields in providers.values() for name, value in fields.items()}


def _error(message: str, code: str) -> bytes:
    return b"data: %b\n\n" % _json({"error": {"message": message, "type": code, "param": None, "code": code}})


def usage_object(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def completion(finished: RunFinished, model: str, created: int) -> dict[str, Any]:
    """Returns a finished run as one `chat.completion`."""
    parts = parts_of(finished.message) if finished.message else []
    message: dict[str, object] = {"role": "assistant", "refusal": None}
    for part in parts:
        message = _fields_of(part.provider_fields) | message
    message["content"] = "".join(part.text for part in parts if part.type == "text") or None
    if thought := "".join(part.text for part in parts if part.type == "reasoning"):
        message["reasoning_content"] = thought
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool, "arguments": part.raw_input or part.arguments},
        }
        for part in parts
        if part.is_tool
    ]
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    finish_reason = FINISH.get(finished.finish_reason, "stop")
    return {
        "id": f"chatcmpl-{finished.run_id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        "usage": usage_object(finished.usage),
    }
