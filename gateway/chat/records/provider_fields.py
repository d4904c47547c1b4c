"""Fields that a provider adds to its answer piece by piece, and that we do not know, are put together here. Pure.

They have the form `{"<provider>": {"<field>": ...}}`; fields of the choice, beside the delta, are its field `choice`.
"""

from typing import cast

import msgspec
from msgspec import UNSET, Raw

from gateway.chat.records.record import ProviderMetadata

SPOKEN = {"data", "transcript", "text", "summary", "content", "thinking"}
"""Names of fields whose texts are pieces of one text; any other text replaces the one before it."""


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
