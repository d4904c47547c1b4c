"""Reads a request for its handler: the caller, the cursor, and the body as a Struct or an error."""

import asyncio
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from litestar import Request, WebSocket
from msgspec import Raw

from gateway.access.grants import Principal
from gateway.core.json_shape import SMALL_BYTES, check_shape
from gateway.core.leniency import lenient_decoder
from gateway.core.loose_json import BYTE_ORDER_MARK, JsonLine, with_whole_pairs, with_whole_pairs_in_slices
from gateway.errors import BadRequest
from gateway.serving.bodies import Bodies, HeldBody

T = TypeVar("T")
AnyRequest = Request[Principal, Any, Any]
AnyConnection = AnyRequest | WebSocket[Principal, Any, Any]
QUERY_NAMES = ("last_event_id", "lastEventId", "lastEventID", "after")
"""Query parameters that may carry a cursor, in order of precedence.

`EventSource` cannot send a header with its first request.
"""


REFUSED_RANGE = re.compile(r";\s*q\s*=\s*0(\.0*)?\s*(;|$)", re.IGNORECASE)
"""The weight in `Accept` that says that a media range is not wanted."""


def caller(request: AnyRequest) -> Principal:
    """Returns who asks; raises Forbidden when its token does not allow the chat lane."""
    who = request.user
    who.require_chat()
    return who


def header(request: AnyConnection, name: bytes) -> str | None:
    """Returns the first header of that name, which is in lower case, without parsing the others."""
    for key, value in request.scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


def cursor(request: AnyConnection) -> str | None:
    """Returns the cursor of a request: `Last-Event-ID`, else the first non-empty query parameter of QUERY_NAMES."""
    text = header(request, b"last-event-id")
    if text or not request.scope["query_string"]:
        return text or None
    query = request.query_params
    return next((query[name] for name in QUERY_NAMES if query.get(name)), None)


UI_VERSIONS = ("5", "6", "7")


def ui_version(request: AnyConnection) -> int:
    """Returns the version of the AI SDK that a client says it reads with; 0 when it says none."""
    text = request.query_params.get("ui", "") if request.scope["query_string"] else ""
    if not text:
        return 0
    if text not in UI_VERSIONS:
        raise BadRequest(f"ui={text[:16]!r}: want the AI SDK's version, one of {', '.join(UI_VERSIONS)}", code="bad_ui")
    return int(text)


EVENT_STREAM = {"text/event-stream": 3, "text/*": 2, "*/*": 1, "*": 1}
"""Media ranges in `Accept` that an event stream satisfies, by how closely; `*` is what some old clients send."""


def check_event_stream(request: AnyRequest) -> None:
    """Raises BadRequest (406) when the client says that it takes no event stream (RFC 9110 §12.5.1).

    A client that sends no `Accept`, or an empty one, takes anything.
    """
    values = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept"]
    if values in (["text/event-stream"], ["*/*"], []):  # what browsers and nearly all clients send
        return
    accept = ", ".join(values)
    ranges = [(media_range.partition(";")[0].strip().lower(), media_range) for media_range in accept.split(",")]
    matches = [(EVENT_STREAM[name], text) for name, text in ranges if name in EVENT_STREAM]
    is_excluded = matches and REFUSED_RANGE.search(max(matches)[1])
    if accept.strip(" ,") and (not matches or is_excluded):
        raise BadRequest(f"this is an event stream, not {accept[:60]!r}", status=406, code="not_acceptable")


def check_coding(scope: Any) -> None:
    """Raises BadRequest (415) for a compressed body: none is unpacked here, lest a small one becomes a large one."""
    codings = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    if codings and codings != ["identity"]:
        detail = f"the body has content-encoding {codings[0][:40]!r}: send it uncompressed"
        raise BadRequest(detail, status=415, code="unsupported_coding")


def content_length(scope: Any) -> int:
    """Returns the size that a body says it will have; 0 for one in chunks, and for none."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)


async def read_body(request: AnyRequest, body: HeldBody) -> bytes:
    """Returns the whole body, which `body` counts as it arrives.

    Raises TooLarge or Overloaded past a limit, before it comes where it says its size; BadRequest when the client
    leaves first, or when it would be too dear to decode. Litestar's own way parses every header and passes a generator,
    and both delay the first token.
    """
    check_coding(request.scope)
    body.expect(content_length(request.scope))
    has_more = True
    while has_more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the body was cut", code="bad_body")
        body.add(message.get("body", b""))
        has_more = message.get("more_body", False)
    await check_shape(body.data)
    return body.data if len(body.data) <= SMALL_BYTES else await _checked(body.data)


async def _checked(body: bytes) -> JsonLine:
    """Checks a large body as `_decode` does a small one, in steps between which others have their turn."""
    try:
        line = msgspec.json.format(body.removeprefix(BYTE_ORDER_MARK), indent=-1)
        await asyncio.sleep(0)
        line.decode()  # a line is UTF-8; its numbers were looked at with its shape
        await asyncio.sleep(0)
        return JsonLine(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        whole = await with_whole_pairs_in_slices(body)
        await asyncio.sleep(0)
        if whole != body:
            return await _checked(whole)
        raise BadRequest(f"the body is not valid: {err}", code="bad_body") from err


async def body_of(request: AnyRequest, bodies: Bodies) -> bytes:
    """Returns the body of a request that is answered at once; raises as `read_body` does."""
    with bodies.hold() as body:
        return await read_body(request, body)


def decode(body: bytes, kind: type[T]) -> T:
    """Returns the body as `kind`, an empty one as `{}`. Raises BadRequest, which names the field that is wrong.

    Half of a surrogate pair in a text is U+FFFD.
    """
    return _decode(body, _decoder(kind))


async def decode_with_fields(body: bytes, kind: type[T]) -> tuple[T, dict[str, Raw]]:
    """Returns the body as `kind`, and all of its fields as they came; raises as `decode` does."""
    decoder: Callable[[bytes], T] = _decoder(kind)
    if not isinstance(body, JsonLine):
        return _decode(body, lambda line: (decoder(line), _fields(line)))
    decoded = _decode(body, decoder)
    await asyncio.sleep(0)
    fields = _fields(body)
    await asyncio.sleep(0)
    return decoded, fields


def _decode(body: bytes, decoder: Callable[[bytes], T]) -> T:
    try:
        if isinstance(body, JsonLine):
            return decoder(body)
        # All of it is checked, even what is kept as it came, and put on one line, because the log's events are lines.
        line = msgspec.json.format(body.removeprefix(BYTE_ORDER_MARK) or b"{}", indent=-1)
        msgspec.json.decode(line)
        return decoder(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        whole = with_whole_pairs(body)
        if whole != body:
            return _decode(whole, decoder)
        raise BadRequest(f"the body is not valid: {err}", code="bad_body") from err


@cache
def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    return lenient_decoder(kind)


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
