"""What is spoken is counted once, by whoever ends it, and held against its user's limits."""

import asyncio

import pytest

from audio.ledger import AbandonedSessions, FileEntry
from audio.model.fake_voice import FakeVoice, samples_of
from audio.model.voice import SpeechTask
from audio.speech.lane import SpeechLane, Utterances
from events.log.memory import MemoryLog
from gateway.access.grants import EVERYTHING, Principal
from gateway.core.leases import NO_LEASE
from gateway.core.process import Core
from gateway.core.usage import SETTLED, UsageRow, decode_row, now_ms, usage_topic
from gateway.errors import Overloaded, RateLimited
from gateway.limit_settings import UserLimits
from gateway.settings import Settings
from tests.support.virtual_time import simulated

ME = Principal(sub="me", grants=EVERYTHING)
TEXT = "A sentence of about four seconds, as the tone of the fake voice has it."


async def lane_of(**limits: int) -> tuple[SpeechLane, MemoryLog]:
    log = MemoryLog()
    await log.open()
    return SpeechLane(Core(log, Settings(user_limits=UserLimits(**limits))), FakeVoice()), log


async def rows(log: MemoryLog) -> list[UsageRow]:
    read = await log.read(usage_topic("me"), 0)
    return [decode_row(data, block.time_ms) for block in read.blocks if block.name == SETTLED for data in block.data]


async def say(lane: SpeechLane, text: str = TEXT) -> None:
    utterances = Utterances(lane.booth, [SpeechTask(text=text)])
    async with lane.admitted(ME, utterances):
        async for _ in utterances.sounds():
            pass


@simulated
async def test_what_was_said_counts_as_seconds_of_audio_and_the_limit_refuses_the_next() -> None:
    lane, log = await lane_of(audio_seconds_per_day=3)
    await say(lane)
    await asyncio.sleep(1)  # it counts once its row is written
    with pytest.raises(RateLimited, match="audio_seconds_per_day"):
        await say(lane)
    (row,) = await rows(log)
    assert row.quantities == {"spokenMs": round(samples_of(TEXT) / 24)}


@simulated
async def test_each_text_is_a_request() -> None:
    lane, _ = await lane_of(requests_per_minute=1)
    await say(lane)
    with pytest.raises(RateLimited, match="requests_per_minute"):
        await say(lane)


@simulated
async def test_a_process_without_room_refuses_and_counts_nothing() -> None:
    lane, log = await lane_of()
    lane.booth._max_speakers = 0
    with pytest.raises(Overloaded, match="speak already"):
        await say(lane)
    assert await rows(log) == []


@simulated
async def test_the_text_of_a_process_that_died_has_a_row_all_the_same() -> None:
    _, log = await lane_of()

    def nothing(*charge: object) -> None:
        """Charges nobody."""

    entry = FileEntry(log, ME, "hibari", 1e9, NO_LEASE, nothing, kind="speech")
    await entry.open()
    sweeper = AbandonedSessions(log, 1.0, lambda session: False, nothing)
    await sweeper.sweep_once(now_ms() + 5000)
    (row,) = await rows(log)
    assert (row.kind, row.outcome, row.model, row.quantities) == ("speech", "interrupted", "hibari", {"spokenMs": 0})
    assert row.estimated
