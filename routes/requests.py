"""What a handler needs of a request: who asks, and the body as a Struct or a problem that says where it is wrong."""

from typing import Any, TypeVar

import msgspec
from litestar import Request

from gateway.auth import Principal
from gateway.errors import BadRequest

T = TypeVar("T")
AnyRequest = Request[Principal, Any, Any]


def caller(request: AnyRequest) -> Principal:
    """Who asks; Forbidden when its token does not allow the chat lane."""
    who = request.user
    who.require_chat()
    return who


def decode(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; BadRequest names the field and what was expected. Empty is `{}`."""
    try:
        # On one line: parts of it are kept as they came, and the log's events are lines.
        return msgspec.json.decode(msgspec.json.format(body or b"{}", indent=-1), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BadRequest(f"the body is not valid: {err}", code="bad_body") from err
