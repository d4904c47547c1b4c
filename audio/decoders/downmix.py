"""Mixes channels to one: their mean, except where they cancel each other out.

A microphone or a cable with its poles exchanged turns speech into silence when the channels are added. So the mean's
energy is compared, every WINDOW_S, with what it would be if the channels had nothing to do with each other. Where it is
far less, the loudest channel is heard alone. One crossfades into the other over one window, so that nothing clicks.
A window is mixed by what the windows before it were like: no sample waits, and the result does not depend on cuts.
"""

from typing import Any, cast

import numpy as np

from audio.model.transcriber import Samples

WINDOW_S = 0.01
MEMORY = 0.8
"""The share of the energies before a window in those after it: 0.05 s are remembered."""
SILENT = 1e-9
"""Mean energy of a sample below which a window says nothing about polarity."""
CANCELLING, ADDING = 0.25, 0.5
"""Shares of the energy of unrelated channels: below the first the loudest is chosen, above the second their mean."""
MUCH_LOUDER = 4.0
"""The ratio of energies by which another channel takes the place of the one that is heard alone."""


class Downmix:
    """Mixes the channels of one stream, whose rate and number of channels may change."""

    __slots__ = ("_after", "_before", "_channels", "_energies", "_fill", "_rate", "cancelled_s")

    def __init__(self) -> None:
        self.cancelled_s = 0.0
        """Seconds in which one channel was heard alone, so far."""
        self._begin(0, 0)

    def _begin(self, channels: int, sample_rate: int) -> None:
        self._channels, self._rate = channels, sample_rate
        self._before: int | None = None
        """The channel that was heard alone in the window before; None for the mean of all."""
        self._after: int | None = None
        """The channel that is heard alone when this window is over."""
        self._energies: Any = None
        """Mean energies, those before this window included, of each channel and, last, of their mean."""
        self._fill: Any = np.zeros((0, channels), np.float32)
        """The frames of a window that is not whole."""

    def feed(self, frames: Any, sample_rate: int) -> Samples:
        """Returns one sample for each row of `frames`, which has one column for each channel."""
        channels = frames.shape[1]
        with np.errstate(all="ignore"):  # samples of a file may be anything
            frames = frames.astype(np.float32, copy=False)
            mixed: Any = (frames[:, 0] + frames[:, 1]) * np.float32(0.5) if channels == 2 else frames.mean(axis=1)
        if channels == 1:
            return mixed
        if (channels, sample_rate) != (self._channels, self._rate):
            self._begin(channels, sample_rate)
        size = max(1, round(WINDOW_S * sample_rate))
        known = len(self._fill)
        window = np.concatenate((self._fill, frames))
        at = 0
        for energies in _energies(window, size):
            self._mix(frames, mixed, at * size - known, size)
            self._judge(energies)
            at += 1
        self._mix(frames, mixed, at * size - known, size)
        self._fill = window[at * size :].copy()
        return cast("Samples", mixed)

    def _mix(self, frames: Any, mixed: Any, start: int, size: int) -> None:
        """Replaces the mean in the window that begins at `start`, as far as there is one."""
        if self._before is None and self._after is None:
            return
        span = slice(max(0, start), max(0, start + size))
        old = mixed[span] if self._before is None else frames[span, self._before]
        new = mixed[span] if self._after is None else frames[span, self._after]
        if self._before != self._after:
            share = (np.arange(span.start - start, span.start - start + len(new), dtype=np.float32) + 1) / size
            new = old + (new - old) * share
        mixed[span] = new

    def _judge(self, energies: Any) -> None:
        """Decides what the next window is, by the energies of this one."""
        self._before = self._after
        if self._after is not None:
            self.cancelled_s += WINDOW_S
        if not SILENT < energies[:-1].sum() < np.inf:
            return
        if self._energies is None:
            self._energies = energies
        self._energies = MEMORY * self._energies + (1 - MEMORY) * energies
        own, mean = self._energies[:-1], self._energies[-1]
        share = mean * self._channels**2 / own.sum()
        loudest = int(own.argmax())
        if share > ADDING:
            self._after = None
        elif share < CANCELLING and (self._after is None or own[loudest] > MUCH_LOUDER * own[self._after]):
            self._after = loudest


class Apart:
    """Leaves the two channels of one stream as they are; it stands where a `Downmix` would."""

    __slots__ = ()

    def feed(self, frames: Any, sample_rate: int) -> Samples:
        """Returns the frames, which have a column for each channel."""
        del sample_rate
        return np.ascontiguousarray(frames, np.float32)


def _energies(frames: Any, size: int) -> Any:
    """Returns a row for each whole window of frames: the mean energy of each channel, and that of their mean."""
    count, channels = len(frames) // size, frames.shape[1]
    windows = frames[: count * size].reshape(count, size, channels)
    with np.errstate(all="ignore"):
        each = np.einsum("wsc,wsc->wc", windows, windows, dtype=np.float64)
        mean = windows.mean(axis=2)
        return np.column_stack((each, np.einsum("ws,ws->w", mean, mean, dtype=np.float64))) / size
