"""The models of a process, and the one desk before them."""

import asyncio
import os
from typing import NamedTuple

from audio.model.capacity import voices
from audio.model.desk import Desk
from audio.model.transcriber import Transcriber
from audio.model.vad import Silero, SpeechDetector
from gateway.settings import Settings

GPU_BATCH = 16
"""Sessions whose audio goes through the model in one call on CUDA; on a CPU one call for each core is faster."""


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


async def load_models(settings: Settings) -> Models:
    """Import what is heavy, and load the models, beside the event loop."""
    return await load(await asyncio.to_thread(_transcriber, settings))


def _transcriber(settings: Settings) -> Transcriber:
    from audio.model.weights import whisper_model
    from audio.model.whisper import Whisper

    model = whisper_model(settings.whisper_model)
    device, compute = settings.whisper_device, settings.whisper_compute
    if device == "cpu":
        return Whisper(model, compute=compute, workers=_cores())
    return Whisper(model, device=device, compute=compute, batch=GPU_BATCH)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
