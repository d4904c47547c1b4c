"""What was heard is charged exactly as its rows say, once, by whichever process ends a session or a file."""

import asyncio
from decimal import Decimal
from math import ceil

import numpy as np
import pytest

from audio.model.fake import FakeTranscriber, speech_of
from audio.model.transcriber import SAMPLE_RATE
from events.log.memory import MemoryLog
from events.log.quotas import Take, TakeBatch
from gateway.core.limits import AUDIO_PORTION_S, WINDOWS
from gateway.core.usage import UsageRow
from gateway.errors import BadRequest, LogConflict, LogUnavailable
from gateway.limit_settings import UserLimits
from gateway.settings import Settings
from gateway.upstream_settings import PriceSettings, Pricing
from tests.audio.lanes import ME, MoodyLog, Place, place
from tests.audio.test_ledger import WORDS, rows, sweep, transcribe, wav
from tests.support.virtual_time import simulated

PRICES = Pricing(prices=[PriceSettings(model="*", audio=Decimal(60))])
"""A second costs one, so that a row's cost in millionths is a thousand times its milliseconds."""
SETTINGS = Settings(user_limits=UserLimits(monthly_cost=1e6, audio_seconds_per_day=1000), pricing=PRICES)


async def spent(at: Place, limit: str = "monthly_cost") -> int:
    """Returns what the user has spent of a limit: of the budget in millionths."""
    await asyncio.sleep(1)  # what is settled goes to the engine soon
    [charge] = at.core.limiter.charges(ME, {limit: 0})
    looks = [Take(charge.take.counter, 1 << 60, 0, WINDOWS[limit])]
    return (await at.core.log.take(TakeBatch(holder="looks", calls=[looks]))).outcomes[0].tallies[0].used


async def check_charged(at: Place, parts: int = 1) -> UsageRow:
    """Asserts that one row is written, and the user is charged what it says; returns it.

    `parts`: the processes that have heard some of it, in each of which a second that was begun counts.
    """
    [row] = await rows(at)
    heard_s = row.quantities["audioMs"] / 1000
    assert heard_s
    assert await spent(at) == 1_000_000 * heard_s
    assert ceil(heard_s) <= await spent(at, "audio_seconds_per_day") < ceil(heard_s) + parts
    return row


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
        assert await spent(at, "audio_seconds_per_day") == ceil(heard / SAMPLE_RATE)
        await asyncio.gather(*[sweep(at) for _ in range(3)])
        await check_charged(at)


@simulated
@pytest.mark.parametrize("portions", [1, 3])
async def test_whoever_ends_the_session_of_a_dead_process_charges_for_it(portions: int) -> None:
    log = MoodyLog()
    async with place(log, SETTINGS) as dies, place(log, SETTINGS) as other:
        client = await dies.connect()
        await client.speak(speech_of(WORDS))
        await client.send_silence((portions - 1) * AUDIO_PORTION_S)
        log.append_failure = LogUnavailable("dead")
        client.cut()
        await asyncio.sleep(100)
        log.append_failure = None
        assert (await spent(other), await spent(other, "audio_seconds_per_day")) == (0, portions * AUDIO_PORTION_S)
        await asyncio.gather(sweep(other), sweep(other))
        await check_charged(other)


@simulated
async def test_what_a_dead_process_took_ahead_comes_back_when_its_session_goes_on_elsewhere() -> None:
    log = MoodyLog()
    async with place(log, SETTINGS) as dies, place(log, SETTINGS) as elsewhere:
        client = await dies.connect()
        await client.speak(speech_of(WORDS))
        log.append_failure = LogUnavailable("dead")
        client.cut()
        await asyncio.sleep(100)
        log.append_failure = None
        client = await elsewhere.connect(session=client.ready["session"])
        assert AUDIO_PORTION_S <= await spent(elsewhere, "audio_seconds_per_day") < AUDIO_PORTION_S * 1.5
        client.live.stop()
        await client.wait_closed()
        await check_charged(elsewhere, parts=2)


@simulated
async def test_a_session_that_cannot_be_recorded_costs_nothing() -> None:
    log = MoodyLog()
    async with place(log, SETTINGS) as at:
        log.append_failure = LogUnavailable("full")
        with pytest.raises(LogUnavailable):
            await at.connect()
        log.append_failure = None
        assert (await rows(at), await spent(at, "audio_seconds_per_day")) == ([], 0)


@simulated
async def test_what_a_process_took_for_a_session_that_it_never_had_comes_back() -> None:
    log = MemoryLog()
    async with place(log, SETTINGS) as at, place(log, SETTINGS) as elsewhere:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        with pytest.raises(BadRequest):
            await elsewhere.connect(session=client.ready["session"], cursor="none of its own")
        [live] = elsewhere.lane._sessions.values()
        live.fail(LogConflict(live.session_log.topic, 2, 3))
        client.live.stop()
        await client.wait_closed()
        await check_charged(at)


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
        await check_charged(at, parts=3)


@simulated
async def test_without_limits_nothing_is_noted_and_nobody_is_charged() -> None:
    async with place(settings=Settings(pricing=PRICES)) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.live.stop()
        await client.wait_closed()
        assert client.live.session_log.state.reserved == []
        part = await at.core.log.read(client.live.session_log.topic, 0)
        said = b"".join(data for block in part.blocks for data in block.data)
        assert b"reserved" not in said
        assert b"portions" not in said


@pytest.mark.parametrize("end", ["finish", "abort", "interrupted"])
def test_a_file_is_charged_once_by_whoever_ends_it(end: str) -> None:
    """It is heard to its end, its client leaves, or its process cannot write that any more, and another does."""

    async def check() -> None:
        log = MoodyLog()
        async with place(log, SETTINGS) as at:
            at.model = FakeTranscriber(holds=end != "finish")
            at.lane._beat_s = 0.01
            request = asyncio.create_task(transcribe(at, wav(2.0)))
            if end != "finish":
                while not at.model.calls:  # noqa: ASYNC110 - the fake says nothing
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.05)
                log.append_failure = LogUnavailable("dead") if end == "interrupted" else None
                request.cancel()
            await asyncio.wait((request,))
            log.append_failure = None
            if end == "interrupted":
                assert (await rows(at), await spent(at), await spent(at, "audio_seconds_per_day")) == ([], 0, 0)
                await sweep(at)
            row = await check_charged(at)
            assert (row.outcome, row.estimated) == (end, end == "interrupted")

    asyncio.run(check())
