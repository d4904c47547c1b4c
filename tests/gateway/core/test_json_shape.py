"""A text that would be dear to decode is refused by its items and depth, wherever strings and slices begin and end."""

import asyncio
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import json_shape
from gateway.core.json_shape import MAX_DEPTH, MAX_ITEMS, SMALL_BYTES, check_shape
from gateway.core.loose_json import BYTE_ORDER_MARK
from gateway.errors import BadRequest

PROSE = b"lorem, [ipsum] {dolor}, " * 40_000


def listed(count: int, item: bytes = b"1") -> bytes:
    """Returns a list of so many items, which counts for one item more for its bracket less one comma."""
    return b"[%b]" % b",".join([item] * count)


TAKEN = {
    "as many items as are allowed": listed(MAX_ITEMS),
    "a long text that is full of separators": b'"%b"' % PROSE,
    "two of them": b'["%b","%b"]' % (PROSE, PROSE),
    "escaped quotes before separators": b'"%b"' % (b'\\",[' * 200_000),
    "escaped backslashes before a quote": b'["%b\\\\","%b"]' % (PROSE, PROSE),
    "an escape at every place of a slice's end": b'"%b"' % (b"\\\\,\\n,\\u00e9," * 60_000),
    "a large picture": b'"%b"' % (b"A" * 4_000_000),
}
REFUSED = {
    "one item too many": listed(MAX_ITEMS + 1),
    "nothing but lists": listed(MAX_ITEMS, b"[]"),
    "nothing but objects": listed(MAX_ITEMS, b"{}"),
    "short texts": listed(MAX_ITEMS + 1, b'"a,b"'),
    "items behind a long text": b'["%b",%b]' % (PROSE, listed(MAX_ITEMS)),
    "items behind escapes": b'["%b\\\\",%b]' % (b'\\"' * 100_000, listed(MAX_ITEMS)),
    "keys": b"{%b}" % b",".join(b'"k%d":null' % number for number in range(MAX_ITEMS + 1)),
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_texts_with_few_items_are_taken_however_long_they_are(text: bytes) -> None:
    asyncio.run(check_shape(text))


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_texts_with_too_many_items_are_refused(text: bytes) -> None:
    with pytest.raises(BadRequest, match="more than 100000 items in its lists and objects: send less") as error:
        asyncio.run(check_shape(text))
    assert (error.value.status, error.value.code) == (400, "bad_body")


def nested(depth: int, inside: bytes = b"") -> bytes:
    return b'[{"]a":' * (depth // 2) + b"[" * (depth % 2) + inside + b"]" * (depth % 2) + b"}]" * (depth // 2)


PADS = {
    "small": b"0",
    "large": b'"%b"' % PROSE,
    "with strings of brackets": b'"%b"' % (b"]]}}" * 10_000),
    "with escapes": b'"%b"' % (b'\\\\\\"]' * 9000),
}


@pytest.mark.parametrize("pad", PADS.values(), ids=PADS)
def test_a_text_is_refused_from_the_depth_on_that_is_too_deep(pad: bytes) -> None:
    for depth in (MAX_DEPTH - 1, MAX_DEPTH):
        asyncio.run(check_shape(b"[%b,%b]" % (pad, nested(depth - 1))))
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 2, 40_000):
        with pytest.raises(BadRequest, match="nested more than 100 deep"):
            asyncio.run(check_shape(b"[%b,%b]" % (pad, nested(depth - 1))))


def test_many_lists_side_by_side_are_not_deep() -> None:
    asyncio.run(check_shape(listed(900, nested(98))))


NUMBERS = [b"1e308", b"-1E+308", b"1e-999", b"1" * 309, b"0." + b"0" * 400 + b"1e99", b'"1e999"', b"7e09"]
NO_NUMBERS = [b"1e309", b"-1E+999", b"1" * 250 + b"e99", b"1" * 310 + b".5", b"1" * 5000, b"1e0400"]


@pytest.mark.parametrize("before", range(SMALL_BYTES - 12, SMALL_BYTES + 1, 3))
def test_numbers_of_a_large_text_are_in_range_wherever_slices_end(before: int) -> None:
    for number in NUMBERS:
        asyncio.run(check_shape(b'["%b",%b,"%b"]' % (b"x" * (before - 4), number, b"y" * 9)))
    for number in NO_NUMBERS:
        with pytest.raises(BadRequest, match=r"the body is not valid: .* out of range"):
            asyncio.run(check_shape(b'["%b",%b,"%b"]' % (b"x" * (before - 4), number, b"y" * 9)))
    with pytest.raises(BadRequest, match="out of range"):
        asyncio.run(check_shape(BYTE_ORDER_MARK + b'["%b\\ud800",1e999]' % (b"x" * before)))


def test_a_small_text_with_few_brackets_is_not_looked_at() -> None:
    asyncio.run(check_shape(b"[" * MAX_DEPTH + b"," * (SMALL_BYTES - MAX_DEPTH)))


values = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('a,[]{}"\\\n\0é'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a,["\\'), inner, max_size=4),
    max_leaves=20,
)


def items_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(map(items_of, value.values()))
    return 1 + max(0, len(value) - 1) + sum(map(items_of, value)) if isinstance(value, list) else 0


@given(values, st.integers(1, 40))
def test_every_slicing_counts_the_same_items(value: object, size: int) -> None:
    text, count = msgspec.json.encode(value), items_of(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "SMALL_BYTES", 0)
        patch.setattr(json_shape, "SLICE", size)
        patch.setattr(json_shape, "MAX_ITEMS", count)
        asyncio.run(check_shape(text))
        if count:
            patch.setattr(json_shape, "MAX_ITEMS", count - 1)
            with pytest.raises(BadRequest):
                asyncio.run(check_shape(text))


def test_bytes_that_are_no_json_are_looked_at_too() -> None:
    rng = random.Random(7)
    for alphabet in (b'"\\\0,', b'"\\', b"\0[", bytes(range(256))):
        text = bytes(rng.choices(alphabet, k=400_000))
        try:
            asyncio.run(check_shape(text))
        except BadRequest:
            assert text.count(b",") + text.count(b"[") + text.count(b"{") > MAX_ITEMS
