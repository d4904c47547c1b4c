"""A pattern that stands for too many topics is served again when some have gone."""

import pytest

from events.feed import feeds as feeds_module
from events.feed.start import SubscribeRequest
from events.log.memory import MemoryLog
from events.log.topics import stored
from gateway.access.grants import EVERYTHING, Principal
from gateway.errors import Overloaded
from tests.support.followers import follow, lane_on, say
from tests.support.virtual_time import simulated

on_patterns = pytest.mark.parametrize("topics", [("t/*",), ("a", "t/*")])


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
