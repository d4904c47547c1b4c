"""The port to a speech model, and the values that pass through it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
"""Samples a second of all audio behind the decoders, which is mono, float32 and between -1 and 1."""
MAX_TASK_S = 28.0
"""Maximum length of one task: Whisper hears 30 s at once, and needs a second and more of silence at the end."""

Samples = npt.NDArray[np.float32]

_NOT_SPOKEN = re.compile(r"[^\w']+")


class Word(msgspec.Struct, frozen=True):
    """A word of a final. Its times are seconds; its probability is between 0 and 1."""

    text: str
    start: float
    end: float
    probability: float


def key_of(word: str) -> str:
    """Returns a word as it is compared."""
    return _NOT_SPOKEN.sub("", word).lower()


class TranscriptionTask(msgspec.Struct, frozen=True, kw_only=True):
    """Audio that the model is to put into words."""

    audio: Samples
    """Samples that last MAX_TASK_S at most."""
    known_samples: int = 0
    """Number of the first samples of `audio` that are its context: the answer is about what follows them."""
    known_text: str = ""
    """The words of the context."""
    model: str = ""
    """The name of the model, where there are several; the default's is empty."""
    language: str | None = None
    """The language's code; None has the model detect the language."""
    translates: bool = False
    """Whether the words are to be put into English."""
    prompt: str = ""
    is_final: bool = True
    """Whether it is for a final, which gets the best answer; a partial gets a quick one, for text to be replaced."""
    words: bool = False
    """Whether the times of the words are wanted."""

    @property
    def seconds(self) -> float:
        """Returns the length of what the answer is about."""
        return (len(self.audio) - self.known_samples) / SAMPLE_RATE

    def alone(self) -> "TranscriptionTask":
        """Returns the same task without its context."""
        return msgspec.structs.replace(self, audio=self.audio[self.known_samples :], known_samples=0, known_text="")


class Transcription(msgspec.Struct, frozen=True, kw_only=True):
    """The words of one task. An empty text says that nobody spoke."""

    text: str
    words: list[Word] = []
    """The words, with times in seconds from the first sample of the task after its context.

    A partial whose times are not wanted has them without: both are 0. A final has none then.
    """
    confidence: float = 0.0
    no_speech_prob: float = 0.0
    """The probability that nobody spoke, 0 to 1."""
    language: str = "en"
    language_probability: float = 1.0
    """The probability of a language that was detected, 0 to 1."""
    unsure: bool = False
    """Whether this is probably another language than the model took it for, or no speech that it knows."""


class Transcriber(Protocol):
    """One speech model, shared by every session of the process.

    The caller must keep at most `workers` calls in flight, and put only tasks that are alike into one call
    (`is_final` and `words` the same). The implementer must block no event loop with a call, let nothing of one task
    (its prompt, its noise) touch another of the same call, and keep no audio of a task.
    """

    workers: int
    """Number of calls that run at once."""
    batch: int
    """Number of tasks that one call takes; it is more than 1 only where that is faster."""

    @property
    def is_multilingual(self) -> bool:
        """Tells whether it knows more languages than English, and can translate; to be asked once it is open."""
        ...

    async def open(self) -> None:
        """Loads the model. Raises ConfigurationError when that cannot be done."""
        ...

    async def close(self) -> None: ...

    def supports(self, language: str) -> bool:
        """Tells whether the model knows a language, by its ISO 639-1 code."""
        ...

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        """Returns one transcription per task, in order. The future raises what the model raised."""
        ...
