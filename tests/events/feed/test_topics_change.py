"""A cursor keeps each topic's place by itself: topics may be added, left out and named in any order."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.log.memory import MemoryLog
from events.log.port import Position, Retention
from events.log.vector import tag_of, topic_cursor
from tests.support.followers import Follower, PeerLog, follow, lane_on, say
from tests.support.virtual_time import simulated

MANY = tuple(f"t/{number:02}" for number in range(30))
"""More topics than a cursor of 128 bytes has room for."""


def told(reader: Follower) -> tuple[bool, int, list[str]]:
    return reader.hello["recovered"], reader.hello["replay"], reader.hello.get("added", [])


def by_topic(reader: Follower) -> dict[str, list[Any]]:
    """Returns what came, by the topic that each body begins with."""
    bodies: dict[str, list[Any]] = {}
    for topic, number in reader.data:
        bodies.setdefault(topic, []).append(number)
    return bodies


async def tell(log: MemoryLog, *topics: str, number: int) -> None:
    for topic in topics:
        await say(log, topic, [topic, number])


CHANGES: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[str], list[str]]] = {
    # before, after, whose events are replayed, what begins at the head
    "one more": (("a",), ("a", "b"), ["a"], ["b"]),
    "one less": (("a", "b"), ("a",), ["a"], []),
    "another order": (("b", "a", "c"), ("c", "a", "b"), ["a", "b", "c"], []),
    "one for another": (("a", "b"), ("b", "c"), ["b"], ["c"]),
    "twice the same": (("a",), ("a", "a"), ["a"], []),
    "many to few": (MANY, ("t/03", "t/29"), ["t/03", "t/29"], []),
    "few to many": (("t/03", "t/29"), MANY, ["t/03", "t/29"], sorted({*MANY} - {"t/03", "t/29"})),
    "many to many": (MANY[:20], MANY[10:], list(MANY[10:20]), list(MANY[20:])),
    "a pattern to one of its topics": (("t/*",), ("t/03",), ["t/03"], []),
    "a pattern to one of its topics and another": (("t/*",), ("a", "t/03"), ["t/03"], ["a"]),
    "a topic to its pattern": (("t/03",), ("t/*",), ["t/03"], ["t/*"]),
    "a pattern more": (("a", "t/*"), ("a", "t/*", "x/*"), ["a", *MANY], ["x/*"]),
    "a pattern less": (("a", "t/*"), ("a",), ["a"], []),
    "a wider pattern": (("t/*",), ("*",), list(MANY), ["*"]),
    "a narrower pattern": (("*",), ("t/*",), list(MANY), []),
    "a topic beside its pattern": (("t/*",), ("t/*", "t/03"), list(MANY), []),
}


@pytest.mark.parametrize(("before", "after", "replayed", "added"), CHANGES.values(), ids=CHANGES)
@simulated
async def test_what_stays_keeps_its_place_and_what_is_new_begins_at_the_head(
    before: tuple[str, ...], after: tuple[str, ...], replayed: list[str], added: list[str]
) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    everything = ("a", "b", "c", "x/1", *MANY)
    await tell(log, *everything, number=1)
    reader = await follow(lane, before)
    await tell(log, *everything, number=2)
    cursor = (await reader.take_all()).cursor
    reader.close()
    await tell(log, *everything, number=3)
    back = await follow(lane, after, cursor)
    assert told(back) == (True, len(replayed), added)
    assert len(back.cursor) <= 128
    assert by_topic(await back.take_all()) == {topic: [3] for topic in replayed}
    again = await follow(lane, after, back.cursor)
    assert told(again) == (True, 0, [])
    await tell(log, *everything, number=4)
    heard = [
        topic for topic in everything if topic in after or any(topic.startswith(p[:-1]) for p in after if "*" in p)
    ]
    assert by_topic(await again.take_all()) == {topic: [4] for topic in heard}


@pytest.mark.parametrize(("before", "after"), [(("a",), ("b",)), (("a", "b"), ("c", "d")), (("t/*",), ("x/*",))])
@simulated
async def test_a_cursor_that_knows_none_of_the_topics_is_unknown(
    before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    await tell(log, "a", "b", "t/00", number=1)
    cursor = (await follow(lane, before)).cursor
    back = await follow(lane, after, cursor)
    assert (back.hello["recovered"], back.hello["reason"]) == (False, "unknown_cursor")


@simulated
async def test_a_topic_that_began_after_the_cursor_comes_whole_where_its_pattern_stays() -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    await tell(log, "t/00", number=1)
    cursor = (await follow(lane, ("t/*",))).cursor
    await tell(log, "t/new", number=1)
    back = await follow(lane, ("t/new", "a"), cursor)
    assert told(back) == (True, 1, ["a"])
    assert by_topic(await back.take_all()) == {"t/new": [1]}


@simulated
async def test_what_was_lost_of_a_topic_that_left_is_no_loss() -> None:
    log = PeerLog(lambda topic: Retention(events=2 if topic == "event/a" else None))
    lane = await lane_on(log)
    reader = await follow(lane, ("a", "b"))
    await tell(log, "a", "b", number=0)
    cursor = (await reader.take_all()).cursor
    reader.close()
    for number in range(1, 6):
        await tell(log, "a", number=number)
    await tell(log, "b", number=1)
    back = await follow(lane, ("b", "c"), cursor)
    assert told(back) == (True, 1, ["c"])
    lost = await follow(lane, ("a", "b", "c"), cursor)
    assert (lost.hello["recovered"], lost.hello["reason"], lost.hello["added"]) == (False, "evicted", ["c"])


@simulated
async def test_the_cursor_of_a_publication_places_its_topic_among_others() -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    first = await say(log, "a", ["a", 1])
    await tell(log, "a", "b", number=2)
    back = await follow(lane, ("b", "a"), topic_cursor("a", Position(first.epoch, 1)))
    assert told(back) == (True, 1, ["b"])
    assert by_topic(await back.take_all()) == {"a": [2]}


@simulated
async def test_a_cursor_of_an_older_release_is_good_for_the_topics_that_it_was_made_for() -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    epochs = [(await say(log, topic, [topic, 1])).epoch[:4] for topic in ("a", "b")]
    await tell(log, "a", "b", number=2)
    old_cursor = f"e{tag_of(('a', 'b'))}.{epochs[0]}.1.{epochs[1]}.2"
    back = await follow(lane, ("b", "a"), old_cursor)
    assert told(back) == (True, 1, [])
    assert by_topic(await back.take_all()) == {"a": [2]}


names = st.lists(st.sampled_from([*MANY[:14], "a", "t/*"]), min_size=1, max_size=16, unique=True)


@settings(deadline=None, max_examples=60)
@given(names, names, st.integers(0, 1000))
def test_no_event_is_lost_or_doubled_whatever_changes(before: list[str], after: list[str], seed: int) -> None:
    """The model: a topic of both streams goes on after the cursor, and every other begins at the head."""

    @simulated
    async def run() -> None:
        chance = random.Random(seed)
        log = MemoryLog()
        lane = await lane_on(log)
        topics = ("a", *MANY[:14])
        for topic in topics:
            await tell(log, topic, number=0)
        reader = await follow(lane, before)
        for number in range(1, 30):
            await tell(log, chance.choice(topics), number=number)
        cursor = (await reader.take_all()).cursor
        reader.close()
        late = [(chance.choice(topics), number) for number in range(30, 50)]
        for topic, number in late:
            await tell(log, topic, number=number)
        back = await follow(lane, after, cursor)

        def follows(names: list[str], topic: str) -> bool:
            return topic in names or ("t/*" in names and topic.startswith("t/"))

        stays = any(follows(before, topic) and follows(after, topic) for topic in topics)
        assert back.hello["recovered"] == stays
        expected = [each for each in late if follows(before, each[0]) and follows(after, each[0])]
        assert sorted(map(tuple, (await back.take_all()).data)) == sorted(expected if stays else [])

    run()
