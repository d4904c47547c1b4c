"""How many people this machine can listen to at once: measured when the model is loaded.

One who speaks costs a partial every second, under load, and a final for every few: the finals of a sentence of
SEGMENT_S cost about as much as two partials. What is measured is a partial of noise, because that needs no speech to
be shipped; of speech, which has words to be decoded, it is SPEECH times as much (tiny.en: 1.6).
"""

import time

import numpy as np

from audio.transcriber import SAMPLE_RATE, Task, Transcriber

SPEECH = 1.6
SEGMENT_S = 5.0
SHARE = 0.8
"""Of the workers' time; the rest is for those who all begin at once."""
TRIES = 3


async def voices(transcriber: Transcriber) -> int:
    """Sessions that may speak at once; at least one."""
    noise = np.random.default_rng(0).standard_normal(int(SEGMENT_S * SAMPLE_RATE), np.float32) * np.float32(0.1)
    task = Task(audio=noise, is_final=False)
    took_s = min([await _timed(transcriber, task) for _ in range(TRIES)]) * SPEECH
    each = took_s * (1 + 2 / SEGMENT_S) / transcriber.batch
    return max(1, int(SHARE * transcriber.workers / each))


async def _timed(transcriber: Transcriber, task: Task) -> float:
    began = time.perf_counter()
    await transcriber.transcribe([task] * transcriber.batch)
    return time.perf_counter() - began
