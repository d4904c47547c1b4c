"""Turns of Anthropic's Messages API become messages of a chat completion. Pure.

A turn is a list of blocks; OpenAI's format has the results of tools, the calls of an answer and what it thought in
places of their own. What has no place there is refused by the name of its type: a model that was not shown a block
would answer all the same. Markers of `cache_control` go along, for upstreams that cache by them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from gateway.chat.upstreams.loose_fields import JsonObject
from gateway.errors import BadRequest

CACHE = "cache_control"
NAMELESS = "document.pdf"
"""File name of a document that came without a title: OpenAI's format wants one."""
MAX_SHOWN = 60
_json = msgspec.json.Encoder().encode


def system_message(system: object) -> JsonObject | None:
    """Returns the system prompt, a text or a list of text blocks, as a message; None for an empty one."""
    parts = [_text(block, "system") for block in _blocks(system, "system")]
    return {"role": "system", "content": _content(parts)} if parts else None


def messages_of(turns: Sequence[object]) -> list[JsonObject]:
    """Returns the messages that say what `turns` say, each `{"role", "content"}` with a text or a list of blocks.

    Raises BadRequest, which names the turn and the block.
    """
    messages: list[JsonObject] = []
    for number, turn in enumerate(turns):
        place = f"messages.{number}"
        fields = _object(turn, place)
        role, blocks = fields.get("role"), _blocks(fields.get("content"), f"{place}.content")
        if role == "user":
            messages += _of_user(blocks, place)
        elif role == "assistant":
            messages += _of_assistant(blocks, place)
        elif role == "system":  # some clients remind a model in the middle of a conversation
            messages.append({"role": "system", "content": _content([_text(block, place) for block in blocks])})
        else:
            raise _bad(f"{place}.role", f"want `user` or `assistant`, not {_shown(role)}")
    return messages


def _of_user(blocks: list[JsonObject], place: str) -> list[JsonObject]:
    """Returns the results of tools first, as they must follow their calls, and then what the person says."""
    results: list[JsonObject] = []
    parts: list[JsonObject] = []
    for number, block in enumerate(blocks):
        where = f"{place}.content.{number}"
        if block.get("type") == "tool_result":
            result, shown = _result(block, where)
            results.append(result)
            parts += shown
        else:
            parts += _parts(block, where)
    return [*results, *([{"role": "user", "content": _content(parts)}] if parts or not results else [])]


def _result(block: JsonObject, place: str) -> tuple[JsonObject, list[JsonObject]]:
    """Returns a tool's result as a message, and what of it is no text: only a user's message may hold that."""
    call_id = block.get("tool_use_id")
    if not isinstance(call_id, str) or not call_id:
        raise _bad(f"{place}.tool_use_id", "want the id of a `tool_use` block")
    parts: list[JsonObject] = []
    for number, one in enumerate(_blocks(block.get("content", ""), f"{place}.content")):
        parts += _parts(one, f"{place}.content.{number}")
    texts = [part for part in parts if part["type"] == "text"]
    if block.get("is_error") is True:  # the format has no field for it
        texts.insert(0, {"type": "text", "text": "Error: "})
    content = "".join(str(part["text"]) for part in texts)
    return {"role": "tool", "tool_call_id": call_id, "content": content}, [p for p in parts if p["type"] != "text"]


