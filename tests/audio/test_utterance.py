"""The end of an utterance is told once, after its finals, by the audio or by the clock."""

import asyncio
from math import inf

import numpy as np
import pytest

from audio.driver import SessionDriver
from audio.messages import Final, SpeechStarted, UtteranceEnd
from audio.model.desk import Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber, speech_of
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.options import Output, SessionOptions
from audio.session import Session
from tests.support.virtual_time import simulated

FRAME_S = 0.064
SENTENCE = speech_of([(1, 0.512, 0.128), (2, 0.512, 0.0)])
"""Two words; the last ends after 1.152 s."""


class UtteranceStage:
    """Speaks to a driver at the pace of speech."""

    def __init__(self, **options: float | None) -> None:
        model = FakeTranscriber()
        self.output: list[Output] = []
        models = Models(model, Desk(model, asyncio.get_running_loop().time), FakeSpeechDetector())
        session = Session(SessionOptions(interim_results=False, **options))  # type: ignore[arg-type]
        self.driver = SessionDriver(session, models, self.output.extend)

    async def speak(self, audio: Samples) -> None:
        size = int(FRAME_S * SAMPLE_RATE)
        for at in range(0, len(audio), size):
            self.driver.feed(audio[at : at + size])
            await asyncio.sleep(FRAME_S)

    async def pause(self, seconds: float) -> None:
        await self.speak(np.zeros(int(seconds * SAMPLE_RATE), np.float32))

    @property
    def ends(self) -> list[float]:
        return [output.at for output in self.output if isinstance(output, UtteranceEnd)]

    def places(self) -> list[str]:
        kinds = (Final, SpeechStarted, UtteranceEnd)
        return [type(output).__name__ for output in self.output if isinstance(output, kinds)]


@simulated
@pytest.mark.parametrize("endpointing_s", [0.3, 1.5])
async def test_it_comes_once_after_the_finals_of_what_was_said(endpointing_s: float) -> None:
    stage = UtteranceStage(endpointing_s=endpointing_s, utterance_end_s=1.5)
    await stage.speak(SENTENCE)
    await stage.pause(0.7)  # a segment may end here, but no utterance
    await stage.speak(SENTENCE)
    await stage.pause(5)
    assert stage.ends == [pytest.approx(3.0, abs=0.04)]
    assert stage.places()[-2:] == ["Final", "UtteranceEnd"]
    await stage.speak(SENTENCE)
    await stage.pause(2)
    assert len(stage.ends) == 2
    assert stage.places()[-3:] == ["SpeechStarted", "Final", "UtteranceEnd"]
    stage.driver.close()


@simulated
async def test_without_endpointing_it_says_when_to_flush() -> None:
    stage = UtteranceStage(endpointing_s=inf, utterance_end_s=1.0)
    await stage.speak(SENTENCE)
    await stage.pause(3)
    assert stage.places() == ["SpeechStarted", "UtteranceEnd"], "nothing is final before the client says so"
    stage.driver.session.flush()
    stage.driver.proceed()
    await asyncio.sleep(1)
    assert stage.places() == ["SpeechStarted", "UtteranceEnd", "Final"]
    await stage.pause(60)
    assert stage.driver.session.settled > 50 * SAMPLE_RATE, "silence is nothing that anybody flushes"
    stage.driver.close()


@simulated
async def test_it_comes_by_the_clock_when_no_audio_does() -> None:
    stage = UtteranceStage(endpointing_s=0.3, utterance_end_s=2.0)
    await stage.speak(SENTENCE)
    await stage.pause(0.5)
    await asyncio.sleep(1.8)
    assert stage.ends == []
    await asyncio.sleep(0.5)
    assert len(stage.ends) == 1
    stage.driver.close()


@simulated
async def test_silence_alone_is_no_utterance_and_nobody_is_told_who_did_not_ask() -> None:
    silent = UtteranceStage(utterance_end_s=0.5)
    await silent.pause(10)
    unasked = UtteranceStage()
    await unasked.speak(SENTENCE)
    await unasked.pause(10)
    assert silent.ends == unasked.ends == []
    silent.driver.close()
    unasked.driver.close()
