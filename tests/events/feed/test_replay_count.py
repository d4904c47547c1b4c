"""The number of events that `hello` promises is the number that comes, whatever has expired."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.log.memory import MemoryLog
from tests.contract.engines import Clock
from tests.support.followers import follow, lane_on, say
from tests.support.virtual_time import simulated

TTLS = st.one_of(st.none(), st.integers(1, 20))
EVENTS = st.lists(st.tuples(st.sampled_from("abc"), TTLS), min_size=1, max_size=30)


@pytest.mark.parametrize("stays", [True, False], ids=["from the ring", "from the log"])
@pytest.mark.parametrize("topics", [("a",), ("a", "b"), ("*",)], ids=["one", "several", "pattern"])
@settings(deadline=None, max_examples=30)
@given(EVENTS, st.integers(0, 25), st.integers(0, 30), st.booleans())
def test_as_many_come_as_were_promised(
    topics: Sequence[str], stays: bool, events: list[tuple[str, int | None]], passes_s: int, at: int, earliest: bool
) -> None:
    @simulated
    async def run() -> None:
        clock = Clock()
        log = MemoryLog(clock=clock)
        lane = await lane_on(log)
        lane.feeds._clock = clock
        reader = await follow(lane, topics)
        cursors = [reader.cursor]
        for topic, ttl_s in events:
            ends_ms = int(clock() * 1000) + 1000 * (ttl_s or 0)
            await say(log, topic, 1, name=f"message {ends_ms}" if ttl_s else "message")
        await asyncio.sleep(1)  # of virtual time: a pattern's feed keeps its snapshot
        cursors += [event.id for event in (await reader.take_all()).events]
        if not stays:
            reader.close()
        clock.now_s += passes_s
        cursor = None if earliest else cursors[min(at, len(cursors) - 1)]
        back = await (await follow(lane, topics, cursor, earliest=earliest)).take_all()
        assert back.hello["recovered"]
        assert back.hello["replay"] == len(back.data)

    run()
