"""The rules that every engine decides alike, as tables; and that what they cut and trim is what a plain loop would."""

import asyncio
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from events.log.port import Append, Appended, Block, Commit, Retention
from events.log.rules import (
    KEY_MS,
    MERGE_BYTES,
    MERGE_EVENTS,
    NO_LIMIT,
    TopicState,
    TrimBounds,
    advance,
    announce,
    count_trimmed,
    cut,
    has_expired,
    is_key_valid,
    is_over,
    judge,
    keep_all,
    may_join,
    refusal,
    rehearse,
    size_of,
    trim_bounds,
)
from gateway.errors import LogConflict, LogError, LogUnavailable, WrongOwner
from tests.contract.engines import scenario

EARLIER = Appended("epoch", 2, 3)
RESULTS = {("a", "k"): EARLIER}


def topic_a(**changes: Any) -> TopicState:
    """A topic of five events that "me" owns."""
    return TopicState(**{"name": "a", "epoch": "epoch", "owner": "me", "head": 5, "total": 50, **changes})


def to_a(*data: bytes, **how: Any) -> Append:
    return Append(topic="a", data=list(data or [b"x"]), **how)


# Appending

LET_IN: dict[str, tuple[Append, TopicState]] = {
    "anything": (to_a(), topic_a()),
    "the owner's": (to_a(owner="me"), topic_a()),
    "the offset that is next": (to_a(expect=6), topic_a()),
    "a key that is new": (to_a(key="new"), topic_a()),
    "a key of another topic": (Append(topic="b", data=[], key="k"), TopicState("b", "epoch")),
    "a close": (to_a(close=True), topic_a()),
    "the first of a topic": (to_a(owner="you", expect=1), TopicState("a")),
}


@pytest.mark.parametrize(("append", "topic"), LET_IN.values(), ids=LET_IN)
def test_an_append_that_nothing_stands_against_goes_in(append: Append, topic: TopicState) -> None:
    assert judge(append, topic, RESULTS) is None


REFUSED: dict[str, tuple[Append, TopicState, type[LogError]]] = {
    "an owner that is another": (to_a(owner="you"), topic_a(), WrongOwner),
    "an owner of a topic of nobody": (to_a(owner="me"), topic_a(owner=""), WrongOwner),
    "an owner that is another, of a closed topic": (to_a(owner="you"), topic_a(closed=True), WrongOwner),
    "another's key": (to_a(owner="you", key="k"), topic_a(), WrongOwner),
    "an offset that is taken": (to_a(expect=5), topic_a(), LogConflict),
    "an offset that is not next": (to_a(expect=7), topic_a(), LogConflict),
    "offset 0 of nothing": (to_a(expect=0), TopicState("a"), LogConflict),
    "anything after the close": (to_a(), topic_a(closed=True), LogConflict),
    "the next offset after the close": (to_a(expect=6), topic_a(closed=True), LogConflict),
}


@pytest.mark.parametrize(("append", "topic", "error"), REFUSED.values(), ids=REFUSED)
def test_an_append_that_something_stands_against_is_refused(
    append: Append, topic: TopicState, error: type[LogError]
) -> None:
    with pytest.raises(error) as info:
        judge(append, topic, RESULTS)
    if isinstance(info.value, LogConflict):
        conflict = info.value
        assert (conflict.topic, conflict.expected, conflict.actual) == ("a", append.expect, topic.head + 1)
        assert conflict.closed is topic.closed


@pytest.mark.parametrize("topic", [topic_a(), topic_a(closed=True), topic_a(head=99)], ids=["open", "closed", "moved"])
@pytest.mark.parametrize("append", [to_a(key="k"), to_a(key="k", expect=2, owner="me"), to_a(key="k", close=True)])
def test_a_key_gives_its_first_result_whatever_came_since(append: Append, topic: TopicState) -> None:
    assert judge(append, topic, RESULTS) == Appended("epoch", 2, 3, duplicate=True)
    assert not EARLIER.duplicate


@pytest.mark.parametrize(("age_ms", "is_valid"), [(0, True), (KEY_MS - 1, True), (KEY_MS, False), (KEY_MS + 1, False)])
def test_a_key_is_valid_for_five_minutes(age_ms: int, is_valid: bool) -> None:
    assert KEY_MS == 5 * 60 * 1000
    assert is_key_valid(1_000_000, 1_000_000 + age_ms) is is_valid


