"""What the scripts answer becomes commits, errors, blocks and limits: tested in tables, without a server."""

import pytest

from events.log.port import Append, Appended, Block, Retention
from events.log.redis.reader import blocks_of
from events.log.redis.retention import limits_of
from events.log.redis.writer import commits_of, error_of
from events.log.rules import MERGE_BYTES, MERGE_EVENTS
from gateway.errors import LogConflict, WrongOwner


def written(*items: tuple[Append, int]) -> list[tuple[Append, Appended]]:
    return [(append, Appended("e", first, first + len(append.data) - 1)) for append, first in items]


def to_a(*data: bytes, name: str = "message", close: bool = False) -> Append:
    return Append(topic="a", data=list(data), name=name, close=close)


def test_events_of_one_burst_are_told_as_one_block() -> None:
    commits = commits_of(written((to_a(b"1"), 1), (to_a(b"2", b"3"), 2), (to_a(b"4", close=True), 4)), 7)
    assert [(c.block, c.closed) for c in commits] == [(Block(1, [b"1", b"2", b"3", b"4"], "message", 7), True)]


APART = {
    "names differ": [to_a(b"1"), to_a(b"2", name="tick")],
    "the block is full of events": [to_a(*[b"x"] * MERGE_EVENTS), to_a(b"2")],
    "the block is full of bytes": [to_a(b"x" * MERGE_BYTES), to_a(b"2")],
}


@pytest.mark.parametrize("appends", APART.values(), ids=APART)
def test_events_that_share_no_block_are_told_in_order(appends: list[Append]) -> None:
    first, second = appends
    commits = commits_of(written((first, 1), (second, len(first.data) + 1)), 7)
    assert [c.block and (c.block.first, c.block.data) for c in commits] == [
        (1, first.data),
        (len(first.data) + 1, second.data),
    ]


def test_a_block_that_is_told_is_not_the_callers_list() -> None:
    append = to_a(b"1")
    commits = commits_of(written((append, 1), (to_a(b"2"), 2)), 7)
    assert append.data == [b"1"]
    assert commits[0].block is not None
    assert commits[0].block.data == [b"1", b"2"]


def test_a_duplicate_is_not_told_again_and_other_topics_stay_apart() -> None:
    other = Append(topic="b", data=[b"x"])
    items = [(to_a(b"1"), Appended("e", 1, 1, duplicate=True)), *written((to_a(b"2"), 2), (other, 1), (to_a(b"3"), 3))]
    assert [(c.topic, c.block and c.block.data) for c in commits_of(items, 7)] == [("a", [b"2", b"3"]), ("b", [b"x"])]


def test_an_error_names_the_append_that_was_refused() -> None:
    appends = [to_a(b"1"), Append(topic="b", data=[b"1"], expect=4), Append(topic="b", data=[b"1"], owner="eve")]
    conflict = error_of(appends, (1, [], 3, 1))
    assert isinstance(conflict, LogConflict)
    assert (conflict.topic, conflict.expected, conflict.actual, conflict.closed) == ("b", 4, 3, False)
    closed = error_of(appends, (2, [], 9, 0))
    assert isinstance(closed, LogConflict)
    assert (closed.topic, closed.actual, closed.closed) == ("a", 9, True)
    assert isinstance(error_of(appends, (3, [], 3, 2)), WrongOwner)


def test_blocks_are_parted_as_they_were_and_neighbours_of_one_name_joined() -> None:
    heads = b"1 2 70 a name\n3 1 71 b\n4 1 72 b\n5 1 2000 b"
    assert blocks_of(heads, b"x\n\ny\n\nz") == [
        Block(1, [b"x", b""], "a name", 70),
        Block(3, [b"y", b""], "b", 71),
        Block(5, [b"z"], "b", 2000),
    ]


LIMITS = {
    "none": (Retention(), (False, False, False, False, False)),
    "all": (Retention(events=1, max_bytes=2, age_s=3, closed_age_s=0.5, idle_age_s=4), (1, 2, 3000, 500.0, 4000)),
    "zeroes are limits": (Retention(events=0, max_bytes=0, age_s=0, closed_age_s=0, idle_age_s=0), (0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize(("retention", "limits"), LIMITS.values(), ids=LIMITS)
def test_limits_go_to_the_script_in_its_units(retention: Retention, limits: tuple[object, ...]) -> None:
    assert limits_of(retention) == limits
    assert [limit is False for limit in limits_of(retention)] == [limit is False for limit in limits]
