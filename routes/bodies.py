"""Request bodies: JSON in, a Struct out, or a problem that says where it is wrong."""

from typing import TypeVar

import msgspec

from gateway.errors import BadRequest

T = TypeVar("T")


def decode(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; BadRequest names the field and what was expected. Empty is `{}`."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise BadRequest(f"the body is not valid: {err}", code="bad_body") from err
