"""Makes the prompt of an agent from a request in OpenAI's format, so that clients of `/v1` reach agents too. Pure."""

from typing import cast

import msgspec
from msgspec import Raw

from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.records.messages import UIMessage
from gateway.chat.upstreams.loose_fields import JsonFields, object_of, objects_of
from gateway.chat.upstreams.operator_rules import SYSTEM_ROLES
from gateway.chat.upstreams.upstream import Request
from gateway.core.loose_json import json_on_one_line

_json = msgspec.json.Encoder().encode


def prompt_of_completion(request: Request, run_id: str) -> AgentPrompt:
    """Returns what an agent is asked; the run is a conversation of its own, of which the client tells all."""
    messages: list[UIMessage] = []
    results = {
        str(message.get("tool_call_id")): _text(message.get("content"))
        for message in objects_of(request.get("messages"))
        if message.get("role") == "tool"
    }
    for place, message in enumerate(objects_of(request.get("messages"))):
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            calls = [_call(call, results) for call in objects_of(message.get("tool_calls", []))]
            parts = [*([{"type": "text", "text": text}] if (text := _text(content)) else []), *calls]
            messages.append(UIMessage(id=f"m{place}", role="assistant", parts=[Raw(_json(part)) for part in parts]))
        elif role == "user":
            parts = (
                [_part(part) for part in objects_of(cast(object, content))]
                if isinstance(content, list)
                else [_text_part(content)]
            )
            messages.append(UIMessage(id=f"m{place}", role="user", parts=[Raw(_json(part)) for part in parts]))
    return AgentPrompt(
        chat_id=run_id,
        run_id=run_id,
        messages=messages,
        system=system_of(request),
        functions=objects_of(request.get("tools", [])),
    )


def system_of(request: Request) -> str:
    """Returns what a request says to the model itself."""
    messages = objects_of(request.get("messages"))
    return "\n\n".join(_text(message.get("content")) for message in messages if message.get("role") in SYSTEM_ROLES)


def _text_part(text: object) -> JsonFields:
    return {"type": "text", "text": _text(text)}


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in objects_of(cast(object, content)))
    return content if isinstance(content, str) else ""


def _part(part: JsonFields) -> JsonFields:
    """Returns a text, or a file in whichever of OpenAI's forms it comes."""
    for name, field in (("image_url", "url"), ("file", "file_data"), ("input_audio", "data")):
        if part.get("type") == name:
            told = object_of(part.get(name))
            url = str(told.get(field) or "")
            if name == "input_audio":
                url = f"data:audio/{told.get('format')};base64,{url}"
            media_type = url[5:].partition(";")[0] if url.startswith("data:") else ""
            return {"type": "file", "url": url, "mediaType": media_type or f"{name.partition('_')[0]}/*"}
    return _text_part(part.get("text"))


def _call(call: JsonFields, results: dict[str, str]) -> JsonFields:
    function, call_id = object_of(call.get("function")), str(call.get("id"))
    told = json_on_one_line(str(function.get("arguments") or "{}")) or b"{}"
    part: JsonFields = {"type": f"tool-{function.get('name')}", "toolCallId": call_id, "input": Raw(told)}
    if call_id not in results:
        return {**part, "state": "input-available"}
    return {**part, "state": "output-available", "output": results[call_id]}
