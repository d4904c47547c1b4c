"""A pattern loses nothing by topics that went because nothing came, and is served again when there are fewer."""

import asyncio

import pytest

from events.feed import feeds as feeds_module
from events.feed.start import SubscribeRequest
from events.log.memory import MemoryLog
from events.log.port import Retention
from events.log.topics import stored
from gateway.access.grants import EVERYTHING, Principal
from gateway.errors import Overloaded
from tests.contract.engines import Clock
from tests.support.followers import Follower, follow, lane_on, say
from tests.support.virtual_time import simulated

on_patterns = pytest.mark.parametrize("topics", [("t/*",), ("a", "t/*")])


def recovery(follower: Follower) -> tuple[object, object]:
    return follower.hello["recovered"], follower.hello["replay"]


@pytest.mark.parametrize("same", [True, False], ids=["with a feed", "with a new feed"])
@on_patterns
@simulated
async def test_a_pattern_loses_nothing_by_a_topic_that_went_for_want_of_news(
    topics: tuple[str, ...], same: bool
) -> None:
    clock = Clock()
    log = MemoryLog(lambda topic: Retention(age_s=60, idle_age_s=120), clock=clock)
    lane = await lane_on(log)
    await say(log, "t/00", 1, 2)
    clock.now_s += 115
    reader = await follow(lane, topics)
    await say(log, "t/01", 3)
    await asyncio.sleep(1)
    await reader.take_all()
    if not same:
        reader.close()
    clock.now_s += 10
    await log.sweep()
    await asyncio.sleep(1)
    assert await log.names("event/t/", 9) == [stored("t/01")]
    back = await follow(lane, topics, reader.cursor)
    assert recovery(back) == (True, 0)
    await say(log, "t/00", 4)
    await asyncio.sleep(1)
    await back.take_all()
    assert back.data == [4]
    if same:
        await reader.take_all()
        assert reader.data == [3, 4]
        assert reader.gaps == [{"topic": "t/00", "from": 3, "to": None, "reason": "epoch_changed"}]


@on_patterns
@simulated
async def test_a_pattern_over_too_many_topics_is_busy_until_some_are_gone(
    topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "MAX_MATCHES", 3)
    log = MemoryLog()
    lane = await lane_on(log)
    for number in range(4):
        await say(log, f"t/{number:02}", number)
    other = await follow(lane, ("t/00",))
    for _ in range(2):
        with pytest.raises(Overloaded, match="more than 3 topics now: name topics, or a narrower pattern") as error:
            await lane.subscribe(Principal(sub="me", grants=EVERYTHING), SubscribeRequest(topics), patient=True)
        assert (error.value.code, error.value.retry_after) == ("too_many_topics", "10")
    assert len(lane.feeds) == 1, "nothing is kept of what was refused"
    await log.delete(stored("t/02"))
    reader = await follow(lane, topics)
    await say(log, "t/03", 9)
    await say(log, "t/00", 8)
    assert (await reader.take_all()).data == [9, 8]
    assert (await other.take_all()).data == [8]
