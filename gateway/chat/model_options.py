"""The options that a client gives a model with a chat: its system prompt, its tools, how to sample. Pure.

They come in the words of the AI SDK and leave in those of OpenAI's chat completions. What is not understood is refused
with the field's name: a model that was not told what its application meant would answer all the same.
"""

from collections.abc import Mapping
from typing import cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.messages import UpstreamMessage, joined
from gateway.errors import BadRequest

NO_PARAMETERS: dict[str, object] = {"type": "object", "properties": {}}
SCHEMA_NAMES = ("parameters", "inputSchema", "input_schema")
"""Names under which clients send the JSON schema of a tool's arguments."""
CHOICE_WORDS = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


class CallSettings(msgspec.Struct, kw_only=True, rename="camel"):
    """The sampling that assistant-ui sends in a field of its own; what stands beside that field wins."""

    max_tokens: int | float | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | float | None = None


class ModelOptions(msgspec.Struct, kw_only=True, rename="camel"):
    """The fields of a chat request that are meant for the model. One that is null is not there."""

    system: str | None = None
    tools: Raw | UnsetType = UNSET
    """The client's own tools: OpenAI's list, or a map from names to `{description, parameters}`."""
    tool_choice: Raw | UnsetType = UNSET
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | float | None = None
    seed: int | float | None = None
    stop_sequences: list[str] | str | None = None
    reasoning_effort: str | None = None
    call_settings: CallSettings | None = None

    def size(self) -> int:
        """Returns the bytes that the model reads of these options: the system prompt and the tools."""
        tools = b"" if isinstance(self.tools, UnsetType) else memoryview(self.tools)
        return len((self.system or "").encode()) + len(tools)

    def upstream_fields(self, conversation: list[UpstreamMessage], max_output_tokens: int) -> dict[str, object]:
        """Returns the body of a completion; raises BadRequest for an option that is not valid or past its limit."""
        if self.system:
            conversation = joined([{"role": "system", "content": self.system}, *conversation])
        tools, choice = _tools(_value(self.tools)), _tool_choice(_value(self.tool_choice))
        if choice not in (None, "auto", "none") and not tools:
            raise BadRequest("toolChoice needs `tools`")
        fields: dict[str, object] = {
            "messages": conversation,
            "tools": tools or None,
            "tool_choice": choice if tools else None,
            **self._sampling(max_output_tokens),
            "stop": self.stop_sequences or None,
            "reasoning_effort": self.reasoning_effort or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _sampling(self, max_output_tokens: int) -> dict[str, object]:
        more = self.call_settings or CallSettings()
        limit = _whole("maxOutputTokens", _first(self.max_output_tokens, more.max_tokens))
        if limit is not None and not 1 <= limit <= max_output_tokens:
            raise BadRequest(f"maxOutputTokens={limit}: 1 to {max_output_tokens} are allowed")
        return {
            "temperature": _first(self.temperature, more.temperature),
            "top_p": _first(self.top_p, more.top_p),
            "presence_penalty": more.presence_penalty,
            "frequency_penalty": more.frequency_penalty,
            "max_tokens": limit,
            "seed": _whole("seed", _first(self.seed, more.seed)),
        }


def _value(raw: Raw | UnsetType) -> object:
    return None if isinstance(raw, UnsetType) else msgspec.json.decode(raw)


def _first(number: float | None, other: float | None) -> float | None:
    return other if number is None else number


def _whole(name: str, number: float | None) -> int | None:
    if number is None or int(number) == number:
        return None if number is None else int(number)
    raise BadRequest(f"{name}={number:g}: want a whole number")


def _tools(tools: object) -> list[object]:
    if tools is None:
        return []
    if isinstance(tools, dict):
        named = cast("dict[str, object]", tools)
        return [_named_tool(name, _object(f"tools.{name}", tool)) for name, tool in named.items()]
    if isinstance(tools, list):
        listed = cast("list[object]", tools)
        return [_listed_tool(_object(f"tools[{place}]", tool)) for place, tool in enumerate(listed)]
    raise BadRequest("tools: want a list of tools, or a map from names to {description, parameters}")


def _listed_tool(tool: Mapping[str, object]) -> object:
    """Returns a tool as OpenAI has it; one that has its form, or a type of its own, is passed on as it came."""
    if "function" in tool or tool.get("type", "function") != "function":
        return tool
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest("tools: a tool needs a name")
    return _named_tool(name, tool)


def _named_tool(name: str, tool: Mapping[str, object]) -> object:
    if "function" in tool:
        return tool
    schema = next((tool[field] for field in SCHEMA_NAMES if tool.get(field) is not None), NO_PARAMETERS)
    if isinstance(schema, dict):
        schema = cast("dict[str, object]", schema).get("jsonSchema", cast(object, schema))  # as the AI SDK wraps it
    function: dict[str, object] = {"name": name, "parameters": schema}
    more = {field: tool[field] for field in ("description", "strict") if tool.get(field) is not None}
    return {"type": "function", "function": function | more}


def _tool_choice(choice: object) -> object:
    """Returns which tool the model is to call, as OpenAI has it; None leaves it to the upstream."""
    if choice is None or isinstance(choice, str):
        if choice is not None and choice not in CHOICE_WORDS:
            raise BadRequest(f"toolChoice={choice[:64]!r}: want one of {', '.join(CHOICE_WORDS)}, or a tool")
        return CHOICE_WORDS.get(choice or "")
    fields = _object("toolChoice", choice)
    name = fields.get("toolName") or fields.get("name")
    if name is not None:
        return {"type": "function", "function": {"name": name}}
    word = fields.get("type")
    return CHOICE_WORDS[word] if isinstance(word, str) and word in CHOICE_WORDS else fields


def _object(place: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadRequest(f"{place}: want an object")
    return cast("dict[str, object]", value)
