"""The port to a speech model, and the words it uses."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from audio.messages import Word

SAMPLE_RATE = 16_000
"""Of everything behind the decoders: samples here are 16,000 a second, mono, float32 of -1 to 1."""
MAX_TASK_S = 28.0
"""Whisper hears 30 s at once, of which 1 s and more is silence put behind."""

Samples = npt.NDArray[np.float32]


class TranscriptionTask(msgspec.Struct, frozen=True, kw_only=True):
    """Audio to be put into words."""

    audio: Samples
    """At most MAX_TASK_S."""
    language: str | None = None
    """None: to be found out."""
    prompt: str = ""
    is_final: bool = True
    """The best answer. Otherwise a quick one, for text that will be replaced."""
    words: bool = False
    """With times of words; finals only."""


class Transcription(msgspec.Struct, frozen=True, kw_only=True):
    """What was said. Empty text: nothing was."""

    text: str
    words: list[Word] = []
    """Seconds from the first sample of the task."""
    confidence: float = 0.0
    language: str = "en"


class Transcriber(Protocol):
    """One speech model, shared by every session of the process.

    The caller must keep at most `workers` calls in flight, and only tasks that are alike in one call
    (`is_final` and `words` the same). The implementer owes: a call blocks no event loop; what one task brings (its
    prompt, its noise) touches no other of the same call; the audio of a task is not kept.
    """

    workers: int
    """Calls that run at once."""
    batch: int
    """Tasks that one call takes; more than 1 only where that is faster."""

    async def open(self) -> None:
        """Loads the model. Raises ConfigurationError when it cannot be."""
        ...

    async def close(self) -> None: ...

    def speaks(self, language: str) -> bool:
        """Whether it knows a language, by its ISO 639-1 code."""
        ...

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        """One answer per task, in order. Raises (by the future) what the model raised."""
        ...
