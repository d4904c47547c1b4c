"""Digital silence costs the speech detector nothing, however it is cut, and speech after it is heard as ever."""

import numpy as np
import numpy.typing as npt
import pytest

from audio.model.transcriber import Samples
from audio.model.vad import CONTEXT, FRAME, QUIET_FRAMES, SILENT, Ear, VadState


class LoudnessDetector:
    """Says of each frame how loud its last sample is, and counts the frames."""

    def __init__(self) -> None:
        self.frames: list[Samples] = []

    def run(self, frames: Samples, state: VadState) -> npt.NDArray[np.float32]:
        self.frames += list(frames.copy())
        return frames[:, -1].copy()


def loud(count: int, value: float = 0.5) -> Samples:
    return np.full(count * FRAME, value, np.float32)


@pytest.mark.parametrize("step", [FRAME, 777, 10 * FRAME, 1 << 20])
def test_silence_past_its_first_second_is_not_looked_at_however_it_is_cut(step: int) -> None:
    detector = LoudnessDetector()
    ear = Ear(detector)
    samples = np.concatenate((loud(2), loud(QUIET_FRAMES + 100, SILENT), loud(3, 0.25), loud(5, 0.0)))
    probabilities: list[float] = []
    for at in range(0, len(samples), step):
        probabilities += ear.feed(samples[at : at + step])[1]
    silent = QUIET_FRAMES + 100
    assert len(detector.frames) == 2 + QUIET_FRAMES + 3 + 5
    assert probabilities == [0.5] * 2 + [SILENT] * QUIET_FRAMES + [0.0] * 100 + [0.25] * 3 + [0.0] * 5
    first_after = detector.frames[2 + QUIET_FRAMES]
    assert len(probabilities) == 2 + silent + 8
    assert (first_after[:CONTEXT] == SILENT).all(), "the frame before is its context, though nobody looked at that"


def test_what_is_as_loud_as_a_step_of_16_bits_is_no_silence() -> None:
    detector = LoudnessDetector()
    Ear(detector).feed(loud(QUIET_FRAMES + 100, 2.0**-15))
    assert len(detector.frames) == QUIET_FRAMES + 100
