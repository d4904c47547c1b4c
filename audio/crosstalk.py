"""Tells one side of a call from its echo on the other: a softer copy of the other channel is no speech of its own.

Telephones and headsets let some of one side through to the other, 20 dB softer as a rule, and a speech detector and a
speech model hear that very well. Being softer is not enough, because somebody may really speak softly while the other
talks: a frame is an echo when it is much softer and, moved by the delay that fits best, goes like the other channel.
Between the words of an echo there is nothing to compare, and the detector still believes in speech: for a while after
an echo what is no louder than that was is taken for more of it. Nobody loses a word by that, for a segment begins
earlier than its speech.
"""

from collections.abc import Sequence

import numpy as np

from audio.model.transcriber import Samples
from audio.model.vad import FRAME

SOFTER = 0.1
"""The ratio of energies from which a frame may be an echo of what the other channel had lately: 10 dB."""
ALIKE = 0.7
"""The correlation from which two channels go alike; speech of two people stays far below."""
LIKELY = 0.1
"""The probability of speech from which it matters whether a frame is an echo."""
HISTORY = 3 * FRAME
"""Samples of the other channel before a frame that it may be an echo of: delays of up to 96 ms."""
LATELY = 12
"""Frames that count as lately: 0.4 s."""
LOUDER = 4.0
"""The ratio of energies by which a frame after an echo is louder than that, and so speech: 6 dB."""


class _Side:
    """One channel: what it had lately, and the echo in it."""

    __slots__ = ("echo", "echo_frames", "energies", "history")

    def __init__(self) -> None:
        self.history = np.zeros(HISTORY, np.float32)
        """Its last samples."""
        self.energies = np.zeros(LATELY)
        """The energies of its last frames."""
        self.echo = 0.0
        """The energy of the echo in it, as a share of what the other channel had lately."""
        self.echo_frames = 0
        """Number of frames for which there may be more of an echo."""


class EchoCheck:
    """Checks the frames of two channels, which are fed side by side."""

    __slots__ = ("_sides",)

    def __init__(self) -> None:
        self._sides = [_Side(), _Side()]

    def quiet(self, heard: Sequence[tuple[Samples, list[float]]]) -> None:
        """Makes silence of the echoes in the probabilities of speech; each channel has its frames and those.

        Where one channel has fewer frames than the other, they are its last ones.
        """
        count = min(len(probabilities) for _, probabilities in heard)
        if not count:
            return
        pasts = [
            np.concatenate((side.history, frames[len(frames) - count * FRAME :]))
            for side, (frames, _) in zip(self._sides, heard, strict=True)
        ]
        energies = [
            np.concatenate((side.energies, np.square(past[HISTORY:].reshape(count, FRAME)).mean(axis=1, dtype=float)))
            for side, past in zip(self._sides, pasts, strict=True)
        ]
        for own, other in ((0, 1), (1, 0)):
            lately = np.lib.stride_tricks.sliding_window_view(energies[other], LATELY + 1).max(axis=1)
            self._quiet(
                self._sides[own], heard[own][1], energies[own][LATELY:] / (lately + 1e-12), pasts[own], pasts[other]
            )
        for side, past, energy in zip(self._sides, pasts, energies, strict=True):
            side.history, side.energies = past[-HISTORY:].copy(), energy[-LATELY:].copy()

    def _quiet(
        self, side: _Side, probabilities: list[float], ratios: Sequence[float], own: Samples, other: Samples
    ) -> None:
        """Makes silence of the echoes in one channel; `ratios` are its energies by what the other had lately."""
        first = len(probabilities) - len(ratios)
        for at, ratio in enumerate(ratios):
            if ratio >= SOFTER:
                side.echo_frames = 0
                continue
            side.echo_frames = max(0, side.echo_frames - 1)
            if probabilities[first + at] < LIKELY:
                continue
            if _is_copy(own, other, HISTORY + at * FRAME):
                side.echo = max(side.echo, ratio) if side.echo_frames else ratio
                side.echo_frames = LATELY
                probabilities[first + at] = 0.0
            elif side.echo_frames and ratio <= LOUDER * side.echo:
                probabilities[first + at] = 0.0


def _is_copy(own: Samples, other: Samples, start: int) -> bool:
    """Tells whether the frame of one channel that begins at a sample is the other's, now or shortly before, softer."""
    frame, window = own[start : start + FRAME], other[start - HISTORY : start + FRAME]
    size = 1 << (len(window) - 1).bit_length()
    spectrum = np.fft.rfft(window, size) * np.conj(np.fft.rfft(frame, size))
    products = np.abs(np.fft.irfft(spectrum, size)[: HISTORY + 1])
    sums = np.concatenate(([0.0], np.cumsum(np.square(window, dtype=np.float64))))
    energies = sums[FRAME:] - sums[:-FRAME] + 1e-12
    alike = products / np.sqrt(np.square(frame, dtype=np.float64).sum() * energies + 1e-12)
    best = int(alike.argmax())
    return bool(alike[best] > ALIKE and (products[best] / energies[best]) ** 2 < SOFTER)
