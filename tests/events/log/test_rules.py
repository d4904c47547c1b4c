"""The rules that every engine decides alike are tested in tables."""

import asyncio
from typing import Any

import pytest

from events.log.port import Append, Appended, Commit
from events.log.rules import (
    KEY_MS,
    MERGE_BYTES,
    MERGE_EVENTS,
    TopicState,
    advance,
    announce,
    is_key_valid,
    judge,
    may_join,
    refusal,
    rehearse,
    size_of,
)
from gateway.errors import LogConflict, LogError, LogUnavailable, WrongOwner
from tests.contract.engines import scenario

EARLIER = Appended("epoch", 2, 3)
RESULTS = {("a", "k"): EARLIER}


def topic_a(**changes: Any) -> TopicState:
    """Returns a topic of five events that "me" owns."""
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
def test_an_append_without_a_conflict_goes_in(append: Append, topic: TopicState) -> None:
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
def test_an_append_with_a_conflict_is_refused(append: Append, topic: TopicState, error: type[LogError]) -> None:
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
def test_a_rehearsal_finds_every_conflict_and_changes_nothing(
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
