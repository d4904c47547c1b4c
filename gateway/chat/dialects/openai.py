"""The OpenAI wire format of chat completions: request in; a run's chunks → completion chunks, or one completion.

Not offered: several choices, log probabilities (a run has one answer, and keeps text). A cut is never a quiet end: it
is an error frame and then `[DONE]`, which the SDK raises as APIError.
"""

from typing import Any, Literal

import msgspec
from msgspec import Raw, UnsetType

from events.log.port import Block
from gateway.chat.dialects.ui_message import CHUNK, StoredChunk, decode_chunk
from gateway.chat.ending import RunFinished
from gateway.chat.messages import parts_of
from gateway.core.usage import Usage
from gateway.errors import BadRequest

_json = msgspec.json.Encoder().encode
FINISH = {"stop": "stop", "length": "length", "content-filter": "content_filter", "tool-calls": "tool_calls"}


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class CompletionRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/chat/completions`. What is not named here is refused; the rest goes upstream as is."""

    messages: list[Raw]
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    logprobs: bool | None = None
    max_tokens: int | UnsetType | None = msgspec.UNSET
    max_completion_tokens: int | UnsetType | None = msgspec.UNSET
    temperature: Raw | UnsetType = msgspec.UNSET
    top_p: Raw | UnsetType = msgspec.UNSET
    top_k: Raw | UnsetType = msgspec.UNSET
    min_p: Raw | UnsetType = msgspec.UNSET
    stop: Raw | UnsetType = msgspec.UNSET
    seed: Raw | UnsetType = msgspec.UNSET
    tools: Raw | UnsetType = msgspec.UNSET
    tool_choice: Raw | UnsetType = msgspec.UNSET
    parallel_tool_calls: Raw | UnsetType = msgspec.UNSET
    response_format: Raw | UnsetType = msgspec.UNSET
    presence_penalty: Raw | UnsetType = msgspec.UNSET
    frequency_penalty: Raw | UnsetType = msgspec.UNSET
    repetition_penalty: Raw | UnsetType = msgspec.UNSET
    logit_bias: Raw | UnsetType = msgspec.UNSET
    reasoning_effort: Raw | UnsetType = msgspec.UNSET
    verbosity: Raw | UnsetType = msgspec.UNSET
    user: Raw | UnsetType = msgspec.UNSET
    safety_identifier: Raw | UnsetType = msgspec.UNSET
    prompt_cache_key: Raw | UnsetType = msgspec.UNSET
    metadata: Raw | UnsetType = msgspec.UNSET
    store: Raw | UnsetType = msgspec.UNSET
    service_tier: Raw | UnsetType = msgspec.UNSET

    def for_upstream(self, max_messages: int, max_output_tokens: int) -> dict[str, object]:
        """The body without what is ours to say (`model`, `stream`, `n`); BadRequest past a limit."""
        if not 1 <= len(self.messages) <= max_messages:
            raise BadRequest(
                f"{len(self.messages)} messages: 1 to {max_messages} are allowed", code="too_many_messages"
            )
        if self.logprobs:
            raise BadRequest("logprobs are not kept here: leave the field out")
        for name in ("max_tokens", "max_completion_tokens"):
            wanted = getattr(self, name)
            if isinstance(wanted, int) and wanted > max_output_tokens:
                raise BadRequest(f"{name}={wanted} is more than the limit of {max_output_tokens}")
        ours = ("model", "stream", "stream_options", "n", "logprobs")
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ours}
        given = {name: value for name, value in fields.items() if value is not msgspec.UNSET}
        return msgspec.json.decode(_json(given))


class CompletionFrames:
    """An encoder for a hub: the chunks of one run as `chat.completion.chunk` frames, for one reader."""

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
        if block.name != CHUNK:
            return [b""] * len(block.data)
        return [self._frame(decode_chunk(data)) for data in block.data]

    def _frame(self, chunk: StoredChunk) -> bytes:
        match chunk.type:
            case "text-delta":
                return b"data: " + self._text_lead + _json(chunk.delta) + self._text_tail
            case "reasoning-delta":
                return self._choice({"reasoning_content": chunk.delta})
            case "message-metadata":
                return self._metadata(chunk)
            case "tool-input-start":
                function = {"name": chunk.tool_name, "arguments": ""}
                return self._tool(chunk, {"id": chunk.tool_call_id, "type": "function", "function": function})
            case "tool-input-delta":
                return self._tool(chunk, {"function": {"arguments": chunk.input_text_delta}})
            case "finish":
                return self._finish(chunk)
            case "error":
                return _error(chunk.error_text, self._code)
            case "abort":
                return _error("the answer was stopped", "aborted")
            case _:
                return b""

    def _metadata(self, chunk: StoredChunk) -> bytes:
        """The first chunk of the format, once it is known which model answers; at an end, which has usage, no chunk.

        Looks only at `chunk`: a reader that fell behind has its frames made a second time.
        """
        if isinstance(chunk.message_metadata, UnsetType):
            return b""
        told = msgspec.json.decode(chunk.message_metadata, type=_Metadata)
        self._model, self._code = told.model or self._model, told.code or self._code
        if told.usage is not None:
            return b""
        lead = _json({**self._head, "model": self._model})[:-1]
        self._text_lead = lead + b',"choices":[{"index":0,"delta":{"content":'
        return self._choice({"role": "assistant", "content": ""})

    def _tool(self, chunk: StoredChunk, call: dict[str, object]) -> bytes:
        index = self._tools.setdefault(chunk.tool_call_id, len(self._tools))
        return self._choice({"tool_calls": [{"index": index, **call}]})

    def _choice(self, delta: dict[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        fields: dict[str, object] = {"choices": [choice]}
        return self._data({**fields, "usage": None} if self._include_usage else fields)

    def _finish(self, chunk: StoredChunk) -> bytes:
        last = self._choice({}, FINISH.get(chunk.finish_reason, "stop"))
        if not self._include_usage or isinstance(chunk.message_metadata, UnsetType):
            return last
        usage = msgspec.json.decode(chunk.message_metadata, type=_Metadata).usage
        assert usage is not None
        return last + self._data({"choices": [], "usage": usage_object(usage)})

    def _data(self, fields: dict[str, object]) -> bytes:
        return b"data: %b\n\n" % _json({**self._head, "model": self._model, **fields})


class _Metadata(msgspec.Struct):
    model: str = ""
    code: str = ""
    usage: Usage | None = None


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
    """A finished run as one `chat.completion`."""
    parts = parts_of(finished.message) if finished.message else []
    message: dict[str, object] = {"role": "assistant", "refusal": None}
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
