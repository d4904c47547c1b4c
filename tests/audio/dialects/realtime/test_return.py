"""A Realtime client that lost its connection comes back to its session."""

import asyncio

import numpy as np

from audio.lane import KEPT_S
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE
from tests.audio.dialects.realtime.caller import COMMITTED, COMPLETED, MANUAL, WORDS_1, WORDS_2, call
from tests.audio.lanes import place
from tests.support.virtual_time import simulated


@simulated
async def test_a_lost_connection_goes_on_in_the_middle_of_a_word() -> None:
    async with place() as at:
        first = await call(at)
        audio = speech_of([*WORDS_1, *WORDS_2])
        half = int(2.3 * SAMPLE_RATE)  # inside w3
        await first.speak(audio[:half])
        first.cut()
        await asyncio.sleep(20)
        again = await call(at, None, session=first.session, cursor=first.of(COMPLETED)[-1]["cursor"])
        assert again.events[0]["type"] == "session.created"
        assert again.session == first.session
        assert again.events[0]["session"]["audio"]["input"]["format"]["rate"] == SAMPLE_RATE, "as it was left"
        await again.speak(audio[half:])
        assert again.text == ["w3 w4"]
        first_item = first.of("input_audio_buffer.speech_started")[-1]["item_id"]
        assert list(again.items) == [first_item], "the item that was begun before"
        again.cut()


@simulated
async def test_a_client_that_does_not_say_what_it_holds_gets_the_latest_again_under_the_same_ids() -> None:
    async with place() as at:
        first = await call(at)
        await first.speak(speech_of([*WORDS_1, *WORDS_2]))
        first.cut()
        again = await call(at, session=first.session)
        assert again.items == first.items
        again.cut()


@simulated
async def test_what_was_sent_long_ago_is_not_sent_again() -> None:
    async with place() as at:
        first = await call(at)
        await first.speak(speech_of(WORDS_1))
        await first.speak(np.zeros(130 * SAMPLE_RATE, np.float32))
        await first.speak(speech_of(WORDS_2))
        first.cut()
        again = await call(at, session=first.session)
        assert again.text == ["w3 w4"]
        again.cut()


@simulated
async def test_an_item_completed_while_nobody_was_connected_is_sent_on_return() -> None:
    async with place() as at:
        first = await call(at, MANUAL)
        at.model.holds = True
        await first.speak(speech_of(WORDS_1))
        await first.send("input_audio_buffer.commit")
        first.cut()
        at.model.holds = False
        at.model.release()
        await asyncio.sleep(1)
        again = await call(at, session=first.session, cursor=first.events[0]["cursor"])
        assert again.text == ["w1 w2"]
        assert again.of(COMPLETED)[0]["item_id"] == first.of(COMMITTED[0])[0]["item_id"]
        again.cut()


@simulated
async def test_after_its_time_the_session_goes_on_and_the_gap_is_reported() -> None:
    async with place() as at:
        first = await call(at, MANUAL)
        await first.speak(speech_of(WORDS_1))
        first.cut()
        await asyncio.sleep(KEPT_S + 1)
        again = await call(at, None, session=first.session)
        assert again.text == ["w1 w2"], "what was not committed became final"
        assert again.events[0]["session"]["audio"]["input"]["turn_detection"] is None, "as it was left"
        gap = again.events[0]["gap"]
        assert (gap["audio_end_ms"], gap["reason"]) == (None, "resumed_elsewhere")
        await again.speak(speech_of(WORDS_2))
        await again.send("input_audio_buffer.commit")
        assert again.text == ["w1 w2", "w3 w4"]
        again.cut()


@simulated
async def test_a_drain_makes_everything_final_and_sends_its_clients_elsewhere() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.speak(speech_of(WORDS_1))
        await at.lane.drain()
        assert (await caller.wait_closed()).code == 1012
        assert caller.text == ["w1 w2"]
