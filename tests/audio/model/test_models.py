"""Models estimates how many voices a machine can carry."""

import asyncio
import time
from collections.abc import Sequence

from audio.model.fake import FakeTranscriber
from audio.model.models import measure_voices
from audio.model.transcriber import Transcription, TranscriptionTask


class Slow(FakeTranscriber):
    """Needs CPU time for each call."""

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        return super().transcribe(tasks)


def test_a_quick_model_carries_many_and_a_slow_one_few() -> None:
    assert asyncio.run(measure_voices(FakeTranscriber(workers=2))) > 20
    assert asyncio.run(measure_voices(Slow(workers=2))) in (2, 3, 4)
    assert asyncio.run(measure_voices(Slow(workers=1))) in (1, 2)


def test_a_batch_carries_as_many_times_more() -> None:
    assert asyncio.run(measure_voices(Slow(workers=1, batch=8))) > 8