def test_the_first_append_makes_the_topic() -> None:
    topics = [TopicState("a"), TopicState("a")]
    results = [advance(to_a(b"1", b"2", owner="me"), topic) for topic in topics]
    assert [(one.first, one.last, one.duplicate) for one in results] == [(1, 2, False)] * 2
    assert [(one.owner, one.head, one.closed) for one in topics] == [("me", 2, False)] * 2
    assert [one.epoch for one in topics] == [one.epoch for one in results]
    assert results[0].epoch != results[1].epoch
    assert len(results[0].epoch) == 8


@pytest.mark.parametrize(
    ("append", "result", "head", "closed"),
    [
        (to_a(b"1", b"2", b"3", owner="me"), (6, 8), 8, False),
        (to_a(b"1", close=True), (6, 6), 6, True),
        (Append(topic="a", data=[], close=True), (6, 5), 5, True),
        (Append(topic="a", data=[]), (6, 5), 5, False),
    ],
)
def test_an_append_moves_its_topic(append: Append, result: tuple[int, int], head: int, closed: bool) -> None:
    topic = topic_a()
    assert advance(append, topic) == Appended("epoch", *result)
    assert (topic.epoch, topic.owner, topic.head, topic.closed) == ("epoch", "me", head, closed)


GROUPS: dict[str, tuple[list[Append], type[LogError] | None]] = {
    "each expects what the one before leaves": ([to_a(b"1", b"2", expect=6), to_a(expect=8)], None),
    "the second expects what was before the first": ([to_a(), to_a(expect=6)], LogConflict),
    "one follows a close": ([to_a(close=True), to_a()], LogConflict),
    "a key comes twice": ([to_a(key="new", close=True), to_a(key="new")], None),
    "a key of another topic comes twice": ([to_a(key="new", close=True), to_a(key="other")], LogConflict),
    "a topic is made and used by its owner": ([Append(topic="b", data=[], owner="me")] * 2, None),
    "a topic is made and used by another": (
        [Append(topic="b", data=[], owner=one) for one in ("me", "you")],
        WrongOwner,
    ),
    "the last of many is wrong": ([to_a()] * 9 + [to_a(expect=6)], LogConflict),
}


@pytest.mark.parametrize(("appends", "error"), GROUPS.values(), ids=GROUPS)
def test_a_rehearsal_finds_what_stands_against_any_and_changes_nothing(
    appends: list[Append], error: type[LogError] | None
) -> None:
    topics, results = {"a": topic_a(), "b": TopicState("b")}, dict(RESULTS)
    conflict: LogError | None = None
    try:
        rehearse(appends, topics, results)
    except LogError as err:
        conflict = err
    assert conflict is None if error is None else isinstance(conflict, error)
    assert (topics, results) == ({"a": topic_a(), "b": TopicState("b")}, RESULTS)


@pytest.mark.parametrize(
    ("name", "count", "size", "added", "joins"),
    [
        ("message", 1, 10, 10, True),
        ("other", 1, 10, 10, False),
        ("message", MERGE_EVENTS - 1, 10, 10, True),
        ("message", MERGE_EVENTS, 10, 10, False),
        ("message", 1, MERGE_BYTES - 10, 10, True),
        ("message", 1, MERGE_BYTES - 10, 11, False),
    ],
)
def test_a_burst_of_one_name_shares_a_block_up_to_its_bounds(
    name: str, count: int, size: int, added: int, joins: bool
) -> None:
    assert may_join(name, count, size, to_a(), added) is joins


# Refusing


@pytest.mark.parametrize(("pending", "is_taken"), [(0, True), (90, True), (91, False), (100, False)])
def test_what_would_exceed_the_bytes_that_may_wait_is_refused(pending: int, is_taken: bool) -> None:
    appends = [to_a(b"12345"), to_a(b"123", b"12")]
    assert size_of(appends) == 10
    error = refusal(appends, 10, pending, 100)
    assert error is None if is_taken else isinstance(error, LogUnavailable)


@pytest.mark.parametrize("field", ["topic", "name", "owner", "key"])
def test_a_name_that_is_no_unicode_is_refused_for_good(field: str) -> None:
    parts: dict[str, Any] = {"topic": "a", "data": []}
    assert refusal([Append(**parts), Append(**{**parts, field: "é😀"})], 0, 0, 1) is None
    error = refusal([Append(**parts), Append(**{**parts, field: "a\ud800"})], 0, 0, 1)
    assert error is not None
    assert not isinstance(error, LogUnavailable)
    assert "\\ud800" in error.detail


