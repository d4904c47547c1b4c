"""`Last-Event-ID` in and out.

A cursor is `<name>.<epoch>.<offset>`: the name of the stream below its lane (a run, a topic), and a `Position` in it.
It is hostile input: fixed alphabet, fixed length, and nothing that it says is believed. It only ever narrows what its
bearer asked for; the route decides which topic that is and whether the bearer may read it.
"""

import re
from collections.abc import Mapping

from events.log.port import Position
from gateway.errors import BadRequest

MAX_CURSOR_BYTES = 128
QUERY_NAMES = ("last_event_id", "lastEventId", "lastEventID", "after")
_FORM = re.compile(r"([A-Za-z0-9_~-]{1,64})\.([A-Za-z0-9]{1,16})\.(0|[1-9][0-9]{0,14})", re.ASCII)


def encode_cursor(name: str, position: Position) -> str:
    """The text a client sends back to continue strictly after `position`."""
    return f"{name}.{position.epoch}.{position.offset}"


def decode_cursor(text: str) -> tuple[str, Position]:
    """The name and position in `text`; BadRequest (`bad_cursor`) when it is not a cursor of ours."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_CURSOR_BYTES else None
    if match is None:
        shown = text[:40].encode("ascii", "backslashreplace").decode()
        raise BadRequest(
            f"the cursor {shown!r} is not one of ours: send back an `id` of this stream unchanged "
            f"(at most {MAX_CURSOR_BYTES} bytes)",
            code="bad_cursor",
        )
    name, epoch, offset = match.groups()
    return name, Position(epoch=epoch, offset=int(offset))


def cursor_of(last_event_id: str | None, query: Mapping[str, str]) -> str | None:
    """The cursor a request carries: the header, else the first non-empty query parameter of `QUERY_NAMES`."""
    if last_event_id:
        return last_event_id
    return next((query[name] for name in QUERY_NAMES if query.get(name)), None)
