"""An echo of the other side is no speech; somebody who speaks softly is."""

import numpy as np
import pytest
import soundfile

from audio.crosstalk import HISTORY, EchoCheck
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.model.vad import FRAME
from tests.audio.speaker import JFK

LENGTH = 100 * FRAME


def voices() -> tuple[Samples, Samples]:
    """Returns two stretches of speech, of one loudness and about different things."""
    samples, _ = soundfile.read(JFK, dtype="float32")
    return samples[SAMPLE_RATE // 2 :][:LENGTH], samples[int(7.7 * SAMPLE_RATE) :][:LENGTH]


def speaking(own: Samples, other: Samples, step: int = LENGTH) -> list[bool]:
    """Returns for each frame of one channel whether it is still speech, when all of both was said to be."""
    check, left = EchoCheck(), []
    for at in range(0, LENGTH, step):
        heard = [(one[at : at + step], [0.9] * (step // FRAME)) for one in (own, other)]
        check.quiet(heard)
        assert heard[1][1] == [0.9] * (step // FRAME), "nobody is an echo of what is softer"
        left += [probability > 0 for probability in heard[0][1]]
    return left


@pytest.mark.parametrize("delay_ms", [0, 5, 30, 90])
@pytest.mark.parametrize("step", [FRAME, 5 * FRAME, LENGTH])
def test_a_softer_copy_of_the_other_side_is_no_speech(delay_ms: int, step: int) -> None:
    other, _ = voices()
    delay = delay_ms * SAMPLE_RATE // 1000
    line = np.random.default_rng(0).standard_normal(LENGTH).astype(np.float32) * 3e-4
    echo = 0.1 * np.concatenate([np.zeros(delay, np.float32), other[: LENGTH - delay]]) + line
    loud = np.square(other.reshape(-1, FRAME)).mean(axis=1) > 1e-3
    left = [is_speech for is_speech, is_loud in zip(speaking(echo, other, step), loud, strict=True) if is_loud]
    assert sum(left) <= 0.1 * len(left), "where the other is loud next to nothing is left"


def test_a_soft_voice_under_a_loud_one_stays() -> None:
    other, own = voices()
    left = speaking(0.15 * own, other)
    assert sum(left) >= 0.9 * len(left)


def test_what_is_as_loud_as_the_other_is_no_echo() -> None:
    other, _ = voices()
    assert all(speaking(0.5 * other, other))


def test_a_channel_with_fewer_frames_has_the_last_ones() -> None:
    other, _ = voices()
    frames, probabilities = 0.1 * other[-10 * FRAME :], [0.9] * 10
    EchoCheck().quiet([(other, [0.9] * 100), (frames, probabilities)])
    assert sum(probability > 0 for probability in probabilities) <= 3
    EchoCheck().quiet([(other[:0], []), (frames, probabilities)])
    assert HISTORY % FRAME == 0