# Reading

sizes = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6)


def blocks_of(sizes: list[list[int]], first: int = 1) -> list[Block]:
    """Consecutive blocks of events of these sizes, each a second younger than the one before."""
    blocks: list[Block] = []
    for at, block in enumerate(sizes):
        blocks.append(Block(first, [b"x" * size for size in block], f"n{at}", at * 1000))
        first += len(block)
    return blocks


def flat(blocks: list[Block]) -> list[tuple[int, str, int, bytes]]:
    return [(b.first + n, b.name, b.time_ms, data) for b in blocks for n, data in enumerate(b.data)]


@given(sizes, st.integers(1, 50), st.integers(-1, 60), st.integers(0, 12), st.integers(0, 40))
@example([[3], [3]], 1, 0, 9, 5)
@example([[3], [3]], 1, 0, 9, 6)
@example([[1], [1], [1]], 1, 0, 2, 40)
@example([[9, 1]], 1, 0, 9, 0)
def test_a_cut_is_the_longest_run_after_the_offset_that_fits(
    sizes: list[list[int]], first: int, after: int, max_events: int, max_bytes: int
) -> None:
    blocks = blocks_of(sizes, first)
    due = [event for event in flat(blocks) if event[0] > after]
    fitting = 0
    while fitting < min(max_events, len(due)) and sum(len(e[3]) for e in due[: fitting + 1]) <= max_bytes:
        fitting += 1
    result = cut(blocks, after, max_events, max_bytes)
    assert flat(result) == due[: max(fitting, 1)]
    assert all(block.data for block in result)
    assert flat(blocks) == flat(blocks_of(sizes, first))


# Forgetting


