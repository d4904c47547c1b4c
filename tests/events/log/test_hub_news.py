"""A hub hears of news from other processes, serves watches, and wakes many readers at once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from events.log.hub import WAKE_SLICE
from events.log.port import Append, Position, Slice
from gateway.errors import LogUnavailable
from tests.contract.engines import put, scenario
from tests.support.readers import HeldLog, SharedLog, after, all_due, joined, open_hub, plain, settle, start_of

# Other processes


@scenario
async def test_a_reader_sees_what_another_process_writes() -> None:
    log = SharedLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    await reader.next()
    await log.write_elsewhere("t", b"2", b"3")
    assert await reader.next() == joined(2, 3)
    await put(log, "t", b"4")
    assert await reader.next() == joined(4, 4)


@scenario
async def test_a_reader_ends_when_another_process_closes_the_topic() -> None:
    log = SharedLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    await log.write_elsewhere("t", b"2", close=True)
    await settle()
    assert (await all_due(reader), reader.ended) == (joined(1, 2), True)


@scenario
async def test_own_events_after_those_of_another_process_leave_no_hole() -> None:
    """The other's block is only found when our own shows that it is missing."""
    log = SharedLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    lines: list[bytes] = []
    hub.watch("t", after(await start_of(log, "t"), 1), lambda block: lines.extend(block.data))
    await log.write_elsewhere("t", b"2", has_news=False)
    await put(log, "t", b"3")
    await settle()
    assert (await all_due(reader), lines) == (joined(1, 3), [b"2", b"3"])


@scenario
async def test_a_topic_that_begins_while_it_is_looked_for_is_not_taken_for_a_deleted_one() -> None:
    log = HeldLog()
    _, hub = await open_hub(log)
    reader = hub.open_new("t", plain)
    log.free.clear()
    hub.refresh("t")
    await settle()
    assert log.reading == 1
    await put(log, "t", b"1")
    log.free.set()
    await settle()
    await put(log, "t", b"2")
    await settle()
    assert (await all_due(reader), reader.ended) == (joined(1, 2), False)


@scenario
async def test_a_hole_is_read_once_for_all_readers() -> None:
    log = SharedLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    readers = [await hub.open("t", plain, None) for _ in range(20)]
    for reader in readers:
        await reader.next()
    reads, read = list[int](), log.read

    def counted_read(topic: str, after: int, **limits: int) -> Awaitable[Slice]:
        reads.append(after)
        return read(topic, after, **limits)

    log.read = counted_read  # type: ignore[method-assign,assignment]
    await log.write_elsewhere("t", b"2", has_news=False)
    await put(log, "t", b"3")
    await settle()
    assert [await all_due(reader) for reader in readers] == [joined(2, 3)] * 20
    assert reads == [1, 3]


@scenario
async def test_a_watch_sees_the_blocks_of_every_writer_in_order() -> None:
    log = SharedLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    lines: list[bytes] = []
    hub.watch("t", after(await start_of(log, "t"), 1), lambda block: lines.extend(block.data))
    await log.write_elsewhere("t", b"2")
    await settle()
    await put(log, "t", b"3")
    await log.write_elsewhere("t", b"4", b"5")
    await settle()
    assert lines == [b"2", b"3", b"4", b"5"]


@scenario
async def test_a_watch_of_a_topic_to_come_sees_its_first_block() -> None:
    log, hub = await open_hub()
    lines: list[bytes] = []
    hub.watch("t", Position(epoch="", offset=0), lambda block: lines.extend(block.data))
    await put(log, "t", b"1")
    assert lines == [b"1"]


@scenario
async def test_a_watch_that_was_ended_sees_nothing_more() -> None:
    log, hub = await open_hub()
    lines: list[bytes] = []
    end = hub.watch("t", Position(epoch="", offset=0), lambda block: lines.extend(block.data))
    end()
    await put(log, "t", b"1")
    assert lines == []


@scenario
async def test_many_news_of_another_process_are_read_once() -> None:
    log = HeldLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    await reader.next()
    log.free.clear()
    log.reads = 0
    for number in range(2, 8):
        await log.write_elsewhere("t", b"%d" % number)
    await settle()
    assert log.reads == 1
    log.free.set()
    assert await reader.next() == joined(2, 7)


@scenario
async def test_news_that_come_while_the_log_is_read_are_not_lost() -> None:
    """The read began before the other process wrote, and ends after its news came."""
    log = HeldLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    await reader.next()
    log.free.clear()
    hub.refresh("t")
    await settle()
    assert log.reading == 1
    await log.write_elsewhere("t", b"2")
    log.free.set()
    await settle()
    assert await all_due(reader) == joined(2, 2)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4])
