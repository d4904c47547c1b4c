"""Encodes and decodes the cursor of a run: `<name>.<epoch>.<offset>`, a stream's name below its lane and a `Position`.

This and `events.log.vector`, for streams of several topics, are the only places where cursors are encoded and decoded.
A cursor is hostile input: fixed alphabet, fixed length, and nothing that it says is believed. It only ever narrows what
its bearer asked for; the route decides which topic that is and whether the bearer may read it.
"""

import re

from events.log.port import Position
from gateway.errors import BadRequest

MAX_CURSOR_BYTES = 128
"""Maximum bytes of a cursor, ours or a client's."""
NO_EPOCH = "0"
"""The epoch in a cursor of a topic that was never written to; no real epoch is that short."""
NOWHERE = Position("", 0)
"""The position before the first event of a topic, in whichever epoch it begins."""
_FORM = re.compile(r"([A-Za-z0-9_~-]{1,64})\.([A-Za-z0-9]{1,16})\.(0|[1-9][0-9]{0,14})", re.ASCII)


def encode_cursor(name: str, position: Position) -> str:
    """Returns the text that a client sends back to continue strictly after `position`."""
    return f"{name}.{position.epoch or NO_EPOCH}.{position.offset}"


def cursor_prefix(name: str, epoch: str) -> bytes:
    """Returns a cursor without its offset, which follows in decimal digits: the events of one block share it."""
    return f"{name}.{epoch or NO_EPOCH}.".encode()


def decode_cursor(text: str) -> tuple[str, Position]:
    """Returns the name and position in `text`; raises BadRequest (`bad_cursor`) when it is not a cursor of ours."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_CURSOR_BYTES else None
    if match is None:
        excerpt = text[:40].encode("ascii", "backslashreplace").decode()
        raise BadRequest(
            f"the cursor {excerpt!r} is not one of ours: send back an `id` of this stream unchanged "
            f"(at most {MAX_CURSOR_BYTES} bytes)",
            code="bad_cursor",
        )
    name, epoch, offset = match.groups()
    return name, Position("" if epoch == NO_EPOCH else epoch, int(offset))