@pytest.mark.parametrize(
    ("keep", "bounds"),
    [
        (Retention(), (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
        (Retention(events=2), (3, NO_LIMIT, NO_LIMIT)),
        (Retention(max_bytes=20), (NO_LIMIT, 30, NO_LIMIT)),
        (Retention(age_s=1.5), (NO_LIMIT, NO_LIMIT, 8500)),
        (Retention(events=0, max_bytes=0, age_s=0), (5, 50, 10_000)),
        (Retention(closed_age_s=1), (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
    ],
)
def test_the_bounds_of_a_retention(keep: Retention, bounds: tuple[int, int, int]) -> None:
    assert trim_bounds(topic_a(), keep, 10_000) == bounds


@pytest.mark.parametrize(
    ("bounds", "count"),
    [
        ((NO_LIMIT, NO_LIMIT, NO_LIMIT), 0),
        ((1, NO_LIMIT, NO_LIMIT), 0),
        ((2, NO_LIMIT, NO_LIMIT), 1),
        ((5, NO_LIMIT, NO_LIMIT), 2),
        ((6, NO_LIMIT, NO_LIMIT), 3),
        ((NO_LIMIT, 119, NO_LIMIT), 0),
        ((NO_LIMIT, 120, NO_LIMIT), 1),
        ((NO_LIMIT, 139, NO_LIMIT), 1),
        ((NO_LIMIT, 140, NO_LIMIT), 2),
        ((NO_LIMIT, NO_LIMIT, 0), 0),
        ((NO_LIMIT, NO_LIMIT, 1), 1),
        ((NO_LIMIT, NO_LIMIT, 1000), 1),
        ((NO_LIMIT, NO_LIMIT, 1001), 2),
        ((2, 140, 0), 2),
    ],
)
def test_whole_blocks_go_from_the_oldest_on(bounds: tuple[int, int, int], count: int) -> None:
    blocks = blocks_of([[10, 10], [10, 10], [10, 10]])
    assert count_trimmed(blocks, 100, TrimBounds(*bounds)) == (count, 100 + 20 * count)


def test_what_comes_after_a_block_that_stays_stays() -> None:
    """Clocks of several writers differ: a block that seems old may follow a younger one."""
    young, old = Block(1, [b"x"], "n", 2000), Block(2, [b"x"], "n", 1000)
    assert count_trimmed([young, old], 0, TrimBounds(NO_LIMIT, NO_LIMIT, 1500)) == (0, 0)


retentions = st.builds(
    Retention,
    events=st.none() | st.integers(0, 12),
    max_bytes=st.none() | st.integers(0, 60),
    age_s=st.none() | st.integers(0, 7),
)


@given(sizes, st.integers(0, 9), st.integers(0, 100), retentions)
def test_trimming_keeps_what_no_limit_is_past_and_is_the_same_in_one_step_or_many(
    sizes: list[list[int]], dropped: int, base: int, keep: Retention
) -> None:
    blocks = [block for block in blocks_of(sizes, dropped + 1) if block.data]
    head = blocks[-1].last if blocks else dropped
    total = base + sum(len(data) for block in blocks for data in block.data)
    bounds = trim_bounds(TopicState("a", "epoch", head=head, total=total), keep, 7000)
    count, new_base = count_trimmed(blocks, base, bounds)
    rest = blocks[count:]
    assert new_base == total - sum(len(data) for block in rest for data in block.data)
    if rest:
        newer = sum(len(data) for block in rest[1:] for data in block.data)
        assert keep.events is None or rest[0].last > head - keep.events
        assert keep.max_bytes is None or newer < keep.max_bytes
        assert keep.age_s is None or rest[0].time_ms >= 7000 - keep.age_s * 1000
    if count:
        assert count_trimmed(blocks[count - 1 : count], 0, TrimBounds(NO_LIMIT, NO_LIMIT, NO_LIMIT))[0] == 0
        last = blocks[count - 1]
        newer = sum(len(data) for block in rest for data in block.data)
        assert (
            (keep.events is not None and last.last <= head - keep.events)
            or (keep.max_bytes is not None and newer >= keep.max_bytes)
            or (keep.age_s is not None and last.time_ms < 7000 - keep.age_s * 1000)
        )
    assert count_trimmed(rest, new_base, bounds) == (0, new_base)


@pytest.mark.parametrize(
    ("keep", "slack", "over"),
    [
        (Retention(), 0, False),
        (Retention(events=4), 0, False),
        (Retention(events=3), 0, True),
        (Retention(events=3), 0.4, False),
        (Retention(events=3), 0.2, True),
        (Retention(max_bytes=40), 0, False),
        (Retention(max_bytes=39), 0, True),
        (Retention(max_bytes=39), 0.1, False),
        (Retention(events=4, max_bytes=39), 0, True),
        (Retention(events=3, max_bytes=40), 0, True),
    ],
)
def test_a_topic_is_over_its_limits_by_what_it_still_keeps(keep: Retention, slack: float, over: bool) -> None:
    assert is_over(topic_a(oldest=2, base=10), keep, slack) is over


@pytest.mark.parametrize(
    ("closed", "keep", "age_ms", "expired"),
    [
        (True, Retention(closed_age_s=1), 1001, True),
        (True, Retention(closed_age_s=1), 1000, False),
        (False, Retention(closed_age_s=1), 1001, False),
        (True, Retention(age_s=1), 10_000_000, False),
        (True, keep_all("a"), 10_000_000, False),
    ],
)
def test_only_a_closed_topic_expires_as_a_whole(closed: bool, keep: Retention, age_ms: int, expired: bool) -> None:
    assert has_expired(topic_a(closed=closed), keep, 5000, 5000 + age_ms) is expired


# Announcing


@scenario
async def test_the_listener_hears_first_and_every_caller_gets_its_own_result() -> None:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(3)]
    futures[1].cancel()
    commit = Commit(topic="a", epoch="epoch", block=None)
    calls: list[tuple[Any, bool]] = []
    error = LogUnavailable("no")
    announce(
        lambda commits: calls.append((commits, any(one.done() for one in (futures[0], futures[2])))),
        [commit],
        zip(futures, ([EARLIER], [EARLIER], error), strict=True),
    )
    assert calls == [([commit], False)]
    assert await futures[0] == [EARLIER]
    assert futures[2].exception() is error


@scenario
async def test_a_listener_that_fails_leaves_no_caller_waiting_and_is_not_called_for_nothing() -> None:
    def fail(commits: object) -> None:
        raise RuntimeError("no")

    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    with pytest.raises(RuntimeError):
        announce(fail, [Commit(topic="a", epoch="epoch", block=None)], [(future, 1)])
    assert await future == 1
    announce(fail, [], [])
