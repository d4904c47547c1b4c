"""In an envelope each event says whence it comes, live, replayed and resumed; a cursor is good with it and without."""

import json
from typing import Any

import pytest

from events.feed import frames
from events.log.memory import MemoryLog
from events.log.port import Block
from tests.support.followers import Follower, follow, lane_on, say
from tests.support.virtual_time import simulated

SUBSCRIPTIONS = {"one": ("a",), "several": ("a", "b"), "pattern": ("*",), "both": ("a", "b", "t/*")}


def envelopes(follower: Follower) -> list[tuple[str, int, str, Any]]:
    bodies = [json.loads(event.data) for event in follower.events]
    assert all(list(body) == ["topic", "offset", "event", "data"] for body in bodies)
    assert [event.event for event in follower.events] == [body["event"] for body in bodies]
    return [(body["topic"], body["offset"], body["event"], body["data"]) for body in bodies]


@pytest.mark.parametrize("topics", SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS)
@simulated
async def test_each_event_says_whence_it_comes(topics: tuple[str, ...]) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    reader = await follow(lane, topics, envelope=True)
    await say(log, "a", {"x": [None, 1.0]}, "two")
    await say(log, "b", None, name="note")
    await say(log, "a", 3)
    told = [
        ("a", 1, "message", {"x": [None, 1.0]}),
        ("a", 2, "message", "two"),
        ("b", 1, "note", None),
        ("a", 3, "message", 3),
    ]
    expected = [each for each in told if each[0] in topics or "*" in topics]
    assert envelopes(await reader.take_all()) == expected
    start = await follow(lane, topics, earliest=True, envelope=True)
    assert sorted(map(str, envelopes(await start.take_all()))) == sorted(map(str, expected))


@simulated
async def test_readers_with_and_without_follow_the_same_topics_side_by_side() -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    plain, wrapped = await follow(lane, ["a"]), await follow(lane, ["a"], envelope=True)
    await say(log, "a", 1)
    assert (await plain.take_all()).data == [1]
    assert envelopes(await wrapped.take_all()) == [("a", 1, "message", 1)]
    assert [event.id for event in plain.events] == [event.id for event in wrapped.events]
    await say(log, "a", 2)
    again = await follow(lane, ["a"], wrapped.cursor)
    assert (await again.take_all()).data == [2]
    back = await follow(lane, ["a"], plain.cursor, envelope=True)
    assert envelopes(await back.take_all()) == [("a", 2, "message", 2)]
    for reader in (plain, wrapped, again, back):
        reader.close()
    assert len(lane.feeds) == 0


@simulated
async def test_an_envelope_is_encoded_once_for_all_its_readers() -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    readers = [await follow(lane, ["a", "b"], envelope=True) for _ in range(3)]
    assert len(lane.feeds) == 1
    await say(log, "a", 1)
    for reader in readers:
        assert envelopes(await reader.take_all()) == [("a", 1, "message", 1)]


def test_the_time_at_which_an_event_expires_is_no_part_of_its_name() -> None:
    block = Block(first=7, data=[b"1"], name="note 99", time_ms=0)
    [frame] = frames.encode(block, ("e.", ""), "a:b/c-d")
    assert frame == b'event: note\ndata: {"topic":"a:b/c-d","offset":7,"event":"note","data":1}\nid: e.7\n\n'
