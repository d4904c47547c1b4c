"""Reads and writes who sent a message: the field `author` of its metadata, which is the gateway's alone. Pure.

What a client posts there is overwritten. A model is told of authors once a conversation has several.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw, UnsetType

MAX_NAME = 60
"""Characters of a name; OpenAI takes 64, of A-Z a-z 0-9 _ and -."""
NOBODY: Mapping[str, str] = MappingProxyType({})
"""The names of a conversation with one author."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class Authored(msgspec.Struct, frozen=True):
    """The field that we write into the metadata of a user's message."""

    author: str = ""


_authored = msgspec.json.Decoder(Authored)
_fields = msgspec.json.Decoder(dict[str, Raw])


def author_of(metadata: Raw | UnsetType) -> str:
    """Returns the user who sent a message; nothing where its metadata does not say."""
    try:
        return "" if isinstance(metadata, UnsetType) else _authored.decode(metadata).author
    except msgspec.DecodeError:  # an application's own
        return ""


def with_author(metadata: Raw | UnsetType, author: str) -> Raw:
    """Returns the metadata of a message that says who sent it, whatever it has said before."""
    try:
        fields = {} if isinstance(metadata, UnsetType) else _fields.decode(metadata)
    except msgspec.DecodeError:  # it is no object, so it can say nothing else beside
        fields = {}
    return Raw(msgspec.json.encode(fields | {"author": Raw(msgspec.json.encode(author))}))


def names_of(metadata: Iterable[Raw | UnsetType]) -> Mapping[str, str]:
    """Returns what each author is called upstream; nothing while there is only one.

    Of two who would be called the same, the later one gets a number.
    """
    authors = dict.fromkeys(author for each in metadata if (author := author_of(each)))
    if len(authors) < 2:
        return NOBODY
    names: dict[str, str] = {}
    for author in authors:
        name = _NOT_IN_NAMES.sub("_", author)[:MAX_NAME]
        names[author] = name if name not in names.values() else f"{name}-{len(names) + 1}"
    return names
