"""A Realtime client's events change its session, and each mistake is answered with an error."""

import asyncio

import numpy as np
import pytest

from audio.attachment import MAX_UNSENT
from audio.dialects.realtime.client import error_event
from audio.meter import ALLOWANCE_S
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE
from gateway.errors import BadRequest, NotFound, Overloaded, TooLarge, close_code
from gateway.serving.client_socket import SocketClose
from tests.audio.dialects.realtime.caller import COMMITTED, COMPLETED, DELTA, MANUAL, WORDS_1, WORDS_2, call
from tests.audio.lanes import place
from tests.support.virtual_time import simulated


@simulated
async def test_a_session_from_its_creation_to_its_items() -> None:
    async with place() as at:
        caller = await call(at)
        assert caller.events[0]["type"] == "session.created"
        assert caller.events[0]["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": SAMPLE_RATE}
        await caller.speak(speech_of([*WORDS_1, *WORDS_2]))
        assert caller.text == ["w1 w2", "w3 w4"]
        ids = [event["event_id"] for event in caller.events]
        assert len(set(ids)) == len(ids)
        caller.cut()


@simulated
async def test_a_commit_makes_an_item_of_all_that_was_sent() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.speak(speech_of([*WORDS_1, *WORDS_2]))
        assert not caller.of(COMMITTED[0])
        assert caller.of(DELTA)
        await caller.send("input_audio_buffer.commit")
        assert caller.text == ["w1 w2 w3 w4"]
        assert not caller.of("input_audio_buffer.speech_started")
        [completion] = caller.of(COMPLETED)
        assert (completion["start_ms"], completion["usage"]["seconds"]) == (0, pytest.approx(3.8, abs=0.04))
        caller.cut()


@simulated
async def test_a_commit_of_next_to_nothing_is_an_error_and_the_session_goes_on() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.send("input_audio_buffer.commit", event_id="mine")
        await caller.append(bytes(2 * 1200))
        await caller.send("input_audio_buffer.commit")
        first, second = (event["error"] for event in caller.of("error"))
        assert first["code"] == "input_audio_buffer_commit_empty"
        assert first["event_id"] == "mine"
        assert first["message"].endswith("Expected at least 100ms of audio, but buffer only has 0.00ms of audio.")
        assert "only has 75.00ms" in second["message"]
        await caller.speak(speech_of(WORDS_1))
        await caller.send("input_audio_buffer.commit")
        assert caller.text == ["w1 w2"], "what was not committed is still there"
        caller.cut()


@simulated
async def test_clear_forgets_what_was_not_committed() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.speak(speech_of(WORDS_1))
        await caller.send("input_audio_buffer.clear")
        await caller.speak(speech_of(WORDS_2))
        await caller.send("input_audio_buffer.commit")
        assert caller.of("input_audio_buffer.cleared")
        assert caller.text == ["w3 w4"]
        caller.cut()


@simulated
@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("nonsense", "invalid_event", None),
        ("[]", "invalid_event", None),
        ("", "invalid_event", None),
        ('{"type":"response.create","event_id":"e"}', "unknown_event", "type"),
        ('{"type":7}', "unknown_event", "type"),
        ('{"event_id":"e"}', "invalid_event", None),
        ('{"type":"input_audio_buffer.append"}', "invalid_event", None),
        ('{"type":"input_audio_buffer.append","audio":"***"}', "invalid_event", "audio"),
        ('{"type":"session.update","session":{"type":"realtime"}}', "invalid_event", "session.type"),
        (
            '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":96000}}}}}',
            "invalid_event",
            "session.audio.input.format.rate",
        ),
        (
            '{"type":"session.update","session":{"audio":{"input":{"transcription":{"language":"tlh"}}}}}',
            "bad_language",
            "session.audio.input.transcription.language",
        ),
        ('{"type":"session.update","session":{"audio":{"input":{"transcription":{"language":"\\ud800x"}}}}}', "", None),
    ],
)
async def test_an_event_that_cannot_be_understood_is_an_error_and_the_session_stays(
    text: str, code: str, param: str | None
) -> None:
    async with place() as at:
        caller = await call(at)
        await caller.client.take_text(text)
        await caller.speak(speech_of(WORDS_1))
        [error] = caller.of("error")
        assert error["error"]["type"] == "invalid_request_error"
        if code:
            assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        assert caller.text == ["w1 w2"]
        caller.cut()


