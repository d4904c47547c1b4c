"""Every position of a reader in its topics survives as text, and no text that a client sends does harm."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.log.cursor import MAX_CURSOR_BYTES, NOWHERE
from events.log.port import Position
from events.log.vector import (
    MAX_OFFSET_DIGITS,
    SHORT_EPOCH,
    DecodedVector,
    VectorPosition,
    base36,
    decode_vector,
    is_epoch,
    tag_of,
    topic_cursor,
    topic_tag,
)

TAG = "0123abcd"
ALLOWED = re.compile(r"[A-Za-z0-9._~-]{1,128}")
FAR = 36**MAX_OFFSET_DIGITS - 1
"""Largest offset that a cursor can express: at a million events per second, reached after 115 years."""
epochs = st.text("0123456789abcdefXYZ", min_size=8, max_size=8)
offsets = st.integers(1, 100) | st.integers(1, FAR)
positions = st.builds(Position, epochs, offsets) | st.just(NOWHERE) | st.builds(Position, epochs, st.just(0))


def standing_at(*positions: Position, is_fixed: bool = True) -> VectorPosition:
    return VectorPosition(TAG, [f"t{at}" for at in range(len(positions))], positions, is_fixed=is_fixed)


def positions_of(vector: DecodedVector) -> list[Position]:
    """Returns the positions in the order of the topics, which `standing_at` has named."""
    return vector.positions or [vector.places[topic_tag(f"t{at}")] for at in range(len(vector.places))]


def is_same(actual: Sequence[Position], positions: Sequence[Position]) -> bool:
    return len(actual) == len(positions) and all(
        one.offset == other.offset and (is_epoch(one.epoch, other.epoch) or one.epoch == other.epoch == "")
        for one, other in zip(actual, positions, strict=True)
    )


@given(st.lists(positions, min_size=1, max_size=12))
def test_a_position_in_few_topics_is_its_own_cursor(where: list[Position]) -> None:
    text = standing_at(*where).encode()
    if text is None:
        assert len(where) > 4
        return
    assert ALLOWED.fullmatch(text)
    vector = decode_vector(text)
    assert vector is not None
    assert (vector.snapshot, vector.changes) == (NOWHERE, {})
    assert is_same(positions_of(vector), where)


def test_up_to_four_topics_never_need_a_snapshot() -> None:
    assert standing_at(*[Position("abcdefgh", FAR)] * 4).encode() is not None
    assert standing_at(*[Position("abcdefgh", FAR)] * 4).around(3) is not None


def test_one_topic_is_written_with_its_whole_epoch() -> None:
    assert standing_at(Position("abcdefgh", 36)).encode() == f"e{TAG}.abcdefgh.10"
    two = standing_at(Position("abcdefgh", 36), NOWHERE)
    assert two.encode() == f"m.{topic_tag('t0')}abcd10.{topic_tag('t1')}~0"


@given(st.lists(positions, min_size=1, max_size=60), st.data(), offsets, epochs)
def test_a_cursor_names_what_moved_since_a_snapshot(
    where: list[Position], data: st.DataObject, number: int, snapshot_epoch: str
) -> None:
    reader = standing_at(*where, is_fixed=False)
    assert reader.encode() is None
    assert reader.around(0) is None
    snapshot = reader.to_snapshot(("x/*",))
    reader.base_on(Position(snapshot_epoch, number))
    for at, by in data.draw(st.lists(st.tuples(st.integers(0, len(where) - 1), st.integers(1, 1000)), max_size=20)):
        around = reader.around(at)
        if around is None:
            assert len(reader.changes) > 3
            return
        reader.move(at, min(reader.offsets[at] + by, FAR))
        text = reader.encode()
        assert text is not None
        assert ALLOWED.fullmatch(text)
        for cursor in (text, f"{around[0]}{base36(reader.offsets[at])}{around[1]}"):
            vector = decode_vector(cursor)
            assert vector is not None
            assert is_epoch(vector.snapshot.epoch, snapshot_epoch)
            assert vector.snapshot.offset == number
            now = [vector.changes.get(index, offset) for index, offset in enumerate(snapshot.offsets)]
            assert now == reader.offsets


@given(st.lists(positions, min_size=1, max_size=6), st.data(), st.lists(st.integers(0, FAR), min_size=1, max_size=5))
def test_what_comes_around_an_offset_is_good_for_every_offset(
    where: list[Position], data: st.DataObject, to: list[int]
) -> None:
    """A block's frames share it, and readers of one block may stop in the middle."""
    at = data.draw(st.integers(0, len(where) - 1))
    where[at] = Position("abcdefgh", where[at].offset)
    around = standing_at(*where).around(at)
    for offset in to if around else []:
        assert around is not None
        text = f"{around[0]}{base36(offset)}{around[1]}"
        vector = decode_vector(text)
        assert ALLOWED.fullmatch(text)
        assert vector is not None
        assert is_same(positions_of(vector), [*where[:at], Position("abcdefgh", offset), *where[at + 1 :]])


@given(positions)
def test_the_cursor_of_one_topic_is_that_of_a_stream_of_it_alone(position: Position) -> None:
    alone = VectorPosition(tag_of(("a/b",)), ["a/b"], [position], is_fixed=True)
    assert topic_cursor("a/b", position) == alone.encode()


def test_a_copy_moves_by_itself() -> None:
    one = standing_at(NOWHERE, NOWHERE)
    other = one.copy()
    other.move(0, 5)
    other.add("new")
    assert not one.is_at(other)
    assert (one.offsets, one.names) == ([0, 0], ["t0", "t1"])
    assert one.copy().is_at(one)


