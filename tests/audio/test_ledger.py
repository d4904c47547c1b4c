"""Every session and every file has exactly one usage row, however it ends and whoever ends it."""

import asyncio
import io
import tempfile
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import numpy as np
import pytest
import soundfile

from audio.dialects.trilane import Start, request_of
from audio.ledger import AbandonedSessions, AudioCharges, recorded
from audio.model.fake import FakeTranscriber, speech_of
from audio.model.transcriber import SAMPLE_RATE
from audio.session_log import topic_of
from audio.session_state import SessionState
from audio.upload import file_options, transcription_of
from events.log.memory import MemoryLog
from events.log.port import Append
from gateway.access.grants import EVERYTHING, Principal
from gateway.core.usage import RESERVED, SETTLED, UsageRow, decode_row, now_ms, usage_topic
from gateway.errors import NotFound, TrilaneError
from tests.audio.dialects.realtime.caller import MANUAL, call
from tests.audio.lanes import ME, MoodyLog, Place, place
from tests.support.virtual_time import simulated

HOUR_MS = 3_600_000
WORDS = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
KEYED = Principal(sub="me", grants=EVERYTHING, key_id="telephone-key")


async def rows(at: Place) -> list[UsageRow]:
    """Returns the settled rows; fails when they are not as many as those reserved before, or a row is not reserved."""
    blocks = (await at.core.log.read(usage_topic("me"), 0)).blocks
    ids = [msgspec.json.decode(data)["id"] for block in blocks if block.name == RESERVED for data in block.data]
    settled = [decode_row(data, 0) for block in blocks if block.name == SETTLED for data in block.data]
    assert {row.id for row in settled} <= set(ids)
    assert len({row.id for row in settled}) == len(settled)
    return settled


async def sweep(at: Place, after_ms: int = HOUR_MS + 1, is_here: Callable[[str], bool] = lambda _: False) -> None:
    charge = AudioCharges(at.core.limiter, at.core.prices).charge
    await AbandonedSessions(at.core.log, 3600, is_here, charge).sweep_once(now_ms() + after_ms)


@simulated
async def test_a_session_that_is_stopped_is_settled_with_what_was_heard() -> None:
    async with place() as at:
        client = await at.connect(KEYED)
        await client.speak(speech_of(WORDS))
        client.live.stop()
        await client.wait_closed()
        [row] = await rows(at)
        assert (row.id, row.lane, row.kind, row.outcome) == (client.ready["session"], "audio", "session", "finish")
        assert row.quantities == {"audioMs": client.of("done")[0]["duration"] * 1000}
        assert (row.key, row.estimated) == ("telephone-key", False)
        assert now_ms() - 60_000 < row.started_ms <= row.ended_ms <= now_ms()
        await sweep(at)
        assert await rows(at) == [row]


@simulated
async def test_no_sample_more_or_less_is_counted_than_was_sent_when_silence_follows_a_final_that_is_late() -> None:
    async with place() as at:
        client = await at.connect()
        audio = np.concatenate((speech_of(WORDS), np.zeros(SAMPLE_RATE + 80, np.float32)))
        await client.live.feed(audio, client.attachment)  # all at once: the model has heard nothing by its end
        client.live.stop()
        await client.wait_closed()
        [row] = await rows(at)
        assert client.text == "w1 w2"
        assert client.of("ack")[-1]["samples"] == len(audio)
        assert client.of("done")[0]["duration"] * 1000 == row.quantities["audioMs"] == len(audio) / 16


@simulated
async def test_what_fills_up_the_frames_of_committed_turns_is_not_counted_whoever_goes_on_with_them() -> None:
    log = MemoryLog()
    async with place(log) as at, place(log) as elsewhere:
        caller = await call(at, MANUAL)
        for samples in (4000, 8016, 2400):  # of which none is whole frames
            await caller.speak(np.zeros(samples, np.float32))
            await caller.send("input_audio_buffer.commit")
        caller.cut()
        await asyncio.sleep(100)
        live, attachment = await elsewhere.lane.open(ME, request_of(Start(session=caller.session)))
        await live.feed(np.zeros(1600, np.float32), attachment)
        live.stop()
        await asyncio.sleep(1)
        assert live.session.position > 16_016
        [row] = await rows(at)
        assert row.quantities == {"audioMs": 1001}


@simulated
async def test_a_session_whose_client_does_not_come_back_is_settled_once_by_whoever_sees_it() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.cut()
        await asyncio.sleep(100)
        settled = client.live.session_log.state.settled
        assert await rows(at) == []
        await sweep(at, HOUR_MS - 1000)
        assert await rows(at) == []
        await asyncio.gather(*[sweep(at) for _ in range(3)])
        [row] = await rows(at)
        assert (row.outcome, row.quantities) == ("abort", {"audioMs": settled / 16})


