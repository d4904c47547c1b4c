"""Counters of limits are the same on every engine, and exact whoever counts at the same time."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.log.port import EventLog
from events.log.quotas import (
    DAY,
    LIVE_S,
    MINUTE,
    SLOTS,
    MemoryCounters,
    Settlement,
    Take,
    TakeBatch,
    TakeOutcome,
    Window,
)
from tests.contract.engines import Clock, Engine, scenario


def rate(amount: int = 1, limit: int = 10, window: Window = MINUTE, counter: str = "r") -> Take:
    return Take(counter, limit, amount, window)


def slot(limit: int = 2, counter: str = "s") -> Take:
    return Take(counter, limit, 1, SLOTS)


async def ask(log: EventLog, *takes: Take, holder: str = "p1", held: dict[str, int] | None = None) -> TakeOutcome:
    [outcome] = (await log.take(TakeBatch(holder=holder, held=held or {}, calls=[takes]))).outcomes
    return outcome


async def used(log: EventLog, take: Take) -> int:
    """Returns how much of a counter is in use, and takes nothing."""
    return (await ask(log, Take(take.counter, 1 << 40, 0, take.window), holder="looker")).tallies[0].used


@scenario
async def test_a_rate_admits_its_limit_and_no_more(engine: Engine) -> None:
    async with engine.open() as log:
        outcomes = [await ask(log, rate(limit=3)) for _ in range(5)]
        assert [outcome.refused for outcome in outcomes] == [-1, -1, -1, 0, 0]
        assert [outcome.tallies[0].used for outcome in outcomes] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("window", [MINUTE, DAY])
@scenario
async def test_a_bucket_counts_until_a_whole_window_after_its_end(engine: Engine, window: Window) -> None:
    span_s = window.bucket_s * window.buckets
    async with engine.open() as log:
        engine.clock.now_s = window.bucket_s * 1_000_000 + window.bucket_s - 0.5  # near the end of a bucket
        assert (await ask(log, rate(10, window=window))).refused == -1
        engine.clock.now_s += span_s
        assert (await ask(log, rate(1, window=window))).refused == 0, "within the window"
        engine.clock.now_s += 1
        assert (await ask(log, rate(10, window=window))).refused == -1, "past it"


@scenario
async def test_a_refusal_takes_nothing_of_the_whole_call(engine: Engine) -> None:
    async with engine.open() as log:
        outcome = await ask(log, rate(5), slot(), rate(11, counter="other"))
        assert (outcome.refused, [tally.used for tally in outcome.tallies]) == (2, [0, 0, 0])
        assert await used(log, rate()) == 0
        assert await used(log, slot()) == 0


@scenario
async def test_a_take_of_nothing_asks_whether_there_is_room(engine: Engine) -> None:
    async with engine.open() as log:
        assert (await ask(log, rate(0))).refused == -1
        await ask(log, rate(10))
        assert (await ask(log, rate(0))).refused == 0


@scenario
async def test_a_settlement_corrects_the_bucket_where_it_was_reserved(engine: Engine) -> None:
    async with engine.open() as log:
        engine.clock.now_s = 5e8
        await ask(log, rate(8))
        bucket = MINUTE.current(engine.clock.now_s)
        engine.clock.now_s += 20
        await ask(log, rate(1))
        reply = await log.take(TakeBatch(holder="p1", settlements=[Settlement("r", bucket, -6, MINUTE)]))
        assert reply.outcomes == []
        outcome = await ask(log, rate(0))
        assert outcome.tallies[0].buckets == [(bucket, 2), (bucket + 4, 1)]
        engine.clock.now_s += 45
        assert await used(log, rate()) == 1
        await log.take(TakeBatch(holder="p1", settlements=[Settlement("r", bucket, 500, MINUTE)]))
        assert await used(log, rate()) == 1, "too late to matter"


@scenario
async def test_slots_are_what_every_process_holds_now(engine: Engine) -> None:
    async with engine.open() as log:
        assert (await ask(log, slot(), holder="p1")).refused == -1
        assert (await ask(log, slot(), holder="p2")).refused == -1
        assert (await ask(log, slot(), holder="p3")).refused == 0
        await log.take(TakeBatch(holder="p1", held={"s": 0}))
        assert (await ask(log, slot(), holder="p3")).refused == -1
        assert await used(log, slot()) == 2


@scenario
async def test_a_repeated_batch_counts_its_slots_once(engine: Engine) -> None:
    async with engine.open() as log:
        batch = TakeBatch(holder="p1", held={"s": 3}, calls=[[slot(9)], [slot(9)]])
        for _ in range(3):
            outcomes = (await log.take(batch)).outcomes
            assert [outcome.tallies[0].used for outcome in outcomes] == [3, 4]
        assert await used(log, slot()) == 5


@scenario
async def test_a_process_that_is_silent_holds_nothing_until_it_is_heard_of_again(engine: Engine) -> None:
    async with engine.open() as log:
        await ask(log, slot(), held={"s": 1})
        engine.clock.now_s += LIVE_S - 1
        assert await used(log, slot()) == 2
        assert (await log.take(TakeBatch(holder="p1"))).was_known
        engine.clock.now_s += LIVE_S - 1
        assert await used(log, slot()) == 2, "a sign of life is enough"
        engine.clock.now_s += LIVE_S + 1
        assert await used(log, slot()) == 0
        reply = await log.take(TakeBatch(holder="p1"))
        assert not reply.was_known
        assert await used(log, slot()) == 0, "it was told to report anew"
        await log.take(TakeBatch(holder="p1", held={"s": 2}))
        assert await used(log, slot()) == 2


@scenario
async def test_a_batch_is_decided_call_by_call(engine: Engine) -> None:
    async with engine.open() as log:
        calls = [[rate(6), slot()], [rate(6)], [rate(4), slot()], [slot()]]
        reply = await log.take(TakeBatch(holder="p1", calls=calls))
        assert [outcome.refused for outcome in reply.outcomes] == [-1, 0, -1, 0]
        assert math.isclose(reply.now_s, engine.clock.now_s, abs_tol=0.01)


@scenario
async def test_what_counts_no_more_is_deleted(engine: Engine) -> None:
    async with engine.open() as log:
        await ask(log, rate(), slot())
        engine.clock.now_s += 70
        await log.take(TakeBatch(holder="p2"))
        engine.clock.now_s -= 70  # a counter that were still there would count again
        assert await used(log, slot()) == 0
        if engine.name != "redis":  # there the server's clock deletes it
            assert await used(log, rate()) == 0


@scenario
async def test_instances_that_count_at_once_admit_the_limit_exactly(shared_engine: Engine) -> None:
    async with shared_engine.open() as one, shared_engine.open() as two:
        tries = [ask((one, two)[n % 2], rate(limit=37), slot(31), holder=f"p{n % 2}") for n in range(100)]
        outcomes = await asyncio.gather(*tries)
        assert sum(outcome.refused == -1 for outcome in outcomes) == 31
        assert await used(one, rate()) == 31


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 4)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_minute_ever_holds_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    counters = MemoryCounters(clock)
    admitted: list[tuple[float, int]] = []
    for pause_s, amount in steps:
        clock.now_s += pause_s
        [outcome] = counters.take(TakeBatch(holder="p", calls=[[rate(amount)]])).outcomes
        if outcome.refused == -1:
            admitted.append((clock.now_s, amount))
    for start_s, _ in admitted:
        assert sum(amount for at_s, amount in admitted if start_s <= at_s < start_s + 60) <= 10
