"""A driver connects a session to its ear, its client and the desk."""

import asyncio

import numpy as np

from audio.driver import SessionDriver
from audio.messages import Done, Final, Partial, SpeechStarted
from audio.model.desk import BACKGROUND, Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber, speech_of
from audio.model.models import Models
from audio.model.vad import FRAME
from audio.options import Output, SessionOptions
from audio.session import Session
from tests.support.virtual_time import simulated

SENTENCE = [(1, 0.32, 0.128), (2, 0.32, 1.0)]


class DriverStage:
    """Holds a driver, its model, and what came out of it."""

    def __init__(self, options: SessionOptions | None = None, *, is_background: bool = False, holds: bool = False):
        self.model = FakeTranscriber(holds=holds)
        self.desk = Desk(self.model, asyncio.get_running_loop().time)
        self.steps: list[list[Output]] = []
        models = Models(self.model, self.desk, FakeSpeechDetector())
        session = Session(options or SessionOptions())
        self.driver = SessionDriver(session, models, self.steps.append, is_background=is_background)

    async def speak(self, words: list[tuple[int, float, float]]) -> None:
        """Feeds audio in pieces that are no whole frames, and lets the model answer in between."""
        audio = speech_of(words)
        for at in range(0, len(audio), 1000):
            self.driver.feed(audio[at : at + 1000])
            await asyncio.sleep(0.01)

    @property
    def kinds(self) -> list[str]:
        return [type(output).__name__ for step in self.steps for output in step]

    @property
    def text(self) -> str:
        return " ".join(output.text for step in self.steps for output in step if isinstance(output, Final))


@simulated
async def test_audio_in_any_pieces_becomes_messages() -> None:
    driven = DriverStage()
    await driven.speak(SENTENCE)
    driven.driver.stop()
    await asyncio.sleep(0.1)
    assert driven.text == "w1 w2"
    assert driven.kinds[0] == SpeechStarted.__name__
    assert Partial.__name__ in driven.kinds
    assert driven.kinds[-1] == Done.__name__


@simulated
async def test_less_than_a_frame_counts_without_being_a_step() -> None:
    driven = DriverStage()
    driven.driver.feed(np.zeros(FRAME - 1, np.float32))
    assert (driven.steps, driven.driver.position) == ([], FRAME - 1)
    driven.driver.feed(np.zeros(1, np.float32))
    assert (len(driven.steps), driven.driver.position) == (1, FRAME)


@simulated
async def test_the_rest_of_a_frame_is_silence_when_the_audio_ends() -> None:
    driven = DriverStage()
    driven.driver.feed(speech_of([(1, 0.65, 0.0)]))
    driven.driver.stop()
    await asyncio.sleep(0.1)
    assert driven.text == "w1"
    assert driven.driver.session.position % FRAME == 0


@simulated
async def test_output_is_passed_on_after_an_answer_and_after_a_failure() -> None:
    driven = DriverStage(SessionOptions(interim_results=False), holds=True)
    await driven.speak(SENTENCE)
    steps = len(driven.steps)
    driven.model.failing = 1
    driven.model.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(driven.steps) == steps + 1
    driven.model.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert driven.text == "w1 w2"


@simulated
async def test_a_background_driver_asks_for_finals_only_and_comes_last() -> None:
    driven = DriverStage(is_background=True, holds=True)
    audio = speech_of([(1, 0.64, 0.0)])
    driven.driver.feed(audio)
    assert driven.driver.session.urgency(0.4) == 1
    assert driven.driver.urgency(0.4) is None
    driven.driver.feed(np.zeros(20 * FRAME, np.float32))
    assert len(driven.model.calls) == 1
    driven.model.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert driven.text == "w1"
    driven.driver.feed(audio)
    driven.driver.session.flush()
    assert driven.driver.urgency(0.4) == BACKGROUND


@simulated
async def test_a_closed_driver_has_no_work_though_a_task_was_with_the_model() -> None:
    driven = DriverStage(holds=True)
    await driven.speak([*SENTENCE, *SENTENCE])
    assert driven.driver.session.has_pending
    driven.driver.close()
    assert driven.driver.urgency(0.4) is None
    calls = len(driven.model.calls)
    for _ in range(5):
        driven.model.release()
        await asyncio.sleep(0)
    assert len(driven.model.calls) == calls