def test_a_topic_that_begins_anew_needs_another_snapshot() -> None:
    reader = standing_at(Position("abcdefgh", 7), NOWHERE, is_fixed=False)
    reader.base_on(Position("kkkkkkkk", 3))
    reader.move(0, 9)
    assert reader.encode() == f"s{TAG}.kkkk.3.0.9"
    reader.renew(0, "zzzzzzzz")
    assert (reader.encode(), reader.around(1)) == (None, None)
    reader.base_on(Position("kkkkkkkk", 4))
    assert reader.encode() == f"s{TAG}.kkkk.4"


# Hostile texts

NONE: dict[str, str] = {
    "nothing": "",
    "only a tag": f"e{TAG}",
    "half a pair": f"e{TAG}.abcd",
    "three words": f"e{TAG}.abcd.1.abcd",
    "no tag": "e.abcd.1",
    "a short tag": "e0123abc.abcd.1",
    "a tag in capitals": "e0123ABCD.abcd.1",
    "another kind": f"x{TAG}.abcd.1",
    "another kind, in capitals": f"E{TAG}.abcd.1",
    "a leading zero": f"e{TAG}.abcd.01",
    "an offset in capitals": f"e{TAG}.abcd.A",
    "an offset of 11 digits": f"e{TAG}.abcd.zzzzzzzzzzz",
    "a negative offset": f"e{TAG}.abcd.-1",
    "no epoch": f"e{TAG}..1",
    "an epoch of 17": f"e{TAG}.{'a' * 17}.1",
    "an offset in no epoch": f"e{TAG}.0.1",
    "129 bytes": f"e{TAG}.abcdefg.1{'.0.0' * 28}",
    "a long index": f"s{TAG}.abcd.1.0000.1",
    "an index in capitals": f"s{TAG}.abcd.1.A.1",
    "a dot at the end": f"e{TAG}.abcd.1.",
    "a space": f"e{TAG}.abcd.1 ",
    "LF at the end": f"e{TAG}.abcd.1\n",
    "CR": f"e{TAG}.abcd.1\r",
    "NUL": f"e{TAG}.abcd\0.1",
    "digits of another script": f"e{TAG}.abcd.٣",
    "wide letters": f"e{TAG}.ａbcd.1",  # noqa: RUF001 - that it looks alike is the point
    "lone surrogate": f"e{TAG}.\ud800.1",
    "4 kB": f"e{TAG}{'.abcd.1' * 585}",
    "of a chat": "run.a1b2c3d4.7",
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_a_text_that_is_no_cursor_is_none(text: str) -> None:
    assert decode_vector(text) is None


def test_the_longest_cursor_is_one_and_a_byte_more_is_not() -> None:
    text = f"e{TAG}.abcdef.1{'.0.0' * 27}"
    assert len(text) == MAX_CURSOR_BYTES - 2
    assert decode_vector(text) is not None
    assert decode_vector(f"e{TAG}.abcdefgh.1{'.0.0' * 27}") is not None
    assert decode_vector(f"e{TAG}.abcdefghi.1{'.0.0' * 27}") is None


hostile = (
    st.text()
    | st.text("esm0123456789abcdefXYZ.-~_\0\r\n", max_size=140)
    | st.from_regex(r"[es][0-9a-f]{8}(\.\w+)*")
    | st.from_regex(r"m(\.\w{4}(\w{4}|~)\w+)+")
)


@given(hostile)
def test_no_text_raises_and_what_is_taken_is_sane(text: str) -> None:
    vector = decode_vector(text)
    if vector is not None:
        assert_sane(vector, text)


@given(st.lists(positions, min_size=1, max_size=4), st.integers(0, 127), st.characters())
def test_a_tampered_cursor_is_another_one_or_none(where: list[Position], at: int, letter: str) -> None:
    text = standing_at(*where).encode() or ""
    at %= len(text)
    for tampered in (text[:at] + letter + text[at + 1 :], text[:at] + letter + text[at:], text[:at], text + letter):
        vector = decode_vector(tampered)
        if vector is not None:
            assert_sane(vector, tampered)


def assert_sane(vector: DecodedVector, text: str) -> None:
    assert ALLOWED.fullmatch(text)
    assert re.fullmatch("[0-9a-f]{8}", vector.tag) or text.startswith("m")
    assert bool(vector.positions) == text.startswith("e")
    assert bool(vector.places) == text.startswith("m")
    for position in (*vector.positions, *vector.places.values(), vector.snapshot):
        assert 0 <= position.offset <= FAR
        assert re.fullmatch("[A-Za-z0-9]{0,16}", position.epoch)
    assert all(0 <= index < 36**3 and 0 <= offset <= FAR for index, offset in vector.changes.items())


EPOCHS = [("abcdefgh", True), ("abcd", True), ("abc", False), ("abcde", False), ("", False), ("ABCD", False)]


@pytest.mark.parametrize(("text", "expected"), EPOCHS)
def test_an_epoch_is_written_whole_or_by_its_first_letters(text: str, expected: bool) -> None:
    assert len("abcd") == SHORT_EPOCH
    assert is_epoch(text, "abcdefgh") == expected


def test_a_tag_tells_subscriptions_apart() -> None:
    subscriptions = [("a",), ("b",), ("a", "b"), ("ab",), ("a/*",), ("a", "b", "c"), ("a/b",), ("*",)]
    assert len({tag_of(topics) for topics in subscriptions}) == len(subscriptions)


@given(st.integers(0, FAR))
def test_numbers_are_written_with_36_digits(number: int) -> None:
    assert int(base36(number), 36) == number
    assert re.fullmatch("0|[1-9a-z][0-9a-z]{0,9}", base36(number))
