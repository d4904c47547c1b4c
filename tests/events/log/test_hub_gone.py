"""A hub refuses a reader whose topic or place in it is gone, and says why."""

import pytest

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Position, Retention
from events.log.ring import RING_MAX_FRAMES
from gateway.errors import Gone
from tests.contract.engines import put, scenario
from tests.support.readers import after, all_due, joined, open_hub, plain, start_of


@scenario
async def test_a_topic_that_is_not_there_is_unknown() -> None:
    _, hub = await open_hub()
    assert await gone(hub, "nowhere", None) == "unknown_topic"


@scenario
async def test_a_cursor_of_an_earlier_incarnation_is_refused() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    old = await start_of(log, "t")
    await log.delete("t")
    await put(log, "t", b"1", b"2")
    assert await gone(hub, "t", after(old, 1)) == "epoch_changed"


@scenario
async def test_a_cursor_at_the_start_fits_any_incarnation() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, Position(epoch="0", offset=0))
    assert await all_due(reader) == joined(1, 1)


@scenario
async def test_a_cursor_past_the_head_is_refused() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    assert await gone(hub, "t", after(await start_of(log, "t"), 2)) == "unknown_cursor"


@scenario
async def test_a_cursor_before_what_is_kept_is_refused() -> None:
    log, hub = await open_hub(MemoryLog(lambda _: Retention(events=2)))
    for number in range(1, 6):
        await put(log, "t", b"%d" % number)
    start = await start_of(log, "t")
    assert await gone(hub, "t", after(start, 2)) == "evicted"
    assert await gone(hub, "t", None) == "evicted"
    reader = await hub.open("t", plain, after(start, 3))
    assert await all_due(reader) == joined(4, 5)


@scenario
async def test_a_reader_that_lags_behind_what_is_kept_is_told() -> None:
    log, hub = await open_hub(MemoryLog(lambda _: Retention(events=10)))
    reader = hub.open_new("t", plain)
    for _ in range(RING_MAX_FRAMES + 1):
        await put(log, "t", b"x")
    assert reader.poll() is None
    with pytest.raises(Gone) as error:
        await reader.catch_up()
    assert error.value.code == "evicted"


async def gone(hub: Hub, topic: str, position: Position | None) -> str:
    with pytest.raises(Gone) as error:
        await hub.open(topic, plain, position)
    assert error.value.status == 410
    return error.value.code
