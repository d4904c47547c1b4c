"""The body of a request to Anthropic's Messages API, and the chat completion that it asks an upstream for. Pure.

What an upstream cannot be told is refused by its name. Left out is only what bounds or traces the work of Anthropic's
own servers, and changes nothing of what an answer says.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway.chat.dialects.anthropic_content import CACHE, messages_of, system_message
from gateway.chat.records.messages import joined
from gateway.errors import BadRequest

READ = {
    *("model", "max_tokens", "messages", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k"),
    *("tools", "tool_choice", "thinking", "metadata", "output_config", "output_format"),
}
"""Fields that are told to the upstream."""
LEFT_OUT = {"cache_control", "service_tier", "context_management", "diagnostics", "betas"}
"""Fields that are not, and that change nothing of what an answer says."""
EFFORTS = ((2048, "low"), (8192, "medium"))
"""The word for a budget of thinking, by the most tokens that it stands for; a larger one is `high`."""
WORDS_OF_EFFORT = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
OWN_TOOLS = ("custom", None)
MAX_USER = 64
"""Maximum characters of a user's id at OpenAI."""


class ToolChoice(msgspec.Struct, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class Thinking(msgspec.Struct, kw_only=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int = 0


class AnthropicRequest(msgspec.Struct, kw_only=True):
    """The fields of a body of `POST /v1/messages` that we read."""

    model: str
    messages: list[Raw]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """Tokens that the answer may have; required, but for counting."""
    system: Raw | UnsetType = UNSET
    """A text, or a list of text blocks."""
    stream: bool = False
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    metadata: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None

    @property
    def prompt_bytes(self) -> int:
        """Returns the bytes that the model reads, as near as counts before it has read them."""
        tools = msgspec.json.encode(self.tools) if self.tools else b""
        system = b"" if isinstance(self.system, UnsetType) else bytes(self.system)
        return sum(map(len, self.messages)) + len(system) + len(tools)

    def for_upstream(self, fields: Mapping[str, Raw], max_messages: int, max_output_tokens: int) -> dict[str, object]:
        """Returns the body of the chat completion; `fields` are all of ours. Raises BadRequest, which names a field."""
        _refuse_others(fields)
        if not 1 <= len(self.messages) <= max_messages:
            raise BadRequest(
                f"{len(self.messages)} messages: 1 to {max_messages} are allowed", code="too_many_messages"
            )
        if self.max_tokens is None:
            raise _bad("max_tokens", "it is required")
        if self.max_tokens > max_output_tokens:
            raise _bad("max_tokens", f"{self.max_tokens} is more than the limit of {max_output_tokens}")
        turns: list[object] = [msgspec.json.decode(turn) for turn in self.messages]
        system = None if isinstance(self.system, UnsetType) else system_message(msgspec.json.decode(self.system))
        choice = self.tool_choice
        asked: dict[str, object] = {
            "messages": joined([*([system] if system else []), *messages_of(turns)]),
            "max_tokens": self.max_tokens,
            "stop": self.stop_sequences or None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "tools": [_tool(tool, n) for n, tool in enumerate(self.tools)] if self.tools else None,
            "tool_choice": _choice(choice) if choice and self.tools else None,
            "parallel_tool_calls": False if choice and choice.disable_parallel_tool_use and self.tools else None,
            "reasoning_effort": self._effort(),
            "response_format": self._format(),
            "user": self._user(),
        }
        return {name: value for name, value in asked.items() if value is not None}

    def _user(self) -> str | None:
        """Returns the client's id of its user; a long one as its digest, because OpenAI takes only short ones."""
        told = (self.metadata or {}).get("user_id")
        if not isinstance(told, str) or len(told) <= MAX_USER:
            return told if isinstance(told, str) else None
        return sha256(told.encode(errors="surrogatepass")).hexdigest()

    def _effort(self) -> str | None:
        thinking, told = self.thinking, (self.output_config or {}).get("effort")
        if told is not None and told not in WORDS_OF_EFFORT:
            raise _bad("output_config.effort", f"want one of {', '.join(WORDS_OF_EFFORT)}, not {str(told)[:20]!r}")
        if thinking is None or thinking.type == "disabled":
            return None
        if thinking.type == "adaptive" or told is not None:
            return WORDS_OF_EFFORT[told or "high"]
        return next((word for most, word in EFFORTS if thinking.budget_tokens <= most), "high")

    def _format(self) -> dict[str, object] | None:
        wanted = (self.output_config or {}).get("format") or self.output_format
        if wanted is None:
            return None
        if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
            raise _bad("output_config.format", 'want {"type": "json_schema", "schema": {...}}')
        schema = {"name": "answer", "schema": wanted["schema"], "strict": True}
        return {"type": "json_schema", "json_schema": schema}


def _refuse_others(fields: Mapping[str, Raw]) -> None:
    for name, raw in fields.items():
        if name not in READ and name not in LEFT_OUT and bytes(raw) not in (b"null", b"[]"):
            raise _bad(name, "no upstream of this gateway can be told that", code="unsupported_parameter")


def _tool(tool: Mapping[str, Any], number: int) -> dict[str, object]:
    place, kind = f"tools.{number}", tool.get("type")
    if kind not in OWN_TOOLS:
        raise _bad(
            f"{place}.type",
            f"{str(kind)[:40]!r} runs at Anthropic alone: want a tool of your own, with `name` and `input_schema`",
            code="unsupported_tool",
        )
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not name:
        raise _bad(f"{place}.name", "want a text")
    if not isinstance(schema, dict):
        raise _bad(f"{place}.input_schema", "want a JSON schema")
    function: dict[str, object] = {"name": name, "parameters": cast("dict[str, object]", schema)}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if tool.get("strict") is True:
        function["strict"] = True
    marker = {CACHE: tool[CACHE]} if tool.get(CACHE) is not None else {}
    return {"type": "function", "function": function, **marker}


def _choice(choice: ToolChoice) -> object:
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type
    if not choice.name:
        raise _bad("tool_choice.name", "want the name of a tool")
    return {"type": "function", "function": {"name": choice.name}}


def _bad(param: str, what: str, code: str = "invalid_value") -> BadRequest:
    return BadRequest(f"{param}: {what}", code=code, extra={"param": param})
