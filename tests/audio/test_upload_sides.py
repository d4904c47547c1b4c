"""A file of two channels is a dialogue, in the order of time; what was doubtful in a file is said."""

import numpy as np
import pytest

from audio.model.fake import FakeTranscriber, speech_of
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription
from gateway.errors import BadRequest
from tests.audio.test_upload import in_real_time, models, transcript, wav_file


def call() -> Samples:
    """Returns two sides who speak by turns, and in the end at once."""
    sides = np.zeros((70 * SAMPLE_RATE, 2), np.float32)
    for number, (channel, at_s) in enumerate([(0, 1), (1, 8), (0, 15), (0, 30), (1, 45), (1, 60), (0, 60.5)], 1):
        word = speech_of([(number, 1.0, 0.0)])
        sides[int(at_s * SAMPLE_RATE) :, channel][: len(word)] = word
    return sides


@in_real_time
async def test_two_sides_are_one_dialogue_in_the_order_of_time() -> None:
    model = FakeTranscriber(workers=2)
    with wav_file(call()) as file:
        finals, one = await transcript(models(model), file, split=True)
    assert [(final.segment, final.channel, final.text) for final in finals] == [
        (0, 0, "w1"),
        (1, 1, "w2"),
        (2, 0, "w3"),
        (3, 0, "w4"),
        (4, 1, "w5"),
        (5, 1, "w6"),
        (6, 0, "w7"),
    ]
    assert one.duration_s == 70
    assert sum(len(tasks) for tasks in model.calls) == 7, "silence costs the model nothing"


@in_real_time
async def test_what_has_no_two_channels_is_not_split() -> None:
    for samples in (speech_of([(1, 0.5, 0.5)]), np.zeros((SAMPLE_RATE, 3), np.float32)):
        with wav_file(samples) as file, pytest.raises(BadRequest, match=r"channels=split: a.wav has [13] channel"):
            await transcript(models(FakeTranscriber()), file, split=True)


@in_real_time
async def test_doubtful_words_are_a_warning() -> None:
    class Doubting(FakeTranscriber):
        def release(self) -> None:
            for call, tasks in self._pending:
                call.set_result([Transcription(text="thank you", language="en", unsure=True) for _ in tasks])
            self._pending.clear()

    with wav_file(speech_of([(1, 2.0, 1.0)])) as file:
        _, one = await transcript(models(Doubting()), file)
    [warning] = one.warnings
    assert "s of speech are probably not in the language that the model took them for (en)" in warning
