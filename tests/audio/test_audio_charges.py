"""What was heard is charged exactly as its rows say, once, by whichever process ends a session or a file."""

import asyncio
from decimal import Decimal

import numpy as np
import pytest

from audio.model.fake import FakeTranscriber, speech_of
from audio.model.transcriber import SAMPLE_RATE
from events.log.memory import MemoryLog
from events.log.quotas import MONTH, Take, TakeBatch
from gateway.errors import LogUnavailable
from gateway.limit_settings import UserLimits
from gateway.settings import Settings
from gateway.upstream_settings import PriceSettings, Pricing
from tests.audio.lanes import ME, MoodyLog, Place, place
from tests.audio.test_ledger import WORDS, rows, sweep, transcribe, wav
from tests.support.virtual_time import simulated

PRICES = Pricing(prices=[PriceSettings(model="*", audio=Decimal(60))])
"""A second costs one, so that a row's cost in millionths is a thousand times its milliseconds."""
SETTINGS = Settings(user_limits=UserLimits(monthly_cost=1e6), pricing=PRICES)


async def spent(at: Place) -> int:
    """Returns what the user has spent of the budget, in millionths."""
    await asyncio.sleep(1)  # what is settled goes to the engine soon
    [charge] = at.core.limiter.charges(ME, {"monthly_cost": 0})
    looks = [Take(charge.take.counter, 1 << 60, 0, MONTH)]
    return (await at.core.log.take(TakeBatch(holder="looks", calls=[looks]))).outcomes[0].tallies[0].used


async def check_charged(at: Place) -> None:
    """Asserts that one row is written, and the user is charged what it says."""
    [row] = await rows(at)
    assert row.quantities["audioMs"]
    assert await spent(at) == 1000 * row.quantities["audioMs"]


@simulated
async def test_a_session_that_ends_by_itself_is_charged_once() -> None:
    async with place(settings=SETTINGS) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.live.stop()
        await client.wait_closed()
        await check_charged(at)
        await sweep(at)
        await check_charged(at)


@simulated
async def test_a_session_whose_client_left_is_charged_when_its_process_leaves_it_and_not_again() -> None:
    async with place(settings=SETTINGS) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.cut()
        await asyncio.sleep(100)
        heard = client.live.session_log.state.audio
        assert await spent(at) == heard * 1_000_000 // SAMPLE_RATE
        await asyncio.gather(*[sweep(at) for _ in range(3)])
        await check_charged(at)


@simulated
async def test_whoever_ends_the_session_of_a_dead_process_charges_for_it() -> None:
    log = MoodyLog()
    async with place(log, SETTINGS) as dies, place(log, SETTINGS) as other:
        client = await dies.connect()
        await client.speak(speech_of(WORDS))
        log.append_failure = LogUnavailable("dead")
        client.cut()
        await asyncio.sleep(100)
        log.append_failure = None
        assert await spent(other) == 0
        await asyncio.gather(sweep(other), sweep(other))
        await check_charged(other)


@simulated
async def test_a_session_that_goes_on_elsewhere_is_charged_for_both_parts() -> None:
    log = MemoryLog()
    async with place(log, SETTINGS) as at, place(log, SETTINGS) as elsewhere:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.cut()
        await asyncio.sleep(100)
        session = client.ready["session"]
        for next_place in (elsewhere, at):  # which takes it over while the one before still has it
            client = await next_place.connect(session=session)
            await client.speak(np.concatenate([speech_of(WORDS), np.zeros(SAMPLE_RATE, np.float32)]))
        client.live.stop()
        await client.wait_closed()
        await check_charged(at)


@simulated
async def test_without_a_budget_nothing_is_noted_and_nobody_is_charged() -> None:
    async with place(settings=Settings(pricing=PRICES)) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.live.stop()
        await client.wait_closed()
        assert client.live.session_log.state.reserved == []
        part = await at.core.log.read(client.live.session_log.topic, 0)
        assert b"reserved" not in b"".join(data for block in part.blocks for data in block.data)


@pytest.mark.parametrize("is_recorded", [True, False], ids=["by itself", "later, for its process could not write"])
def test_a_file_is_charged_once_by_whoever_ends_it(is_recorded: bool) -> None:
    async def check() -> None:
        log = MoodyLog()
        async with place(log, SETTINGS) as at:
            at.model = FakeTranscriber(holds=not is_recorded)
            at.lane._beat_s = 0.01
            request = asyncio.create_task(transcribe(at, wav(2.0)))
            if not is_recorded:
                while not at.model.calls:  # noqa: ASYNC110 - the fake says nothing
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.05)
                log.append_failure = LogUnavailable("dead")
                request.cancel()
            await asyncio.wait((request,))
            log.append_failure = None
            if not is_recorded:
                assert await spent(at) == 0
                await sweep(at)
            await check_charged(at)

    asyncio.run(check())
