"""How many people this machine can listen to at once: measured when the model is loaded.

One who speaks without a pause costs a partial every second, under load, and a final for every few: the final of a
sentence of SEGMENT_S costs about as much as two partials. What is measured is a partial of noise, because that needs no
speech to be shipped; of speech, which has words to be decoded, it is SPEECH times as much (tiny.en: 1.6).
"""

import time

import numpy as np

from audio.model.transcriber import SAMPLE_RATE, Transcriber, TranscriptionTask

SPEECH = 1.6
SEGMENT_S = 5.0
DUTY = 0.85
"""Even who reads aloud pauses for breath."""
TRIES = 5


async def voices(transcriber: Transcriber) -> int:
    """Sessions that may speak at once; at least one."""
    noise = np.random.default_rng(0).standard_normal(int(SEGMENT_S * SAMPLE_RATE), np.float32) * np.float32(0.1)
    task = TranscriptionTask(audio=noise, is_final=False)
    took_s = min([await _timed(transcriber, task) for _ in range(TRIES)]) * SPEECH
    each = took_s * (1 + 2 / SEGMENT_S) * DUTY / transcriber.batch
    return max(1, int(transcriber.workers / each))


async def _timed(transcriber: Transcriber, task: TranscriptionTask) -> float:
    """CPU, not wall: what else runs on the machine while it starts says nothing about the hours after."""
    began = time.process_time()
    await transcriber.transcribe([task] * transcriber.batch)
    return max(time.process_time() - began, 1e-4)
