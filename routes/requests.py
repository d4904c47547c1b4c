"""Reads a request for its handler: the caller, the cursor, and the body as a Struct or an error."""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request

from gateway.access.grants import Principal
from gateway.core.loose_json import with_whole_pairs
from gateway.errors import BadRequest, TooLarge

T = TypeVar("T")
AnyRequest = Request[Principal, Any, Any]
QUERY_NAMES = ("last_event_id", "lastEventId", "lastEventID", "after")
"""Query parameters that may carry a cursor, in order of precedence.

`EventSource` cannot send a header with its first request.
"""


def caller(request: AnyRequest) -> Principal:
    """Returns who asks; raises Forbidden when its token does not allow the chat lane."""
    who = request.user
    who.require_chat()
    return who


def header(request: AnyRequest, name: bytes) -> str | None:
    """Returns the first header of that name, which is in lower case, without parsing the others."""
    return next((value.decode("latin-1") for key, value in request.scope["headers"] if key == name), None)


def cursor(request: AnyRequest) -> str | None:
    """Returns the cursor of a request: `Last-Event-ID`, else the first non-empty query parameter of QUERY_NAMES."""
    text = header(request, b"last-event-id")
    if text or not request.scope["query_string"]:
        return text or None
    query = request.query_params
    return next((query[name] for name in QUERY_NAMES if query.get(name)), None)


async def body_of(request: AnyRequest, max_bytes: int) -> bytes:
    """Returns the body; raises TooLarge past `max_bytes`, BadRequest when the client leaves first.

    Litestar's own way parses every header and passes a generator, and both delay the first token.
    """
    pieces: list[bytes] = []
    size, has_more = 0, True
    while has_more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the body was cut", code="bad_body")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes (TRILANE_LIMIT_BODY_BYTES)")
        pieces.append(piece)
        has_more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


MAX_DEPTH = 100
"""Maximum nesting of a body: what the log keeps of it must be readable for every later reader."""


def decode(body: bytes, kind: type[T]) -> T:
    """Returns the body as `kind`, an empty one as `{}`. Raises BadRequest, which names the field that is wrong.

    Half of a surrogate pair in a text is U+FFFD.
    """
    try:
        # All of it is checked, even what is kept as it came, and put on one line, because the log's events are lines.
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(msgspec.json.decode(body))
        line = msgspec.json.format(body or b"{}", indent=-1)
        msgspec.json.decode(line)
        return msgspec.json.decode(line, type=kind)
    except RecursionError as err:
        raise BadRequest(f"the body is nested more than {MAX_DEPTH} deep", code="bad_body") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        whole = with_whole_pairs(body)
        if whole != body:
            return decode(whole, kind)
        raise BadRequest(f"the body is not valid: {err}", code="bad_body") from err


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise BadRequest(f"the body is nested more than {MAX_DEPTH} deep", code="bad_body")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()
