"""A ring holds a topic's newest events, tested without a log or an event loop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.log.port import Block
from events.log.ring import RING_MAX_BYTES, RING_MAX_FRAMES, Ring, Tail, Watch


def block(first: int, *data: bytes, name: str = "e") -> Block:
    return Block(first=first, data=list(data), name=name, time_ms=0)


def numbered(first: int, last: int) -> Block:
    return block(first, *(b"<%d>" % offset for offset in range(first, last + 1)))


def plain(epoch: str, of: Block) -> list[bytes]:
    return list(of.data)


def ring(epoch: str = "e", head: int = 0) -> Ring:
    new = Ring(plain)
    new.start(epoch, head, closed=False)
    return new


def take_all(of: Ring, after: int, max_bytes: int = 65_536) -> bytes:
    """Returns everything after a cursor, in as many pieces as that takes."""
    pieces = b""
    while after < of.head:
        data, after = of.take(after, max_bytes)
        pieces += data
    return pieces


# Tails


def test_what_is_fed_in_order_is_held_in_order() -> None:
    r = ring()
    assert r.feed("e", numbered(1, 2))
    assert r.feed("e", numbered(3, 3))
    assert (r.head, r.take(0, 65_536)) == (3, (b"<1><2><3>", 3))


def test_a_block_that_is_told_twice_is_taken_once() -> None:
    r = ring()
    r.feed("e", numbered(1, 3))
    assert r.feed("e", numbered(1, 3))
    assert r.feed("e", numbered(2, 2))
    assert r.take(0, 65_536) == (b"<1><2><3>", 3)


def test_only_the_new_part_of_an_overlapping_block_is_taken() -> None:
    r = ring()
    r.feed("e", numbered(1, 3))
    r.feed("e", numbered(2, 5))
    assert r.take(0, 65_536) == (b"<1><2><3><4><5>", 5)


def test_a_ring_refuses_a_block_after_a_hole_until_the_hole_is_filled() -> None:
    r = ring()
    r.feed("e", numbered(1, 2))
    assert not r.feed("e", numbered(5, 6))
    assert r.head == 2
    assert r.feed("e", numbered(3, 4))
    assert r.feed("e", numbered(5, 6))
    assert r.take(0, 65_536) == (b"<1><2><3><4><5><6>", 6)


def test_a_ring_starts_anew_behind_what_is_no_longer_kept() -> None:
    r = ring()
    r.feed("e", numbered(1, 2))
    r.compare("e", 5)
    assert r.feed("e", numbered(5, 6))
    assert [r.holds(offset) for offset in range(1, 8)] == [False, False, False, False, True, True, False]
    assert r.take(4, 65_536) == (b"<5><6>", 6)


def test_a_ring_that_knows_nothing_takes_what_it_is_told_first() -> None:
    r = Ring(plain)
    assert r.feed("e", numbered(7, 8))
    assert (r.epoch, r.head, r.first) == ("e", 8, 7)


def test_a_late_start_does_not_undo_the_news() -> None:
    r = Ring(plain)
    r.feed("e", numbered(7, 8))
    r.start("e", 6, closed=False)
    assert (r.head, r.take(6, 65_536)) == (8, (b"<7><8>", 8))


def test_a_block_of_another_epoch_says_that_the_topic_was_deleted() -> None:
    r = ring()
    r.feed("e", numbered(1, 2))
    r.feed("f", numbered(1, 9))
    assert (r.deleted, r.head, r.epoch) == (True, 2, "e")


def test_an_append_without_events_changes_nothing() -> None:
    r = ring()
    r.feed("e", numbered(1, 2))
    assert r.feed("e", block(3))
    assert (r.head, r.take(0, 65_536)) == (2, (b"<1><2>", 2))


def test_a_tail_by_itself_keeps_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Tail().feed("e", numbered(1, 1))


# Bounds


def test_past_the_frame_limit_the_older_half_goes() -> None:
    r = ring()
    r.feed("e", numbered(1, RING_MAX_FRAMES))
    assert r.holds(1)
    r.feed("e", numbered(RING_MAX_FRAMES + 1, RING_MAX_FRAMES + 1))
    assert not r.holds(1)
    assert r.first == (RING_MAX_FRAMES + 2) // 2 + 1
    assert take_all(r, r.first - 1).startswith(b"<%d>" % r.first)


def test_past_the_byte_limit_the_older_half_goes() -> None:
    r = ring()
    half = b"x" * (RING_MAX_BYTES // 2)
    r.feed("e", block(1, half))
    r.feed("e", block(2, half))
    assert r.holds(1)
    r.feed("e", block(3, b"!"))
    assert [r.holds(offset) for offset in (1, 2, 3)] == [False, False, True]
    assert r.size == 1


def test_a_frame_larger_than_the_whole_ring_is_left_to_the_log() -> None:
    r = ring()
    r.feed("e", block(1, b"x" * (RING_MAX_BYTES + 1)))
    assert (r.holds(1), r.head, r.size) == (False, 1, 0)
    r.feed("e", block(2, b"small"))
    assert r.take(1, 65_536) == (b"small", 2)


@given(st.lists(st.lists(st.integers(0, 300_000), min_size=1, max_size=4), max_size=30))
def test_what_a_ring_holds_is_what_it_says(blocks: list[list[int]]) -> None:
    r = ring()
    for sizes in blocks:
        r.feed("e", block(r.head + 1, *(b"x" * size for size in sizes)))
        assert r.size == sum(map(len, r.frames))
        assert r.first + len(r.frames) - 1 == r.head


def test_small_frames_do_not_keep_large_ones_beyond_the_bound() -> None:
    r = ring()
    r.feed("e", block(1, *[b"t"] * 1000))
    for _ in range(3):
        r.feed("e", block(r.head + 1, b"x" * RING_MAX_BYTES))
        assert r.size <= RING_MAX_BYTES


# Taking


def test_one_piece_takes_about_what_it_may() -> None:
    r = ring()
    r.feed("e", numbered(1, 9))
    assert r.take(0, 7) == (b"<1><2>", 2)
    assert r.take(2, 7) == (b"<3><4>", 4)


def test_a_frame_larger_than_a_piece_is_taken_alone() -> None:
    r = ring()
    r.feed("e", block(1, b"a", b"x" * 100, b"b"))
    assert r.take(0, 10) == (b"a", 1)
    assert r.take(1, 10) == (b"x" * 100, 2)
    assert r.take(2, 10) == (b"b", 3)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=20), st.integers(1, 60), st.data())
def test_pieces_of_any_size_join_to_the_same_bytes(frames: list[bytes], max_bytes: int, data: st.DataObject) -> None:
    r = ring()
    r.feed("e", block(1, *frames))
    after = data.draw(st.integers(0, len(frames)))
    assert take_all(r, after, max_bytes) == b"".join(frames[after:])


@given(st.lists(st.sampled_from([b"", b"x", b"x" * 50]), min_size=1, max_size=8))
def test_a_piece_is_empty_only_when_all_that_is_left_is_hidden(frames: list[bytes]) -> None:
    """An empty piece means "nothing is due" to whoever reads: it would wait although something is."""
    r = ring()
    r.feed("e", block(1, *frames))
    after = 0
    while after < r.head:
        data, cursor = r.take(after, 20)
        assert data or not b"".join(frames[after:])
        after = cursor


# Watches


def test_a_watch_sees_every_block_once() -> None:
    blocks: list[Block] = []
    watch = Watch(blocks.append)
    watch.start("e", 4, closed=False)
    for news in (numbered(5, 5), numbered(5, 5), numbered(5, 7), numbered(8, 8)):
        assert watch.feed("e", news)
    assert [(b.first, b.last) for b in blocks] == [(5, 5), (6, 7), (8, 8)]


def test_a_watch_refuses_a_block_after_a_hole_until_the_hole_is_filled() -> None:
    blocks: list[Block] = []
    watch = Watch(blocks.append)
    watch.start("e", 4, closed=False)
    assert not watch.feed("e", numbered(6, 6))
    assert watch.head == 4
    assert watch.feed("e", numbered(5, 6))
    assert [(b.first, b.last) for b in blocks] == [(5, 6)]


def test_a_watch_keeps_the_name_and_time_of_a_block_that_it_trims() -> None:
    blocks: list[Block] = []
    watch = Watch(blocks.append)
    watch.start("e", 1, closed=False)
    watch.feed("e", Block(first=1, data=[b"a", b"b"], name="stop", time_ms=9))
    assert blocks == [Block(first=2, data=[b"b"], name="stop", time_ms=9)]
