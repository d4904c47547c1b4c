"""The models of a process: how they are loaded from the settings, and how many speakers the machine can carry.

The number of speakers is measured when the model is loaded. Someone who speaks without a pause costs a partial every
second, under load, and a final for every few: the final of a sentence of SENTENCE_S costs about as much as two
partials. The measurement uses a partial of noise, because that needs no speech to be shipped; real speech, which has
words to decode, takes SPEECH times as long (tiny.en: 1.6).
"""

import asyncio
import time
from typing import NamedTuple

import numpy as np

from audio.model.desk import Desk
from audio.model.transcriber import SAMPLE_RATE, Transcriber, TranscriptionTask
from audio.model.vad import Silero, SpeechDetector
from audio.model.weights import model_name, whisper_model
from gateway.core.cpus import cpu_share
from gateway.settings import Settings

GPU_BATCH = 16
"""Sessions whose audio goes through the model in one call on CUDA; on CPU one call for each core is faster."""
SPEECH = 1.6
SENTENCE_S = 5.0
DUTY = 0.85
"""The share of the time in which somebody who reads aloud speaks; the rest is pauses for breath."""
TRIES = 5


class Models(NamedTuple):
    """The speech model with its queue, and the speech detector."""

    transcriber: Transcriber
    desk: Desk
    detector: SpeechDetector
    voices: int = 1_000_000
    """Maximum number of people who may speak at once."""
    name: str = ""
    """The transcriber's model, as usage rows name it."""


async def load_models(settings: Settings, *, measures_voices: bool = True) -> Models:
    """Imports what is heavy and loads both models, beside the event loop. Raises ConfigurationError.

    `measures_voices`: whether `voices` is to be known, which costs a second or two.
    """
    transcriber = await asyncio.to_thread(_whisper, settings)
    await transcriber.open()
    name = model_name(settings.whisper_model)
    models = Models(transcriber, Desk(transcriber), await asyncio.to_thread(Silero), name=name)
    return models._replace(voices=await measure_voices(transcriber)) if measures_voices else models


def _whisper(settings: Settings) -> Transcriber:
    from audio.model.whisper import Whisper

    model = whisper_model(settings.whisper_model)
    device, compute = settings.whisper_device, settings.whisper_compute
    if device == "cpu":
        return Whisper(model, compute=compute, workers=cpu_share(settings))
    return Whisper(model, device=device, compute=compute, batch=GPU_BATCH)


async def measure_voices(transcriber: Transcriber) -> int:
    """Returns how many people may speak at once in this process, with its part of the machine: at least one."""
    noise = np.random.default_rng(0).standard_normal(int(SENTENCE_S * SAMPLE_RATE), np.float32) * np.float32(0.1)
    task = TranscriptionTask(audio=noise, is_final=False)
    partial_s = min([await _cpu_s(transcriber, task) for _ in range(TRIES)]) * SPEECH
    speaker_s = partial_s * (1 + 2 / SENTENCE_S) * DUTY / transcriber.batch
    return max(1, int(transcriber.workers / speaker_s))


async def _cpu_s(transcriber: Transcriber, task: TranscriptionTask) -> float:
    """Returns the CPU time of one full call; wall time would also measure what else runs while the machine starts."""
    began = time.process_time()
    await transcriber.transcribe([task] * transcriber.batch)
    return max(time.process_time() - began, 1e-4)
