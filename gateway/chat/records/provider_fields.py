"""Fields that a provider adds to its answer piece by piece, and that we do not know, are put together here. Pure.

They have the form `{"<provider>": {"<field>": ...}}`; fields of the choice, beside the delta, are its field `choice`.
"""

import re
from typing import cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.record import ProviderMetadata

SPOKEN = {"data", "transcript", "text", "summary", "content", "thinking"}
"""Names of fields whose texts are pieces of one text; any other text replaces the one before it."""

TEXTS = {"content", "refusal", "reasoning", "reasoning_content", "arguments", "input", "data", "transcript"}
"""Names of fields of an answer whose texts come in pieces."""

SIGNED = "\0signed"
"""Key of a message for an upstream that holds what each provider added to it, until it is known which one is asked."""
AGENT = "agent"
"""Name under which an agent's own names of messages, calls and questions are kept; they go to no model."""
NOT_OF_A_MESSAGE = {"choice", "content_parts", "refusal"}
"""Fields that we made of what came beside the message, or in its content."""
_WIRE_NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names of fields as OpenAI's format has them; other clients keep metadata of their own in the same place."""


def by_provider(pieces: list[Raw]) -> dict[str, dict[str, object]]:
    """Returns the fields of a message that each provider added to it, to be sent back with the next request."""
    try:
        whole = folded([piece for piece in pieces if msgspec.json.decode(piece, type=dict[str, dict[str, object]])])
        providers = (
            {} if isinstance(whole, UnsetType) else msgspec.json.decode(whole, type=dict[str, dict[str, object]])
        )
    except msgspec.DecodeError:
        return {}
    providers.pop(AGENT, None)
    for provider, fields in providers.items():
        names = [name for name in fields if _WIRE_NAME.fullmatch(name) and name not in NOT_OF_A_MESSAGE]
        providers[provider] = {name: _as_sent(name, fields[name]) for name in names}
    return {provider: fields for provider, fields in providers.items() if fields}


def _as_sent(name: str, value: object) -> object:
    """Returns a field as a request has it: of sound, its id alone (OpenAI's guide to audio)."""
    sound = cast(dict[str, object], value) if name == "audio" and isinstance(value, dict) else {}
    return {"id": sound["id"]} if "id" in sound else cast(object, value)


def folded(pieces: list[Raw]) -> ProviderMetadata:
    """Returns what the pieces say together: lists are joined, and of a field that comes again the newest value stays.

    Sound and its transcript come as pieces of a text within an object, and are joined too.
    """
    if len(pieces) < 2:
        return pieces[0] if pieces else UNSET
    whole: object = msgspec.json.decode(pieces[0])
    for piece in pieces[1:]:
        whole = _fold(whole, msgspec.json.decode(piece), "", depth=0)
    return Raw(msgspec.json.encode(whole))


def add_piece(whole: dict[str, object], piece: dict[str, object]) -> None:
    """Adds a piece of an answer in OpenAI's format to what came before: its texts go on, its calls find their index."""
    for name, value in piece.items():
        old = whole.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            add_piece(cast(dict[str, object], old), cast(dict[str, object], value))
        elif isinstance(old, str) and isinstance(value, str) and name in TEXTS:
            whole[name] = old + value
        elif isinstance(old, list) and isinstance(value, list):
            _add_items(cast(list[object], old), cast(list[object], value))
        elif value is not None or name not in whole:
            whole[name] = value


def _add_items(whole: list[object], items: list[object]) -> None:
    for item in items:
        index = _index_of(item)
        same = next((one for one in whole if index is not None and _index_of(one) == index), None)
        if isinstance(same, dict):
            add_piece(cast(dict[str, object], same), cast(dict[str, object], item))
        else:
            whole.append(item)


def _index_of(item: object) -> object:
    return cast(dict[str, object], item).get("index") if isinstance(item, dict) else None


def _fold(old: object, new: object, name: str, depth: int) -> object:
    if isinstance(old, dict) and isinstance(new, dict):
        fields = cast(dict[str, object], old)
        for field, value in cast(dict[str, object], new).items():
            fields[field] = _fold(fields[field], value, field, depth + 1) if field in fields else value
        return fields
    if isinstance(old, list) and isinstance(new, list):
        cast(list[object], old).extend(cast(list[object], new))
        return cast(list[object], old)
    if isinstance(old, str) and isinstance(new, str) and name in SPOKEN and depth > 2:
        return old + new
    return new
