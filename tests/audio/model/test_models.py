"""Models estimates how many voices a machine can carry."""

import asyncio
from collections.abc import Sequence

import pytest

from audio.model import models
from audio.model.fake import FakeTranscriber
from audio.model.models import measure_voices
from audio.model.transcriber import Transcription, TranscriptionTask


class Slow(FakeTranscriber):
    """Needs 0.3 s of CPU time for each call, by a clock of its own."""

    cpu_s = 0.0

    def process_time(self) -> float:
        return self.cpu_s

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        self.cpu_s += 0.3
        return super().transcribe(tasks)


def voices_of(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(models, "time", slow)
    return asyncio.run(measure_voices(slow))


def test_a_quick_model_carries_many() -> None:
    assert asyncio.run(measure_voices(FakeTranscriber(workers=2))) > 20


def test_a_slow_one_carries_few_and_a_batch_as_many_times_more(monkeypatch: pytest.MonkeyPatch) -> None:
    one = voices_of(Slow(workers=1), monkeypatch)
    assert one in (1, 2)
    assert voices_of(Slow(workers=2), monkeypatch) in (2 * one, 2 * one + 1)
    assert voices_of(Slow(workers=1, batch=8), monkeypatch) in range(8 * one, 8 * one + 8)
