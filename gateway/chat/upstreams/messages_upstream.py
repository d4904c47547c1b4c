"""Servers that speak Anthropic's Messages, and what the body of a chat completion is in that format.

An option that has no counterpart there is refused by its name, never dropped in silence. Where a model is to think,
Anthropic takes neither a temperature nor a tool that must be called, so those give way to the thinking.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from gateway.chat.upstreams.loose_fields import JsonObject, object_of
from gateway.chat.upstreams.messages_parser import THINKING_BLOCKS, MessagesParser
from gateway.chat.upstreams.openai import OpenAIUpstream
from gateway.chat.upstreams.upstream import Request
from gateway.errors import UpstreamRefused

OUTPUT_TOKENS = 8192
"""Tokens of an answer that nobody has bounded; the format wants a bound."""
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768}
"""Tokens of thinking for each word of effort; they come on top of those of the answer."""
CACHE = "cache_control"
READ = {
    *("messages", "max_tokens", "max_completion_tokens", "stop", "temperature", "top_p", "top_k", "tools"),
    *("tool_choice", "parallel_tool_calls", "reasoning_effort", "response_format", "user", "n", "metadata", "store"),
}
CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_json = msgspec.json.Decoder().decode


class MessagesUpstream(OpenAIUpstream):
    """One such server, below its `base_url`: `/messages`, and `/models` for their list."""

    answers_at = "/messages"

    def _content(self, request: Request, model: str) -> bytes:
        return msgspec.json.encode(messages_body(request, model))

    def _parser(self, request: Request) -> MessagesParser:
        return MessagesParser()


def messages_body(request: Request, model: str) -> JsonObject:
    """Returns the body to send. Raises UpstreamRefused (400) for what cannot be said there."""
    for name, value in request.items():
        if name not in READ and value is not None:
            raise _unsupported(name, "Anthropic's format has no such option")
    if request.get("n") not in (None, 1):
        raise _unsupported("n", "Anthropic's format has one answer to a request")
    messages = [object_of(message) for message in cast("Sequence[object]", request.get("messages", ()))]
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    limit = limit if isinstance(limit, int) else OUTPUT_TOKENS
    stop = request.get("stop")
    body: JsonObject = {
        "model": model,
        "max_tokens": limit,
        "system": _system(messages) or None,
        "messages": _turns([message for message in messages if message.get("role") not in ("system", "developer")]),
        "stop_sequences": [stop] if isinstance(stop, str) else stop,
        "temperature": _temperature(request.get("temperature")),
        "top_p": request.get("top_p"),
        "top_k": request.get("top_k"),
        **_tools(request),
        **_format(request.get("response_format")),
        "metadata": {"user_id": request["user"]} if request.get("user") else None,
        "stream": True,
    }
    effort = request.get("reasoning_effort")
    if isinstance(effort, str) and effort != "none":
        budget = BUDGETS.get(effort, BUDGETS["high"])
        body |= {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": limit + budget}
        body |= {"temperature": None, "top_p": None, "top_k": None}
        if object_of(body.get("tool_choice")).get("type") in ("any", "tool"):
            body["tool_choice"] = {**body["tool_choice"], "type": "auto"}
            body["tool_choice"].pop("name", None)
    return {name: value for name, value in body.items() if value is not None}


def _system(messages: list[JsonObject]) -> list[JsonObject]:
    told = [message for message in messages if message.get("role") in ("system", "developer")]
    return [block for message in told for block in _blocks(message.get("content"))]


def _turns(messages: list[JsonObject]) -> list[JsonObject]:
    """Returns the turns, of which no two in a row are of one side: results of tools belong to the user's."""
    turns: list[JsonObject] = []
    for message in messages:
        if message.get("role") == "tool":
            result = {"type": "tool_result", "tool_use_id": str(message.get("tool_call_id", ""))}
            role, blocks = "user", [{**result, "content": _blocks(message.get("content"))}]
        elif message.get("role") == "assistant":
            role, blocks = "assistant", _of_assistant(message)
        else:
            role, blocks = "user", _blocks(message.get("content"))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _of_assistant(message: JsonObject) -> list[JsonObject]:
    """Returns what it thought, as it was signed, what it said, and its calls."""
    thoughts = message.get(THINKING_BLOCKS)
    blocks = [object_of(one) for one in cast("list[object]", thoughts)] if isinstance(thoughts, list) else []
    blocks += _blocks(message.get("content"))
    for call in message.get("tool_calls") or ():
        function = object_of(call.get("function"))
        blocks.append(
            {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": _input(function)}
        )
    return blocks


def _input(function: Mapping[str, Any]) -> JsonObject:
    try:
        return object_of(_json(function.get("arguments") or "{}"))
    except msgspec.DecodeError:
        return {}


def _blocks(content: object) -> list[JsonObject]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []  # an empty one is refused
    blocks: list[JsonObject] = []
    for part in cast("Sequence[Any]", content or ()):
        block = _block(object_of(part))
        if part.get(CACHE) is not None:
            block[CACHE] = part[CACHE]
        if block.get("text") != "":
            blocks.append(block)
    return blocks


def _block(part: JsonObject) -> JsonObject:
    match part.get("type"):
        case "text" | "refusal":
            return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
        case "image_url":
            address = part.get("image_url")
            return {"type": "image", "source": _source(str(object_of(address).get("url") or address))}
        case "file":
            file = object_of(part.get("file"))
            source = _source(str(file.get("file_data", "")))
            if source.get("media_type") == "text/plain":
                raise _unsupported("messages", "send a text as text, not as a file")
            return {"type": "document", "source": source, **({"title": file["filename"]} if "filename" in file else {})}
        case kind:
            raise _unsupported("messages", f"a part of type {str(kind)[:40]!r} cannot be said in Anthropic's format")


def _source(address: str) -> JsonObject:
    """Returns the source of a picture or document, by its `https:` or `data:` URL."""
    if not address.startswith("data:"):
        return {"type": "url", "url": address}
    head, _, data = address.removeprefix("data:").partition(",")
    return {"type": "base64", "media_type": head.partition(";")[0], "data": data}


def _temperature(value: object) -> object:
    return min(value, 1) if isinstance(value, int | float) else value  # OpenAI's goes up to 2


def _tools(request: Request) -> JsonObject:
    tools = [_tool(object_of(tool)) for tool in cast("Sequence[object]", request.get("tools") or ())]
    if not tools:
        return {}
    wanted = request.get("tool_choice") or "auto"
    if isinstance(wanted, str):
        choice: JsonObject = {"type": CHOICES.get(wanted, "auto")}
    else:
        choice = {"type": "tool", "name": object_of(object_of(wanted).get("function")).get("name")}
    if request.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": choice}


def _tool(tool: JsonObject) -> JsonObject:
    if tool.get("type") != "function":
        raise _unsupported("tools", f"a tool of type {str(tool.get('type'))[:40]!r} is no function")
    function = object_of(tool.get("function"))
    fields = {"name": function.get("name"), "description": function.get("description")}
    fields |= {"input_schema": function.get("parameters") or {"type": "object"}, CACHE: tool.get(CACHE)}
    fields["strict"] = function.get("strict") or None
    return {name: value for name, value in fields.items() if value is not None}


def _format(wanted: object) -> JsonObject:
    fields = object_of(wanted)
    if not fields or fields.get("type") == "text":
        return {}
    if fields.get("type") != "json_schema":
        raise _unsupported("response_format", "want `json_schema` with a schema")
    schema = object_of(fields.get("json_schema")).get("schema")
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def _unsupported(param: str, what: str) -> UpstreamRefused:
    return UpstreamRefused(f"{param}: {what}", status=400, code="unsupported_parameter", reported={"param": param})
