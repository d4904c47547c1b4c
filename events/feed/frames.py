"""What a client of the events lane reads: an event as a frame, and what the gateway says itself. Pure, but for dice.

Data is one line of JSON and names are checked before anything is stored, so a frame cannot be forged from inside one.
"""

import random
from collections.abc import Sequence

import msgspec

from events.log.port import Block
from events.log.vector import base36

_json = msgspec.json.Encoder().encode
DEFAULT = "message"


def stored_name(event: str, ttl_s: float | None, now_ms: int) -> str:
    """How an event's name is kept: with the time (ms since 1970) from which on nobody needs it, when it has one."""
    return event if ttl_s is None else f"{event} {now_ms + int(ttl_s * 1000)}"


def name_of(block: Block) -> str:
    """The name under which the events of a block were published."""
    return block.name.partition(" ")[0]


def until_ms(block: Block) -> int:
    """From when on nobody needs the events of a block; 0: never."""
    return int(block.name.partition(" ")[2] or 0)


def is_over(block: Block, now_ms: int) -> bool:
    """Whether nobody needs the events of a block any more."""
    return 0 < until_ms(block) <= now_ms


def encode(block: Block, around: Sequence[str]) -> list[bytes]:
    """The frames of a block; `around` is what comes before and after an offset in their cursors (`events.log.vector`).

    The id comes last: some clients keep it as soon as they have read its line, and one that is cut before the data
    would come back with the id of an event that it never saw.
    """
    name = name_of(block)
    lead = b"" if name == DEFAULT else f"event: {name}\n".encode()
    if len(block.data) == 1:
        cursor = f"{around[0]}{base36(block.first)}{around[1]}".encode()
        return [b"%bdata: %b\nid: %b\n\n" % (lead, block.data[0], cursor)]
    start, end = around[0].encode(), around[1].encode()
    return [
        b"%bdata: %b\nid: %b%b%b\n\n" % (lead, data, start, base36(offset).encode(), end)
        for offset, data in enumerate(block.data, block.first)
    ]


def cursor_in(frame: bytes) -> str:
    """The cursor of a frame that `encode` or `said` has made."""
    start = frame.rindex(b"\nid: ") + 5
    return frame[start : frame.index(b"\n", start)].decode()


def hello(data: object, cursor: str) -> bytes:
    """The first frame of a stream, and the cursor that it starts from."""
    head = f"event: hello\nid: {cursor}\nretry: {random.randint(1000, 4000)}\n"
    return b"%bdata: %b\n\n" % (head.encode(), _json(data))


def gap(topic: str, first: int, last: int | None, reason: str, cursor: str) -> bytes:
    """Events that will not come."""
    return said("gap", {"topic": topic, "from": first, "to": last, "reason": reason}, cursor)


def busy(code: str, cursor: str = "") -> bytes:
    """Come back later: the last frame of a stream with status 200, because a browser gives up on any other.

    `cursor`: the reader's own, if it has one: some forget theirs at an event without.
    """
    return said("busy", {"code": code}, cursor, random.randint(5000, 15000))


def drain(cursor: str = "") -> bytes:
    """This process is leaving: reconnect."""
    return said("drain", {}, cursor, random.randint(1000, 4000))


def bye(code: str, cursor: str = "") -> bytes:
    """Do not come back."""
    return said("bye", {"code": code, "retry": False}, cursor)


def said(event: str, data: object, cursor: str = "", retry_ms: int | None = None) -> bytes:
    """A frame of the gateway's own. `retry:` and `id:` always have data to stand on."""
    lines = [f"event: {event}".encode()]
    if retry_ms is not None:
        lines.append(b"retry: %d" % retry_ms)
    lines.append(b"data: %b" % _json(data))
    if cursor:
        lines.append(b"id: %b" % cursor.encode())
    return b"\n".join([*lines, b"", b""])