@scenario
async def test_news_that_come_while_a_fetch_is_ending_are_not_lost(turns: int) -> None:
    log = HeldLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    await reader.next()
    log.free.clear()
    hub.refresh("t")
    await settle()
    await log.write_elsewhere("t", b"2", has_news=False)
    log.free.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    hub.refresh("t")
    await settle()
    assert await all_due(reader) == joined(2, 2)


@scenario
async def test_news_are_read_again_when_the_log_could_not_be_read() -> None:
    log = SharedLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, None)
    await reader.next()
    original, failing = log.read, True

    async def fail_or_read(topic: str, after: int, **how: int) -> Slice:
        if failing:
            raise LogUnavailable("busy")
        return await original(topic, after, **how)

    unhandled: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    log.read = fail_or_read
    await log.write_elsewhere("t", b"2")
    await settle()
    failing = False
    async with asyncio.timeout(1):
        assert await reader.next() == joined(2, 2)
    assert not unhandled


@scenario
async def test_closing_the_hub_ends_its_reads() -> None:
    log = HeldLog()
    _, hub = await open_hub(log)
    await put(log, "t", b"1")
    await hub.open("t", plain, None)
    log.free.clear()
    hub.refresh("t")
    await settle()
    await hub.close()
    assert log.reading == 0


# Waking


class Counter:
    """Counts wake-ups of a reader, and notes the turn of the loop in which each came."""

    def __init__(self, turn: Callable[[], int]) -> None:
        self._turn = turn
        self.turns: list[int] = []

    def __call__(self) -> None:
        self.turns.append(self._turn())


async def wakes_of_one_append(readers: int) -> tuple[list[Counter], list[int]]:
    """Returns the wake-ups of so many readers, and how many came in each turn of the loop."""
    log, hub = await open_hub()
    turn, running = 0, True
    loop = asyncio.get_running_loop()

    def tick() -> None:
        nonlocal turn
        turn += 1
        if running:
            loop.call_soon(tick)

    counters = [Counter(lambda: turn) for _ in range(readers)]
    for counter in counters:
        hub.open_new("t", plain).on_wake = counter
    tick()
    await put(log, "t", b"1")
    await settle()
    running = False
    turns = [turn for counter in counters for turn in counter.turns]
    return counters, [turns.count(number) for number in sorted(set(turns))]


@pytest.mark.parametrize("readers", [1, WAKE_SLICE, WAKE_SLICE + 1, 1000])
def test_one_append_wakes_every_reader_once(readers: int) -> None:
    counters, _ = asyncio.run(wakes_of_one_append(readers))
    assert {len(counter.turns) for counter in counters} == {1}


def test_a_thousand_readers_are_woken_in_slices() -> None:
    """Others, a socket that became readable or a timer, get their turn in between."""
    _, per_turn = asyncio.run(wakes_of_one_append(1000))
    assert max(per_turn) <= WAKE_SLICE
    assert len(per_turn) == -(-1000 // WAKE_SLICE)


@scenario
async def test_many_appends_of_one_turn_wake_a_reader_once() -> None:
    log, hub = await open_hub()
    wakes: list[int] = []
    reader = hub.open_new("t", plain)
    reader.on_wake = lambda: wakes.append(1)
    await asyncio.gather(*(log.append(Append(topic="t", data=[b"%d" % number])) for number in range(1, 9)))
    assert (len(wakes), reader.poll()) == (1, joined(1, 8))


@scenario
async def test_a_closed_reader_is_not_woken() -> None:
    log, hub = await open_hub()
    wakes: list[int] = []
    reader, other = hub.open_new("t", plain), hub.open_new("t", plain)
    reader.on_wake = lambda: wakes.append(1)
    reader.close()
    await put(log, "t", b"1")
    assert (wakes, other.poll()) == ([], joined(1, 1))


@scenario
async def test_a_cancelled_wait_leaves_the_reader_usable() -> None:
    log, hub = await open_hub()
    reader = hub.open_new("t", plain)
    waiting = asyncio.ensure_future(reader.next())
    await settle()
    waiting.cancel()
    await settle()
    await put(log, "t", b"1")
    assert await reader.next() == joined(1, 1)


@scenario
async def test_commits_of_other_topics_reach_nobody() -> None:
    log, hub = await open_hub()
    reader = hub.open_new("t", plain)
    reader.on_wake = lambda: pytest.fail("woken for another topic")
    await put(log, "u", b"1")
    assert reader.poll() == b""
