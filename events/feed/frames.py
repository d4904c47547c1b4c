"""Encodes the frames of the events lane: published events, and the gateway's own. Pure but for random retry times.

Data is one line of JSON and names are checked before anything is stored, so a frame cannot be forged from inside one.
"""

import random
from collections.abc import Sequence

import msgspec

from events.log.port import Block
from events.log.vector import base36
from gateway.errors import Forbidden, TrilaneError, Unauthorized

_json = msgspec.json.Encoder().encode
DEFAULT = "message"
"""The name of an event that was published without one."""


def name_of(block: Block) -> str:
    """Returns the name under which the events of a block were published."""
    return block.name.partition(" ")[0]


def until_ms(block: Block) -> int:
    """Returns the time (ms since 1970) at which the events of a block expire; 0 when they do not."""
    return expiry_in(block.name)


def expiry_in(name: str) -> int:
    """Returns the time (ms since 1970) in an event's name as the log keeps it; 0 when there is none."""
    return int(name.partition(" ")[2] or 0)


def is_expired(block: Block, now_ms: int) -> bool:
    """Returns whether the events of a block have expired."""
    return 0 < until_ms(block) <= now_ms


def encode(block: Block, around: Sequence[str], envelope_topic: str = "") -> list[bytes]:
    """Returns the frames of a block; `around` holds what their cursors have before and after the offset.

    With an `envelope_topic` the data says whence it comes: `{"topic","offset","event","data"}`.
    The id comes last: some clients keep it as soon as they have read its line, and one that is cut before the data
    would come back with the id of an event that it never saw.
    """
    name = name_of(block)
    lead = b"" if name == DEFAULT else f"event: {name}\n".encode()
    if envelope_topic:
        block = _enveloped(block, name, envelope_topic)
    if len(block.data) == 1:
        cursor = f"{around[0]}{base36(block.first)}{around[1]}".encode()
        return [b"%bdata: %b\nid: %b\n\n" % (lead, block.data[0], cursor)]
    start, end = around[0].encode(), around[1].encode()
    return [
        b"%bdata: %b\nid: %b%b%b\n\n" % (lead, data, start, base36(offset).encode(), end)
        for offset, data in enumerate(block.data, block.first)
    ]


def _enveloped(block: Block, name: str, topic: str) -> Block:
    """Returns a block whose data is in envelopes; no name of a topic or an event needs escapes in JSON."""
    head, tail = f'{{"topic":"{topic}","offset":'.encode(), f',"event":"{name}","data":'.encode()
    data = [b"%b%d%b%b}" % (head, offset, tail, line) for offset, line in enumerate(block.data, block.first)]
    return Block(first=block.first, data=data, name=block.name, time_ms=block.time_ms)


def cursor_in(frame: bytes) -> str:
    """Returns the cursor of a frame that `encode` or `control` has made."""
    start = frame.rindex(b"\nid: ") + 5
    return frame[start : frame.index(b"\n", start)].decode()


def hello(data: object, cursor: str) -> bytes:
    """Returns the first frame of a stream, with the cursor that it starts from."""
    return control("hello", data, cursor, random.randint(1000, 4000))


def gap(topic: str, first: int, last: int | None, reason: str, cursor: str) -> bytes:
    """Returns the frame that tells of events that will not come."""
    return control("gap", {"topic": topic, "from": first, "to": last, "reason": reason}, cursor)


def busy(code: str, cursor: str = "") -> bytes:
    """Returns the last frame of a stream whose reader should come back later.

    It goes out with status 200, because a browser gives up on any other. `cursor` is the reader's own, if it has one:
    some clients forget theirs at an event without.
    """
    return control("busy", {"code": code}, cursor, random.randint(5000, 15000))


def apology(error: TrilaneError, cursor: str) -> bytes:
    """Returns the last frame of a stream that an error ends: `bye` where to come back as before is no use."""
    is_final = isinstance(error, Unauthorized | Forbidden)
    return bye(error.code, cursor) if is_final else busy(error.code, cursor)


def drain(cursor: str = "") -> bytes:
    """Returns the last frame of a stream whose process is leaving, so that its reader reconnects."""
    return control("drain", {}, cursor, random.randint(1000, 4000))


def bye(code: str, cursor: str = "") -> bytes:
    """Returns the last frame of a stream to which its reader should not come back."""
    return control("bye", {"code": code, "retry": False}, cursor)


def control(event: str, data: object, cursor: str = "", retry_ms: int | None = None) -> bytes:
    """Returns a frame of the gateway's own, which always has data, as `retry:` and `id:` need."""
    lines = [f"event: {event}".encode()]
    if retry_ms is not None:
        lines.append(b"retry: %d" % retry_ms)
    lines.append(b"data: %b" % _json(data))
    if cursor:
        lines.append(b"id: %b" % cursor.encode())
    return b"\n".join([*lines, b"", b""])
