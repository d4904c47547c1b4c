"""Tells one side of a call from its echo on the other: a softer copy of the other channel is no speech of its own.

Telephones and headsets let some of one side through to the other, 20 dB softer as a rule, and a speech detector and a
speech model hear that very well. Being softer is not enough, because somebody may really speak softly while the other
talks: a frame is an echo when it is much softer and, moved by the delay that fits best, goes like the other channel.
"""

from collections.abc import Sequence

import numpy as np

from audio.model.transcriber import Samples
from audio.model.vad import FRAME

SOFTER = 0.1
"""The ratio of energies from which a frame may be an echo of the other channel: 10 dB."""
ALIKE = 0.5
"""The correlation from which two channels go alike; speech of two people stays below a third of it."""
LIKELY = 0.1
"""The probability of speech from which it matters whether a frame is an echo."""
HISTORY = 3 * FRAME
"""Samples of the other channel before a frame that it may be an echo of: delays of up to 96 ms."""


class EchoCheck:
    """Checks the frames of two channels, which are fed side by side."""

    __slots__ = ("_histories",)

    def __init__(self) -> None:
        self._histories = [np.zeros(HISTORY, np.float32) for _ in range(2)]
        """The last samples of each channel."""

    def quiet(self, heard: Sequence[tuple[Samples, list[float]]]) -> None:
        """Makes silence of the echoes in the probabilities of speech; each channel has its frames and those.

        Where one channel has fewer frames than the other, they are its last ones.
        """
        count = min(len(probabilities) for _, probabilities in heard)
        if not count:
            return
        pasts = [
            np.concatenate((history, frames[len(frames) - count * FRAME :]))
            for history, (frames, _) in zip(self._histories, heard, strict=True)
        ]
        energies = [
            np.square(past[HISTORY:].reshape(count, FRAME), dtype=np.float64).mean(axis=1) + 1e-12 for past in pasts
        ]
        for own, other in ((0, 1), (1, 0)):
            probabilities = heard[own][1]
            first = len(probabilities) - count
            for at in np.flatnonzero(energies[own] < SOFTER * energies[other]).tolist():
                if probabilities[first + at] >= LIKELY and _is_echo(pasts[own], pasts[other], HISTORY + at * FRAME):
                    probabilities[first + at] = 0.0
        self._histories = [past[-HISTORY:].copy() for past in pasts]


def _is_echo(own: Samples, other: Samples, start: int) -> bool:
    """Tells whether the frame of one channel that begins at a sample goes like the other, now or shortly before."""
    frame, window = own[start : start + FRAME], other[start - HISTORY : start + FRAME]
    size = 1 << (len(window) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(window, size) * np.conj(np.fft.rfft(frame, size)), size)[: HISTORY + 1]
    sums = np.concatenate(([0.0], np.cumsum(np.square(window, dtype=np.float64))))
    norms = np.sqrt(np.square(frame, dtype=np.float64).sum() * (sums[FRAME:] - sums[:-FRAME]) + 1e-12)
    return bool(np.max(np.abs(products) / norms) > ALIKE)
