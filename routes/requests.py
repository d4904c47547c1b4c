"""What a handler needs of a request: who asks, and the body as a Struct or a problem that says where it is wrong."""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

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


MAX_DEPTH = 100
"""How deeply a body may be nested; what is kept of it must still be readable for whoever reads it later."""


def decode(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; BadRequest names the field and what was expected. Empty is `{}`."""
    try:
        # All of it is looked at, also what is kept as it came; and put on one line, because the log's events are lines.
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(msgspec.json.decode(body))
        line = msgspec.json.format(body or b"{}", indent=-1)
        msgspec.json.decode(line)
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
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