def _of_assistant(blocks: list[JsonObject], place: str) -> list[JsonObject]:
    parts: list[JsonObject] = []
    thoughts: list[str] = []
    calls: list[JsonObject] = []
    for number, block in enumerate(blocks):
        where = f"{place}.content.{number}"
        match block.get("type"):
            case "text":
                parts.append(_text(block, where))
            case "thinking":
                thoughts.append(_string(block, "thinking", where))
            case "redacted_thinking":
                continue  # sealed by another provider: nobody else can read it
            case "tool_use":
                calls.append(_call(block, where))
            case kind:
                raise _bad(f"{where}.type", f"{_shown(kind)} cannot be told to another provider's model")
    message: JsonObject = {"role": "assistant", "content": _content(parts) if parts else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    elif not parts:
        message["content"] = ""
    return [message]


def _call(block: JsonObject, place: str) -> JsonObject:
    arguments = _json(block.get("input") or {}).decode()
    function = {"name": _string(block, "name", place), "arguments": arguments}
    return {"id": _string(block, "id", place), "type": "function", "function": function}


def _parts(block: JsonObject, place: str) -> list[JsonObject]:
    """Returns a block of a user's, or of a tool's result, as parts of a message."""
    match block.get("type"):
        case "text":
            return [_text(block, place)]
        case "image":
            return [_cached({"type": "image_url", "image_url": {"url": _address(block, place)}}, block)]
        case "document":
            return _document(block, place)
        case "search_result":
            title, source = _string(block, "title", place), _string(block, "source", place)
            texts = [_text(one, place)["text"] for one in _blocks(block.get("content"), place)]
            return [_cached({"type": "text", "text": "\n".join([f"{title} ({source})", *texts])}, block)]
        case kind:
            raise _bad(f"{place}.type", f"{_shown(kind)} cannot be told to another provider's model")


def _document(block: JsonObject, place: str) -> list[JsonObject]:
    source = _object(block.get("source"), f"{place}.source")
    title = block.get("title")
    name = title if isinstance(title, str) and title else ""
    context = block.get("context")
    lead = [{"type": "text", "text": context}] if isinstance(context, str) and context else []
    match source.get("type"):
        case "text":
            text = _string(source, "data", f"{place}.source")
            return [*lead, _cached({"type": "text", "text": f"{name}\n\n{text}" if name else text}, block)]
        case "content":
            parts: list[JsonObject] = []
            for number, one in enumerate(_blocks(source.get("content"), f"{place}.source.content")):
                parts += _parts(one, f"{place}.source.content.{number}")
            return [*lead, *parts]
        case "base64" | "url":
            file = {"filename": name or NAMELESS, "file_data": _address(block, place)}
            return [*lead, _cached({"type": "file", "file": file}, block)]
        case kind:
            raise _bad(f"{place}.source.type", f"{_shown(kind)} is not known here: want `base64`, `text`, `url`")


def _address(block: JsonObject, place: str) -> str:
    """Returns the address of a picture or document; one that came in base64 is a `data:` URL."""
    source = _object(block.get("source"), f"{place}.source")
    match source.get("type"):
        case "base64":
            kind = _string(source, "media_type", f"{place}.source")
            return f"data:{kind};base64,{_string(source, 'data', f'{place}.source')}"
        case "url":
            return _string(source, "url", f"{place}.source")
        case kind:
            raise _bad(f"{place}.source.type", f"{_shown(kind)} is not kept here: want `base64` or `url`")


def _text(block: JsonObject, place: str) -> JsonObject:
    if block.get("type") != "text":
        raise _bad(f"{place}.type", f"want a `text` block, not {_shown(block.get('type'))}")
    return _cached({"type": "text", "text": _string(block, "text", place)}, block)


def _cached(part: JsonObject, block: JsonObject) -> JsonObject:
    return part if block.get(CACHE) is None else {**part, CACHE: block[CACHE]}


def _content(parts: list[JsonObject]) -> str | list[JsonObject]:
    """Returns one plain text as such: servers that take no lists of parts are many."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts or ""


def _blocks(content: object, place: str) -> list[JsonObject]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _bad(place, "want a text or a list of blocks")
    return [_object(block, f"{place}.{n}") for n, block in enumerate(cast("list[object]", content))]


def _object(value: object, place: str) -> JsonObject:
    if not isinstance(value, Mapping):
        raise _bad(place, "want an object")
    return dict(cast("Mapping[str, Any]", value))


def _string(fields: JsonObject, name: str, place: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _bad(f"{place}.{name}", "want a text")
    return value


def _shown(value: object) -> str:
    return repr(value)[:MAX_SHOWN]


def _bad(place: str, what: str) -> BadRequest:
    return BadRequest(f"{place}: {what}", code="invalid_value", extra={"param": place})
