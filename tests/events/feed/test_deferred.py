"""A stream begins before its slow log has answered, and is like any other after that."""

import asyncio
import time

from events.feed.deferred import DeferredStream
from events.feed.start import SubscribeRequest
from events.lane import EventsLane
from gateway.access.grants import Principal
from tests.support.followers import LOCAL, lane_on, say
from tests.support.readers import HeldLog, settle
from tests.support.streams import FakeServer, stream
from tests.support.virtual_time import simulated


async def open_held_lane() -> tuple[HeldLog, EventsLane]:
    """Returns a log that answers once `free` is set, and a lane on it."""
    log = HeldLog()
    lane = await lane_on(log)
    await say(log, "a", 1)
    log.free.clear()
    return log, lane


async def subscribe(lane: EventsLane, who: Principal = LOCAL) -> DeferredStream:
    source = await lane.subscribe(who, SubscribeRequest(("a",)))
    assert isinstance(source, DeferredStream)
    return source


@simulated
async def test_a_client_that_leaves_as_the_log_answers_leaves_nothing_behind() -> None:
    log, lane = await open_held_lane()
    late = await subscribe(lane)
    log.free.set()
    while not late._opening.done():  # noqa: ASYNC110 - the very turn is wanted
        await asyncio.sleep(0)
    late.close()  # in the turn in which the answer is there, and not yet told
    await settle()
    assert len(lane.feeds) == 0


@simulated
async def test_a_stream_that_the_log_kept_waiting_ends_when_its_token_does() -> None:
    log, lane = await open_held_lane()
    late = await subscribe(lane, Principal(sub="local", grants=LOCAL.grants, expires_at=time.time() + 5))
    server = FakeServer(stream(late, leaves_cleanly=True), direct=True)  # type: ignore[arg-type]
    await asyncio.sleep(0.2)
    log.free.set()
    await server.over(within_s=7)
    assert b"event: auth" in server.body
