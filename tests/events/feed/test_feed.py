"""A feed merges its topics into one list of frames, and keeps track of its followers and snapshots."""

import asyncio
import json

import pytest

from events.feed import feed as feed_module
from events.feed.feed import RETRY_S
from events.log.ring import RING_MAX_BYTES, RING_MAX_FRAMES
from events.log.topics import stored
from events.log.vector import decode_vector, topic_tag
from tests.support.feed_stage import EPOCH, FeedStage, Listener
from tests.support.virtual_time import simulated

# Frames


@simulated
async def test_topics_are_merged_in_the_order_in_which_they_are_heard_of() -> None:
    stage = FeedStage("a", "b")
    stage.say(1, "b1")
    stage.say(0, "a1", "a2")
    stage.say(1, "b2")
    assert stage.data() == ["b1", "a1", "a2", "b2"]
    ids = [event.id for event in stage.events()]
    ends = [decode_vector(each).places for each in ids]  # type: ignore[union-attr]
    offsets = [(end[topic_tag("a")].offset, end[topic_tag("b")].offset) for end in ends]
    assert offsets == [(0, 1), (1, 1), (2, 1), (2, 2)]
    assert stage.feed.cursor_at(stage.feed.head) == stage.feed.position.encode() == ids[-1]


@simulated
async def test_the_cursor_of_an_index_is_that_of_the_frame_before_it() -> None:
    stage = FeedStage("a")
    start = stage.feed.position.encode()
    stage.say(0, 1, 2)
    assert [stage.feed.cursor_at(index) for index in range(3)] == [start, *(event.id for event in stage.events())]


@simulated
async def test_a_slice_ends_at_its_limit_and_has_one_frame_at_least() -> None:
    stage = FeedStage("a")
    for _ in range(10):
        stage.say(0, "x" * 1000)
    size = len(stage.feed.frames[0])
    assert stage.feed.slice(0, 3 * size) == (b"".join(stage.feed.frames[:3]), 3)
    assert stage.feed.slice(4, 1) == (stage.feed.frames[4], 5)
    assert stage.feed.slice(9, 1) == (stage.feed.frames[9], 10)
    assert stage.feed.slice(2, 1 << 30) == (b"".join(stage.feed.frames[2:]), 10)


@simulated
async def test_an_event_that_nobody_needs_any_more_is_nothing() -> None:
    stage = FeedStage("a")
    stage.say(0, "old", name=f"message {stage.now_ms + 1000}")
    stage.say(0, "lasts")
    stage.now_ms += 999
    assert stage.data() == ["old", "lasts"]
    stage.now_ms += 1
    assert stage.data() == ["lasts"]
    assert stage.feed.slice(0, 1 << 30)[1] == 2


# Who can follow from where


@simulated
async def test_a_reader_at_the_position_of_the_feed_can_follow() -> None:
    stage = FeedStage("a", "b")
    early = stage.feed.position.copy()
    stage.say(0, 1)
    late = stage.feed.position.copy()
    assert (stage.feed.index_of(early), stage.feed.index_of(late)) == (None, 1)


@simulated
async def test_a_reader_within_the_frames_of_a_single_topic_can_follow_too() -> None:
    stage = FeedStage("a")
    stage.say(0, 1, 2, 3)
    stand = stage.feed.position.copy()
    for offset, index in ((0, 0), (2, 2), (3, 3), (4, None)):
        stand.offsets[0] = offset
        assert stage.feed.index_of(stand) == index
    stand.offsets[0], stand.epochs[0] = 2, "f" * 8
    assert stage.feed.index_of(stand) is None


@simulated
async def test_nobody_joins_before_a_gap_or_before_what_was_shed() -> None:
    stage = FeedStage("a")
    stage.say(0, 1, 2)
    stand = stage.feed.position.copy()
    stage.feed.skip(stage.feed.tails[0], 3, 5, "evicted")
    stage.feed.tails[0].head = 5
    stage.say(0, 6, 7, 8)
    indexes = []
    for offset in (1, 2, 5, 6, 8):
        stand.offsets[0] = offset
        indexes.append(stage.feed.index_of(stand))
    assert indexes == [None, None, 3, 4, 6]
    stage.feed.shed(1 << 30, 1)
    stand.offsets[0] = 6
    assert stage.feed.index_of(stand) is None


