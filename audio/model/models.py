"""The models of a process, and the one desk before them."""

import asyncio
from typing import NamedTuple

from audio.model.capacity import voices
from audio.model.desk import Desk
from audio.model.transcriber import Transcriber
from audio.model.vad import Silero, SpeechDetector


class Models(NamedTuple):
    """What hears."""

    transcriber: Transcriber
    desk: Desk
    voice: SpeechDetector
    voices: int = 1_000_000
    """How many may speak at once."""


async def load(transcriber: Transcriber) -> Models:
    """Loads the speech model and the one that tells speech from silence. Raises ConfigurationError."""
    await transcriber.open()
    return Models(transcriber, Desk(transcriber), await asyncio.to_thread(Silero), await voices(transcriber))
