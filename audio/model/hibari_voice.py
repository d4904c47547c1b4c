"""Implements `Voice` with hibari-tts, which comes with its weights. This is the only importer of it.

One thread speaks for the whole process, and the model has one thread of its own: two change the bits. It says a second
of speech in 8 ms of a core, so one is enough. The model is English. Of another script it says nothing, without an
error, and its other voices would be fetched from the network: both are refused before it is asked.
"""

import asyncio
import importlib.util
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

from audio.model.transcriber import Samples
from audio.model.voice import SpeechTask
from gateway.errors import ConfigurationError, TrilaneError

MODEL, NAME = "hibari", "heart"
SAYABLE = 0.9
"""The share of a text's letters and digits that are Latin, or Arabic digits, at the least."""
INSTALL_VOICE = "install the extra `audio` (pip install 'trilane[audio]')"


def is_installed() -> bool:
    """Tells whether the package is there, without importing it."""
    return importlib.util.find_spec("hibari") is not None


class HibariVoice:
    """The voice `heart`, a woman's, of American English."""

    model = MODEL
    names: Sequence[str] = (NAME,)
    is_repeatable = True
    workers = 1

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "voice")
        self._engine: Any = None

    async def open(self) -> None:
        if not is_installed():
            raise ConfigurationError(f"there is no voice {NAME}: {INSTALL_VOICE}")
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    def _load(self) -> None:
        """Loads it, and says a word, after which all of it is loaded. Runs on the thread."""
        from hibari import Hibari  # pyright: ignore[reportMissingTypeStubs]

        engine: Any = Hibari(NAME, threads=1)
        engine("Hello.", seed=0)
        self._engine = engine

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def can_say(self, text: str) -> bool:
        said = [letter for letter in text if letter.isalnum()]
        return bool(said) and sum(map(_is_latin, said)) >= SAYABLE * len(said)

    async def speak(self, task: SpeechTask) -> Samples:
        samples = await asyncio.get_running_loop().run_in_executor(self._thread, self._speak, task)
        if not len(samples):
            raise TrilaneError(f"the voice {NAME} has nothing to say of {task.text[:40]!r}", code="voice_failed")
        return samples

    def _speak(self, task: SpeechTask) -> Samples:
        sound = self._engine(task.text, speed=task.speed, seed=task.seed)
        return cast("Samples", np.clip(sound, -1.0, 1.0))


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
