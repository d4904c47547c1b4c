"""Whoever writes a run's row of usage charges its user what that says, by every limit that its admission has asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, cast

import pytest

from events.log.memory import MemoryLog
from events.log.port import EventLog
from events.log.quotas import DAY, MINUTE, MONTH, Take, TakeBatch
from gateway.chat.chats import SUPERSEDE_S
from gateway.chat.silence import SILENCE_S
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.core.limits import Limiter
from gateway.core.usage import SETTLED, UsageRow, decode_row
from gateway.settings import UserLimits
from gateway.upstream_settings import PriceSettings, Pricing
from tests.gateway.chat.test_recovery import Door
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody
from tests.support.steer_stage import begun, opening, rest, steer
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

ENDED_S = SILENCE_S + 10.0
SETTINGS: dict[str, Any] = {
    "user_limits": UserLimits(monthly_cost=1000.0, daily_tokens=1_000_000, tokens_per_minute=1_000_000),
    "pricing": Pricing(prices=[PriceSettings(model="*", input=Decimal(1000), output=Decimal(1000))]),
}
"""A token costs a thousandth, so that a row's cost in millionths is a thousand times its tokens."""
CALL = ("k1", "crm__find", {"order": 7})


@asynccontextmanager
async def two_processes(
    *answers: ScriptedBody, tools: FakeToolbox | None = None
) -> AsyncIterator[tuple[ToolStage, ToolStage, Door]]:
    """Yields one that a door may cut off, and another that is asked on with the same answers."""
    log, tools = MemoryLog(), tools or FakeToolbox()
    door = Door(log)
    async with (
        staged(tools, *answers, log=cast(EventLog, door), **SETTINGS) as dies,
        staged(tools, log=log, **SETTINGS) as other,
    ):
        other.upstream.answers = dies.upstream.answers
        yield dies, other, door
        await door.wake()
        await dies.lane.drain()
        await asyncio.sleep(1)


async def rows(stage: ToolStage) -> list[UsageRow]:
    part = await stage.core.log.read(f"usage/{LOCAL.sub}", 0)
    return [decode_row(data, 0) for block in part.blocks if block.name == SETTLED for data in block.data]


async def used(stage: ToolStage) -> dict[str, int]:
    """Returns what the user has used of each limit."""
    await asyncio.sleep(1)  # what is settled goes to the engine soon
    limiter: Limiter = stage.core.limiter
    windows = {"monthly_cost": MONTH, "daily_tokens": DAY, "tokens_per_minute": MINUTE}
    charges = limiter.charges(LOCAL, dict.fromkeys(windows, 0))
    takes = [Take(charge.take.counter, 1 << 60, 0, windows[charge.key]) for charge in charges]
    reply = await stage.core.log.take(TakeBatch(holder="looks", calls=[takes]))
    return {charge.key: tally.used for charge, tally in zip(charges, reply.outcomes[0].tallies, strict=True)}


async def check_charged(stage: ToolStage, *, count: int = 1) -> None:
    """Asserts that the user is charged exactly what the rows say."""
    written = await rows(stage)
    assert len(written) == count
    tokens = sum(row.quantities["inputTokens"] + row.quantities["outputTokens"] for row in written)
    assert tokens
    figures = await used(stage)
    assert (figures["monthly_cost"], figures["daily_tokens"]) == (1000 * tokens, tokens)
    assert figures["tokens_per_minute"] in (0, tokens), "its minute may have passed"


def half() -> ScriptedBody:
    """Returns an answer that begins and never ends."""
    return ScriptedBody(frames(*[chunk({"role": "assistant", "content": "word "}) for _ in range(5)]))


@simulated
async def test_the_process_that_ends_its_own_run_charges() -> None:
    async with two_processes(says("One"), says("Two")) as (process, _, _):
        await process.say("Hi")
        await process.say("Again")
        await check_charged(process, count=2)


@simulated
async def test_whoever_ends_the_run_of_a_dead_process_charges_and_that_one_does_not_once_it_wakes() -> None:
    async with two_processes(half()) as (dies, other, door):
        saying = asyncio.ensure_future(dies.say("Hi"))
        await asyncio.sleep(1)
        assert (await used(other))["monthly_cost"] == 0
        door.stop(1, is_lost=True)
        await asyncio.sleep(ENDED_S)
        [row] = await rows(other)
        assert row.outcome == "interrupted"
        await check_charged(other)
        await door.wake()
        await dies.lane.drain()
        await check_charged(other)
        await saying


@simulated
async def test_who_goes_on_with_a_run_charges_for_all_of_it() -> None:
    async def found(call: FakeCall) -> object:
        return {"ok": True}

    tools = FakeToolbox((fake_tool("crm__find", approve="auto", effect="read"), found))
    async with two_processes(calls(CALL), says("Found it."), says("Found it."), tools=tools) as (dies, other, door):
        door.stop(5, is_lost=True)
        saying = asyncio.ensure_future(dies.say("find 7"))
        await asyncio.sleep(ENDED_S)
        [row] = await rows(other)
        assert row.outcome == "finish"
        await check_charged(other)
        await door.wake()
        await dies.lane.drain()
        await check_charged(other)
        saying.cancel()


@pytest.mark.parametrize("who", ["another", "itself"])
@simulated
async def test_a_run_that_is_too_slow_to_stop_is_charged_by_who_ends_it(who: str) -> None:
    async with two_processes(half(), says("Two")) as (slow, other, door):
        saying = asyncio.ensure_future(slow.say("Hi"))
        await asyncio.sleep(1)
        door.stop(1 if who == "another" else 1 << 20, is_lost=True)
        other._count = 1  # type: ignore[reportPrivateUsage]
        async with asyncio.timeout(10 * SUPERSEDE_S):
            await other.say("No, this")
        await asyncio.sleep(1)
        await check_charged(other, count=2)
        await door.wake()
        await saying
        await check_charged(other, count=2)


@simulated
async def test_a_run_that_a_process_leaves_to_others_is_charged_by_who_writes_it() -> None:
    body = opening("One")
    async with two_processes(body, says("Two")) as (leaving, other, _):
        told = await begun(leaving)
        await steer(leaving, "u2", "u2", at="turn")
        drain = asyncio.ensure_future(leaving.lane.runs.drain())
        await asyncio.sleep(1)
        rest(body)
        await told
        await drain
        await asyncio.sleep(2)
        await check_charged(other, count=2)


@simulated
async def test_a_run_that_is_never_opened_costs_nothing() -> None:
    async with two_processes(says("One")) as (dies, other, door):
        door.stop(1, is_lost=True)
        saying = asyncio.ensure_future(dies.say("Hi"))
        await asyncio.sleep(1)
        assert not await rows(other)
        assert (await used(other))["monthly_cost"] == 0
        await door.wake()
        await saying
        await check_charged(other)