@simulated
async def test_an_update_is_answered_with_what_is_in_effect_and_holds_from_there() -> None:
    async with place() as at:
        caller = await call(at)
        vad = {"type": "server_vad", "silence_duration_ms": 2000}
        change = {"turn_detection": vad, "noise_reduction": {"type": "near_field"}, "transcription": {"prompt": "hi"}}
        await caller.update({"audio": {"input": change}})
        [answer] = caller.of("session.updated")
        effective = answer["session"]["audio"]["input"]
        assert effective["turn_detection"] == {**vad, "threshold": 0.5, "prefix_padding_ms": 300}
        assert effective["format"]["rate"] == SAMPLE_RATE
        assert effective["noise_reduction"] is None, "there is none, and it says so"
        await caller.speak(speech_of([*WORDS_1, *WORDS_2, (5, 0.4, 2.2)]))
        assert caller.text == ["w1 w2 w3 w4 w5"]
        assert at.model.calls[-1][0].prompt == "hi"
        caller.cut()


@simulated
async def test_the_format_may_change_on_the_way() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.speak(speech_of([(1, 0.4, 0.4)]))
        await caller.update({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 48_000}}}})
        samples = np.repeat(speech_of([(2, 0.4, 0.4)]), 3)
        await caller.append(np.rint(samples * 2**15).astype("<i2").tobytes())
        await caller.send("input_audio_buffer.commit")
        assert caller.text[0].startswith("w1 ")
        assert "w2" in caller.text[0]
        caller.cut()


@simulated
async def test_a_message_of_a_mebibyte_is_heard_in_pieces() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        pcm = np.rint(speech_of([(number, 0.4, 0.1) for number in range(1, 40)]) * 2**15).astype("<i2").tobytes()
        assert len(pcm) > 600_000
        await caller.append(pcm)
        await caller.send("input_audio_buffer.commit")
        assert caller.text == [" ".join(f"w{number}" for number in range(1, 40))]
        caller.cut()


@simulated
async def test_more_audio_than_real_time_and_its_allowance_is_refused() -> None:
    async with place() as at:
        caller = await call(at)
        for _ in range(int(ALLOWANCE_S) // 10):
            await caller.append(bytes(2 * 10 * SAMPLE_RATE))
        with pytest.raises(TooLarge):
            await caller.append(bytes(2 * 10 * SAMPLE_RATE))
        caller.cut()


@simulated
async def test_a_full_process_says_so_with_a_code_on_which_the_sdks_come_back() -> None:
    async with place(sessions=1) as at:
        caller = await call(at)
        with pytest.raises(Overloaded) as full:
            await call(at)
        assert close_code(full.value) == 1013
        assert error_event(full.value).error.type == "server_error"
        caller.cut()


@simulated
async def test_a_session_of_someone_else_is_none() -> None:
    async with place() as at:
        caller = await call(at)
        with pytest.raises(NotFound):
            await call(at, session="0" * 36)
        caller.cut()


@simulated
async def test_a_client_that_is_done_leaves_nothing_open() -> None:
    async with place() as at:
        caller = await call(at)
        await caller.speak(speech_of(WORDS_1)[: SAMPLE_RATE // 2])
        caller.client.live.abandon(caller.client.attachment)
        await asyncio.sleep(1)
        assert not at.lane._sessions
        caller.cut()


@simulated
async def test_a_key_made_for_a_language_the_model_does_not_know_opens_nothing() -> None:
    async with place() as at:
        with pytest.raises(BadRequest, match="tlh"):
            await call(at, {"audio": {"input": {"transcription": {"language": "tlh"}}}})


@simulated
async def test_a_flood_of_bad_events_that_nobody_reads_the_answers_of_ends_the_connection() -> None:
    async with place() as at:
        caller = await call(at)
        caller.cut()
        again = await call(at, session=caller.session)
        again._reading.cancel()
        for _ in range(MAX_UNSENT + 1):
            await again.client.take_text("{}")
        ending = await again.client.next()
        while not isinstance(ending, SocketClose):
            ending = await again.client.next()
        assert ending.code == 1013
