"""The items of OpenAI's Responses, as an upstream that speaks chat completions is sent them. Pure.

What a model thought stays here, as in chats. An item or a part that such an upstream cannot take is refused by name.
"""

import mimetypes
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from gateway.chat.dialects.response_output import NAMED
from gateway.chat.records.attachments import content_part
from gateway.chat.records.messages import UpstreamMessage, joined
from gateway.errors import BadRequest

ResponseItem = dict[str, Any]
REFERENCE = "item_reference"
PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "mcp_call": "mcp",
}
"""Types of the items that can be sent, and how their ids begin."""
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
"""Roles of messages, and what templates of models know them as."""
NAMESPACE = "namespace"
"""The type of a group of tools, and the field of a call with the group's name."""
BETWEEN = "__"
"""What stands between the name of a namespace and that of its tool, in the name that the model knows."""


def refused(param: str, detail: str, code: str = "unsupported_value") -> BadRequest:
    return BadRequest(f"{param}: {detail}", code=code, extra={"param": param})


def qualified(namespace: object, name: str) -> str:
    """Returns the name under which the model knows a tool; that of no namespace is its own."""
    return f"{namespace}{BETWEEN}{name}" if isinstance(namespace, str) and namespace else name


def posted_items(posted: object, run_id: str) -> list[ResponseItem]:
    """Returns the items of a request's `input`, each with a type and an id. Raises BadRequest."""
    if isinstance(posted, str):
        posted = [{"role": "user", "content": posted}]
    if not isinstance(posted, list):
        raise refused("input", "want a text or a list of items", "invalid_type")
    return [_item(item, place, run_id) for place, item in enumerate(cast("list[object]", posted))]


def _item(value: object, place: int, run_id: str) -> ResponseItem:
    param = f"input[{place}]"
    if not isinstance(value, dict):
        raise refused(param, "want an item, which is an object", "invalid_type")
    item = {name: one for name, one in cast("ResponseItem", value).items() if one is not None}
    kind = item.setdefault("type", "message" if "role" in item else "")
    if kind == REFERENCE:
        return item
    if kind not in PREFIXES:
        known = ", ".join([*PREFIXES, REFERENCE])
        raise refused(f"{param}.type", f"items of type {str(kind)[:64]!r} cannot be sent to this model: want {known}")
    if kind == "message":
        if item.get("role") not in ROLES:
            raise refused(f"{param}.role", f"want one of {', '.join(ROLES)}", "invalid_value")
        item["content"] = _as_parts(item["role"], item.get("content", ""))
    item.setdefault("id", f"{PREFIXES[kind]}_{run_id}_i{place}")
    upstream_messages([item], param)  # so that what is wrong is said of its place
    return item


def _as_parts(role: str, content: object) -> object:
    kind = "output_text" if role == "assistant" else "input_text"
    return [{"type": kind, "text": content}] if isinstance(content, str) else content


def upstream_messages(items: Iterable[ResponseItem], param: str = "input") -> list[UpstreamMessage]:
    """Returns the items as messages: calls that follow one another belong to one message. Raises BadRequest."""
    messages: list[UpstreamMessage] = []
    for item in items:
        kind = item["type"]
        if kind == "message":
            role = ROLES[item["role"]]
            content, refusal = _content(item["content"], role, f"{param}.content")
            messages.append({"role": role, "content": content, **({"refusal": refusal} if refusal else {})})
        elif kind in ("function_call", "custom_tool_call", "mcp_call"):
            _add_call(messages, item, kind, param)
        elif kind != "reasoning":
            output = item.get("output", "")
            content = output if isinstance(output, str) else _content(output, "tool", f"{param}.output")[0]
            messages.append(
                {"role": "tool", "tool_call_id": _text(item, "call_id", f"{param}.call_id"), "content": content}
            )
    return joined(messages)


def _add_call(messages: list[UpstreamMessage], item: ResponseItem, kind: str, param: str) -> None:
    call_id = item["id"] if kind == "mcp_call" else _text(item, "call_id", f"{param}.call_id")
    name = qualified(item.get(NAMESPACE), _text(item, "name", f"{param}.name"))
    call: dict[str, object] = {"id": call_id, "type": "function"}
    if kind == "custom_tool_call":
        call |= {"type": "custom", "custom": {"name": name, "input": _text(item, "input", f"{param}.input")}}
    else:
        call["function"] = {"name": name, "arguments": _text(item, "arguments", f"{param}.arguments")}
    if isinstance(added := item.get("provider"), dict):  # an upstream wants back what it has signed
        call |= {field: value for field, value in cast("ResponseItem", added).items() if field not in NAMED}
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant":
        calls = cast("list[object]", last.setdefault("tool_calls", []))
        calls.append(call)
        last["content"] = last.get("content") or None
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    if kind == "mcp_call":
        result = item.get("output") or item.get("error") or ""
        messages.append({"role": "tool", "tool_call_id": call_id, "content": str(result)})


def _text(item: ResponseItem, name: str, param: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise refused(param, "want a text", "invalid_type")
    return value


def _content(content: object, role: str, param: str) -> tuple[object, str]:
    """Returns parts as an upstream takes them, one text where nothing else is among them; and what was refused."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise refused(param, "want a text or a list of parts", "invalid_type")
    parts: list[dict[str, object]] = []
    refusals: list[str] = []
    for place, value in enumerate(cast("list[object]", content)):
        where = f"{param}[{place}]"
        if not isinstance(value, dict):
            raise refused(where, "want a part, which is an object", "invalid_type")
        part = cast("ResponseItem", value)
        if part.get("type") == "refusal":
            refusals.append(_text(part, "refusal", f"{where}.refusal"))
        else:
            parts.append(_part(part, where))
    if all(part["type"] == "text" for part in parts):
        texts = [str(part["text"]) for part in parts]
        return ("" if role in ("assistant", "tool") else "\n\n").join(texts), "".join(refusals)
    return parts, "".join(refusals)


def _part(part: Mapping[str, Any], param: str) -> dict[str, object]:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": _text({**part}, "text", f"{param}.text")}
    if part.get("file_id") is not None:
        raise refused(f"{param}.file_id", "files are not kept here: send the file itself as a data: URL")
    if kind == "input_image":
        url = _text({**part}, "image_url", f"{param}.image_url")
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    if kind == "input_file":
        name = str(part.get("filename") or "")
        url = part.get("file_data") or part.get("file_url")
        if not isinstance(url, str):
            raise refused(param, "want `file_data`, a data: URL, or `file_url`", "invalid_value")
        guessed = mimetypes.guess_type(name or urlsplit(url).path)[0] if not url.startswith("data:") else None
        return content_part(guessed or "", url, name)
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise refused(f"{param}.type", f"parts of type {str(kind)[:64]!r} cannot be sent to this model")
