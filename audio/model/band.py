"""How wide the band of a stream is: as a telephone carries it, up to 3,400 Hz, or wider. Measured from the audio.

The speech detector was trained on wide audio, and is in doubt about half of what a telephone lets through: of frames
that it calls speech with .5 or more, 23 % are below that in the telephone's band, and 4 % below .15 (tiny examples of
read speech, mu-law). There its odds are multiplied, so the same thresholds fit both.
"""

import numpy as np
import numpy.typing as npt

from audio.model.transcriber import SAMPLE_RATE, Samples

FRAME = 512
"""Number of samples in a frame."""
NARROW = 3e-3
"""The most power above 4 kHz, for that of 2 to 3.4 kHz, in a band that is narrow: it falls off a cliff of 25 dB."""
TRACE = 1e-6
"""The least power of 2 to 3.4 kHz, for all below: a hum has none, and says nothing about the band."""
ODDS = 3.0
"""Factor of the odds of speech in a narrow band: .25 counts as .5, and .15 as .35."""
KEPT = 0.985
"""Share of the power that is remembered from one frame to the next: half of it for a second and a half."""
LEAST_POWER = 1e-5
"""Power of a frame, in squares of full scale, from which it says anything about the band."""


_WINDOW = np.hanning(FRAME).astype(np.float32)
_HZ = SAMPLE_RATE / FRAME
_BELOW, _UPPER, _ABOVE = slice(1, round(2000 / _HZ)), slice(round(2000 / _HZ), round(3400 / _HZ)), slice(128, None)


class Band:
    """The power of one stream lately: in the band of a telephone, by its halves, and above it."""

    __slots__ = ("_above", "_below", "_upper")

    def __init__(self) -> None:
        self._below = self._upper = self._above = 0.0

    def fit(self, frames: Samples, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the probabilities of speech in frames, one in a row, as the band they come in has them meant."""
        power = np.square(np.abs(np.fft.rfft(frames * _WINDOW)))
        halves = (power[:, part].sum(axis=1).tolist() for part in (_BELOW, _UPPER, _ABOVE))
        is_narrow: list[bool] = []
        for below, upper, above in zip(*halves, strict=True):  # one by one, so that it is the same in whatever pieces
            self._below = self._below * KEPT + below
            self._upper = self._upper * KEPT + upper
            self._above = self._above * KEPT + above
            is_narrow.append(self.is_narrow)
        return np.where(is_narrow, lifted(probabilities), probabilities).astype(np.float32)

    @property
    def is_narrow(self) -> bool:
        is_heard = self._upper > max(LEAST_POWER, TRACE * self._below)
        return is_heard and self._above < NARROW * self._upper


def lifted(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns probabilities with ODDS times their odds."""
    more = probabilities * np.float32(ODDS)
    return (more / (1 - probabilities + more)).astype(np.float32)