@simulated
async def test_a_gap_is_told_with_the_cursor_behind_it() -> None:
    stage = FeedStage("a")
    stage.say(0, 1)
    stage.feed.skip(stage.feed.tails[0], 2, 4, "evicted")
    gap = stage.events()[-1]
    assert json.loads(gap.data) == {"topic": "a", "from": 2, "to": 4, "reason": "evicted"}
    assert gap.id.endswith(f"{EPOCH}.4")


@simulated
async def test_a_topic_that_was_made_anew_goes_on_in_its_new_epoch() -> None:
    stage = FeedStage("a")
    stage.say(0, 1)
    stage.say(0, "new", epoch="f" * 8)
    assert [event.event for event in stage.events()] == ["message", "gap", "message"]
    assert stage.events()[-1].id.endswith(f"{'f' * 8}.1")


# What is dropped


@simulated
async def test_a_follower_that_still_needs_dropped_frames_falls_to_its_own_cursor() -> None:
    stage = FeedStage("a")
    start = stage.feed.position.encode()
    stage.say(0, 1, 2, 3, 4)
    cursors = [start, *(event.id for event in stage.events())]
    listeners = [Listener(stage.feed, index) for index in range(5)]
    reading = Listener(stage.feed, -1)
    stage.feed.shed(1 << 30, 2)
    assert stage.feed.first == 2
    assert [listener.fell_to for listener in listeners] == [*cursors[:2], None, None, None]
    assert [listener.wakes for listener in listeners] == [1, 1, 0, 0, 0]
    assert (reading.fell_to, reading.wakes) == (None, 0)
    assert [stage.feed.cursor_at(index) for index in (2, 3, 4)] == cursors[2:]
    assert stage.feed.size == sum(map(len, stage.feed.frames))


