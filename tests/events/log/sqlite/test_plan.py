"""A plan turns a group of appends into rows, and restores what is known when a transaction fails."""

import asyncio
from pathlib import Path

import pytest

from events.log.port import Append
from events.log.rules import MERGE_BYTES, MERGE_EVENTS
from events.log.sqlite.file import prepare
from events.log.sqlite.plan import AppendCall, Plan, PlannedTopic
from events.log.sqlite.store import Store


def plan_of(*appends: Append) -> Plan:
    topics = {name: PlannedTopic(name, "e", id=n, head=10, total=100) for n, name in enumerate("abc", 1)}
    plan = Plan(topics, {})
    loop = asyncio.new_event_loop()
    for append in appends:
        plan.add(AppendCall(loop.create_future(), (append,), 0))
    loop.close()
    return plan


@pytest.mark.parametrize(
    ("appends", "rows"),
    [
        ([("a", "n", 1), ("a", "n", 2)], [("a", 11, 3, 103)]),
        ([("a", "n", 1), ("b", "n", 1), ("a", "n", 1)], [("a", 11, 2, 102), ("b", 11, 1, 101)]),
        ([("a", "n", 1), ("a", "m", 1), ("a", "n", 1)], [("a", 11, 1, 101), ("a", 12, 1, 102), ("a", 13, 1, 103)]),
        ([("a", "n", MERGE_EVENTS), ("a", "n", 1)], [("a", 11, MERGE_EVENTS, 356), ("a", 267, 1, 357)]),
        ([("a", "n", 0)], []),
    ],
)
def test_neighbours_of_one_topic_and_name_share_a_row(
    appends: list[tuple[str, str, int]], rows: list[tuple[str, int, int, int]]
) -> None:
    plan = plan_of(*(Append(topic=topic, name=name, data=[b"x"] * count) for topic, name, count in appends))
    assert [(row.topic.name, row.first, len(row.lines), row.total) for row in plan.rows] == rows


def test_a_row_stays_below_the_bound_of_bytes() -> None:
    half = b"x" * (MERGE_BYTES // 2)
    plan = plan_of(*(Append(topic="a", data=[half]) for _ in range(5)))
    assert [len(row.lines) for row in plan.rows] == [2, 2, 1]


def test_what_the_caller_holds_is_not_changed_by_joining() -> None:
    first, second = Append(topic="a", data=[b"1"]), Append(topic="a", data=[b"2"])
    assert plan_of(first, second).rows[0].lines == [b"1", b"2"]
    assert (first.data, second.data) == ([b"1"], [b"2"])


def test_only_the_last_row_of_a_closed_topic_is_closing() -> None:
    plan = plan_of(
        Append(topic="a", data=[b"1"], name="n"),
        Append(topic="a", data=[b"2"], name="m"),
        Append(topic="a", data=[], close=True),
        Append(topic="b", data=[], close=True),
    )
    assert [row.is_closing for row in plan.rows] == [False, True]
    assert [topic.name for topic in plan.eventless_topics] == ["b"]


def test_rows_that_are_gone_before_they_were_seen_end_what_is_remembered(tmp_path: Path) -> None:
    prepare(tmp_path / "log.db")
    store = Store(tmp_path / "log.db", lambda: {"a"}, 1.0)
    store.topics["a"] = PlannedTopic("a", "e", id=7)
    store.db.execute("INSERT INTO blocks VALUES (NULL, 0, NULL, 0, 0, 0, 0, 'a', '')")
    store.db.execute("DELETE FROM blocks")
    assert store.catch_up() == []
    assert not store.topics
    store.close()


def test_a_failed_transaction_leaves_news_of_others_to_be_told(tmp_path: Path) -> None:
    prepare(tmp_path / "log.db")
    store = Store(tmp_path / "log.db", lambda: {"a"}, 1.0)
    other = Store(tmp_path / "log.db", lambda: {"a"}, 1.0)
    with other.change():
        other.mark(PlannedTopic("a", "e"), False, 0)

    def fail() -> None:
        with store.change():
            assert [commit.topic for commit in store.catch_up()] == ["a"]
            store.mark(PlannedTopic("b", "e"), False, 0)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [commit.topic for commit in store.catch_up()] == ["a"]
    store.close()
    other.close()
