"""A reader gets all that `hello` promises, wherever it begins: in one process, on a log in memory."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from events.feed.bookmarks import SNAPSHOTS
from events.feed.start import SubscribeRequest
from events.log.memory import MemoryLog
from events.log.port import Retention
from events.log.sqlite.engine import SqliteLog
from events.log.topics import stored
from events.log.vector import tag_of
from gateway.access.grants import Grants, Principal
from gateway.errors import Forbidden
from tests.contract.engines import Clock, keep_all, scenario
from tests.support.followers import Follower, PeerLog, follow, lane_on, say
from tests.support.readers import HeldLog
from tests.support.virtual_time import simulated

MANY = tuple(f"t/{number:02}" for number in range(20))
SUBSCRIPTIONS = {"one": ("t/00",), "several": MANY[:4], "twenty": MANY, "pattern": ("t/*",), "both": ("a", "t/*")}
on_all_kinds = pytest.mark.parametrize("topics", SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS)
HELLO = {"recovered": True, "replay": 0, "ping": 15}


def hello_of(follower: Follower) -> dict[str, Any]:
    return {name: value for name, value in follower.hello.items() if name not in ("maxAge", "topics", "ping")}


def keeping(events: int) -> PeerLog:
    """Returns a log that keeps few events of each topic."""
    return PeerLog(lambda topic: Retention(events=events if topic.startswith("event/") else None))


@on_all_kinds
@simulated
async def test_a_stream_without_a_cursor_starts_at_the_head(topics: tuple[str, ...]) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    await say(log, "t/00", 1, 2)
    reader = await follow(lane, topics)
    assert reader.hello | {"maxAge": 0} == {**HELLO, "maxAge": 0, "topics": sorted(topics)}
    assert 480 <= reader.hello["maxAge"] <= 600
    assert 1000 <= (reader.decoder.retry_ms or 0) <= 4000
    await say(log, "t/00", 3)
    assert (await reader.take_all()).data == [3]


@on_all_kinds
@simulated
async def test_every_id_that_was_told_continues_strictly_after_its_event(topics: tuple[str, ...]) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    reader = await follow(lane, topics)
    start, numbers = reader.cursor, range(60)
    for number in numbers:
        await say(log, f"t/{number % 4 if len(topics) > 1 or '*' in topics[0] else 0:02}", number)
    await reader.take_all()
    assert reader.data == list(numbers)
    live = [start, *(event.id for event in reader.events)]
    again = await (await follow(lane, topics, start)).take_all()
    for ids, data in ((live, reader.data), ([start, *(event.id for event in again.events)], again.data)):
        for at, cursor in enumerate(ids):
            back = await follow(lane, topics, cursor)
            assert hello_of(back) == {"recovered": True, "replay": len(data) - at}
            assert sorted((await back.take_all()).data) == sorted(data[at:])
            back.close()
    assert all(len(event.id) <= 128 for event in reader.events)


@on_all_kinds
@simulated
async def test_earliest_starts_at_the_oldest_event_that_is_kept(topics: tuple[str, ...]) -> None:
    log = keeping(2)
    lane = await lane_on(log)
    for number in range(5):
        await say(log, "t/00", number)
    reader = await (await follow(lane, topics, earliest=True)).take_all()
    assert hello_of(reader) == {"recovered": True, "replay": 2}
    assert reader.data == [3, 4]


LOST: dict[str, tuple[str, str]] = {
    "text": ("hello", "malformed"),
    "of a chat": ("run.a1b2c3d4.7", "malformed"),
    "129 bytes": (f"e{tag_of(('a',))}{'.0.0' * 30}", "malformed"),
    "4 kB": ("x" * 4096, "malformed"),
    "no Latin": ("é" * 10, "malformed"),
    "offset without an epoch": (f"e{tag_of(('a',))}.0.5", "malformed"),
    "of other topics": (f"e{tag_of(('b',))}.0.0", "unknown_cursor"),
    "of two topics": (f"e{tag_of(('a',))}.0.0.0.0", "unknown_cursor"),
    "of a snapshot that never was": (f"s{tag_of(('a',))}.0.1", "unknown_cursor"),
    "of the snapshot before the first": (f"s{tag_of(('a',))}.0.0", "unknown_cursor"),
    "of another epoch": (f"e{tag_of(('a',))}.zzzz.1", "epoch_changed"),
    "past the head": ("HEAD+1", "unknown_cursor"),
    "far past the head": ("HEAD+x", "unknown_cursor"),
}


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(("cursor", "reason"), LOST.values(), ids=LOST)
@simulated
async def test_a_cursor_that_cannot_be_used_is_told_with_its_reason(cursor: str, reason: str, partial: bool) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    epoch = (await say(log, "a", 1, 2, 3)).epoch
    offset = {"HEAD+1": "4", "HEAD+x": "zzzzzzzzzz"}.get(cursor)
    old_cursor = f"e{tag_of(('a',))}.{epoch}.{offset}" if offset else cursor
    reader = await follow(lane, ("a",), old_cursor, partial=partial)
    rest = [] if not partial or offset else [1, 2, 3]
    assert hello_of(reader) == {"recovered": False, "replay": len(rest), "reason": reason, "missed": None}
    assert reader.cursor != old_cursor
    await say(log, "a", 4)
    assert (await reader.take_all()).data == [*rest, 4]


@on_all_kinds
@simulated
async def test_what_is_evicted_is_counted_exactly(topics: tuple[str, ...]) -> None:
    log = keeping(3)
    lane = await lane_on(log)
    reader = await follow(lane, topics)
    await say(log, "t/00", 0)
    await asyncio.sleep(1)
    cursor = (await reader.take_all()).cursor
    assert reader.data == [0]
    reader.close()
    for number in range(1, 8):
        await say(log, "t/00", number)
    for partial, rest in ((False, []), (True, [5, 6, 7])):
        back = await (await follow(lane, topics, cursor, partial=partial)).take_all()
        hello = {"recovered": False, "replay": len(rest), "reason": "evicted", "missed": 7 - len(rest)}
        assert (hello_of(back), back.data) == (hello, rest)


@simulated
async def test_one_more_than_the_replay_limit_is_not_replayed() -> None:
    log = MemoryLog()
    lane = await lane_on(log, max_replay=5)
    start = (await follow(lane, ("a",))).cursor
    await say(log, "a", *range(5))
    assert hello_of(await follow(lane, ("a",), start)) == {"recovered": True, "replay": 5}
    await say(log, "a", 5)
    for partial, rest in ((False, []), (True, [1, 2, 3, 4, 5])):
        back = await (await follow(lane, ("a",), start, partial=partial)).take_all()
        hello = {"recovered": False, "replay": len(rest), "reason": "replay_limit", "missed": 6 - len(rest)}
        assert (hello_of(back), back.data) == (hello, rest)


@pytest.mark.parametrize("cursor", ["rubbish", f"e{tag_of(('a',))}.zzzz.1", f"e{tag_of(('a',))}.0.0"])
@simulated
async def test_what_is_left_for_a_lost_cursor_is_within_the_replay_limit_too(cursor: str) -> None:
    log = keeping(20)
    lane = await lane_on(log, max_replay=5)
    for number in range(30):
        await say(log, "a", number)
    reader = await (await follow(lane, ("a",), cursor, partial=True)).take_all()
    assert not reader.hello["recovered"]
    assert reader.hello["replay"] <= 5
    assert len(reader.data) <= 5


@pytest.mark.parametrize("stays", [True, False], ids=["from the ring", "from the log"])
@simulated
async def test_an_expired_event_is_not_shown_to_a_reader_that_comes_back(stays: bool) -> None:
    clock = Clock()
    log = MemoryLog(clock=clock)
    lane = await lane_on(log)
    lane.feeds._clock = clock
    reader = await follow(lane, ("a",))
    start = reader.cursor
    await say(log, "a", "old", name=f"message {int(clock() * 1000) + 1000}")
    await say(log, "a", "lasts")
    assert (await reader.take_all()).data == ["old", "lasts"]
    if not stays:
        reader.close()
    clock.now_s += 10
    back = await (await follow(lane, ("a",), start)).take_all()
    assert (back.data, back.hello["replay"]) == (["lasts"], 1)


@on_all_kinds
@simulated
async def test_a_reader_that_never_read_and_falls_off_the_ring_reads_the_log(topics: tuple[str, ...]) -> None:
    """It reads from its first frame on, also where its cursor needs a snapshot."""
    log = MemoryLog()
    lane = await lane_on(log)
    for topic in MANY:
        await say(log, topic, -1)
    reader = await follow(lane, topics)
    for number in range(0, 9000, 100):
        await say(log, "t/00", *range(number, number + 100))
    await asyncio.sleep(1)
    assert (await reader.take_all()).data == list(range(9000))


@on_all_kinds
@simulated
async def test_a_topic_made_anew_by_another_process_is_followed_at_once(topics: tuple[str, ...]) -> None:
    log = keeping(100)
    lane, other = await lane_on(log), log.peer()
    await other.open()
    await say(log, "t/00", 1, 2, 3)
    reader = await follow(lane, topics)
    await other.delete(stored("t/00"))
    await say(other, "t/00", "new")
    log.hear()
    await asyncio.sleep(1)
    await reader.take_all()
    assert reader.gaps == [{"topic": "t/00", "from": 4, "to": None, "reason": "epoch_changed"}]
    assert reader.data == ["new"]


@pytest.mark.parametrize("same", [True, False], ids=["with a feed", "with a new feed"])
@on_all_kinds
@simulated
async def test_a_reader_that_comes_back_after_a_topic_was_deleted_is_told(topics: tuple[str, ...], same: bool) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    await say(log, "t/00", 1)
    reader = await follow(lane, topics)
    await say(log, "t/00", 2)
    if not same:
        reader.close()
    await log.delete(stored("t/00"))
    await asyncio.sleep(1)
    back = await follow(lane, topics, reader.cursor)
    assert hello_of(back) == {"recovered": False, "replay": 0, "reason": "epoch_changed", "missed": None}


@on_all_kinds
@simulated
async def test_a_reader_that_stood_before_the_first_event_of_a_deleted_topic_is_told(topics: tuple[str, ...]) -> None:
    log = MemoryLog()
    lane = await lane_on(log)
    await say(log, "t/00", 1)
    reader = await follow(lane, topics, earliest=True)
    reader.close()
    await log.delete(stored("t/00"))
    back = await follow(lane, topics, reader.cursor)
    assert hello_of(back) == {"recovered": False, "replay": 0, "reason": "epoch_changed", "missed": None}


@simulated
async def test_a_topic_that_appears_while_earliest_is_looked_up_harms_nobody() -> None:
    log = HeldLog()
    lane = await lane_on(log)
    await say(log, "x/a", 1)
    first = await follow(lane, ("x/*",))
    log.free.clear()
    opening = asyncio.ensure_future(follow(lane, ("x/*",), earliest=True))
    await asyncio.sleep(1)
    await say(log, "x/b", 2)
    await asyncio.sleep(1)
    log.free.set()
    second = await (await opening).take_all()
    assert second.data == [1, 2]
    assert (await first.take_all()).data == [2]


@simulated
async def test_what_is_missed_counts_what_came_while_the_answer_was_made() -> None:
    log = keeping(100)
    lane = await lane_on(log)
    await say(log, "x/a", 1)
    reader = await follow(lane, ("x/*",))
    await say(log, "x/a", 2, 3)
    log.blocks_of(stored("x/a")).clear()
    log.snapshot_s = 0.1
    await say(log, "x/b", 1, 2)
    back = await follow(lane, ("x/*",), reader.cursor)
    await asyncio.sleep(1)
    count = len((await back.take_all()).data)
    assert back.hello["reason"] == "evicted"
    assert back.hello["missed"] == 4 - count


@simulated
async def test_a_cursor_whose_snapshot_is_no_longer_kept_is_evicted() -> None:
    log = MemoryLog(lambda topic: Retention(events=2 if topic.startswith(SNAPSHOTS) else None))
    lane = await lane_on(log)
    reader = await follow(lane, ("x/*",))
    start = reader.cursor
    for number in range(4):
        await say(log, f"x/{number}", number)
    await asyncio.sleep(1)
    back = await (await follow(lane, ("x/*",), start)).take_all()
    assert hello_of(back) == {"recovered": False, "replay": 0, "reason": "evicted", "missed": None}
    assert not back.data


@simulated
async def test_a_cursor_reads_nothing_that_its_bearer_may_not() -> None:
    lane = await lane_on()
    log = lane._log
    await say(log, "secret", 1)
    cursor = (await follow(lane, ("secret",), earliest=True)).cursor
    eve = Principal(sub="eve", grants=Grants(subscribe=["open"]))
    with pytest.raises(Forbidden, match="secret"):
        await lane.subscribe(eve, SubscribeRequest(("secret",), cursor), patient=True)
    reader = await (await follow(lane, ("open",), cursor, who=eve, partial=True)).take_all()
    assert (reader.hello["reason"], reader.data) == ("unknown_cursor", [])


@simulated
async def test_readers_that_leave_leave_nothing_behind() -> None:
    lane = await lane_on()
    readers = [await follow(lane, topics) for topics in SUBSCRIPTIONS.values() for _ in range(3)]
    assert len(lane.feeds) == len(SUBSCRIPTIONS)
    for reader in readers:
        reader.close()
        reader.close()
    assert (len(lane.feeds), len(lane.feeds._hub)) == (0, 0)


@scenario
async def test_two_processes_on_one_file_are_one_log(tmp_path: Path) -> None:
    logs = [SqliteLog(tmp_path / "log.db", keep_all) for _ in range(2)]
    lanes = [await lane_on(log) for log in logs]
    for topics in SUBSCRIPTIONS.values():
        reader = await follow(lanes[0], topics)
        await say(logs[1], "t/00", 1, 2)
        back = await follow(lanes[1], topics, reader.cursor)
        assert (await back.take_all()).data == [1, 2]
        async with asyncio.timeout(2):
            while reader.data != [1, 2]:
                await reader.take_all()
                await asyncio.sleep(0.01)
        there = await follow(lanes[0], topics, back.cursor)
        assert hello_of(there) == {"recovered": True, "replay": 0}
    for lane, log in zip(lanes, logs, strict=True):
        await lane.feeds.close()
        await log.close()
