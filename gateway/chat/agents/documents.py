"""Documents that an agent shows and changes by patches (RFC 6902): its state, and what it says of its activities. Pure.

A patch is shown to those who follow; the whole document is recorded again once, when the answer ends, so that a chat
which is read later has it as it was, and many small changes of a large document cost what they are.
"""

from typing import cast

import msgspec
from msgspec import Raw

from gateway.core.loose_json import strict_raw

MAX_OPERATIONS = 10_000


class Documents:
    """The documents of one answer, by name and id."""

    def __init__(self) -> None:
        self._whole: dict[tuple[str, str], Raw] = {}
        self._changed: dict[tuple[str, str], object] = {}

    def replace(self, name: str, data_id: str, value: Raw) -> None:
        self._whole[name, data_id] = value
        self._changed.pop((name, data_id), None)

    def patch(self, name: str, data_id: str, patch: Raw) -> None:
        """Changes a document, if it is known and the patch fits; else it is not known any more."""
        key = name, data_id
        if key not in self._whole:
            return
        value = self._changed[key] if key in self._changed else msgspec.json.decode(self._whole[key])
        try:
            self._changed[key] = patched(value, msgspec.json.decode(patch, type=list[dict[str, object]]))
        except (msgspec.DecodeError, LookupError, ValueError, TypeError):
            self._whole.pop(key)
            self._changed.pop(key, None)

    def changed(self) -> list[tuple[str, str, Raw]]:
        """Returns name, id and value of the documents that patches have changed."""
        return [(name, data_id, strict_raw(value)) for (name, data_id), value in self._changed.items()]


def without_messages(state: Raw) -> Raw:
    """Returns a state without the field in which LangGraph and CrewAI repeat the conversation: our log has it."""
    if bytes(state)[:1] != b"{":
        return state
    fields = msgspec.json.decode(state, type=dict[str, Raw])
    return state if fields.pop("messages", None) is None else strict_raw(fields)


def patch_without_messages(patch: Raw) -> Raw | None:
    """Returns the part of a patch that is about the rest of a state; None when nothing is."""
    operations = msgspec.json.decode(patch, type=list[dict[str, Raw]])
    kept = [operation for operation in operations if not bytes(operation.get("path", b"")).startswith(b'"/messages')]
    return strict_raw(kept) if kept else None


def below(patch: Raw, path: str) -> Raw:
    """Returns a patch of a part of a document, which stands at `path`, as one of the document."""
    operations = msgspec.json.decode(patch, type=list[dict[str, object]])
    for operation in operations:
        for name in ("path", "from"):
            if isinstance(operation.get(name), str):
                operation[name] = f"{path}{operation[name]}"
    return strict_raw(operations)


def patched(document: object, operations: list[dict[str, object]]) -> object:
    """Returns the document after all operations. Raises LookupError, ValueError or TypeError for one that fails."""
    if len(operations) > MAX_OPERATIONS:
        raise ValueError
    root: dict[str, object] = {"": document}
    for operation in operations:
        path = _path(operation["path"])
        match operation["op"]:
            case "add":
                _add(root, path, operation["value"])
            case "replace":
                _get(root, path)
                _remove(root, path) if isinstance(_get(root, path[:-1]), list) else None
                _add(root, path, operation["value"])
            case "remove":
                _remove(root, path)
            case "copy":
                _add(root, path, msgspec.json.decode(msgspec.json.encode(_get(root, _path(operation["from"])))))
            case "move":
                value = _get(root, _path(operation["from"]))
                _remove(root, _path(operation["from"]))
                _add(root, path, value)
            case "test":
                if _get(root, path) != operation["value"]:
                    raise ValueError
            case _:
                raise ValueError
    return root[""]


def _path(pointer: object) -> list[str]:
    """Returns the names in a JSON pointer (RFC 6901), with one for the document itself before them."""
    if not isinstance(pointer, str) or (pointer and pointer[0] != "/"):
        raise ValueError
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")]


def _get(root: object, path: list[str]) -> object:
    place = root
    for token in path:
        if isinstance(place, list):
            place = cast(list[object], place)[_index(token)]
        elif isinstance(place, dict):
            place = cast(dict[str, object], place)[token]
        else:
            raise LookupError
    return place


def _add(root: object, path: list[str], value: object) -> None:
    parent, token = _get(root, path[:-1]), path[-1]
    if isinstance(parent, list):
        items = cast(list[object], parent)
        place = len(items) if token == "-" else _index(token)
        if place > len(items):
            raise LookupError
        items.insert(place, value)
    elif isinstance(parent, dict):
        parent[token] = value
    else:
        raise LookupError


def _remove(root: object, path: list[str]) -> None:
    parent, token = _get(root, path[:-1]), path[-1]
    if isinstance(parent, list):
        del cast(list[object], parent)[_index(token)]
    elif isinstance(parent, dict):
        del cast(dict[str, object], parent)[token]
    else:
        raise LookupError


def _index(token: str) -> int:
    if not token.isdecimal():
        raise LookupError
    return int(token)