@simulated
async def test_the_ring_holds_so_many_frames_and_is_then_halved() -> None:
    stage = FeedStage("a")
    stage.say(0, *range(RING_MAX_FRAMES))
    assert stage.feed.first == 0
    stage.say(0, "more")
    assert (len(stage.feed.frames), stage.feed.head) == (RING_MAX_FRAMES // 2, RING_MAX_FRAMES + 1)


@simulated
async def test_the_ring_holds_so_many_bytes_and_is_then_halved() -> None:
    stage = FeedStage("a")
    for _ in range(7):
        stage.say(0, "x" * (RING_MAX_BYTES // 8))
    assert stage.feed.first == 0
    stage.say(0, "x" * (RING_MAX_BYTES // 8))
    assert (len(stage.feed.frames), stage.feed.head) == (3, 8)


# Who follows


@simulated
async def test_followers_are_woken_when_there_is_something_and_not_otherwise() -> None:
    stage = FeedStage("a")
    listener = Listener(stage.feed)
    stage.feed.tell()
    assert listener.wakes == 0
    stage.say(0, 1)
    assert listener.wakes == 1


@simulated
async def test_a_follower_leaves_once() -> None:
    stage = FeedStage("a")
    listener, live = Listener(stage.feed), Listener(stage.feed)
    stage.feed.followers.discard(live)
    stage.feed.fanout.add(live)
    assert set(stage.feed.everyone) == {listener, live}
    for one in (listener, live):
        assert (stage.feed.leave(one), stage.feed.leave(one)) == (True, False)
    assert stage.feed.everyone == []


@simulated
async def test_a_feed_is_closed_when_all_its_topics_are() -> None:
    stage = FeedStage("a", "b")
    listener = Listener(stage.feed)
    for strand, is_closed in zip(stage.feed.tails, (False, True), strict=True):
        strand.closed = True
        assert stage.feed.closed is is_closed
    stage.feed.tell()
    assert listener.wakes == 1
    assert not FeedStage("x/*").feed.closed, "a topic may still come"


@simulated
async def test_a_feed_is_not_closed_while_an_event_waits_for_a_snapshot() -> None:
    stage = FeedStage(*(f"t/{number:02}" for number in range(20)))
    stage.save_s = 1.0
    stage.say(0, 1)
    for strand in stage.feed.tails:
        strand.closed = True
    assert not stage.feed.closed
    await asyncio.sleep(1.1)
    assert (stage.data(), stage.feed.closed) == ([1], True)


@simulated
async def test_a_closed_feed_leaves_nothing_with_the_hub() -> None:
    stage = FeedStage("a", "x/*")
    stage.feed.finders = (stage.hub.find("event/x/", stage.feed.find),)
    stage.feed.find(stored("x/1"))
    assert len(stage.hub) == 3
    stage.save_s = 3600
    stage.say(1, 1)
    stage.feed.close()
    await asyncio.sleep(2 * stage.save_s)
    assert (len(stage.hub), stage.snapshots) == (0, [])


# Patterns and their snapshots


@simulated
async def test_a_topic_that_a_pattern_stands_for_is_followed_once_and_from_its_beginning() -> None:
    stage = FeedStage("a", "x/*")
    for name in ("x/1", "x/2", "x/1", "a"):
        stage.feed.find(stored(name))
    assert stage.feed.position.names == ["a", "x/1", "x/2"]
    assert [strand.head for strand in stage.feed.tails] == [0, 0, 0]


@simulated
async def test_a_pattern_that_stands_for_too_much_ends_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_MATCHES", 2)
    stage = FeedStage("x/*")
    listener = Listener(stage.feed)
    for number in range(2):
        stage.feed.find(stored(f"x/{number}"))
    assert not stage.feed.ended
    stage.feed.find(stored("x/3"))
    assert (stage.feed.ended, listener.wakes, len(stage.hub)) == (True, 1, 0)


@simulated
async def test_events_wait_for_a_snapshot_and_keep_their_order() -> None:
    stage = FeedStage("x/*")
    stage.save_s = 1.0
    listener = Listener(stage.feed)
    for name in ("x/1", "x/2"):
        stage.feed.find(stored(name))
    stage.say(0, 1, epoch="f" * 8)
    stage.say(1, 2, epoch="f" * 8)
    stage.say(0, 3, epoch="f" * 8)
    await asyncio.sleep(0.9)
    assert (stage.data(), listener.wakes) == ([], 0)
    await asyncio.sleep(10)
    assert stage.data() == [1, 2, 3]
    assert listener.wakes == 1
    assert [event.id[0] for event in stage.events()] == ["s"] * 3
    stage.say(1, 4, epoch="f" * 8)
    assert stage.data(3) == [4], "one that needs no other snapshot waits for none"


@simulated
async def test_a_snapshot_that_cannot_be_kept_is_tried_again() -> None:
    stage = FeedStage("x/*")
    stage.failures = 2
    stage.feed.find(stored("x/1"))
    stage.say(0, 1)
    await asyncio.sleep(2 * RETRY_S - 0.1)
    assert stage.data() == []
    await asyncio.sleep(0.2)
    assert stage.data() == [1]


@simulated
async def test_a_feed_in_which_too_much_waits_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_WAITING", 3)
    stage = FeedStage("x/*")
    stage.save_s = 3600
    stage.feed.find(stored("x/1"))
    for number in range(3):
        stage.say(0, number)
    assert not stage.feed.ended
    stage.say(0, 4)
    assert stage.feed.ended


@simulated
async def test_the_cursor_of_a_feed_without_one_waits_for_a_snapshot() -> None:
    stage = FeedStage("x/*")
    stage.save_s = 1.0
    asking = [asyncio.ensure_future(stage.feed.cursor()) for _ in range(3)]
    await asyncio.sleep(0.9)
    assert not any(one.done() for one in asking)
    assert {await one for one in asking} == {stage.feed.position.encode()}
    assert len(stage.snapshots) == 1
    assert await FeedStage("a").feed.cursor() != ""
