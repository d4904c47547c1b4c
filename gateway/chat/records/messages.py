"""The messages of a chat: the AI SDK's `UIMessage`, and what an upstream is sent of them. Pure.

Parts are kept as the JSON they came as: clients own their shape (`data-*`, `source-*`, provider metadata) and get back
what they sent. Only the fields that a model can use are read here.
"""

from collections.abc import Iterable
from typing import Literal, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.errors import BadRequest

Role = Literal["user", "assistant", "system"]
CALL_FIELDS = ("type", "toolName", "toolCallId", "input", "rawInput")
"""Fields that a model writes of a tool call; the other fields are the call's result."""
FINAL_TOOL_STATES = ("output-available", "output-error", "output-denied", "approval-responded")


class UIMessage(msgspec.Struct, kw_only=True):
    id: str
    role: Role
    parts: list[Raw]
    metadata: Raw | UnsetType = UNSET


class MessagePart(msgspec.Struct, frozen=True, rename="camel"):
    """The fields that we read of one part."""

    type: str
    text: str = ""
    state: str = ""
    tool_call_id: str = ""
    tool_name: str = ""
    input: Raw | UnsetType = UNSET
    raw_input: str | None = None
    """Arguments that are no JSON, as the model wrote them."""
    output: Raw | UnsetType = UNSET
    error_text: str = ""
    media_type: str = ""
    url: str = ""
    provider_metadata: Raw | UnsetType = UNSET
    call_provider_metadata: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET

    @property
    def tool(self) -> str:
        """Returns the tool's name, when this is a tool part."""
        return self.tool_name if self.type == "dynamic-tool" else self.type.removeprefix("tool-")

    @property
    def provider_fields(self) -> Raw | UnsetType:
        """Returns what a provider has added to its answer and we do not know, as `{"<provider>": {...}}`."""
        return self.data if self.type == "data-provider" else self.provider_metadata

    def call(self, arguments: str) -> dict[str, object]:
        """Returns the call that a tool part is, in OpenAI's form, with what its provider has added to it."""
        fields = provider_fields(self.call_provider_metadata)
        if fields.get("type") == "custom":
            text = self.raw_input if isinstance(self.input, UnsetType) else msgspec.json.decode(self.input)
            named: dict[str, object] = {"custom": {"name": self.tool, "input": text}}
        else:
            named = {"function": {"name": self.tool, "arguments": arguments}}
        for name in ("function", "custom"):
            if isinstance(beside := fields.pop(name, None), dict) and name in named:
                named[name] = cast(dict[str, object], beside) | cast(dict[str, object], named[name])
        return {"id": self.tool_call_id, "type": "function", **fields, **named}

    @property
    def arguments(self) -> str:
        return "{}" if isinstance(self.input, UnsetType) else bytes(self.input).decode()

    @property
    def is_tool(self) -> bool:
        return self.type.startswith("tool-") or self.type == "dynamic-tool"


_part = msgspec.json.Decoder(MessagePart)


def provider_fields(metadata: Raw | UnsetType) -> dict[str, object]:
    """Returns the fields in `{"<provider>": {...}}`, of all providers; none of what has another form."""
    if isinstance(metadata, UnsetType):
        return {}
    try:
        providers = msgspec.json.decode(metadata, type=dict[str, dict[str, object]])
    except msgspec.DecodeError:
        return {}
    return {name: value for fields in providers.values() for name, value in fields.items()}


def parts_of(message: UIMessage) -> list[MessagePart]:
    """Returns the parts as we read them; raises BadRequest when one is not an object with a type."""
    try:
        return [_part.decode(raw) for raw in message.parts]
    except msgspec.DecodeError as err:
        raise BadRequest(f"a part of message {message.id[:64]!r} is not valid: {err}") from err


def text_of(message: UIMessage) -> str:
    return "".join(part.text for part in parts_of(message) if part.type == "text")


def merge_tool_results(stored_message: UIMessage, posted_message: UIMessage) -> UIMessage | None:
    """Returns the stored answer with the tool results that a client adds to it; None when it adds none.

    Nothing else of a posted answer is believed: a client that was cut off posts a part of the text as the whole.
    """
    answers = {p.tool_call_id: raw for p, raw in _tools(posted_message) if p.state in FINAL_TOOL_STATES}
    parts = list(stored_message.parts)
    is_changed = False
    for index, (part, raw) in enumerate(zip(parts_of(stored_message), stored_message.parts, strict=True)):
        answer = answers.get(part.tool_call_id) if part.is_tool and part.state not in FINAL_TOOL_STATES else None
        if answer is not None:
            parts[index] = _with_result(raw, answer)
            is_changed = True
    return msgspec.structs.replace(stored_message, parts=parts) if is_changed else None


def _with_result(call: Raw, result: Raw) -> Raw:
    """Returns the call as the model made it, with what the client says came of it."""
    fields = msgspec.json.decode(result, type=dict[str, Raw])
    outcome = {name: value for name, value in fields.items() if name not in CALL_FIELDS}
    return Raw(msgspec.json.encode(msgspec.json.decode(call, type=dict[str, Raw]) | outcome))


def _tools(message: UIMessage) -> Iterable[tuple[MessagePart, Raw]]:
    return ((part, raw) for part, raw in zip(parts_of(message), message.parts, strict=True) if part.is_tool)


UpstreamMessage = dict[str, object]


def to_upstream(messages: Iterable[UIMessage]) -> list[UpstreamMessage]:
    """Returns the conversation as an OpenAI-compatible server takes it; reasoning and data parts stay here."""
    conversation: list[UpstreamMessage] = []
    for message in messages:
        parts = parts_of(message)
        if message.role == "assistant":
            conversation += _assistant(parts)
        else:
            conversation.append({"role": message.role, "content": _content(parts)})
    return conversation


def _content(parts: list[MessagePart]) -> str | list[dict[str, object]]:
    files = [part for part in parts if part.type == "file"]
    text = "".join(part.text for part in parts if part.type == "text")
    if not files:
        return text
    content: list[dict[str, object]] = [{"type": "text", "text": text}] if text else []
    for part in files:
        if not part.media_type.startswith("image/"):
            raise BadRequest(f"a file of type {part.media_type[:64]!r} cannot be sent to a model: only images can")
        content.append({"type": "image_url", "image_url": {"url": part.url}})
    return content


def _assistant(parts: list[MessagePart]) -> list[UpstreamMessage]:
    """Returns one answer step by step: what was said, the tools that were called, their results, what was said then."""
    conversation: list[UpstreamMessage] = []
    texts: list[str] = []
    calls: list[MessagePart] = []
    for part in parts:
        if part.type in ("text", "step-start"):
            if calls:
                conversation += _step(texts, calls)
                texts, calls = [], []
            texts.append(part.text)
        elif part.is_tool and part.state in FINAL_TOOL_STATES:
            calls.append(part)
    return conversation + _step(texts, calls)


def _step(texts: list[str], calls: list[MessagePart]) -> list[UpstreamMessage]:
    text = "".join(texts)
    if not calls:
        return [{"role": "assistant", "content": text}] if text else []
    tool_calls = [part.call(part.arguments) for part in calls]
    results: list[UpstreamMessage] = [
        {"role": "tool", "tool_call_id": part.tool_call_id, "content": _result(part)} for part in calls
    ]
    return [{"role": "assistant", "content": text or None, "tool_calls": tool_calls}, *results]


def _result(part: MessagePart) -> str:
    if part.state == "output-available":
        return "null" if part.output is UNSET else bytes(part.output).decode()
    return part.error_text or "the user did not allow this"
