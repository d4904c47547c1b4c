"""The client of an engine that counts within the call goes at once, and waits its turn where that cannot be."""

import asyncio

from events.log.memory import MemoryLog
from events.log.quotas import HEARTBEAT_S, LIVE_S, MINUTE, SLOTS, Settlement, Take, TakeBatch, TakeReply
from gateway.core.quota_client import ALONG, QuotaClient
from tests.support.virtual_time import simulated

RUN = Take("runs/a", 2, 1, SLOTS)
REQUEST = Take("requests_per_minute/a", 3, 1, MINUTE)


class CountingLog(MemoryLog):
    """Counts within the call, and remembers that, unless it is busy."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 6e8 + asyncio.get_running_loop().time())
        self.batches: list[TakeBatch] = []
        self.is_busy = False

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        if self.is_busy:
            return None
        self.batches.append(batch)
        return super().take_at_once(batch)

    async def take(self, batch: TakeBatch) -> TakeReply:
        self.batches.append(batch)
        return await super().take(batch)

    async def used(self, take: Take) -> int:
        """Returns how much of a counter is in use."""
        looker = TakeBatch(holder="looker", calls=[[Take(take.counter, 1 << 40, 0, take.window)]])
        return (await super().take(looker)).outcomes[0].tallies[0].used


@simulated
async def test_a_caller_costs_no_turn_of_the_loop_where_the_engine_counts_at_once() -> None:
    log = CountingLog()
    client, turns = QuotaClient(log), list[int]()
    asyncio.get_running_loop().call_soon(turns.append, 1)
    refused = [(await client.take([RUN, REQUEST])).outcome.refused for _ in range(3)]
    client.release([RUN.counter])
    refused += [(await client.take([RUN, REQUEST])).outcome.refused for _ in range(2)]
    assert (refused, turns) == ([-1, -1, 0, -1, 0], [])
    assert [batch.held for batch in log.batches] == [{RUN.counter: held} for held in (0, 1, 2, 1, 2)]
    assert (await log.used(RUN), await log.used(REQUEST)) == (2, 3)
    client.release([RUN.counter] * 2)
    await asyncio.sleep(1)
    assert await log.used(RUN) == 0, "what came back is told without another call"
    await client.close()


@simulated
async def test_what_came_back_goes_along_with_the_next_call_and_is_told_once() -> None:
    log, other = CountingLog(), Take("runs/b", 2, 1, SLOTS)
    client = QuotaClient(log)
    answer = await client.take([RUN, Take("tokens_per_minute/a", 99, 50, MINUTE)])
    client.release([RUN.counter])
    client.settle([Settlement("tokens_per_minute/a", MINUTE.current(answer.now_s), -20, MINUTE)])
    await client.take([other])
    assert [batch.held for batch in log.batches[1:]] == [{other.counter: 0, RUN.counter: 0}]
    assert await log.used(Take("tokens_per_minute/a", 99, 0, MINUTE)) == 30
    del log.batches[:]
    await asyncio.sleep(HEARTBEAT_S - 0.1)
    assert log.batches == [], "there is nothing to tell"
    await asyncio.sleep(LIVE_S)
    assert len(log.batches) in (3, 4, 5), "but that the process lives, for the sake of what it holds"
    assert await log.used(other) == 1
    client.release([other.counter])
    await client.close()
    assert await log.used(other) == 0


@simulated
async def test_corrections_of_one_counter_are_told_as_one_and_on_their_own_without_a_task() -> None:
    log, tokens = CountingLog(), Take("tokens_per_minute/a", 10_000, 50, MINUTE)
    client = QuotaClient(log)
    bucket = MINUTE.current((await client.take([tokens])).now_s)
    for amount in range(1, 2 * ALONG):
        client.settle([Settlement(tokens.counter, bucket, amount, MINUTE)])
    await asyncio.sleep(0.1)
    assert [len(batch.settlements) for batch in log.batches] == [0, 1]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "limits"]
    assert await log.used(tokens) == 50 + sum(range(1, 2 * ALONG))
    await client.close()


@simulated
async def test_a_busy_engine_is_told_later_what_came_back() -> None:
    log = CountingLog()
    client = QuotaClient(log)
    await client.take([RUN])
    client.release([RUN.counter])
    log.is_busy = True
    await asyncio.sleep(0.1)
    assert await log.used(RUN) == 0, "by a task, which may wait"
    await client.close()


@simulated
async def test_much_that_came_back_goes_on_its_own() -> None:
    log = CountingLog()
    client = QuotaClient(log)
    takes = [Take(f"runs/u{number}", 9, 1, SLOTS) for number in range(ALONG + 1)]
    for take in takes:
        await client.take([take])
    client.release([take.counter for take in takes])
    del log.batches[:]
    await client.take([RUN])
    assert [len(batch.held) for batch in log.batches] == [1]
    await asyncio.sleep(0.1)
    assert [len(batch.held) for batch in log.batches] == [1, ALONG + 1]
    assert [await log.used(take) for take in takes] == [0] * len(takes)
    client.release([RUN.counter])
    await client.close()


@simulated
async def test_calls_that_the_engine_cannot_make_at_once_wait_for_it() -> None:
    log, take = CountingLog(), Take("runs/a", 9, 1, SLOTS)
    client = QuotaClient(log)
    await client.take([take])
    log.is_busy = True
    await asyncio.gather(*[client.take([take]) for _ in range(4)])
    log.is_busy = False
    await client.take([take])
    assert await log.used(take) == 6
    await client.close()
    assert await log.used(take) == 0


@simulated
async def test_one_that_holds_slots_is_heard_of_while_nobody_calls() -> None:
    log = CountingLog()
    client = QuotaClient(log)
    await client.take([RUN])
    await asyncio.sleep(3 * LIVE_S)
    assert await log.used(RUN) == 1
    await client.close()


@simulated
async def test_one_that_was_taken_for_dead_reports_all_that_it_holds() -> None:
    log, other = CountingLog(), Take("streams/a", 9, 1, SLOTS)
    client = QuotaClient(log)
    await client.take([RUN, other])
    log._counters._heard_s.clear()  # pyright: ignore[reportPrivateUsage]  # as an engine that has begun anew
    await client.take([RUN])
    await asyncio.sleep(1)
    assert (await log.used(RUN), await log.used(other)) == (2, 1)
    await client.close()
