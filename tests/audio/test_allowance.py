"""Seconds of speech are taken in portions, to the last that the limits have left."""

import asyncio

import pytest

from audio.allowance import AudioAllowance, take_portion
from audio.model.transcriber import SAMPLE_RATE
from events.log.memory import MemoryLog
from gateway.access.grants import Principal
from gateway.core.leases import AUDIO_SECONDS, Reserved
from gateway.core.limits import RESUMED, Limiter
from gateway.core.telemetry import Metrics
from gateway.errors import LogUnavailable, RateLimited, TrilaneError
from gateway.settings import load
from tests.support.virtual_time import simulated

WHO = Principal(sub="ann")
CAPACITIES = {"runs": 8, "streams": 8, "sessions": 8, "uploads": 2}


def limiter_on(log: MemoryLog, **env: str) -> Limiter:
    settings = load({f"TRILANE_LIMIT_{name}": value for name, value in env.items()})
    return Limiter(settings, log, Metrics(), CAPACITIES)


@simulated
@pytest.mark.parametrize(("user", "everyone"), [("45", "100"), ("100", "45"), ("47", "45")])
async def test_the_last_portion_is_what_the_limits_have_left(user: str, everyone: str) -> None:
    limiter = limiter_on(
        MemoryLog(), USER_AUDIO_SECONDS_PER_DAY=user, AUDIO_SECONDS_PER_DAY=everyone, USER_SESSIONS="9"
    )
    portions = [await take_portion(limiter, WHO, RESUMED) for _ in range(2)]
    assert [portion.seconds for portion in portions] == [30, 15]
    with pytest.raises(RateLimited, match="audio_seconds_per_day") as refusal:
        await take_portion(limiter, WHO, RESUMED)
    assert refusal.value.retryable
    await limiter.close()


@simulated
async def test_another_limit_is_no_reason_to_take_less() -> None:
    limiter = limiter_on(MemoryLog(), USER_AUDIO_SECONDS_PER_DAY="45", USER_SESSIONS="1")
    await take_portion(limiter, WHO, RESUMED)
    with pytest.raises(RateLimited, match="sessions"):
        await take_portion(limiter, WHO, RESUMED)
    await limiter.close()


@simulated
async def test_a_session_hears_all_that_was_left_and_is_refused_only_then() -> None:
    limiter = limiter_on(MemoryLog(), USER_AUDIO_SECONDS_PER_DAY="45")
    noted: list[Reserved] = []
    allowance = AudioAllowance(limiter, WHO, await take_portion(limiter, WHO, RESUMED), 0, noted.append)
    refusals: list[tuple[int, TrilaneError]] = []
    for second in range(50):
        allowance.look(second * SAMPLE_RATE, lambda err, at=second: refusals.append((at, err)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert refusals[0][0] == 45
    allowance.end()
    await asyncio.sleep(1)
    with pytest.raises(RateLimited):
        await take_portion(limiter, WHO, RESUMED)
    assert [taken[AUDIO_SECONDS][0].take.amount for taken in noted] == [15]
    await limiter.close()


@simulated
async def test_an_outage_that_is_over_in_time_ends_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = limiter_on(MemoryLog(), USER_AUDIO_SECONDS_PER_DAY="300")
    allowance = AudioAllowance(limiter, WHO, await take_portion(limiter, WHO, RESUMED), 0, lambda taken: None)
    refusals: list[TrilaneError] = []

    async def fail(*_: object) -> None:
        raise LogUnavailable("away")

    monkeypatch.setattr(limiter, "admit", fail)
    for second in range(25):
        allowance.look(second * SAMPLE_RATE, refusals.append)
        await asyncio.sleep(0)
    monkeypatch.undo()
    for second in range(25, 60):
        allowance.look(second * SAMPLE_RATE, refusals.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert refusals == []
    allowance.end()
    await limiter.close()
