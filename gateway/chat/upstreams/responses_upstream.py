"""Servers that speak OpenAI's Responses, and what the body of a chat completion is in that format.

Nothing is kept at such a server: a conversation is sent whole, with what was thought as the server has sealed it. An
option that has no counterpart there is refused by its name, never dropped in silence.
"""

from collections.abc import Sequence
from typing import cast

import msgspec

from gateway.chat.upstreams.loose_fields import JsonFields, JsonObject, object_of, objects_of
from gateway.chat.upstreams.openai import OpenAIUpstream
from gateway.chat.upstreams.responses_parser import REASONING_ITEMS, ResponsesParser
from gateway.chat.upstreams.upstream import Request
from gateway.errors import UpstreamRefused

SEALED = "reasoning.encrypted_content"
PASSED = {
    *("temperature", "top_p", "parallel_tool_calls", "user", "metadata", "service_tier"),
    *("prompt_cache_key", "safety_identifier", "top_logprobs"),
}
"""Options of the same name and meaning in both."""
READ = {
    *("messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "reasoning_effort"),
    *("response_format", "verbosity", "n", "store"),
}


class ResponsesUpstream(OpenAIUpstream):
    """One such server, below its `base_url`: `/responses`, and `/models` for their list."""

    answers_at = "/responses"

    def _content(self, request: Request, model: str) -> bytes:
        return msgspec.json.encode(response_body(request, model))

    def _parser(self, request: Request) -> ResponsesParser:
        return ResponsesParser()


def response_body(request: Request, model: str) -> JsonObject:
    """Returns the body to send. Raises UpstreamRefused (400) for what cannot be said there."""
    for name, value in request.items():
        if name not in READ | PASSED and value is not None:
            raise _unsupported(name, "the format of OpenAI's Responses has no such option")
    if request.get("n") not in (None, 1):
        raise _unsupported("n", "a response is one answer")
    tools = [_tool(tool) for tool in objects_of(request.get("tools") or [])]
    effort = request.get("reasoning_effort")
    body: JsonObject = {
        "model": model,
        "input": _items(objects_of(request.get("messages") or [])),
        "max_output_tokens": request.get("max_completion_tokens") or request.get("max_tokens"),
        "tools": tools or None,
        "tool_choice": _choice(request.get("tool_choice")) if tools else None,
        "reasoning": {"effort": effort} if effort else None,
        "text": _text_options(request) or None,
        **{name: request[name] for name in PASSED if name in request},
        "include": [SEALED],
        "store": False,
        "stream": True,
    }
    return {name: value for name, value in body.items() if value is not None}


def _items(messages: Sequence[JsonFields]) -> list[JsonFields]:
    items: list[JsonFields] = []
    custom: set[object] = set()
    for message in messages:
        match message.get("role"):
            case "assistant":
                items += _of_assistant(message, custom)
            case "tool":
                call_id = message.get("tool_call_id")
                kind = "custom_tool_call_output" if call_id in custom else "function_call_output"
                content = message.get("content")
                output = content if isinstance(content, str) else _parts(content)
                items.append({"type": kind, "call_id": call_id, "output": output})
            case role:
                items.append({"type": "message", "role": role, "content": _parts(message.get("content"))})
    return items


def _of_assistant(message: JsonFields, custom: set[object]) -> list[JsonFields]:
    """Returns what it thought, as it was sealed, what it said, and its calls; notes which of those take any text."""
    items = objects_of(message.get(REASONING_ITEMS) or [])
    content: list[JsonFields] = [
        {"type": "output_text", "text": part["text"]} for part in _parts(message.get("content")) if "text" in part
    ]
    if message.get("refusal"):
        content.append({"type": "refusal", "refusal": message["refusal"]})
    if content:
        items.append({"type": "message", "role": "assistant", "content": content})
    for call in objects_of(message.get("tool_calls") or []):
        call_id, named = call.get("id"), object_of(call.get("function"))
        if call.get("type") == "custom":
            custom.add(call_id)
            named = object_of(call.get("custom"))
            told: JsonFields = {"type": "custom_tool_call", "input": named.get("input") or ""}
        else:
            told = {"type": "function_call", "arguments": named.get("arguments") or "{}"}
        items.append({**told, "call_id": call_id, "name": named.get("name")})
    return items


def _parts(content: object) -> list[JsonFields]:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}] if content else []
    return [_part(part) for part in objects_of(content or [])]


def _part(part: JsonFields) -> JsonFields:
    match part.get("type"):
        case "text":
            return {"type": "input_text", "text": part.get("text") or ""}
        case "image_url":
            image = object_of(part.get("image_url"))
            detail = {"detail": image["detail"]} if image.get("detail") else {}
            return {"type": "input_image", "image_url": image.get("url"), **detail}
        case "file":
            file = object_of(part.get("file"))
            return {"type": "input_file", **{name: file[name] for name in ("filename", "file_data") if name in file}}
        case "input_audio":
            return part
        case kind:
            raise _unsupported("messages", f"a part of type {str(kind)[:40]!r} cannot be said in OpenAI's Responses")


def _tool(tool: JsonFields) -> JsonFields:
    kind = tool.get("type")
    if kind == "function":
        function = object_of(tool.get("function"))
        return {"type": kind, **function, "strict": bool(function.get("strict"))}  # else it would be strict
    if kind != "custom":
        raise _unsupported("tools", f"a tool of type {str(kind)[:40]!r} is no function")
    custom = object_of(tool.get("custom"))
    form = object_of(custom.get("format"))
    if form.get("type") == "grammar":
        custom = {**custom, "format": {"type": "grammar", **object_of(form.get("grammar"))}}
    return {"type": kind, **custom}


def _choice(wanted: object) -> object:
    if not isinstance(wanted, dict):
        return wanted
    fields = cast(JsonFields, wanted)
    kind = fields.get("type")
    if kind in ("function", "custom"):
        return {"type": kind, "name": object_of(fields.get(str(kind))).get("name")}
    if kind == "allowed_tools":
        allowed = object_of(fields.get("allowed_tools"))
        tools = [_choice(tool) for tool in objects_of(allowed.get("tools") or [])]
        return {"type": kind, "mode": allowed.get("mode", "auto"), "tools": tools}
    raise _unsupported("tool_choice", f"a choice of type {str(kind)[:40]!r} cannot be said there")


def _text_options(request: Request) -> JsonFields:
    wanted = object_of(request.get("response_format"))
    options: JsonFields = {"verbosity": request["verbosity"]} if request.get("verbosity") else {}
    match wanted.get("type"):
        case None | "text":
            return options
        case "json_object":
            return {**options, "format": {"type": "json_object"}}
        case "json_schema":
            return {**options, "format": {"type": "json_schema", **object_of(wanted.get("json_schema"))}}
        case kind:
            raise _unsupported("response_format", f"{str(kind)[:40]!r}: want text, json_schema or json_object")


def _unsupported(param: str, what: str) -> UpstreamRefused:
    return UpstreamRefused(f"{param}: {what}", status=400, code="unsupported_parameter", reported={"param": param})
