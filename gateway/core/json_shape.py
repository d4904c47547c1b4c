"""Bounds what a JSON text costs whoever decodes it, before anybody does: how many items it has, and how deep it is.

A decoder holds the interpreter's lock from the first byte to the last, on a thread as well, so a few megabytes that are
nothing but brackets stop every stream of the process for seconds. A small text with few brackets costs little, whatever
else it holds, and is not looked at. Of any other what stands outside of strings is counted, a slice at a time.
"""

import asyncio
import re
from itertools import accumulate

import msgspec

from gateway.core.loose_json import BYTE_ORDER_MARK, with_whole_pairs_in_slices
from gateway.errors import BadRequest

SMALL_BYTES = 32_768
"""Bytes of a text up to which its items are not counted, unless it has more brackets than MAX_DEPTH."""
SLICE = 32_768
"""Bytes that are looked at before other tasks have their turn: at most 2 ms of work."""
MAX_ITEMS = 100_000
"""Maximum commas and opening brackets outside of strings."""
MAX_DEPTH = 100
"""Maximum nesting of a text: what the log keeps of it must be readable for every later reader."""
_BRACKETS = b"[{]}"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\x01\xff\xff")
"""By how much each bracket changes the depth, as signed bytes."""
_DIGITS = 200
_LARGE_NUMBER = re.compile(rb"[eE]\+?\d\d|(?<!\d)\d{%d}" % _DIGITS)
"""What every number has that is out of a double's range, and few others have."""


async def check_shape(text: bytes) -> None:
    """Raises BadRequest for a text, JSON or not, that is too dear to decode. Others have their turn meanwhile.

    In one of more than SMALL_BYTES all numbers are in range: whoever decodes it need not look at each of them.
    """
    if len(text) <= SMALL_BYTES and text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return
    lead, end, is_inside, depth, items, has_large = b"", b"", False, 0, 0, False
    for start in range(0, len(text), SLICE):
        # Without escaped backslashes, each that is left escapes what follows it, in the next slice perhaps.
        piece = (lead + text[start : start + SLICE]).replace(b"\\\\", b"")
        lead = piece[-1:] if piece.endswith(b"\\") else b""
        parts = piece.removesuffix(lead).replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0
        steps = outside.translate(_STEPS, _OTHERS)
        depths = [*accumulate(memoryview(steps).cast("b"), initial=depth)]
        depth = depths[-1]
        items += outside.count(b",") + steps.count(1)
        _check(items, max(depths))
        has_large = has_large or _LARGE_NUMBER.search(end + outside) is not None
        end = (end + outside)[-_DIGITS:]
        if len(text) > SLICE:
            await asyncio.sleep(0)
    if has_large:
        await _check_numbers(text)


def _check(items: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadRequest(f"the body is nested more than {MAX_DEPTH} deep", code="bad_body")
    if items > MAX_ITEMS:
        raise BadRequest(
            f"the body has more than {MAX_ITEMS} items in its lists and objects: send less at once, or a large "
            "table as one text",
            code="bad_body",
        )


async def _check_numbers(text: bytes) -> None:
    whole = await with_whole_pairs_in_slices(text.removeprefix(BYTE_ORDER_MARK))
    try:
        msgspec.json.decode(whole)
    except msgspec.ValidationError as err:
        raise BadRequest(f"the body is not valid: {err}", code="bad_body") from err
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # for whoever decodes it to say