@simulated
async def test_a_session_that_was_refused_its_audio_and_left_is_an_error() -> None:
    async with place() as at:
        client = await at.connect()
        client.live.parting = "error"
        client.cut()
        await asyncio.sleep(100)
        await sweep(at)
        assert [row.outcome for row in await rows(at)] == ["error"]


@simulated
async def test_a_session_of_a_dead_process_is_interrupted_and_what_it_heard_is_counted() -> None:
    log = MoodyLog()
    async with place(log) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        settled = client.live.session_log.state.settled
        assert settled
        await sweep(at, is_here=lambda session: session == client.ready["session"])
        assert await rows(at) == []
        await sweep(at)  # as another process does, to which this one is silent
        [row] = await rows(at)
        assert (row.outcome, row.quantities) == ("interrupted", {"audioMs": settled / 16})
        await asyncio.sleep(1)
        assert not at.lane._sessions  # the process that was thought dead lets go of it
        again = await at.connect(session=row.id)
        await again.wait_closed()
        assert again.messages[-1]["type"] == "done"
        assert await rows(at) == [row]


@simulated
async def test_a_session_that_goes_on_elsewhere_has_one_row() -> None:
    log = MemoryLog()
    async with place(log) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.cut()
        await asyncio.sleep(100)
        again = await at.connect(session=client.ready["session"])
        await again.speak(speech_of([(3, 0.4, 1.0)]))
        assert again.live.session_log.state.ending == "interrupted"
        again.live.stop()
        await again.wait_closed()
        [row] = await rows(at)
        assert (row.outcome, row.quantities["audioMs"]) == ("finish", again.of("done")[0]["duration"] * 1000)


@simulated
async def test_a_silent_session_with_a_client_shows_that_it_lives() -> None:
    async with place() as at:
        at.lane.settings = msgspec.structs.replace(at.lane.settings, session_idle_s=1e6)
        client = await at.connect()
        await asyncio.sleep(3600)
        assert client.live.session_log._next in (5, 6)


@simulated
async def test_a_session_of_an_earlier_release_which_has_no_row_is_closed_without_one() -> None:
    async with place() as at:
        append = Append(topic=topic_of("old"), data=[msgspec.json.encode({"settled": 16})], owner="me")
        await at.core.log.append(append)
        await sweep(at)
        assert await rows(at) == []
        assert (await at.core.log.read(topic_of("old"), 0)).closed


# Files


async def transcribe(at: Place, audio: bytes) -> None:
    models = await at.lane.load()
    lease = await at.lane.admit_upload(KEYED)
    entry = at.lane.file_entry(KEYED, models._replace(name="tiny"), lease)
    with tempfile.TemporaryFile() as file:
        file.write(audio)
        file.seek(0)
        async with (
            recorded(entry, transcription_of(models, file, "a.wav", file_options())) as transcription,
            aclosing(transcription.results()) as results,
        ):
            async for _ in results:
                pass


def wav(seconds: float = 2.0) -> bytes:
    file = io.BytesIO()
    audio = np.concatenate([speech_of([(1, 0.5, 0.5)]), np.zeros(int((seconds - 1) * SAMPLE_RATE), np.float32)])
    soundfile.write(file, audio, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


async def settled_rows(at: Place) -> list[UsageRow]:
    await asyncio.sleep(0.01)
    return await rows(at)


def test_a_file_is_settled_with_its_length() -> None:
    async def check() -> None:
        async with place() as at:
            await transcribe(at, wav(2.0))
            [row] = await settled_rows(at)
            assert (row.kind, row.outcome, row.model, row.key) == ("transcription", "finish", "tiny", "telephone-key")
            assert row.quantities == {"audioMs": 2000}
            await sweep(at)
            assert await rows(at) == [row]
            with pytest.raises(NotFound):
                await at.connect(session=row.id)

    asyncio.run(check())


def test_a_file_that_is_no_audio_is_an_error() -> None:
    async def check() -> None:
        async with place() as at:
            with pytest.raises(TrilaneError):
                await transcribe(at, b"no audio at all")
            assert [(row.outcome, row.quantities) for row in await settled_rows(at)] == [("error", {"audioMs": 0})]

    asyncio.run(check())


def test_a_long_file_shows_that_it_lives_and_how_far_it_is() -> None:
    async def check() -> None:
        async with place() as at:
            at.model = FakeTranscriber(holds=True)
            at.lane._beat_s = 0.01
            request = asyncio.create_task(transcribe(at, wav(2.0)))
            while not at.model.calls:  # noqa: ASYNC110 - the fake says nothing
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            [info] = await at.core.log.topics("audio/")
            part = await at.core.log.read(info.topic, info.head - 1)
            assert msgspec.json.decode(part.blocks[0].data[0], type=SessionState).settled == 2 * SAMPLE_RATE
            request.cancel()
            await asyncio.wait((request,))

    asyncio.run(check())
