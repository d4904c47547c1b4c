"""A speech model for tests and rehearsals: it hears exactly what `speech_of` wrote, and nothing else.

A word is a stretch of one constant level, its number in thousandths; silence is zeros. So every sample that is lost,
doubled or out of order shows in the text, which no real model would promise.
"""

import asyncio
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask, Word
from audio.model.vad import FRAME, VadState

UNIT = 1000
MIN_SAMPLES = FRAME
"""Minimum number of samples by which a word is recognised."""


def speech_of(words: Iterable[tuple[int, float, float]]) -> Samples:
    """Returns the audio of words: each has a number (1 to 999), its length and the pause behind it in seconds."""
    parts: list[Samples] = []
    for number, length_s, pause_s in words:
        parts.append(np.full(int(length_s * SAMPLE_RATE), number / UNIT, np.float32))
        parts.append(np.zeros(int(pause_s * SAMPLE_RATE), np.float32))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class FakeSpeechDetector:
    """Stands in for Silero: whatever is not silence is speech."""

    def run(self, frames: Samples, state: VadState) -> npt.NDArray[np.float32]:
        return (np.abs(frames[:, -FRAME:]).max(axis=1) > 0.5 / UNIT).astype(np.float32)


class FakeTranscriber:
    """Answers in the event loop's next turn, or when `release` is called if it holds its answers back."""

    def __init__(
        self, *, workers: int = 1, batch: int = 1, holds: bool = False, languages: Sequence[str] = ("en",)
    ) -> None:
        self.workers = workers
        self.batch = batch
        self.holds = holds
        self.languages = languages
        self.is_multilingual = len(languages) > 1
        self.calls: list[list[TranscriptionTask]] = []
        self.failing = 0
        """Number of the next calls that fail."""
        self._pending: list[tuple[asyncio.Future[list[Transcription]], list[TranscriptionTask]]] = []

    async def open(self) -> None:
        """Does nothing: there is no model to load."""

    async def close(self) -> None:
        """Does nothing: there is no model to free."""

    def supports(self, language: str) -> bool:
        return language in self.languages

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        self.calls.append(list(tasks))
        call: asyncio.Future[list[Transcription]] = asyncio.get_running_loop().create_future()
        self._pending.append((call, list(tasks)))
        if not self.holds:
            asyncio.get_running_loop().call_soon(self.release)
        return call

    def release(self) -> None:
        """Answers every call that waits."""
        pending, self._pending = self._pending, []
        for call, tasks in pending:
            if call.done():
                continue
            if self.failing:
                self.failing -= 1
                call.set_exception(RuntimeError("the fake model failed, as it was told to"))
            else:
                call.set_result([transcription_of(task) for task in tasks])


def transcription_of(task: TranscriptionTask) -> Transcription:
    """Returns the words in the audio of a task."""
    levels = np.rint(task.alone().audio * UNIT).astype(int)
    edges = np.flatnonzero(np.diff(levels)) + 1
    words: list[Word] = []
    for start, end in zip([0, *edges], [*edges, len(levels)], strict=True):
        if end - start >= MIN_SAMPLES and levels[start] > 0:
            words.append(Word(f"w{levels[start]}", float(start) / SAMPLE_RATE, float(end) / SAMPLE_RATE, 1.0))
    text = " ".join(word.text for word in words)
    if not task.words:
        words = [] if task.is_final else [Word(word.text, 0.0, 0.0, word.probability) for word in words]
    return Transcription(text=text, words=words, confidence=1.0)
