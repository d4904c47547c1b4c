"""A topic is read to its head while the log is being written to."""

import asyncio

import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Retention, Slice
from events.log.reading import read_to_head
from gateway.errors import LogUnavailable
from tests.contract.engines import flat, put, scenario


class SmallReads(MemoryLog):
    """Returns little with each read, and calls `before` ahead of it."""

    reads = 0

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        self.reads += 1
        await self.before(self.reads)
        return await super().read(topic, after, max_events=3, max_bytes=max_bytes)

    async def before(self, number: int) -> None:
        """Does nothing; subclasses change the log here."""


async def open_log(log: SmallReads | None = None, events: int = 0) -> SmallReads:
    log = log or SmallReads()
    await log.open()
    if events:
        await put(log, "a", *(b"%d" % n for n in range(1, events + 1)), owner="me")
    return log


async def read(log: MemoryLog, after: int = 0) -> list[Slice]:
    return [part async for part in read_to_head(log, "a", after)]


@pytest.mark.parametrize(("events", "slices"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
@scenario
async def test_all_events_come_once_and_in_order_in_as_few_slices_as_it_takes(events: int, slices: int) -> None:
    log = await open_log(events=events)
    parts = await read(log)
    assert [offset for part in parts for offset, _, _ in flat(part)] == list(range(1, events + 1))
    assert (len(parts), log.reads) == (slices, slices)


@scenario
async def test_it_begins_strictly_after_an_offset() -> None:
    log = await open_log(events=7)
    for after in range(9):
        offsets = [offset for part in await read(log, after) for offset, _, _ in flat(part)]
        assert offsets == list(range(after + 1, 8))


@scenario
async def test_a_topic_without_events_and_a_missing_one_give_one_slice() -> None:
    log = await open_log()
    assert await read(log) == [Slice(epoch="")]
    result = await put(log, "a", owner="me")
    assert await read(log) == [Slice(epoch=result.epoch, owner="me")]


@scenario
async def test_a_topic_of_which_nothing_is_kept_gives_one_slice() -> None:
    log = SmallReads(lambda _: Retention(events=0))
    await open_log(log, events=5)
    [part] = await read(log)
    assert (part.blocks, part.oldest, part.head) == ([], 6, 5)


@scenario
async def test_what_is_appended_meanwhile_is_read_too() -> None:
    class Growing(SmallReads):
        async def before(self, number: int) -> None:
            if number in (1, 2):
                await put(self, "a", b"new")

    log = await open_log(Growing(), events=5)
    assert [offset for part in await read(log) for offset, _, _ in flat(part)] == list(range(1, 8))


@scenario
async def test_a_topic_that_is_made_anew_meanwhile_shows_another_epoch() -> None:
    class Renewing(SmallReads):
        async def before(self, number: int) -> None:
            if number == 2:
                await self.delete("a")
                await put(self, "a", b"new")

    first, second = await read(await open_log(Renewing(), events=7))
    assert first.epoch != second.epoch
    assert second.blocks == []


@scenario
async def test_others_go_on_during_a_long_read() -> None:
    log = await open_log(events=30)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await read(log)
    other.cancel()
    assert turns >= 9


@scenario
async def test_a_log_that_fails_in_the_middle_says_so() -> None:
    class Failing(SmallReads):
        async def before(self, number: int) -> None:
            if number == 2:
                raise LogUnavailable("gone")

    log = await open_log(Failing(), events=5)
    parts = read_to_head(log, "a")
    assert [offset for offset, _, _ in flat(await anext(parts))] == [1, 2, 3]
    with pytest.raises(LogUnavailable):
        await anext(parts)


@scenario
async def test_a_caller_that_stops_early_reads_no_more() -> None:
    log = await open_log(events=7)
    async for _ in read_to_head(log, "a"):
        break
    await log.append(Append(topic="a", data=[b"x"]))
    assert log.reads == 1
