"""JSON as careless servers write it is read here, and written again as JSON that every client can read. Pure.

`NaN`, bad UTF-8, control characters in texts and halves of surrogate pairs are read; what is written has none of them.
"""

import asyncio
import json
import math
import re
from typing import cast

import msgspec
from msgspec import Raw

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some clients of Windows put before a text; it is no part of it (RFC 8259 §8.1)."""
REPLACEMENT = "\ufffd"
UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError)
_FIRST, _SECOND = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rb"%b(?!%b)|%b(?<!%b.{6})" % (_FIRST, _SECOND, _SECOND, _FIRST), re.DOTALL)
"""Escapes of halves of surrogate pairs that stand alone, in a text whose escaped backslashes are hidden."""
_PAIR = re.compile(_FIRST + _SECOND)
_UNREADABLE_IN_JSON = b"\0"
SLICE = 65_536
"""Bytes of a text in which halves are looked for within a few ms."""
_encode = msgspec.json.Encoder().encode


def loose_json(text: bytes) -> object:
    """Returns the value of a text that is JSON or nearly so; raises one of UNREADABLE for any other."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return json.loads(_characters(text), strict=False)


def _characters(text: bytes) -> str:
    try:
        return text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace")


def whole_text(text: str) -> str:
    """Returns the text with halves of surrogate pairs joined where two meet, and replaced by U+FFFD elsewhere."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class JsonLine(bytes):
    """JSON on one line of UTF-8, all of it checked, in which every surrogate pair is whole."""


def with_whole_pairs(body: bytes) -> bytes:
    """Returns JSON in which escapes of halves of surrogate pairs are escapes of U+FFFD, and all else is as it was."""
    if isinstance(body, JsonLine) or not _may_have_halves(body):
        return body
    hidden = _UNREADABLE_IN_JSON * 2
    return _HALF.sub(rb"\\ufffd", body.replace(rb"\\", hidden)).replace(hidden, rb"\\")


async def with_whole_pairs_in_slices(body: bytes, size: int = SLICE) -> bytes:
    """Returns what `with_whole_pairs` does of a large text; others have their turn after each `size` bytes."""
    if isinstance(body, JsonLine) or not _may_have_halves(body):
        return body
    pieces: list[bytes] = []
    start = 0
    while start < len(body):
        end = _slice_end(body, start, start + size)
        pieces.append(with_whole_pairs(body[start:end]))
        start = end
        await asyncio.sleep(0)
    return b"".join(pieces)


def _may_have_halves(body: bytes) -> bool:
    return (rb"\ud" in body or rb"\uD" in body) and _UNREADABLE_IN_JSON not in body


def _slice_end(body: bytes, start: int, end: int) -> int:
    """Returns where a slice is to end, near `end`: within no escape, and between no two that are a pair."""
    piece = body[start:end]
    if len(piece) - len(piece.rstrip(b"\\")) & 1:
        end -= 1
    last = body[start:end].replace(rb"\\", _UNREADABLE_IN_JSON * 2).rfind(b"\\", -6)
    if last > 0:
        end = start + last
    return end + 6 if _PAIR.match(body, end - 6) else end


def split_half(text: str) -> tuple[str, str]:
    """Returns a text without the first half of a surrogate pair that it may end in, and that half."""
    return (text[:-1], text[-1]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")


def strict_json(value: object) -> bytes:
    """Returns a value of `loose_json` as JSON on one line, which every client can read."""
    try:
        return _encode(value)
    except (UnicodeError, OverflowError, RecursionError):
        return _encode(_readable(value))


def is_json(text: str) -> bool:
    """Returns whether a text is JSON; half of a surrogate pair in it is no fault."""
    return bool(json_on_one_line(text))


def json_on_one_line(text: str) -> bytes:
    """Returns a text that is JSON on one line, its numbers and order untouched; nothing when it is no JSON.

    One line, because the log's events and the frames of a stream are lines: a model that writes its arguments over
    several would tear them apart.
    """
    try:
        msgspec.json.decode(text)
        return msgspec.json.format(text.encode(), indent=-1)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        return strict_json(json.loads(text, parse_constant=_refuse, parse_float=_finite))
    except UNREADABLE:
        return b""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{number} is more than a number can be")
    return value


def strict_raw(value: object) -> Raw:
    return Raw(strict_json(value))


def _readable(value: object) -> object:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [_readable(item) for item in cast(list[object], value)]
    if isinstance(value, dict):
        fields = cast(dict[str, object], value)
        return {whole_text(name): _readable(item) for name, item in fields.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 10**300 else None
    return value
