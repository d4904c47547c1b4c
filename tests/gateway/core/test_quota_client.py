"""The client of an engine that counts within the call goes at once, and waits its turn where that cannot be."""

import asyncio

from events.log.memory import MemoryLog
from events.log.quotas import LIVE_S, MINUTE, SLOTS, Take, TakeBatch, TakeReply
from gateway.core.quota_client import QuotaClient
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

    async def used(self, take: Take) -> int:
        """Returns how much of a counter is in use."""
        looker = TakeBatch(holder="looker", calls=[[Take(take.counter, 1 << 40, 0, take.window)]])
        return (await self.take(looker)).outcomes[0].tallies[0].used


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
