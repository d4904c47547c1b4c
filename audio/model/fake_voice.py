"""A voice for tests and rehearsals: a tone that lasts as long as its text has letters, so that what was said is seen.

Every character is CHAR_S of one pitch, made of its code; so each sample that is lost, doubled or out of order shows.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE, SpeechTask
from gateway.errors import TrilaneError

CHAR_S = 0.06
"""Seconds of a character at the speed 1: about those of English speech."""
PITCHES = 1024
LOWEST_HZ, STEP_HZ = 200.0, 2.0


class FakeVoice:
    """Speaks in the event loop's next turn, or when `release` is called if it holds its answers back."""

    model = "fake"
    names: Sequence[str] = ("tone", "other")
    is_repeatable = True

    def __init__(self, *, workers: int = 1, holds: bool = False, unspeakable: str = "") -> None:
        """`unspeakable` holds the characters that it cannot say."""
        self.workers = workers
        self.holds = holds
        self.unspeakable = unspeakable
        self.tasks: list[SpeechTask] = []
        self.failing = 0
        """Number of the next calls that fail."""
        self.is_open = False
        self._released = asyncio.Event()

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    def can_say(self, text: str) -> bool:
        return any(letter.isalnum() for letter in text) and not set(text) & set(self.unspeakable)

    async def speak(self, task: SpeechTask) -> Samples:
        assert self.is_open
        self.tasks.append(task)
        if self.holds:
            await self._released.wait()
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise TrilaneError("the fake voice failed, as it was told to", code="voice_failed")
        return tone_of(task)

    def release(self) -> None:
        """Answers every call that waits, and those to come."""
        self.holds = False
        self._released.set()


def samples_of(text: str, speed: float = 1.0) -> int:
    """Returns the number of samples that a text lasts."""
    return len(text) * round(CHAR_S * VOICE_RATE / speed)


def tone_of(task: SpeechTask) -> Samples:
    """Returns the sound of a task."""
    at_s = np.arange(samples_of("x", task.speed)) / VOICE_RATE
    pitches_hz = [LOWEST_HZ + STEP_HZ * (ord(letter) % PITCHES) for letter in task.text]
    tones = [0.3 * np.sin(2 * np.pi * pitch_hz * at_s) for pitch_hz in pitches_hz]
    return np.concatenate(tones or [np.zeros(0)]).astype(np.float32)
