"""Bounds what a JSON text costs whoever decodes it, before anybody does: how many items it has.

A decoder holds the interpreter's lock from the first byte to the last, on a thread as well, so a few megabytes that are
nothing but brackets stop every stream of the process for seconds. A text of up to SMALL_BYTES costs little, whatever it
holds, and is not looked at. Of a larger one the separators are counted, a slice at a time, which is enough unless it
has many: only then are those inside of strings told apart.
"""

import asyncio
import re

from gateway.errors import BadRequest

SMALL_BYTES = 32_768
"""Bytes of a text up to which nothing is checked here."""
SLICE = 32_768
"""Bytes that are looked at before other tasks have their turn: at most 4 ms of work."""
MAX_ITEMS = 100_000
"""Maximum commas and opening brackets outside of strings: to decode as many takes some 30 ms."""
_STRING = re.compile(rb'"(?:[^"\\\0]++|\\[^\0])*+(?:"|(\\?\0))')
"""A string, or the part of one that stands before the NUL which ends a slice: no JSON has a NUL."""
_UNENDED, _UNENDED_ESCAPE = b"\0\0", b"\\\0\\\0"
"""What such a part is replaced by."""


async def check_shape(text: bytes) -> None:
    """Raises BadRequest for a text, JSON or not, that is too dear to decode. Others have their turn meanwhile."""
    if len(text) <= SMALL_BYTES:
        return
    separators = 0
    for start in range(0, len(text), SLICE):
        separators += _count(text, start, start + SLICE)
        if separators > MAX_ITEMS:
            await _check_outside_of_strings(text)
            return
        await asyncio.sleep(0)


def _count(text: bytes, start: int, end: int) -> int:
    return text.count(b",", start, end) + text.count(b"[", start, end) + text.count(b"{", start, end)


async def _check_outside_of_strings(text: bytes) -> None:
    items, lead = 0, b""
    for start in range(0, len(text), SLICE):
        rest = _STRING.sub(rb"\1\1", lead + text[start : start + SLICE] + b"\0")
        lead = b'"\\' if rest.endswith(_UNENDED_ESCAPE) else b'"' if rest.endswith(_UNENDED) else b""
        items += _count(rest, 0, len(rest))
        if items > MAX_ITEMS:
            raise BadRequest(
                f"the body has more than {MAX_ITEMS} items in its lists and objects: send less at once, or a large "
                "table as one text",
                code="bad_body",
            )
        await asyncio.sleep(0)
