"""What a client of the events lane reads: an event as a frame, and what the gateway says itself. Pure, but for dice.

Data is one line of JSON and names are checked before anything is stored, so a frame cannot be forged from inside one.
"""

import random
from collections.abc import Sequence

import msgspec

from events.log import Block
from events.vector import base36

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
    """The frames of a block; `around` is what comes before and after an offset in their cursors (`events.vector`)."""
    name = name_of(block)
    lead = f"id: {around[0]}" if name == DEFAULT else f"event: {name}\nid: {around[0]}"
    if len(block.data) == 1:
        return [b"%b\ndata: %b\n\n" % (f"{lead}{base36(block.first)}{around[1]}".encode(), block.data[0])]
    start, end = lead.encode(), around[1].encode()
    return [
        b"%b%b%b\ndata: %b\n\n" % (start, base36(offset).encode(), end, data)
        for offset, data in enumerate(block.data, block.first)
    ]


def cursor_in(frame: bytes) -> str:
    """The cursor of a frame that `encode` or `said` has made."""
    start = 0 if frame.startswith(b"id: ") else frame.index(b"\nid: ") + 1
    return frame[start + 4 : frame.index(b"\n", start)].decode()


def busy(code: str) -> bytes:
    """Come back later: the last frame of a stream with status 200, because a browser gives up on any other."""
    return said("busy", {"code": code}, retry_ms=random.randint(5000, 15000))


def drain() -> bytes:
    """This process is leaving: reconnect."""
    return said("drain", {}, retry_ms=random.randint(1000, 4000))


def bye(code: str) -> bytes:
    """Do not come back."""
    return said("bye", {"code": code, "retry": False})


def said(event: str, data: object, *, cursor: str = "", retry_ms: int | None = None) -> bytes:
    """A frame of the gateway's own. `retry:` and `id:` always have data to stand on."""
    lines = [b"event: %b" % event.encode()]
    if cursor:
        lines.append(b"id: %b" % cursor.encode())
    if retry_ms is not None:
        lines.append(b"retry: %d" % retry_ms)
    return b"\n".join([*lines, b"data: %b\n\n" % _json(data)])
