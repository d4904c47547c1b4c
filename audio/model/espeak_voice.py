"""Implements `Voice` with espeak-ng, a program that an operator installs and names: a hundred languages, spoken badly.

It runs as a process of its own for each clause, with the text on its standard input, so nothing of it is an argument.
We neither ship nor link it: its licence is the GPL.
"""

import asyncio
import io
import shutil
from collections.abc import Sequence

import numpy as np

from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE, SpeechTask
from gateway.errors import ConfigurationError, TrilaneError

PROGRAM = "espeak-ng"
DEFAULT_LANGUAGE = "en-us"
WORDS_PER_MINUTE = 165
SLOWEST, FASTEST = 80, 450
"""The words a minute that the program can say."""
TIMEOUT_S = 20.0
WORKERS = 2


class EspeakVoice:
    """The program's voices, by language."""

    model = PROGRAM
    is_repeatable = True
    workers = WORKERS

    def __init__(self, languages: Sequence[str] = ()) -> None:
        """`languages` are those that may be asked for, the default first; an empty one is DEFAULT_LANGUAGE."""
        self._languages = [language or DEFAULT_LANGUAGE for language in languages] or [DEFAULT_LANGUAGE]
        self.names: Sequence[str] = [f"{PROGRAM}:{language}" for language in self._languages]

    async def open(self) -> None:
        if shutil.which(PROGRAM) is None:
            raise ConfigurationError(f"TRILANE_VOICE names {PROGRAM}, and there is no such program here: install it")

    async def close(self) -> None:
        """Does nothing: each clause has a process of its own."""

    def can_say(self, text: str) -> bool:
        return any(letter.isalnum() for letter in text)

    async def speak(self, task: SpeechTask) -> Samples:
        language = (task.voice or self.names[0]).partition(":")[2]
        pace = round(min(max(WORDS_PER_MINUTE * task.speed, SLOWEST), FASTEST))
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "--stdin", "--stdout", "-b", "1", "-v", language, "-s", str(pace)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                wav, _ = await process.communicate(task.text.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or len(wav) <= 44:
            raise TrilaneError(f"{PROGRAM} ends with {process.returncode}, without speech", code="voice_failed")
        return await asyncio.to_thread(_samples, wav)


def _samples(wav: bytes) -> Samples:
    """Returns the samples of a WAV file whose header was written before its length was known."""
    import soxr  # pyright: ignore[reportMissingTypeStubs]

    rate = int.from_bytes(wav[24:28], "little")
    data = wav.find(b"data") + 8
    pcm = np.frombuffer(io.BytesIO(wav[data : data + (len(wav) - data) // 2 * 2]).getbuffer(), "<i2")
    at_our_rate = soxr.resample(pcm.astype(np.float32) / 32768, rate, VOICE_RATE)
    return np.clip(at_our_rate, -1.0, 1.0).astype(np.float32)
